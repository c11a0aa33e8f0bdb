"""Define what every format gives."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from ncscan.checkpoints.metadata import MetadataValue


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


def alone(tensors: Mapping[str, torch.Tensor], notes: Mapping[str, MetadataValue]) -> FileContent:
    """Return the content of a file that holds one network and nothing else."""
    return FileContent((StoredState((), lambda: tensors),), notes)
