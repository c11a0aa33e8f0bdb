"""Put the checkpoints of all runs in order, before anything of them is measured.

In: where each comes from. Out: its place in its run, and what is to be said of that. ordering/run_order.py decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ncscan.activations import Provenance
from ncscan.errors import UsageError
from ncscan.ordering import CheckpointRecord, GivenOrder, PlaceInRun, integrity, order_run
from ncscan.pickles import EPOCH_NOTES, STEP_NOTES, first_count
from ncscan.pipeline.fit import label


@dataclass(frozen=True)
class RunOrders:
    """The places of the checkpoints of some runs."""

    places: Mapping[str, PlaceInRun]
    """By the labels of checkpoints, run by run in order; of all but those that are other names of one that is here."""
    twins: Mapping[str, str]
    """The labels of those, and of which checkpoint each is another name."""
    doubts: tuple[str, ...]
    """What is doubtful about the runs, the order first."""
    remarks: tuple[tuple[str, str], ...]
    """A run, and what is worth knowing about its order."""


def in_order(checkpoints: Sequence[Provenance], given: GivenOrder | None = None) -> RunOrders:
    """Return the places of checkpoints in their runs; of each checkpoint one dump is enough.

    Args:
        checkpoints: where each comes from.
        given: the order by the user's word, in the place of what the dumps say of it.

    Raises: UsageError when it does not name every checkpoint, or is by times that the dumps do not know.
    """
    records = {label(own): _record(own) for own in checkpoints}
    places: dict[str, PlaceInRun] = {}
    twins: dict[str, str] = {}
    doubts: list[str] = []
    remarks: list[tuple[str, str]] = []
    for run in sorted({record.run for record in records.values()}):
        found = order_run(_given([record for record in records.values() if record.run == run], given))
        for name, place in found.places.items():
            if place.twin:
                twins[f"{run}/{name}"] = f"{run}/{place.twin}"
            else:
                places[f"{run}/{name}"] = place
        doubts += found.doubts
        remarks += [(run, remark) for remark in found.remarks]
    kept = {name: record for name, record in records.items() if name in places}
    doubts += integrity(list(kept.values()), [places[name] for name in kept])
    return RunOrders(places, twins, tuple(doubts), tuple(remarks))


def _record(own: Provenance) -> CheckpointRecord:
    """Return what a checkpoint records about its place."""
    noted = (("iteration", STEP_NOTES), ("epoch", EPOCH_NOTES))
    return CheckpointRecord(
        run=own.run,
        checkpoint=own.checkpoint,
        step=own.step,
        epoch=own.epoch,
        file_number=own.file_number,
        tensors_sha256=own.tensors_sha256,
        stored_dtype=own.stored_dtype,
        noted=frozenset(unit for unit, names in noted if first_count(own.notes, names) is not None),
        order_by=own.order_by,
        order=own.order,
    )


def _given(own: list[CheckpointRecord], given: GivenOrder | None) -> list[CheckpointRecord]:
    """Return the records of a run with the order that the user gives them now."""
    if given is None:
        return own
    if given.by == "name":
        return [replace(record, order_by="name", order=None) for record in own]
    if given.by == "file":
        lines = given.lines_of(own[0].run, [record.checkpoint for record in own])
        return [replace(record, order_by="file", order=lines[record.checkpoint]) for record in own]
    if any(record.order_by != "mtime" for record in own):
        said = f"{given.where} mtime: the dumps of {own[0].run} do not know when their checkpoints were changed"
        raise UsageError(f"{said}; give it to `ncscan extract`")
    return own
