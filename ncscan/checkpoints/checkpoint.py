"""Checkpoint files → tensors and plain notes.

In: a file from anybody. Out: `Checkpoint`. The bytes are read once, and what zip_archive.py and ncscan.pickles, or
safetensors, make of those bytes is what is used; no second reader sees them, and nothing in them is ever executed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ncscan.checkpoints import metadata
from ncscan.checkpoints.adapters import Adapter, adapter_at, merged, needs_base
from ncscan.checkpoints.discovery import find
from ncscan.checkpoints.formats.table import DISTRIBUTED, FORMATS, HEAD, Format, no_format
from ncscan.checkpoints.metadata import MetadataValue
from ncscan.checkpoints.parts import DCP_METADATA, as_part, is_distributed
from ncscan.checkpoints.state_dict import StateChoice, check_tensors, chosen_state, tensors_sha256
from ncscan.errors import CheckpointError
from ncscan.files import opened, read, read_rest
from ncscan.pickles import MAX_TEXT
from ncscan.wording import listed_up_to


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file."""

    path: Path
    sha256: str
    """The hash of the very bytes that were parsed; of several files over their hashes, in the order of reading."""
    n_bytes: int
    format: str
    """A row of FORMATS: `torch-zip`, `pickle`, `safetensors` or `shards`; or `distributed`."""
    wrapper: str
    """The key under which the tensors were found (`state_dict`, `model`, …), with dots when nested, else empty."""
    tensors: Mapping[str, torch.Tensor]
    """On the CPU, as stored, names untouched, in the file's order."""
    tensors_sha256: str
    """The hash over names, types, shapes and values: equal for two files that hold the same tensors."""
    notes: Mapping[str, MetadataValue]
    inert: tuple[str, ...]
    """Classes and functions that the file names: objects of which only data was read."""
    step: int | None
    epoch: int | None
    file_number: int | None
    """The number that a word of the file's name, or of its folder's, names: in whatever unit, but of training."""


def load(path: Path, choice: StateChoice = StateChoice(), base: Path | None = None) -> Checkpoint:
    """Read one checkpoint: a file, the index of its shards, or a folder of torch.distributed.checkpoint.

    A LoRA adapter is merged with its base.

    Args:
        path: the file or the folder.
        choice: which of several states in it is meant.
        base: the checkpoint that an adapter changes; whole models need none.

    Raises: CheckpointError when it cannot be read, is of no known format, holds no tensors of a model, or is made to
    harm.
    """
    checkpoint = _load(path, choice)
    adapter = adapter_at(path, checkpoint.tensors)
    if adapter is None:
        return checkpoint
    if base is None:
        raise needs_base(path, adapter)
    return _merged(checkpoint, adapter, _load_base(base, choice))


def _load_base(path: Path, choice: StateChoice) -> Checkpoint:
    files = find(path).files
    if len(files) != 1:
        names = listed_up_to(3, [str(file) for file in files])
        raise CheckpointError(f"{path}: --base must be one checkpoint, and there are {len(files)}: {names}")
    base = _load(files[0], choice)
    if adapter_at(files[0], base.tensors) is not None:
        raise CheckpointError(f"{files[0]}: --base is an adapter itself; give the whole model")
    return base


def _merged(checkpoint: Checkpoint, adapter: Adapter, base: Checkpoint) -> Checkpoint:
    """Return the checkpoint of the model that an adapter makes of its base."""
    tensors = merged(adapter, checkpoint.tensors, base.tensors, checkpoint.path)
    hashes = (checkpoint.sha256, adapter.sha256, base.sha256)
    notes = {"lora.base": base.path.name, "lora.base_sha256": base.sha256, **checkpoint.notes}
    return replace(
        checkpoint,
        sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
        n_bytes=checkpoint.n_bytes + base.n_bytes,
        format=f"lora on {base.format}",
        wrapper=base.wrapper,
        tensors=tensors,
        tensors_sha256=tensors_sha256(tensors),
        notes=notes,
        inert=tuple(sorted({*checkpoint.inert, *base.inert})),
    )


def _load(path: Path, choice: StateChoice) -> Checkpoint:
    data, form = _read(path)
    content = form.read(data, path)
    chosen = chosen_state(content, choice, path)
    n_bytes = len(data) + (content.beside.n_bytes if content.beside else 0)
    check_tensors(chosen.tensors, n_bytes, path)
    step, epoch, file_number = metadata.counts(content.notes, path)
    return Checkpoint(
        path=path,
        sha256=content.beside.sha256(data) if content.beside else hashlib.sha256(data).hexdigest(),
        n_bytes=n_bytes,
        format=form.name,
        wrapper=chosen.wrapper,
        tensors=chosen.tensors,
        tensors_sha256=tensors_sha256(chosen.tensors),
        notes=_with_others(content.notes, chosen.others),
        inert=content.inert,
        step=step,
        epoch=epoch,
        file_number=file_number,
    )


def _with_others(notes: Mapping[str, MetadataValue], others: Sequence[str]) -> Mapping[str, MetadataValue]:
    """Return the notes, with the names of the states that were passed over."""
    return {"other_states": ", ".join(others)[:MAX_TEXT], **notes} if others else notes


def _read(path: Path) -> tuple[bytes, Format]:
    if part := as_part(path):
        raise CheckpointError(f"{path}: {part.why}")
    if is_distributed(path):
        return read(path / DCP_METADATA, CheckpointError), DISTRIBUTED
    with opened(path, CheckpointError) as (file, size):
        head = file.read(HEAD)
        if not head:
            raise CheckpointError(f"{path}: is empty, 0 bytes; was it cut off?")
        form = next((form for form in FORMATS if form.recognise(head, size)), None)
        if form is None:
            raise CheckpointError(f"{path}: {no_format(head)}")
        data = read_rest(path, file, size, CheckpointError)
        if data[:HEAD] != head:
            raise CheckpointError(f"{path}: was changed while it was read")
        return data, form
