"""The pickle of a torch.save file, read by an interpreter that imports, calls and hashes nothing of the file's.

In: the bytes of a pickle. Out: its content as dicts, lists, tuples, plain values and tensors, and the names of all else
that it would import. torch's own reader of weights calls functions (`_codecs.encode`, which doubles a text as often as
it is told to), sets attributes of what it builds (`items` of a dict) and hashes keys whose parts are shared (2^90 steps
in 1 kB). Here a function is a row of `CALLS`, what has no row becomes an inert `Named`, attributes are never set, and
every object costs at least a byte of the file.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_BYTES = 32 * 2**20
"""A pickle describes tensors, their bytes lie elsewhere: 10,000 tensors with their Adam states take 4 MB."""
MAX_OPS = 4_000_000
MAX_TENSORS = 300_000
MAX_DIMENSIONS = 64
MAX_KEY_BITS = 1000
MAX_NAME = 1000
"""Characters of a name that would be imported."""
MAX_ARGUMENTS = 16
MAX_KEY = 16
"""Values in a tuple that is a key, tuples within it included."""
MAX_ODD_KEYS = 10_000
"""The number of keys that are neither text, in tuples or not, nor small integers. Of others any number can be made
that share one hash."""


class BadPickle(ValueError):  # noqa: N818 - the sibling of BadArchive
    """A pickle that must not be loaded; its text gives the reason and stands after the file's name."""


@dataclass(frozen=True, eq=False)
class Named:
    """A name that a pickle would import, or get from calling it; nothing can be done with it."""

    name: str


class Storage(NamedTuple):
    """Bytes of which tensors are views; they lie in a member of the archive."""

    key: str
    dtype: str
    n_elements: int


