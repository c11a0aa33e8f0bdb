"""List the calls that a pickle may make, and what is done instead of each.

In: the name and the arguments that a pickle has for it. Out: a value made here. Whatever is to be understood of a
checkpoint is a row of `CALLS`; every other call becomes a record of what it was given, and names that no checkpoint
has a use for end the reading.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ncscan.pickles import arrays
from ncscan.pickles.values import USER_DICTS, BadPickle, Context, Named, Record, Storage, View, set_items

MAX_OPS = 4_000_000
MAX_TENSORS = 300_000
MAX_DIMENSIONS = 64
MAX_ARGUMENTS = 16
MAX_CALLED = 200
"""Characters of the name of a call of what a call gave."""
MAX_PATH = 4096
MAX_ENCODED = 64 * 2**20
"""Bytes that texts of protocol 2 are encoded to; one text can be encoded again and again."""

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


HARMFUL = re.compile(
    r"(os|posix|nt|subprocess|sys|pkgutil|runpy|shutil|socket|ctypes|pty|codeop|webbrowser|marshal|popen2|pdb|bdb|"
    r"urllib\.request|torch\.hub|torch\.utils\.cpp_extension)\..*|"
    r"(builtins|__builtin__)\.(eval|exec|execfile|compile|open|input|__import__|breakpoint|globals|locals|vars|setattr)|"
    r"(torch|torch\.serialization|numpy|pickle|_pickle|cPickle|dill|dill\._dill|cloudpickle|joblib|pandas)\."
    r"(load|loads|read_pickle)|"
    # Of modules whose names may be a researcher's own folder, what they run alone.
    r"importlib\.(import_module|reload|__import__|_bootstrap.*|machinery\..*|util\..*)|imp\.(load_\w+|reload)|"
    r"code\.(interact|Interactive\w+)|(profile|cProfile)\.(run|runctx|Profile)|trace\.Trace|timeit\.(timeit|repeat|main)|"
    r"commands\.(getoutput|getstatusoutput)|multiprocessing\.(Process|process\..*|util\..*|popen_\w+\..*)|"
    r"asyncio\.(create_subprocess_\w+|subprocess\..*|unix_events\..*)|pip\.(main|_internal.*)|"
    r"distutils\.(spawn|core|command)\..*|setuptools\.(setup|command\..*|_distutils.*)|requests\.(get|post|put|api\..*)|"
    r"(http\.(client|server)|smtplib|ftplib|telnetlib)\..*|numpy\.testing\._private\.utils\.runstring"
)
"""Names that run programs, import code, or read and write files: no training loop leaves them in a checkpoint."""


def named(name: str, context: Context) -> Named:
    """Return a name that would be imported; it is inert when nothing here needs it.

    Raises: BadPickle when it is a name of `HARMFUL`. It would not run here; the file is not to be trusted elsewhere.
    """
    if HARMFUL.fullmatch(name):
        raise BadPickle(f"its pickle would run {name!a:.100} wherever it is unpickled: it is made to harm")
    known = name in CALLS or name in STORAGES or name in TYPES or name in CLASSES
    if not known and not name.startswith(("builtins.", "__builtin__.")):
        context.inert.add(name)
    return Named(name)


def called(call: list[Any], context: Context) -> object:
    """Return the result of the row of `CALLS`; a call of anything else is a record of its arguments."""
    function, arguments = call
    if isinstance(function, Record):  # what a call gave is called in its turn
        return Record(f"{function.name}()"[:MAX_CALLED], (function, *_given(arguments)))
    if not isinstance(function, Named):
        raise BadPickle("calls what is no function")
    if function.name in CALLS:
        return CALLS[function.name](context, *_given(arguments)[:MAX_ARGUMENTS])
    return Record(function.name, _given(arguments))


def _given(arguments: object) -> tuple[Any, ...]:
    if not isinstance(arguments, tuple):
        raise BadPickle("calls what is no function")
    return arguments


def storage_of(described: Any, context: Context) -> Storage | Named:
    """Return the storage that a persistent id names, or the class of a module, whose source torch used to keep."""
    if isinstance(described, tuple) and len(described) == 4 and described[0] == "module":
        if not isinstance(described[1], Named):
            raise BadPickle("describes a class that is none")
        return described[1]
    if not isinstance(described, tuple) or len(described) not in (5, 6):
        raise BadPickle("describes a storage that is none")
    mark, kind, key, _, n_elements = described[:5]
    if described[5:] not in ((), (None,)):
        raise BadPickle("has storages that are parts of others, as torch wrote them before 0.4; save it again")
    if mark != "storage" or not isinstance(kind, Named) or not isinstance(key, str) or type(n_elements) is not int:
        raise BadPickle("describes a storage that is none")
    if kind.name not in STORAGES or not 0 <= n_elements < 2**63:
        raise BadPickle(f"describes a storage of the type {kind.name!a:.60}, which is not read")
    storage = Storage(key, STORAGES[kind.name], n_elements)
    context.storages.setdefault(key, storage)
    return storage


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


def _factory_dictionary(context: Context, _factory: object = None, pairs: object = ()) -> dict[Any, Any]:
    return _dictionary(context, pairs)


def _bytes(context: Context, text: object = "", encoding: object = "latin1") -> bytes:
    """Return the bytes of a text that older protocols encode; other encodings can make more of a text than it is."""
    if not isinstance(text, str):
        raise BadPickle("makes bytes of what is no text")
    if encoding not in ("latin1", "latin-1"):
        raise BadPickle(f"encodes a text by {encoding!a:.40}, which torch.save does not write")
    context.n_encoded += len(text)
    if context.n_encoded > max(MAX_ENCODED, context.n_bytes):
        raise BadPickle(f"encodes texts of {context.n_encoded:,} characters, more than it has")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise BadPickle("encodes a text that has no bytes in latin1") from error


def _record(name: str) -> Callable[..., object]:
    """Return a call of which a record is all that is needed, and known to be harmless."""
    return lambda _context, *arguments: Record(name, arguments)


def _path(_context: Context, *parts: object) -> str:
    """Return a path as text."""
    texts = [part for part in parts if isinstance(part, str)]
    return "/".join(texts).replace("//", "/", 1)[:MAX_PATH]


def _embedded(context: Context, data: object = b"") -> Storage | Record:
    """Return the storage whose bytes a bare pickle has in it."""
    if context.embedded is None:
        raise BadPickle("holds the bytes of a storage where torch writes none")
    return context.embedded(data, context)


def _of_kind(_context: Context, kind: object = None, *_base: object) -> Record:
    """Return the record of an object that older protocols rebuild from its class."""
    if not isinstance(kind, Named):
        raise BadPickle("builds an object of no class")
    return Record(kind.name)


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
    return View(
        storage, dtype or storage.dtype, offset, sizes, steps, bits.get("conj") is True, bits.get("neg") is True
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
        return Record(function.name, arguments)
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
    "torch.storage._load_from_bytes": _embedded,
    "torch.Size": _tuple,
    "_codecs.encode": _bytes,
    "builtins.bytes": _bytes,
    "__builtin__.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "__builtin__.bytearray": _bytes,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _factory_dictionary,
    "copy_reg._reconstructor": _of_kind,
    "copyreg._reconstructor": _of_kind,
    "numpy.dtype": arrays.dtype,
    **{f"pathlib.{kind}": _path for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
    **{f"pathlib._local.{kind}": _path for kind in ("Path", "PosixPath", "WindowsPath")},
    **{
        f"numpy.{core}.{name}": call
        for core in ("core", "_core")
        for name, call in (
            ("multiarray.scalar", arrays.scalar),
            ("multiarray._reconstruct", arrays.reconstructed),
            ("numeric._frombuffer", arrays.from_buffer),
        )
    },
    **{
        name: _record(name)
        for name in (
            *("torch.device", "builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset"),
            *("builtins.complex", "__builtin__.complex", "builtins.slice", "__builtin__.slice"),
            *("argparse.Namespace", "types.SimpleNamespace", *USER_DICTS, "numpy.ndarray"),
            *("builtins.object", "__builtin__.object", "builtins.dict", "builtins.list", "builtins.int"),
        )
    },
}
"""The calls that are understood, and what is done in the place of each: tensors, arrays, containers, plain values."""
