"""Check the checkpoints of several runs against one another.

In: what each checkpoint records about itself. Out: warnings in words. run_order.py doubts the order of a run.
"""

from collections.abc import Sequence

from ncscan.ordering.run_order import CheckpointRecord, PlaceInRun


def integrity(records: Sequence[CheckpointRecord], places: Sequence[PlaceInRun]) -> list[str]:
    """Return what is doubtful about checkpoints, one line each: the same tensors twice, another precision of storage.

    The numbers of a run that changes the precision it is stored in have another floor from there on. Runs that share
    their initialisation (the same tensors at step 0 of each) are as they should be.
    """
    by_tensors: dict[str, list[tuple[CheckpointRecord, PlaceInRun]]] = {}
    for record, at in zip(records, places, strict=True):
        by_tensors.setdefault(record.tensors_sha256, []).append((record, at))
    warnings = []
    for same in by_tensors.values():
        runs = {record.run for record, _ in same}
        if len(same) > len(runs) or (len(same) > 1 and any(at.step != 0 for _, at in same)):
            names = ", ".join(f"{record.run}/{record.checkpoint}" for record, _ in same)
            warnings.append(f"the same tensors under {len(same)} names: {names}")
    for run in dict.fromkeys(record.run for record in records):
        by_dtype: dict[str, list[str]] = {}
        for record in records:
            if record.run == run and record.stored_dtype:
                by_dtype.setdefault(record.stored_dtype, []).append(record.checkpoint)
        if len(by_dtype) > 1:
            told = ", ".join(f"{names[0]} is {dtype}" for dtype, names in by_dtype.items())
            warnings.append(f"{run}: its checkpoints are stored in {len(by_dtype)} precisions: {told}")
    return warnings
