"""What a run came to, in plain words: a sentence and a handful of numbers, first and last.

In: what is known of a run's checkpoints and the rows that are drawn. Out: one `Run` for the top of the page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncscan.report.tables import number, percent

HEADLINES: tuple[tuple[str, str, str, str], ...] = (
    ("error", "training error", "network", "0"),
    ("nc1_pinv", "variability within classes", "features", "0"),
    ("nc2_etf", "distance from an even frame", "features", "0"),
    ("nc3_distance", "classifier–means distance", "features", "0"),
    ("balancedness", "imbalance of the weights", "weights", "0"),
)
"""The metric, what it is in words, where it is read (the features are those that the classifier reads), its goal."""


@dataclass(frozen=True)
class Headline:
    """One number of a run at its first and last checkpoint."""

    metric: str
    words: str
    first: float
    last: float
    goal: str


@dataclass(frozen=True)
class Run:
    """A run in the summary."""

    name: str
    sentences: list[str]
    reads: str
    """The layer that the classifier reads; empty when no row names a classifier."""
    several: bool
    """Whether there is a first and a last checkpoint to compare."""
    headlines: list[Headline]


def run_summary(checkpoints: Sequence[Mapping[str, Any]], layers: pd.DataFrame, maps: pd.DataFrame) -> Run:
    """The summary of one run, from its own rows; checkpoints are in the order of their steps."""
    layers = layers[layers["split"] == next(iter(layers["split"]), "")]
    read = layers[layers["classifier"] != ""]
    reads = str(read.sort_values("depth", kind="stable")["layer"].iloc[-1]) if len(read) else ""
    tables = {"network": layers, "features": layers[layers["layer"] == reads], "weights": maps}
    headlines = []
    for metric, words, where, goal in HEADLINES:
        rows = tables[where][lambda table, name=metric: table["metric"] == name]
        largest = rows.groupby("checkpoint")["value"].max()  # of a pair metric, the worst pair counts
        values = [float(largest.get(known["checkpoint"], math.nan)) for known in checkpoints]
        if metric == "error":
            values = [_error(value, known) for value, known in zip(values, checkpoints, strict=True)]
        defined = [value for value in values if not math.isnan(value)]
        if defined:
            headlines.append(Headline(metric, words, defined[0], defined[-1], goal))
    return Run(
        name=str(checkpoints[0]["run"]),
        sentences=list(_sentences(checkpoints, headlines)),
        reads=reads,
        several=len(checkpoints) > 1,
        headlines=headlines,
    )


def _error(value: float, checkpoint: Mapping[str, Any]) -> float:
    """The error that was measured, else what the replay's accuracy says."""
    accuracy = checkpoint.get("accuracy")
    return 1 - accuracy if math.isnan(value) and accuracy is not None else value


def _sentences(checkpoints: Sequence[Mapping[str, Any]], headlines: Sequence[Headline]) -> list[str]:
    first, last = checkpoints[0], checkpoints[-1]
    if len(checkpoints) == 1:
        what = f"One checkpoint, {when(first)}"
    else:
        what = f"{len(checkpoints)} checkpoints, {when(first)} to {when(last)}"
    if last.get("n_samples") is not None and last.get("n_classes") is not None:
        what += f", on {last['n_samples']:,} samples of {last['n_classes']} classes"
    error = next((f"The training error ends at {percent(h.last)}." for h in headlines if h.metric == "error"), "")
    changes = [f"{h.words} {_change(h.first, h.last)}" for h in headlines if h.metric != "error"]
    story = f"Against the first checkpoint: {', '.join(changes)}." if changes and len(checkpoints) > 1 else ""
    return [sentence for sentence in (f"{what}.", error, story) if sentence]


def when(checkpoint: Mapping[str, Any]) -> str:
    """The step of a checkpoint with its unit, or its name where it has no step."""
    step = checkpoint.get("step")
    return str(checkpoint["checkpoint"]) if step is None else f"{checkpoint.get('step_unit', '')} {step:,}".strip()


def _change(first: float, last: float) -> str:
    if last == first:
        return "unchanged"
    if first <= 0 or last < 0:
        return f"from {number(first)} to {number(last)}"
    ratio = last / first
    if 0.9 < ratio < 1.1:
        return "about the same"
    return f"down to {percent(ratio)}" if ratio < 1 else f"up to {number(ratio)} times"
