"""Assign a step to each checkpoint of a run, and check the files against the order of their names.

In: what each checkpoint records about itself. Out: one step and unit for each, in order, and warnings in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class CheckpointRecord:
    """What one checkpoint records about itself: its run, its step and its content."""

    run: str
    checkpoint: str
    """Its name within the run."""
    step: int | None
    epoch: int | None
    file_number: int | None
    tensors_sha256: str
    """Equal for two checkpoints that hold the same tensors, whatever their format."""
    stored_dtype: str = ""
    """The type in which its tensors are stored, where that is known: `float32`, `bfloat16`, …"""


@dataclass(frozen=True)
class CheckpointStep:
    """The step of a checkpoint in its run."""

    step: int
    step_unit: str
    """`iteration`, `epoch`, `file` (the number in the file name) or `order` (nothing gave a number)."""


UNITS = (("step", "iteration"), ("epoch", "epoch"), ("file_number", "file"))
"""The units in which a step is looked for, the best first; the first that every checkpoint of a run has counts."""


def assign_steps(records: Sequence[CheckpointRecord]) -> list[CheckpointStep]:
    """Return a step for each checkpoint, in the order given.

    A run uses one unit throughout, the best that all its checkpoints know, so that its axis means one thing.

    >>> run = [CheckpointRecord("a", "e1.pt", None, 1, 1, "x"), CheckpointRecord("a", "e2.pt", 200, 2, 2, "y")]
    >>> assign_steps(run)
    [CheckpointStep(step=1, step_unit='epoch'), CheckpointStep(step=2, step_unit='epoch')]
    """
    units: dict[str, tuple[str, str]] = {}
    for run in dict.fromkeys(record.run for record in records):
        own = [record for record in records if record.run == run]
        units[run] = next(
            ((key, unit) for key, unit in UNITS if all(getattr(record, key) is not None for record in own)),
            ("", "order"),
        )
    seen = dict.fromkeys(units, 0)
    placed = []
    for record in records:
        key, unit = units[record.run]
        placed.append(CheckpointStep(getattr(record, key) if key else seen[record.run], unit))
        seen[record.run] += 1
    return placed


def integrity(records: Sequence[CheckpointRecord]) -> list[str]:
    """Return what is doubtful about the runs, one line each: the same tensors or one step twice, names out of order.

    A run that changes the precision it is stored in is doubtful too: its numbers have another floor from there on.
    Runs that share their initialisation (the same tensors at step 0 of each) are as they should be.
    """
    placed = assign_steps(records)
    by_tensors: dict[str, list[tuple[CheckpointRecord, CheckpointStep]]] = {}
    for record, at in zip(records, placed, strict=True):
        by_tensors.setdefault(record.tensors_sha256, []).append((record, at))
    warnings = []
    for same in by_tensors.values():
        runs = {record.run for record, _ in same}
        if len(same) > len(runs) or (len(same) > 1 and any(at.step != 0 for _, at in same)):
            names = ", ".join(f"{record.run}/{record.checkpoint}" for record, _ in same)
            warnings.append(f"the same tensors under {len(same)} names: {names}")
    for run in dict.fromkeys(record.run for record in records):
        warnings += _order(run, [(m, at) for m, at in zip(records, placed, strict=True) if m.run == run])
    return warnings


def _order(run: str, own: Sequence[tuple[CheckpointRecord, CheckpointStep]]) -> list[str]:
    unit = own[0][1].step_unit
    by_step: dict[int, list[str]] = {}
    for record, at in own:
        by_step.setdefault(at.step, []).append(record.checkpoint)
    warnings = [
        f"{run}: {len(names)} checkpoints say {unit} {step}: {', '.join(names)}"
        for step, names in by_step.items()
        if len(names) > 1
    ]
    numbered = sorted((m.file_number, at.step, m.checkpoint) for m, at in own if m.file_number is not None)
    warnings += [
        f"{run}: {later} comes after {earlier} by name but before it by its own {unit}"
        for (_, step, earlier), (_, next_step, later) in pairwise(numbered)
        if next_step < step
    ]
    by_dtype: dict[str, list[str]] = {}
    for record, _ in own:
        if record.stored_dtype:
            by_dtype.setdefault(record.stored_dtype, []).append(record.checkpoint)
    if len(by_dtype) > 1:
        told = ", ".join(f"{names[0]} is {dtype}" for dtype, names in by_dtype.items())
        warnings.append(f"{run}: its checkpoints are stored in {len(by_dtype)} precisions: {told}")
    return warnings
