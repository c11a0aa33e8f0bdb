"""Evaluate a run as a trajectory: what became of it over its steps, and of each checkpoint over its depth.

In: the tidy tables of what was measured. Out: the findings of trajectory.csv. No measure is made here: it reads the
numbers that are there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from ncscan.ordering import NOT_KNOWN
from ncscan.rows import in_series, of_main_split
from ncscan.training_settings import Train
from ncscan.trajectory.findings import COLLAPSED, FINDINGS, MAIN, THRESHOLDS, Finding, FindingDefinition
from ncscan.trajectory.over_depth import depth_findings, stages
from ncscan.trajectory.over_steps import step_findings
from ncscan.trajectory.seed_groups import group_frame
from ncscan.trajectory.series import series_of

__all__ = [
    "COLLAPSED",
    "FINDINGS",
    "MAIN",
    "THRESHOLDS",
    "FindingDefinition",
    "group_frame",
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
        own, of_maps = of_main_split(metrics[metrics["run"] == run]), weights[weights["run"] == run]
        facts = {key: str(own[key].iloc[0]) for key in ("run", "group", "step_unit")}
        units = dict(zip(own["checkpoint"], own["step_unit"], strict=True))
        found = [
            *_over_steps(in_series(own), in_series(of_maps), train_by_run.get(run, {})),
            *depth_findings(series_of(own, of_maps), stages_by_run.get(run, ())),
        ]
        records += [facts | vars(one) | {"step_unit": units.get(one.checkpoint, facts["step_unit"])} for one in found]
    return pd.DataFrame(records, columns=list(COLUMNS)).astype({"step": "Int64", "value": "float64"})


def _over_steps(metrics: pd.DataFrame, weights: pd.DataFrame, train: Train) -> Iterator[Finding]:
    """Yield the findings over the steps of a run; where its checkpoints have no steps, the reason in their place."""
    if metrics.empty:
        return
    unit, split = (str(metrics[name].iloc[0]) for name in ("step_unit", "split"))
    for found in step_findings(series_of(metrics, weights), train, unit, split):
        yield found if metrics["step"].notna().all() else replace(found, step=None, value=None, reason=NOT_KNOWN)
