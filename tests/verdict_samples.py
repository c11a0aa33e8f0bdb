"""Runs made by hand for verdicts: every number as a test wants it, the findings as the real code finds them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from report_samples import Row, WeightRow, metrics_frame, weights_frame

from ncscan.tables.columns import THEORY_COLUMNS
from ncscan.tables.frames import complete, tidy
from ncscan.theory.claims import Claim
from ncscan.training_settings import Train
from ncscan.trajectory.evaluate import trajectory_rows

LAYERS = ("input", "fc", "relu", "head")
"""The network that the samples are of: its classifier is `head`, which reads `relu`."""

Values = float | None | str
"""A number, nothing measured, or the reason why there is none."""


@dataclass(frozen=True)
class Run:
    """One run: its numbers at the layer that the classifier reads, one for each step."""

    name: str = "a"
    group: str = "g"
    steps: Sequence[int] = (0, 100, 200, 300, 400)
    error: Sequence[Values] = (0.9, 0.1, 0.0, 0.0, 0.0)
    nc1: Sequence[Values] = (8.0, 0.5, 0.08, 0.04, 0.02)
    nc2: Sequence[Values] = (0.9, 0.4, 0.09, 0.06, 0.04)
    nc3: Sequence[Values] = (1.4, 0.6, 0.09, 0.06, 0.04)
    nc4: Sequence[Values] = (0.8, 0.05, 0.0, 0.0, 0.0)
    balance: Sequence[Values] = (1.5, 0.5, 0.2, 0.06, 0.02)
    chance: float | None = 0.7
    """Of nc2_etf."""
    at_floor: bool = False
    estimate: bool = False
    n_classes: int = 10
    classifier: str = "head"
    unit: str = "iteration"
    accuracy: float | None = None
    doubts: Sequence[Sequence[str]] = ()
    more: Sequence[tuple[str, Row]] = ()
    """Other rows of the last checkpoint, with their layer."""
    claims: Sequence[Claim] = ()
    train: Train = field(default_factory=dict)

    def checkpoints(self) -> list[dict[str, Any]]:
        return [
            {
                "run": self.name,
                "group": self.group,
                "checkpoint": f"step_{step}.pt",
                "step": step,
                "step_unit": self.unit,
                "split": "train",
                "accuracy": self.accuracy,
                "n_samples": 1200,
                "n_classes": self.n_classes,
                "doubts": list(self.doubts[i]) if i < len(self.doubts) else [],
            }
            for i, step in enumerate(self.steps)
        ]


def tables(*runs: Run) -> dict[str, pd.DataFrame]:
    """The complete tables of some runs, with the findings that trajectory/ makes of them."""
    metrics = pd.concat([metrics_frame(_entries(run)) for run in runs])
    weights = pd.concat([weights_frame(_weights(run)) for run in runs])
    theory = tidy(THEORY_COLUMNS, [(run.checkpoints()[-1], claim) for run in runs for claim in run.claims])
    findings = trajectory_rows(
        metrics, weights, {run.name: run.train for run in runs}, {run.name: ("input", "relu", "head") for run in runs}
    )
    return complete({"metrics": metrics, "weights": weights, "theory": theory, "trajectory": findings})


def checkpoints(*runs: Run) -> list[dict[str, Any]]:
    return [known for run in runs for known in run.checkpoints()]


def claim(name: str, value: float | None, bound: float | None, **more: Any) -> Claim:
    """A claim with nothing that a test does not say."""
    facts: Mapping[str, Any] = {"quantity": "", "layer": "", "holds": None, "slack": None, "reason": ""}
    return Claim(name, value=value, bound=bound, **(dict(facts) | more))


def _row(metric: str, value: Values, **more: Any) -> Row:
    quantity = more.pop("quantity", "")
    if isinstance(value, str):
        return Row(metric, quantity, None, value, **more)
    return Row(metric, quantity, value, **more)


def _entries(run: Run) -> list[tuple[dict[str, Any], dict[str, Any], Row]]:
    entries = []
    for i, at in enumerate(run.checkpoints()):
        for depth, layer in enumerate(LAYERS):
            facts: dict[str, Any] = {"layer": layer, "depth": depth, "kind": "linear", "reduction": "none"}
            here = [("nc1_pinv", run.nc1[i]), ("nc4_mismatch", run.nc4[i])]
            if layer in ("input", "fc"):
                here = [("nc1_pinv", 3.0), ("ncc_error", 0.3)]
            rows = [(_row(metric, value), facts) for metric, value in here if value is not None]
            if layer == "relu":
                of_nc2 = facts | {"baseline": run.chance, "at_floor": run.at_floor}
                rows += [(_row("nc2_etf", run.nc2[i], centred=True, estimate=run.estimate), of_nc2)]
                rows += [(_row("nc2_etf", 9.0, centred=True, weighting="sample"), facts)]
                if run.classifier:
                    facts_of_nc3 = facts | {"baseline": math.sqrt(2)}
                    rows += [(_row("nc3_distance", run.nc3[i], classifier=run.classifier), facts_of_nc3)]
            if layer == "head":
                rows += [(_row("error", run.error[i]), facts)] if run.error[i] is not None else []
            if i == len(run.steps) - 1:
                rows += [(row, facts) for name, row in run.more if name == layer]
            entries += [(at, of, row) for row, of in rows]
    return entries


def _weights(run: Run) -> list[tuple[dict[str, Any], WeightRow]]:
    entries = []
    for at, value in zip(run.checkpoints(), run.balance, strict=True):
        if value is None:
            continue
        known = None if isinstance(value, str) else value
        reason = value if isinstance(value, str) else ""
        row = WeightRow("fc", "head", "balancedness", "op", known, reason=reason)
        entries += [(at, row), (at, replace(row, quantity="op_relative"))]
    return entries
