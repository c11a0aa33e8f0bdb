"""Understand NumPy's scalars and arrays in a pickle, without NumPy.

In: the arguments that a pickle has for NumPy's functions. Out: plain numbers, and descriptions of arrays. Types whose
elements are no plain numbers (objects, records, texts, dates) stay records.
"""

import math
import struct
from typing import Any

from ncscan.pickles.values import BadPickle, Context, Named, NumpyArray, Record

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
TYPES = dict(zip(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"), WHOLE, strict=True))
TYPES |= {"b1": "bool", "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64", "c16": "complex128"}
"""NumPy's codes of types, and what torch calls them."""
FORMATS = dict(zip(("bool", "float16", "float32", "float64", *WHOLE), "?efdbhiqBHIQ", strict=True))
"""The codes by which `struct` reads one element."""
MAX_DIMENSIONS = 64


def dtype(_context: Context, *arguments: object) -> Record:
    """Return the record of a type; its byte order comes as its state."""
    return Record("numpy.dtype", arguments)


def scalar(context: Context, kind: object = None, data: object = b"") -> object:
    """Return the number of a NumPy scalar, or its record where it is none."""
    found = _type_of(kind)
    if found is None or not isinstance(data, bytes):
        return Record("numpy.scalar", (kind, data))
    number = element(data, *found)
    return Record("numpy.scalar", (kind, data)) if number is None else number


def element(data: bytes, name: str, big_endian: bool) -> int | float | bool | None:  # noqa: FBT001 - of the data
    """Return the first number of some bytes; None for a type that has no plain number."""
    if name == "bfloat16" and len(data) >= 2:
        half = data[:2] if big_endian else data[1::-1]
        return float(struct.unpack(">f", half + b"\0\0")[0])
    code = FORMATS.get(name)
    if code is None or len(data) < struct.calcsize(f"={code}"):
        return None
    number: int | float | bool = struct.unpack_from(f"{'>' if big_endian else '<'}{code}", data)[0]
    return number


def reconstructed(_context: Context, kind: object = None, *_arguments: object) -> Record:
    """Return the record of an array whose content comes as its state."""
    return Record(kind.name if isinstance(kind, Named) else "numpy.ndarray")


def from_buffer(
    _context: Context, data: object = b"", kind: object = None, shape: object = (), order: object = "C"
) -> Record:
    """Return the record of an array of protocol 5, whose bytes lie in the pickle."""
    return Record("numpy.ndarray", state=(1, shape, kind, order == "F", data))


def array_of(record: Record, context: Context) -> NumpyArray | None:
    """Return the array that a record holds; None where it is none of plain numbers, or lacks bytes."""
    state = record.state
    if record.name != "numpy.ndarray" or not isinstance(state, tuple) or len(state) != 5:
        return None
    _version, shape, kind, fortran, data = state
    found = _type_of(kind)
    if found is None or not isinstance(data, bytes) or not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        return None
    if any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise BadPickle("describes an array whose shape is none")
    if math.prod(shape) * _size_of(kind) != len(data):
        raise BadPickle(f"describes an array of {math.prod(shape):,} elements in {len(data):,} bytes; is it damaged?")
    name, big_endian = found
    return NumpyArray(name, big_endian, shape, fortran is True, context.keep(data))


def _type_of(kind: Any) -> tuple[str, bool] | None:
    """Return the type of a record of `numpy.dtype`, and whether the first byte is the highest."""
    if not isinstance(kind, Record) or kind.name != "numpy.dtype" or not kind.arguments:
        return None
    code = kind.arguments[0]
    if not isinstance(code, str) or code.lstrip("<>|=") not in TYPES:
        return None
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "<"
    return TYPES[code.lstrip("<>|=")], order == ">" or code.startswith(">")


def _size_of(kind: Record) -> int:
    """Return the bytes of an element of a known type."""
    return int(str(kind.arguments[0]).lstrip("<>|=bfciu"))
