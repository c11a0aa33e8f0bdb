"""Small reports with known numbers, for what reads, judges and compares them."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from report_samples import Row, WeightRow

from ncscan.tables.columns import METRIC_COLUMNS, THEORY_COLUMNS, TRAJECTORY_COLUMNS, WEIGHT_COLUMNS
from ncscan.tables.frames import complete, tidy
from ncscan.theory.claims import Claim
from ncscan.trajectory.findings import Finding

LAYERS = ("input", "fc1", "relu", "fc2", "out")
READ = "fc2"
"""The layer that the classifier reads."""

Value = Callable[[str, int, str], float | None]


def at(run: str, step: int, group: str = "") -> dict[str, Any]:
    """A checkpoint's part of a row."""
    return {
        "run": run,
        "group": group or run,
        "checkpoint": f"step_{step}.pt",
        "step": step,
        "step_unit": "iteration",
        "split": "train",
    }


def falling(run: str, step: int, layer: str) -> float:
    """Smaller with each step and layer, and another value in every run."""
    return (1 + ord(run[-1]) / 1e3) * 2.0 ** -(step + LAYERS.index(layer))


def tables(
    runs: Sequence[str] = ("a",),
    steps: Sequence[int] = (0, 1, 2),
    *,
    value: Value = falling,
    groups: dict[str, str] | None = None,
    layers: Sequence[str] = LAYERS,
    onset: int | None = 1,
    trust: dict[str, Any] | None = None,
    holds: bool | None = True,
) -> dict[str, pd.DataFrame]:
    """A whole report: nc1_pinv (class, sample) and norms (mean, std) of each layer, nc3_distance of what is read, the
    error, two weights, a claim, and the onset of the terminal phase."""
    metrics: list[tuple[dict[str, Any], object]] = []
    weights: list[tuple[dict[str, Any], object]] = []
    theory: list[tuple[dict[str, Any], object]] = []
    findings: list[tuple[dict[str, Any], object]] = []
    for run in runs:
        group = (groups or {}).get(run, run)
        for step in steps:
            here = at(run, step, group)
            for layer in layers:
                place = here | {"layer": layer, "depth": LAYERS.index(layer), "kind": _kind(layer)} | (trust or {})
                own = value(run, step, layer)
                reason = "" if own is not None else "one class alone"
                metrics += [
                    (place, Row("nc1_pinv", "", own, reason)),
                    (place, Row("nc1_pinv", "", None if own is None else own + 1, reason, weighting="sample")),
                    (place, Row("norms", "mean", 3.0, weighting="")),
                    (place, Row("norms", "std", 4.0, weighting="")),
                ]
                if layer in (READ, "relu"):
                    classifier = "out" if layer == READ else "fc2..out"
                    metrics.append((place, Row("nc3_distance", "", 0.5, classifier=classifier)))
                if layer == "out":
                    metrics.append((place, Row("error", "", 0.0 if step else 0.9, weighting="")))
            weights += [
                (here, WeightRow("fc1", "", "weight_condition", "condition", 7.0)),
                (here, WeightRow("fc2", "out", "balancedness", "op", 0.25)),
                (here, WeightRow("fc2..out", "", "head_condition", "condition", 9.0)),
            ]
            theory.append((here, Claim("nc1_upper", "simplex", READ, 1.0, 2.0, holds, 2.0, "")))
        why = "" if onset is not None else "the error never is 0"
        reached = None if onset is None else float(onset)
        found = Finding("", onset, "out", "terminal_phase", "error", "onset", reached, why)
        findings.append(({"run": run, "group": group, "step_unit": "iteration"}, found))
    return complete(
        {
            "metrics": tidy(METRIC_COLUMNS, metrics),
            "weights": tidy(WEIGHT_COLUMNS, weights),
            "theory": tidy(THEORY_COLUMNS, theory),
            "trajectory": tidy(TRAJECTORY_COLUMNS, findings),
        }
    )


def _kind(layer: str) -> str:
    return {"input": "input", "relu": "activation"}.get(layer, "linear")
