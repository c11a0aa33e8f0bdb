"""Read the metadata of a checkpoint: the plain values that it carries in addition to its tensors.

In: the notes in a pickle, or the strings of a safetensors header, and the path. Out: a flat mapping of names to plain
values, and the step, the epoch and the number that tell its place in a run.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ncscan.errors import CheckpointError
from ncscan.files import parse_json, read
from ncscan.ordering import counts_in
from ncscan.pickles import EPOCH_NOTES, MAX_NOTES, STEP_NOTES, Note, first_count, plain

MetadataValue = Note
"""The types that a note can have."""

TRAINER_STATE = "trainer_state.json"
MAX_TRAINER_STATE = 2**26
"""Bytes of a trainer's state; the history of a long training takes some megabytes."""
NAMED_PARTS = 3
"""The parts of a path that may name a step: the file, its folder, and the one above."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def of_metadata(metadata: Mapping[str, str]) -> dict[str, MetadataValue]:
    """Return the notes of a safetensors header, which knows only text: what is written like a number is one."""
    notes: dict[str, MetadataValue] = {}
    for name, text in list(metadata.items())[:MAX_NOTES]:
        value: object = text
        if len(text) < 30 and _NUMBER.fullmatch(text):
            value = int(text) if text.lstrip("+-").isdigit() else float(text)
        if (key := plain(name)) and (note := plain(value)) is not None:
            notes[str(key)] = note
    return notes


def counts(notes: Mapping[str, MetadataValue], path: Path) -> tuple[int | None, int | None, int | None]:
    """Return iteration, epoch and number of a checkpoint.

    Iteration and epoch are those of the notes, else of the trainer's state beside the file, else of the file's name or
    that of a folder that it lies in, the nearest first (`step1000/x.bin`). The number is one of the names alone.
    """
    step, epoch = first_count(notes, STEP_NOTES), first_count(notes, EPOCH_NOTES)
    if step is None:
        beside = trainer_state(path)
        step = first_count(beside, STEP_NOTES)
        epoch = first_count(beside, EPOCH_NOTES) if epoch is None else epoch
    by_name = counts_in("/".join(path.parts[-NAMED_PARTS:]))
    return (by_name[0] if step is None else step), (by_name[1] if epoch is None else epoch), by_name[2]


def trainer_state(path: Path) -> dict[str, MetadataValue]:
    """Return the step and the epoch that the Trainer of transformers left in the folder of its weights."""
    file = (path if path.is_dir() else path.parent) / TRAINER_STATE
    try:
        content = parse_json(read(file, CheckpointError, MAX_TRAINER_STATE)) if file.is_file() else None
    except (CheckpointError, ValueError, OSError):
        return {}  # names tell a step too, and where nothing does a report says so
    known = content if isinstance(content, dict) else {}
    return {name: note for name in ("global_step", "epoch") if (note := plain(known.get(name))) is not None}
