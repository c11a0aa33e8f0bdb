"""List the calls that a pickle may make, and what is done instead of each.

In: the name and the arguments that a pickle has for it. Out: a value made here. Whatever is to be read of a checkpoint
other than dense tensors, their containers and plain values is a row of `CALLS`; nothing else comes to life.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ncscan.checkpoints.formats.pickle_values import BadPickle, Context, Named, Storage, View, set_items

MAX_OPS = 4_000_000
MAX_TENSORS = 300_000
MAX_DIMENSIONS = 64
MAX_ARGUMENTS = 16

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

TYPES = {f"torch.{name}": name for name in DTYPES}
CLASSES = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
"""Classes that a tensor can be of; it becomes a plain one."""


def named(name: str, context: Context) -> Named:
    """Return a name that would be imported; it is foreign when nothing here needs it."""
    if name not in CALLS and name not in STORAGES and name not in TYPES and name not in CLASSES:
        context.foreign.add(name)
    return Named(name)


def called(call: list[Any], context: Context) -> object:
    """Return the result of the row of `CALLS`; a call of anything else is foreign, and its value inert."""
    function, arguments = call
    if not isinstance(function, Named) or not isinstance(arguments, tuple):
        raise BadPickle("calls what is no function")
    if function.name in CALLS:
        return CALLS[function.name](context, *arguments[:MAX_ARGUMENTS])
    context.foreign.add(function.name)
    return function


def storage_of(described: Any, context: Context) -> Storage:
    """Return the storage that a persistent id names."""
    mark, kind, key, _, n_elements = described
    if mark != "storage" or not isinstance(kind, Named) or not isinstance(key, str) or type(n_elements) is not int:
        raise BadPickle("describes a storage that is none")
    if kind.name not in STORAGES:
        context.foreign.add(kind.name)
    return Storage(key, STORAGES.get(kind.name, "uint8"), n_elements)


def _dictionary(context: Context, pairs: object = ()) -> dict[Any, Any]:
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
        set_items(found, list(pair), context)
    return found


def _tuple(_context: Context, items: object = ()) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise BadPickle("makes a shape of what is no tuple")
    return items


def _bytes(_context: Context, text: object, encoding: object = "latin1") -> Named:
    """Return the bytes of a text that older protocols encode; other encodings can make more of a text than it is."""
    if not isinstance(text, str) or encoding != "latin1":
        raise BadPickle(f"encodes a text by {encoding!a:.40}, which torch.save does not write")
    return Named("builtins.bytes")


def _inert(name: str) -> Callable[..., object]:
    """Return a call whose value nobody needs; it takes whatever it is given."""
    value = Named(name)
    return lambda *_: value


def _tensor(
    context: Context,
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
    context: Context,
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _gradient: object,
    _hooks: object,
    dtype: object,
    metadata: object = None,
) -> object:
    if not isinstance(dtype, Named) or dtype.name not in TYPES:
        raise BadPickle("describes a tensor of no type")
    return _view(context, storage, offset, shape, strides, TYPES[dtype.name], metadata)


def _view(
    context: Context,
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


def _parameter(_context: Context, value: object, *_rest: object) -> object:
    return value


def _of_class(context: Context, function: object, kind: object, arguments: object, _state: object) -> object:
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