class View(NamedTuple):
    """A tensor as the pickle describes it: sizes and strides in elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool
    negative: bool


DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
"""Types of tensors that are read: those of which an element is one number of whole bytes."""

STORAGES: Mapping[str, str] = {
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.storage.UntypedStorage": "uint8",
}
"""Types of storages by the names that torch.save gives them."""

_TYPES = {f"torch.{name}": name for name in DTYPES}
_CLASSES = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
"""Classes that a tensor can be of; it becomes a plain one."""


def read(data: bytes, tensor: Callable[[View], object]) -> tuple[object, tuple[str, ...]]:
    """Return what a pickle holds, and the names that it would import beyond what tensors and plain values need, sorted.

    Bytes, sets, complex numbers and devices, which nobody asks a checkpoint for, are `Named` like what is foreign.

    Args:
        data: the pickle, of protocol 2 to 5.
        tensor: makes a tensor of its description, or raises BadPickle.

    Raises: BadPickle when it is no complete pickle of torch.save's kind, or takes too much.

    >>> read(b"\\x80\\x02cposix\\nsystem\\n(X\\x02\\x00\\x00\\x00lstR.", lambda view: view)
    (Named(name='posix.system'), ('posix.system',))
    """
    if len(data) > MAX_BYTES:
        raise BadPickle(f"describes its tensors in {len(data):,} bytes, far more than any state_dict needs")
    context = _Context(tensor)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts of protocol 0, which are refused
            content, end = _run(data, context)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, BadPickle):
            raise
        # Python's words about integers of thousands of digits end with what a programmer can do.
        words = str(error).partition(" for integer string")[0] or type(error).__name__
        raise BadPickle(f"holds a damaged pickle ({words:.100})") from error
    if end != len(data):
        raise BadPickle("holds a pickle with something behind its end")
    return content, tuple(sorted(context.foreign))


def _run(data: bytes, context: "_Context") -> tuple[object, int]:
    """Return the content of a pickle, and where it ends. One loop without calls handles what comes often."""
    stack: list[Any] = []
    outer: list[list[Any]] = []
    memo: dict[int, Any] = {}
    argument: Any
    for count, (op, argument, place) in enumerate(pickletools.genops(data)):
        name = op.name
        if count > MAX_OPS:
            raise BadPickle(f"describes its tensors in more than {MAX_OPS:,} steps")
        if name in _GIVEN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(_last(stack, _TUPLES[name]))]
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            outer.append(stack)
            stack = []
        elif name == "TUPLE":
            items, stack = stack, outer.pop()
            stack.append(tuple(items))
        elif name in ("APPENDS", "ADDITEMS", "SETITEMS"):
            items, stack = stack, outer.pop()
            (_set_items if name == "SETITEMS" else _append)(stack[-1], items, context)
        elif name in ("APPEND", "SETITEM"):
            items = _last(stack, 1 if name == "APPEND" else 2)
            del stack[-len(items) :]
            (_set_items if name == "SETITEM" else _append)(stack[-1], items, context)
        elif name == "GLOBAL":
            stack.append(context.named(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [context.named(_joined(*_last(stack, 2)))]
        elif name in ("REDUCE", "NEWOBJ"):
            stack[-2:] = [_called(_last(stack, 2), context)]
        elif name == "NEWOBJ_EX":  # with arguments by name, which nothing in CALLS takes
            stack[-3:] = [_called(_last(stack, 3)[:2], context)]
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), context))
        elif name in ("BUILD", "POP"):
            # Attributes are nobody's business here: those of a state_dict are versions of its modules.
            stack.pop()
        elif name in ("FROZENSET", "POP_MARK"):
            stack = outer.pop()
            if name == "FROZENSET":
                stack.append(_SET)
        elif name == "STOP":
            return stack.pop(), (place or 0) + 1
        elif name not in ("PROTO", "FRAME"):
            raise BadPickle(f"uses the pickle step {name}, which torch.save does not write")
    raise BadPickle("holds a pickle that does not end")


class _Context:
    """The state of reading: what a pickle has asked for so far."""

    def __init__(self, tensor: Callable[[View], object]) -> None:
        self.tensor = tensor
        self.foreign: set[str] = set()
        self.n_tensors = self.n_odd_keys = self.n_pairs = 0

    def named(self, name: str) -> Named:
        """Return a name that would be imported; it is foreign when nothing here needs it."""
        if name not in CALLS and name not in STORAGES and name not in _TYPES and name not in _CLASSES:
            self.foreign.add(name)
        return Named(name)

    def key(self, value: Any) -> Any:
        """Return a key that is hashed in bounded time, and is one of few wherever a file could choose its hash."""
        self.n_odd_keys += not _is_text(value)
        if self.n_odd_keys > MAX_ODD_KEYS:
            raise BadPickle(f"has more than {MAX_ODD_KEYS:,} keys that are neither text nor small integers")
        parts = _parts(value, MAX_KEY)
        if len(parts) > MAX_KEY:
            raise BadPickle(f"nests tuples of more than {MAX_KEY} values in the key of a dictionary")
        if any(isinstance(part, int) and part.bit_length() > MAX_KEY_BITS for part in parts):
            raise BadPickle(f"has an integer of more than {MAX_KEY_BITS:,} bits in the key of a dictionary")
        return value


def _is_text(key: Any) -> bool:
    """Return whether Python hashes a key by a secret: no file can choose many that share one hash."""
    return isinstance(key, tuple) and all(type(part) in (str, bytes) for part in key)


def _last(stack: list[Any], count: int) -> list[Any]:
    if count > len(stack):
        raise IndexError("pop from an empty stack")
    return stack[-count:]


def _joined(module: object, name: object) -> str:
    if not isinstance(module, str) or not isinstance(name, str):
        raise BadPickle("imports what has no name")
    if len(module) + len(name) > MAX_NAME:
        raise BadPickle(f"imports a name of {len(module) + len(name):,} characters")
    return f"{module}.{name}"


def _called(call: list[Any], context: _Context) -> object:
    """Return the result of the row of `CALLS`; a call of anything else is foreign, and its value inert."""
    function, arguments = call
    if not isinstance(function, Named) or not isinstance(arguments, tuple):
        raise BadPickle("calls what is no function")
    if function.name in CALLS:
        return CALLS[function.name](context, *arguments[:MAX_ARGUMENTS])
    context.foreign.add(function.name)
    return function


def _storage(described: Any, context: _Context) -> Storage:
    """Return the storage that a persistent id names."""
    mark, kind, key, _, n_elements = described
    if mark != "storage" or not isinstance(kind, Named) or not isinstance(key, str) or type(n_elements) is not int:
        raise BadPickle("describes a storage that is none")
    if kind.name not in STORAGES:
        context.foreign.add(kind.name)
    return Storage(key, STORAGES.get(kind.name, "uint8"), n_elements)


def _append(target: object, items: list[Any], _context: _Context) -> None:
    if isinstance(target, list):
        target += items
    elif not isinstance(target, Named):
        raise BadPickle("appends to what is no list")


def _set_items(target: object, items: list[Any], context: _Context) -> None:
    if len(items) % 2:
        raise BadPickle("holds a damaged pickle (a key without a value)")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            small = type(key) is str or (type(key) is int and -(2**31) <= key < 2**31)
            target[key if small else context.key(key)] = value
    elif not isinstance(target, Named):
        raise BadPickle("sets an item of what is no dictionary")


def _parts(value: Any, most: int) -> list[Any]:
    """Return a value and, where it is a tuple, those in it, each as often as it comes: at most one beyond `most`."""
    parts: list[Any] = []
    waiting = [value]
    while waiting and len(parts) <= most:
        parts.append(waiting.pop())
        if isinstance(parts[-1], tuple):
            waiting += parts[-1][: most + 1]
    return parts


def _dictionary(context: _Context, pairs: object = ()) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return pairs
    found: dict[Any, Any] = {}
    if not isinstance(pairs, list | tuple):
        raise BadPickle("makes a dictionary of what is no list of pairs")
    context.n_pairs += len(pairs)
    if context.n_pairs > MAX_OPS:  # one list can be given again and again
        raise BadPickle(f"makes dictionaries of more than {MAX_OPS:,} pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadPickle("makes a dictionary of what is no list of pairs")
        _set_items(found, list(pair), context)
    return found


def _tuple(_context: _Context, items: object = ()) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise BadPickle("makes a shape of what is no tuple")
    return items


def _bytes(_context: _Context, text: object, encoding: object = "latin1") -> Named:
    """Return the bytes of a text that older protocols encode; other encodings can make more of a text than it is."""
    if not isinstance(text, str) or encoding != "latin1":
        raise BadPickle(f"encodes a text by {encoding!a:.40}, which torch.save does not write")
    return _BYTES


def _inert(name: str) -> Callable[..., object]:
    """Return a call whose value nobody needs; it takes whatever it is given."""
    value = Named(name)
    return lambda *_: value


def _tensor(
    context: _Context,
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _gradient: object = None,
    _hooks: object = None,
    metadata: object = None,
) -> object:
    return _view(context, storage, offset, shape, strides, None, metadata)


def _tensor_of_type(
    context: _Context,
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _gradient: object,
    _hooks: object,
    dtype: object,
    metadata: object = None,
) -> object:
    if not isinstance(dtype, Named) or dtype.name not in _TYPES:
        raise BadPickle("describes a tensor of no type")
    return _view(context, storage, offset, shape, strides, _TYPES[dtype.name], metadata)


def _view(
    context: _Context,
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    dtype: str | None,
    metadata: object,
) -> object:
    context.n_tensors += 1
    if context.n_tensors > MAX_TENSORS:
        raise BadPickle(f"describes more than {MAX_TENSORS:,} tensors")
    sizes, steps = _sizes(shape), _sizes(strides)
    bits = metadata if isinstance(metadata, dict) else {}
    if not isinstance(storage, Storage) or len(sizes) != len(steps):
        raise BadPickle("describes a tensor that has no storage, or not one stride for each size")
    if type(offset) is not int or not 0 <= offset < 2**63:
        raise BadPickle(f"describes a tensor at the offset {offset!a:.40}; is it damaged?")
    return context.tensor(
        View(storage, dtype or storage.dtype, offset, sizes, steps, bits.get("conj") is True, bits.get("neg") is True)
    )


def _sizes(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, tuple) or len(numbers) > MAX_DIMENSIONS:
        raise BadPickle("describes a tensor whose shape is none")
    for number in numbers:
        if type(number) is not int or not 0 <= number < 2**63:
            raise BadPickle(f"describes a tensor of the size {number!a:.40}; is it damaged?")
    return numbers


def _parameter(_context: _Context, value: object, *_rest: object) -> object:
    return value


def _of_class(context: _Context, function: object, kind: object, arguments: object, _state: object) -> object:
    """Return a tensor of a class of its own, or with attributes, as the tensor alone."""
    if not isinstance(function, Named) or not isinstance(kind, Named) or not isinstance(arguments, tuple):
        raise BadPickle("calls what is no function")
    if function.name not in TENSORS:
        context.foreign.add(function.name)
        return Named(function.name)
    return TENSORS[function.name](context, *arguments[:MAX_ARGUMENTS])


TENSORS: Mapping[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
"""The calls by which torch describes dense tensors."""

CALLS: Mapping[str, Callable[..., object]] = {
    **TENSORS,
    "torch._tensor._rebuild_from_type_v2": _of_class,
    "torch.Size": _tuple,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    **{
        name: _inert(name)
        for name in (
            *("torch.device", "builtins.set", "__builtin__.set"),
            *("builtins.complex", "__builtin__.complex"),
        )
    },
}
"""The calls that dense tensors, their containers and plain values need, and what is done in the place of each."""


_SET, _BYTES = Named("builtins.set"), Named("builtins.bytes")
_CONSTANTS: Mapping[str, object] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    "EMPTY_SET": _SET,
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _BYTES),
}
_GIVEN = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "LONG4"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
    )
)
"""The steps whose argument is the value."""
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
