"""What a page carries of the theory and of what became of a run.

In: the tables theory and trajectory. Out: plain values for JSON.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ncscan.report.figures.scales import spread_out
from ncscan.report.html.packing import coded
from ncscan.rows import in_series

MOST_CLAIMS = 12_000
MOST_CLASS_CLAIMS = 20
"""A claim about each class of more than so many is shown by its worst class."""

IN_CHARTS = ("at_onset", "at_end")
"""Findings that the charts over steps show as well."""


def claims(theory: pd.DataFrame, runs: Mapping[str, int]) -> tuple[dict[str, Any], list[str]]:
    """Return every claim about every checkpoint, as far as a page may carry them, and what was left out."""
    left_out = []
    shown = theory[theory["run"].isin(list(runs))]
    place = ["run", "checkpoint", "claim", "layer"]
    many = shown.groupby(place, sort=False)["quantity"].transform("size") > MOST_CLASS_CLAIMS
    if many.any():
        worst = shown[many].sort_values("slack", kind="stable", na_position="last").drop_duplicates(place)
        shown = pd.concat([shown[~many], worst]).sort_index()
        left_out.append("the worst class of a claim about each class")
    if len(shown) > MOST_CLAIMS:
        names = {run: list(dict.fromkeys(own)) for run, own in shown.groupby("run", sort=False)["checkpoint"]}
        most = max(1, max(map(len, names.values())) * MOST_CLAIMS // len(shown))
        kept = {(run, name) for run, own in names.items() for name in spread_out(own, most)}
        shown = shown[[pair in kept for pair in zip(shown["run"], shown["checkpoint"], strict=True)]]
        left_out.append(f"the claims about {most} checkpoints of each run")
    texts = ("checkpoint", "claim", "layer", "quantity", "reason")
    return coded(shown, runs, texts, ("value", "bound", "slack", "target", "deviation"), "holds"), left_out


def findings(trajectory: pd.DataFrame, runs: Mapping[str, int]) -> dict[str, Any]:
    """Return what became of each run: over its steps, and over depth at its last checkpoint; the CSV has the rest."""
    of_checkpoints = in_series(trajectory[trajectory["checkpoint"] != ""])
    last = {run: own.iloc[-1] for run, own in of_checkpoints.groupby("run", sort=False)["checkpoint"]}
    here = trajectory["checkpoint"] == trajectory["run"].map(last)
    shown = trajectory[(here | (trajectory["checkpoint"] == "")) & ~trajectory["finding"].isin(IN_CHARTS)]
    shown = shown[(shown["value"].notna() | (shown["finding"] == "terminal_phase")) & shown["run"].isin(list(runs))]
    return coded(shown, runs, ("checkpoint", "finding", "layer", "metric", "quantity", "reason"), ("value",))
