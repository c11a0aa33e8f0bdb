"""Read a folder of torch.distributed.checkpoint: metadata, and files of pieces of tensors.

In: the bytes of its `.metadata`. Out: the states in it, put together of their pieces when they are made: what belongs
to the optimizer is not read.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from ncscan import pickles
from ncscan.checkpoints.formats.archive import MAX_PICKLE, Archive
from ncscan.checkpoints.formats.reading import BytesBeside, FileContent, StoredState
from ncscan.checkpoints.formats.storages import shape_words
from ncscan.checkpoints.metadata import MetadataValue
from ncscan.checkpoints.parts import lies_beside, target_within
from ncscan.errors import CheckpointError
from ncscan.files import fits, opened, zip_archive
from ncscan.pickles import MAX_NOTES, VALUE, BadPickle, Distributed, Item, Piece
from ncscan.wording import listed_up_to

MAX_OBJECT = 2**20
"""Bytes of a saved object that is read for the notes."""
MAX_OBJECTS = 200
ZIP_OVERHEAD = 64
"""Bytes beyond those of the elements that an archive of one tensor takes at least."""


def distributed(data: bytes, path: Path) -> FileContent:
    """Read the metadata of a folder; CheckpointError when they or the files they name are damaged or made to harm."""
    try:
        if len(data) > MAX_PICKLE:
            raise BadPickle(f"describes its tensors in {len(data):,} bytes; at most {MAX_PICKLE:,} are read")
        found = pickles.read_as(Distributed, data, "distributed")
        files = _Files(path, found)
        notes = _notes(found.items, files)
    except (BadPickle, zip_archive.BadArchive) as error:
        raise CheckpointError(f"{path}: {error}") from error
    states: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in found.items:
        if item.dtype:
            states[item.keys[:-1]].append(item)
    made = tuple(StoredState(keys, partial(_tensors, items, files)) for keys, items in states.items())
    holds = f"a distributed checkpoint of {listed_up_to(8, ['.'.join(item.keys) for item in found.items[:9]])}"
    return FileContent(made, notes, found.inert, holds, files.beside)


class _Files:
    """The files of pieces, of which only the spans that are needed are read."""

    def __init__(self, folder: Path, found: Distributed) -> None:
        self.folder = folder
        self.beside = BytesBeside()
        spans: dict[str, int] = defaultdict(int)
        for item in found.items:
            for chunk in item.chunks:
                spans[chunk.file] += chunk.length
        for name, length in spans.items():
            self._check(name, length)

    def _check(self, name: str, length: int) -> None:
        file = self.folder / name
        if not lies_beside(name):
            raise BadPickle(f"names {name!a:.100}, which is no file beside its metadata")
        if not file.is_file():
            raise BadPickle(f"lacks {name!a:.100}, which its metadata names; fetch it again")
        if target_within(file, self.folder) is None:
            raise BadPickle(f"names {name!a:.100}, a link out of the folder, which is not followed")
        if length > file.stat().st_size:
            raise BadPickle(f"says that {name!a:.100} holds {length:,} bytes, more than there are; was it cut off?")

    def read(self, chunk: Piece) -> bytes:
        """Return the bytes in which something was saved."""
        file = self.folder / chunk.file
        with opened(file, CheckpointError) as (stream, size):
            if chunk.offset < 0 or chunk.length < 0 or chunk.offset + chunk.length > size:
                said = f"names bytes beyond the end of {chunk.file!a:.100}; was it cut off?"
                raise CheckpointError(f"{self.folder}: {said}")
            stream.seek(chunk.offset)
            return self.beside.add(stream.read(chunk.length))

    def value(self, chunk: Piece) -> FileContent:
        """Return what was saved there."""
        return Archive(self.read(chunk)).content("value", self.folder)


def _tensors(items: Sequence[Item], files: _Files) -> dict[str, torch.Tensor]:
    sizes = {".".join(item.keys): math.prod(item.shape) * getattr(torch, item.dtype).itemsize for item in items}
    try:
        for item in items:
            _check_room(item)
        fits(sum(sizes.values()), files.folder, CheckpointError)
        return {item.keys[-1]: _whole(item, files) for item in items}
    except (BadPickle, zip_archive.BadArchive) as error:
        raise CheckpointError(f"{files.folder}: {error}") from error


def _check_room(item: Item) -> None:
    """Refuse a tensor that is larger than its pieces, or of pieces that do not lie in it."""
    name, whole = ".".join(item.keys), math.prod(item.shape)
    for chunk in item.chunks:
        if any(at + n > most for at, n, most in zip(chunk.place, chunk.size, item.shape, strict=True)):
            raise BadPickle(f"has a piece of {name!a:.100} that lies outside of it")
        if math.prod(chunk.size) * getattr(torch, item.dtype).itemsize > chunk.length:
            raise BadPickle(f"has a piece of {name!a:.100} that is larger than its bytes")
    covered = sum(math.prod(chunk.size) for chunk in item.chunks)
    if covered != whole:
        raise BadPickle(
            f"has {covered:,} of the {whole:,} elements of {name!a:.100} ({shape_words(item.shape)}); "
            "the pieces of one process may be missing, or come twice"
        )


def _whole(item: Item, files: _Files) -> torch.Tensor:
    """Return a tensor, put together of its pieces."""
    name, dtype = ".".join(item.keys), getattr(torch, item.dtype)
    pieces = [(chunk, _piece(chunk, files, name)) for chunk in item.chunks]
    for chunk, piece in pieces:
        if piece.dtype != dtype or tuple(piece.shape) != chunk.size:
            raise BadPickle(f"holds a piece of {name!a:.100} of another shape or type than its metadata says")
    if len(pieces) == 1:
        return pieces[0][1]
    whole = torch.empty(item.shape, dtype=dtype)
    filled = torch.zeros(item.shape, dtype=torch.bool)
    for chunk, piece in pieces:
        box = tuple(slice(at, at + n) for at, n in zip(chunk.place, chunk.size, strict=True))
        if filled[box].any():
            raise BadPickle(f"has two pieces of {name!a:.100} in one place")
        whole[box] = piece
        filled[box] = True
    return whole


def _piece(chunk: Piece, files: _Files, name: str) -> torch.Tensor:
    states = files.value(chunk).states
    tensors = states[0].make() if len(states) == 1 else {}
    if VALUE not in tensors:
        raise BadPickle(f"holds no tensor where a piece of {name!a:.100} is meant")
    return tensors[VALUE]


def _notes(items: Iterable[Item], files: _Files) -> dict[str, MetadataValue]:
    """Return the plain values that were saved beside the tensors, by their keys joined with dots."""
    notes: dict[str, MetadataValue] = {}
    objects = [item for item in items if not item.dtype and item.chunks and item.chunks[0].length <= MAX_OBJECT]
    for item in objects[:MAX_OBJECTS]:
        told: Mapping[str, MetadataValue] = files.value(item.chunks[0]).notes
        for name, note in told.items():
            notes[".".join((*item.keys, *name.split(".")[1:]))] = note
    return dict(list(notes.items())[:MAX_NOTES])
