"""Read a checkpoint of several files by the index that names them: `*.index.json` of Hugging Face.

In: the bytes of an index, and what reads one file. Out: the tensors of all shards. The index and what the shards hold
must agree to the last name.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ncscan.checkpoints.formats.reading import BytesBeside, FileContent, StoredState
from ncscan.checkpoints.metadata import MetadataValue
from ncscan.checkpoints.parts import MAX_INDEX, index_of, target_within
from ncscan.errors import CheckpointError
from ncscan.files import fits, read
from ncscan.wording import listed_up_to

ReadsFile = Callable[[bytes, Path], FileContent]


def is_index(head: bytes, size: int) -> bool:
    """Return whether a file begins like JSON, as an index does."""
    return head.lstrip()[:1] == b"{" and b"\0" not in head and size <= MAX_INDEX


def shards(read_one: ReadsFile) -> ReadsFile:
    """Return a reader of an index, given one that reads a single file."""

    def read_all(data: bytes, path: Path) -> FileContent:
        """Read all shards of an index, one after the other; CheckpointError when they do not fit together."""
        index = index_of(data, path)
        if index is None:
            raise CheckpointError(f"{path}: is JSON, not a checkpoint")
        names = sorted(set(index.values()))
        files = [_file(name, path) for name in names]
        fits(sum(file.stat().st_size for file in files), path, CheckpointError)
        beside = BytesBeside()
        notes: dict[str, MetadataValue] = {}
        found: dict[str, torch.Tensor] = {}
        for name, file in zip(names, files, strict=True):
            tensors, told = _of_shard(read_one, beside, file)
            _check(tensors, {key for key, where in index.items() if where == name}, index, path, name)
            found |= tensors
            notes = {**told, **notes}
        ordered = {name: found[name] for name in index}
        return FileContent((StoredState((), lambda: ordered),), notes, beside=beside)

    return read_all


def _of_shard(
    read_one: ReadsFile, beside: BytesBeside, file: Path
) -> tuple[Mapping[str, torch.Tensor], Mapping[str, MetadataValue]]:
    """Return the tensors and the notes of one shard; of its bytes nothing stays."""
    content = read_one(beside.add(read(file, CheckpointError)), file)
    if len(content.states) != 1:
        raise CheckpointError(f"{file}: holds {len(content.states)} states, and a shard has one")
    return content.states[0].make(), content.notes


def _file(name: str, path: Path) -> Path:
    file = path.parent / name
    if not file.exists():
        raise CheckpointError(f"{path}: names the shard {name!a:.100}, which is not there; fetch it again")
    if target_within(file, path.parent) is None:
        raise CheckpointError(f"{path}: names the shard {name!a:.100}, a link out of its folder, which is not followed")
    return file


def _check(
    tensors: Mapping[str, torch.Tensor], named: set[str], index: Mapping[str, str], path: Path, shard: str
) -> None:
    """Refuse a shard that has less or more than its index names."""
    lacking = [name for name in named if name not in tensors]
    more = [name for name in tensors if name not in named]
    again = [name for name in more if name in index]
    if lacking:
        raise CheckpointError(
            f"{path}: {shard} lacks {listed_up_to(3, sorted(lacking))}, which the index says it holds"
        )
    if again:
        others = f"the index names them in {index[again[0]]!a:.100}"
        raise CheckpointError(f"{path}: {shard} holds {listed_up_to(3, again)} too, while {others}: two of one name")
    if more:
        raise CheckpointError(f"{path}: {shard} holds {listed_up_to(3, more)}, which the index does not name")
