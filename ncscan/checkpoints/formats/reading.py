"""Define what every format gives."""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from ncscan.checkpoints.metadata import MetadataValue


class BytesBeside:
    """Counts and hashes the bytes that are parsed of files beside the one that is named, as they are read."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> bytes:
        """Take note of bytes, and return them."""
        self.n_bytes += len(data)
        self._digest.update(hashlib.sha256(data).digest())
        return data

    def sha256(self, named: bytes) -> str:
        """Return the hash over that of the file that is named, and those of the others in the order of reading."""
        return hashlib.sha256(hashlib.sha256(named).digest() + self._digest.digest()).hexdigest()


class StoredState(NamedTuple):
    """The tensors of one network in a file, or of a part of one."""

    wrapper: tuple[str, ...]
    """The keys under which they lie, from the outside in; none where the file holds nothing else."""
    make: Callable[[], Mapping[str, torch.Tensor]]
    """Makes the tensors of the file's bytes, in its order: only the state that is meant is made."""


class FileContent(NamedTuple):
    """What a reader finds in the bytes of a file."""

    states: tuple[StoredState, ...]
    notes: Mapping[str, MetadataValue]
    inert: tuple[str, ...] = ()
    """Classes and functions that the file names, of which only data was read."""
    holds: str = "nothing"
    """What lies outermost in it, for the message that it holds no tensors."""
    beside: BytesBeside | None = None
    """For a checkpoint in several files: what was read of the others, complete once the tensors are made."""


def alone(tensors: Mapping[str, torch.Tensor], notes: Mapping[str, MetadataValue]) -> FileContent:
    """Return the content of a file that holds one network and nothing else."""
    return FileContent((StoredState((), lambda: tensors),), notes)
