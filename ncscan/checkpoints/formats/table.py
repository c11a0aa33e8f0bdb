"""List the formats, which are recognised by a file's first bytes, never by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ncscan.checkpoints.formats.distributed import distributed
from ncscan.checkpoints.formats.reading import FileContent
from ncscan.checkpoints.formats.refusals import NO_FORMATS, RESAVE
from ncscan.checkpoints.formats.safetensors_file import header_length, safetensors_file
from ncscan.checkpoints.formats.shards import is_index, shards
from ncscan.checkpoints.formats.torch_stream import torch_stream
from ncscan.checkpoints.formats.torch_zip import torch_zip
from ncscan.errors import CheckpointError

HEAD = 512
"""Bytes that are looked at before a file is read: a file of another kind may be large."""


class Format(NamedTuple):
    """One kind of file."""

    name: str
    recognise: Callable[[bytes, int], bool]
    """Tells the format from the first bytes, `HEAD` of them, and the size of the file."""
    read: Callable[[bytes, Path], FileContent]


SINGLE: tuple[Format, ...] = (
    Format("torch-zip", lambda head, _: head[:4] == b"PK\x03\x04", torch_zip),
    # Before pickles: the length of a header can begin like one of these.
    Format("safetensors", lambda head, size: head[8:9] == b"{" and header_length(head) <= size - 8, safetensors_file),
    Format("pickle", lambda head, _: head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05", torch_stream),
)
"""The formats of one file, told apart by their first bytes, never by their names."""


def _read_single(data: bytes, path: Path) -> FileContent:
    """Read the bytes of a file that is in one of these formats."""
    form = next((form for form in SINGLE if form.recognise(data[:HEAD], len(data))), None)
    if form is None:
        raise CheckpointError(f"{path}: {no_format(data[:HEAD])}")
    return form.read(data, path)


FORMATS: tuple[Format, ...] = (*SINGLE, Format("shards", is_index, shards(_read_single)))
"""The formats that are read, those that lead to several files too."""
DISTRIBUTED = Format("distributed", lambda *_: True, distributed)
"""The format of a folder, by the bytes of its metadata."""


def no_format(data: bytes) -> str:
    """Return the refusal of a file of no known format: what it seems to be, from its first bytes."""
    for offset, mark, what in NO_FORMATS:
        if data[offset : offset + len(mark)] == mark:
            return f"is {what}"
    if data[8:9] == b"{":
        return f"its safetensors header claims {header_length(data):,} bytes, more than the file has; is it cut off?"
    return f"neither a torch.save file nor safetensors, or cut off at the start; {RESAVE}"
