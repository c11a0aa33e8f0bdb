"""Read a pickle that is a file of its own: what torch wrote before 1.6, or what `pickle.dump` writes.

In: the bytes of the file, or at least of its pickles. Out: its content, and where the storages lie that follow it.
torch's old file is four pickles (a mark, a version, facts of the machine, the content), a fifth that lists the
storages, and then each of them: its number of elements in 8 bytes, and the elements.
"""

import re
from typing import NamedTuple

from ncscan.pickles.calls import DTYPES
from ncscan.pickles.interpreter import interpret
from ncscan.pickles.values import BadPickle, Context, Record, Storage

MARK = 0x1950A86A20F9469CFC6C
"""What the first pickle of torch's old files holds."""
_START = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = 1001
SIZES = {name: int((re.findall(r"\d+", name) or ["8"])[0]) // 8 for name in DTYPES}
"""Bytes of an element, by type."""


def is_torch_stream(data: bytes) -> bool:
    """Return whether bytes begin like a file of torch's old format, of any protocol."""
    return _START in data[:32]


class TorchStream(NamedTuple):
    """The pickles of a file, read."""

    content: object
    members: tuple[tuple[str, int], ...]
    """The storages that follow, in order, each with the bytes of an element."""
    end: int
    little_endian: bool


def read_stream(data: bytes, context: Context) -> TorchStream:
    """Read the pickles of torch's old file, or the one of a bare pickle.

    A bare pickle has the bytes of its tensors in it: each storage is a file of torch's old format.

    Raises: BadPickle when they are damaged, or something follows a bare pickle.
    """
    if not is_torch_stream(data):
        context.embedded = _embedded
        content, end = interpret(data, context)
        if end != len(data):
            raise BadPickle("holds a pickle with something behind its end")
        return TorchStream(content, (), end, little_endian=True)
    mark, end = interpret(data, context)
    if mark != MARK:
        raise BadPickle("holds a damaged pickle (it does not begin with torch's mark)")
    version, end = interpret(data, context, end)
    machine, end = interpret(data, context, end)
    if version != VERSION or not isinstance(machine, dict):
        raise BadPickle(f"is of version {version!a:.20} of torch's old format, which is not read")
    content, end = interpret(data, context, end)
    keys, end = interpret(data, context, end)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in context.storages for key in keys):
        raise BadPickle("lists storages that its content does not name; is it damaged?")
    if len(set(keys)) != len(keys):
        raise BadPickle("lists a storage twice")
    members = tuple((key, SIZES[context.storages[key].dtype]) for key in keys)
    return TorchStream(content, members, end, machine.get("little_endian") is not False)


def _embedded(data: object, context: Context) -> Storage | Record:
    """Return the storage whose bytes a bare pickle has in it, as a whole file of torch's old format."""
    if not isinstance(data, bytes) or not is_torch_stream(data):
        return Record("torch.storage._load_from_bytes")
    own = Context()
    stream = read_stream(data, own)
    if not isinstance(stream.content, Storage) or len(stream.members) != 1 or not stream.little_endian:
        raise BadPickle("holds the bytes of a storage that is none")
    [(_key, size)] = stream.members
    stored = data[stream.end + 8 :]
    if int.from_bytes(data[stream.end : stream.end + 8], "little") * size != len(stored):
        raise BadPickle("holds a storage that is cut off")
    return Storage(context.keep(stored), stream.content.dtype, len(stored) // size)
