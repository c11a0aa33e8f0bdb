"""Understand the metadata of torch.distributed.checkpoint: which tensors there are, and where their chunks lie.

In: the pickle of a `.metadata` file. Out: `Distributed`, flat. Its classes are records here like any others.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ncscan.pickles.calls import DTYPES, MAX_DIMENSIONS, MAX_TENSORS
from ncscan.pickles.values import BadPickle, Context, Named, Record

MODULE = "torch.distributed.checkpoint.metadata"
MAX_CHUNKS = 1_000_000

PartKey = tuple[str, tuple[int, ...] | None]
"""The name of a tensor and the place of a part in it; None for what is no tensor."""
Span = tuple[str, int, int]
"""A file, and where in it something lies: offset and length."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A box of a tensor, or a whole object, and the bytes of a file in which it was saved."""

    file: str
    offset: int
    length: int
    """The bytes that were saved of it, from `offset` on."""
    place: tuple[int, ...]
    """The first element in each dimension; none for what is no tensor."""
    size: tuple[int, ...]
    """The number of elements in each dimension."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the state that was saved."""

    keys: tuple[str, ...]
    """The keys under which it lies, from the outside in."""
    dtype: str
    """The type of a tensor, as torch calls it; empty for what is no tensor."""
    shape: tuple[int, ...]
    chunks: tuple[Piece, ...]


class Distributed(msgspec.Struct, frozen=True, array_like=True):
    """What a folder of torch.distributed.checkpoint holds."""

    items: tuple[Item, ...]
    inert: tuple[str, ...]
    """Classes and functions of others that the pickle names, sorted."""


def understand_distributed(content: object, context: Context) -> Distributed:
    """Return the items that the metadata describe.

    Raises: BadPickle when they are of another kind, contradict themselves, or need extensions to be read.
    """
    if not isinstance(content, Record) or content.name != f"{MODULE}.Metadata":
        raise BadPickle("holds no metadata of torch.distributed.checkpoint")
    parts = content.fields()
    entries, stored = parts.get("state_dict_metadata"), parts.get("storage_data")
    planned = parts.get("planner_data")
    if not isinstance(entries, Mapping) or not isinstance(stored, Mapping) or len(stored) > MAX_CHUNKS:
        raise BadPickle("does not say where its tensors lie")
    where = dict(_places(stored))
    if len(where) < len(stored):
        raise BadPickle("says twice where a part of a tensor lies")
    items = tuple(_item(name, entry, planned, where) for name, entry in entries.items())
    if len(items) > MAX_TENSORS:
        raise BadPickle(f"describes more than {MAX_TENSORS:,} tensors")
    inert = (name for name in context.inert if not name.startswith(("torch.", "pathlib.")))
    return Distributed(items, tuple(sorted(inert)))


def _places(stored: Mapping[Any, Any]) -> list[tuple[PartKey, Span]]:
    """Return file, offset and length of each part, by the name of the tensor and the place of the part in it."""
    found = []
    for index, info in stored.items():
        key, value = _fields(index, "MetadataIndex"), _fields(info, "_StorageInfo")
        name, place = key.get("fqn"), key.get("offset")
        file, offset, length = (value.get(part) for part in ("relative_path", "offset", "length"))
        if value.get("transform_descriptors"):
            raise BadPickle(f"was written by extensions ({value['transform_descriptors']!a:.60}), which are not read")
        if not isinstance(name, str) or not isinstance(file, str) or type(offset) is not int or type(length) is not int:
            raise BadPickle("does not say where a tensor lies")
        found.append(((name, None if place is None else _sizes(place)), (file, offset, length)))
    return found


def _item(name: object, entry: object, planned: object, where: Mapping[PartKey, Span]) -> Item:
    if not isinstance(name, str) or not isinstance(entry, Record):
        raise BadPickle("describes a tensor that has no name")
    way = planned.get(name) if isinstance(planned, Mapping) else None
    # Lists of the state were taken apart too: their places are numbers.
    keys = tuple(str(key) for key in way) if isinstance(way, tuple) and way else (name,)
    if entry.name == f"{MODULE}.BytesStorageMetadata":
        return Item(keys, "", (), (Piece(*_found(where, name, None), (), ()),))
    described = _fields(entry, "TensorStorageMetadata")
    shape, chunks = _sizes(described.get("size")), described.get("chunks")
    properties = described.get("properties")
    state = properties.state if isinstance(properties, Record) else None
    dtype = state[0] if isinstance(state, tuple) and state else state.get("dtype") if isinstance(state, dict) else None
    kind = dtype.name.removeprefix("torch.") if isinstance(dtype, Named) else ""
    if kind not in DTYPES:
        raise BadPickle(f"describes a tensor of a type that is not read ({name!a:.100}: {kind or dtype!a:.40})")
    if not isinstance(chunks, list):
        raise BadPickle(f"does not say in which parts a tensor lies ({name!a:.100})")
    parts = (_fields(chunk, "ChunkStorageMetadata") for chunk in chunks)
    boxes = {_sizes(part.get("offsets")): _sizes(part.get("sizes")) for part in parts}
    if any(len(place) != len(shape) or len(size) != len(shape) for place, size in boxes.items()):
        raise BadPickle(f"describes parts of other dimensions than their tensor ({name!a:.100})")
    placed = (Piece(*_found(where, name, place), place, size) for place, size in boxes.items())
    return Item(keys, kind, shape, tuple(placed))


def _found(where: Mapping[PartKey, Span], name: str, place: tuple[int, ...] | None) -> Span:
    if (name, place) not in where:
        raise BadPickle(f"does not say where {name!a:.100} lies")
    return where[name, place]


def _fields(record: object, kind: str) -> Mapping[Any, Any]:
    if not isinstance(record, Record) or record.name.rpartition(".")[2] != kind:
        raise BadPickle(f"has something else where {kind} is meant")
    return record.fields()


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS:
        raise BadPickle("describes a tensor whose shape is none")
    for number in value:
        if type(number) is not int or not 0 <= number < 2**63:
            raise BadPickle(f"describes a tensor of the size {number!a:.40}; is it damaged?")
    return value
