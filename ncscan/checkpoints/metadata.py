"""Read the metadata of a checkpoint: the plain values that it carries in addition to its tensors.

In: the notes in a pickle, or the strings of a safetensors header. Out: a flat mapping of names to plain values, and the
step and epoch that they, or else the file's name, give.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ncscan.pickles import MAX_NOTES, STEP_NOTES, Note, first_count, plain

MetadataValue = Note
"""The types that a note can have."""

_EPOCHS = ("epoch", "current_epoch", "epochs_trained")
_STEP_IN_NAME = re.compile(r"(?:^|[^a-z])(?:global[_-]?step|steps?|iter(?:ation)?s?)[_=-]?(\d{1,15})(?!\d)", re.I)
_EPOCH_IN_NAME = re.compile(r"(?:^|[^a-z])(?:epochs?|ep)[_=-]?(\d{1,15})(?!\d)", re.I)
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


def step_and_epoch(notes: Mapping[str, MetadataValue], path: Path) -> tuple[int | None, int | None]:
    """Return iteration and epoch: from the notes, else the file's name, else its folder's (`step1000/x.bin`)."""
    step, epoch = first_count(notes, STEP_NOTES), first_count(notes, _EPOCHS)
    for name in (path.stem, path.parent.name):
        if step is None and (found := _STEP_IN_NAME.findall(name)):
            step = int(found[-1])
        if epoch is None and (found := _EPOCH_IN_NAME.findall(name)):
            epoch = int(found[-1])
    return step, epoch


def last_number(path: Path) -> int | None:
    """Return the last number in a file's name.

    >>> last_number(Path("resnet18_seed2-0350.pt"))
    350
    """
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= 15 else None
