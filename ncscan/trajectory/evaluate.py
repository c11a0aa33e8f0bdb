"""Evaluate a run as a trajectory: the order of its checkpoints, what is doubtful about them, and the findings.

In: what each checkpoint records about itself, and the tidy tables of what was measured. Out: steps, warnings in words,
and the findings of trajectory.csv. No measure is made here: it reads the numbers that are there.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from ncscan.rows import of_main_split
from ncscan.training_settings import Train
from ncscan.trajectory.checkpoint_steps import CheckpointRecord, CheckpointStep, assign_steps, integrity
from ncscan.trajectory.findings import COLLAPSED, FINDINGS, MAIN, THRESHOLDS, FindingDefinition
from ncscan.trajectory.over_depth import depth_findings, stages
from ncscan.trajectory.over_steps import step_findings
from ncscan.trajectory.seed_groups import group_frame
from ncscan.trajectory.series import series_of

__all__ = [
    "COLLAPSED",
    "FINDINGS",
    "MAIN",
    "THRESHOLDS",
    "CheckpointRecord",
    "CheckpointStep",
    "FindingDefinition",
    "assign_steps",
    "group_frame",
    "integrity",
    "stages",
    "trajectory_rows",
]

COLUMNS = (
    "run",
    "group",
    "checkpoint",
    "step",
    "step_unit",
    "layer",
    "finding",
    "metric",
    "quantity",
    "value",
    "reason",
)


def trajectory_rows(
    metrics: pd.DataFrame,
    weights: pd.DataFrame,
    train_by_run: Mapping[str, Train],
    stages_by_run: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Return what became of every run over its steps, and of every checkpoint over its depth, as trajectory.csv has it.

    Args:
        metrics: the table of metrics.csv, one row per number of a layer.
        weights: that of weights.csv.
        train_by_run: the [train] section of each run; a run without one may be missing.
        stages_by_run: the layers that depth is counted in, first to last, as `stages` finds them; a run without them
            has no findings over depth.

    Returns: one row per finding. `checkpoint` is empty where it is about a whole run; `step` is that of the checkpoint
        it is about, or in which a run reached something. A value that is none has its reason.
    """
    records = []
    for run in dict.fromkeys(metrics["run"]):
        own = of_main_split(metrics[metrics["run"] == run])
        numbers = series_of(own, weights[weights["run"] == run])
        facts = {key: str(own[key].iloc[0]) for key in ("run", "group", "step_unit")}
        found = [
            *step_findings(numbers, train_by_run.get(run, {}), facts["step_unit"], str(own["split"].iloc[0])),
            *depth_findings(numbers, stages_by_run.get(run, ())),
        ]
        records += [facts | vars(one) for one in found]
    return pd.DataFrame(records, columns=list(COLUMNS)).astype({"step": "Int64", "value": "float64"})
