"""The checkpoints of a run in order: which step each stands for, and whether the files are what their names say.

In: what each checkpoint says of itself. Out: one step and unit for each, in order, and warnings in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Moment:
    """The description that one checkpoint has of its place in a run."""

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
class CheckpointPlace:
    """A checkpoint's place in its run."""

    step: int
    step_unit: str
    """`iteration`, `epoch`, `file` (the number in the file name) or `order` (nothing gave a number)."""


UNITS = (("step", "iteration"), ("epoch", "epoch"), ("file_number", "file"))
"""The units in which a step is looked for, the best first; the first that every checkpoint of a run has counts."""


def place(moments: Sequence[Moment]) -> list[CheckpointPlace]:
    """Return a step for each checkpoint, in the order given.

    A run uses one unit throughout, the best that all its checkpoints know, so that its axis means one thing.

    >>> run = [Moment("a", "e1.pt", None, 1, 1, "x"), Moment("a", "e2.pt", 200, 2, 2, "y")]
    >>> place(run)
    [CheckpointPlace(step=1, step_unit='epoch'), CheckpointPlace(step=2, step_unit='epoch')]
    """
    units: dict[str, tuple[str, str]] = {}
    for run in dict.fromkeys(moment.run for moment in moments):
        own = [moment for moment in moments if moment.run == run]
        units[run] = next(
            ((key, unit) for key, unit in UNITS if all(getattr(moment, key) is not None for moment in own)),
            ("", "order"),
        )
    seen = dict.fromkeys(units, 0)
    placed = []
    for moment in moments:
        key, unit = units[moment.run]
        placed.append(CheckpointPlace(getattr(moment, key) if key else seen[moment.run], unit))
        seen[moment.run] += 1
    return placed


def integrity(moments: Sequence[Moment]) -> list[str]:
    """Return what is doubtful about the runs, one line each: the same tensors or one step twice, names out of order.

    A run that changes the precision it is stored in is doubtful too: its numbers have another floor from there on.
    Runs that share their initialisation (the same tensors at step 0 of each) are as they should be.
    """
    placed = place(moments)
    by_tensors: dict[str, list[tuple[Moment, CheckpointPlace]]] = {}
    for moment, at in zip(moments, placed, strict=True):
        by_tensors.setdefault(moment.tensors_sha256, []).append((moment, at))
    warnings = []
    for same in by_tensors.values():
        runs = {moment.run for moment, _ in same}
        if len(same) > len(runs) or (len(same) > 1 and any(at.step != 0 for _, at in same)):
            names = ", ".join(f"{moment.run}/{moment.checkpoint}" for moment, _ in same)
            warnings.append(f"the same tensors under {len(same)} names: {names}")
    for run in dict.fromkeys(moment.run for moment in moments):
        warnings += _order(run, [(m, at) for m, at in zip(moments, placed, strict=True) if m.run == run])
    return warnings


def _order(run: str, own: Sequence[tuple[Moment, CheckpointPlace]]) -> list[str]:
    unit = own[0][1].step_unit
    by_step: dict[int, list[str]] = {}
    for moment, at in own:
        by_step.setdefault(at.step, []).append(moment.checkpoint)
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
    for moment, _ in own:
        if moment.stored_dtype:
            by_dtype.setdefault(moment.stored_dtype, []).append(moment.checkpoint)
    if len(by_dtype) > 1:
        told = ", ".join(f"{names[0]} is {dtype}" for dtype, names in by_dtype.items())
        warnings.append(f"{run}: its checkpoints are stored in {len(by_dtype)} precisions: {told}")
    return warnings
