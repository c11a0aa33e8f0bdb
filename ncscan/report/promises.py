"""What the theorems promise and what became of a run, as the page tells it: few rows, the rest is in the CSV files.

In: the tables theory and trajectory. Out: tables of texts.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncscan.report.tables import number

IN_CHARTS = ("at_onset", "at_end")
"""Findings that the charts over steps show as well."""


@dataclass(frozen=True)
class Promises:
    """The claims about one run."""

    run: str
    sentence: str
    checkpoint: str
    """The last one, whose claims are spelled out."""
    rows: list[tuple[str, str, str, str, str, str, str]]
    """Claim, layer, quantity, value, bound, verdict, slack; the reason in place of a value that is none."""
    violated: list[str]


@dataclass(frozen=True)
class Findings:
    """What became of one run, over its steps and over depth at its last checkpoint."""

    run: str
    rows: list[tuple[str, str, str, str]]
    """Finding, layer, metric, value or why there is none."""


def promises(theory: pd.DataFrame) -> list[Promises]:
    """The claims of each run: counted over all checkpoints, spelled out for the last."""
    found = []
    for run, own in theory.groupby("run", sort=False):
        judged = own[own["holds"].notna()]
        broken = judged[~judged["holds"].astype(bool)]
        certain = broken[broken["bound"].notna() & broken["slack"].notna()]
        last = own[own["checkpoint"] == own["checkpoint"].iloc[-1]]
        found.append(
            Promises(
                run=str(run),
                sentence=(
                    f"{len(judged):,} statements were judged over {own['checkpoint'].nunique()} checkpoints: "
                    f"{len(judged) - len(broken):,} hold, {len(broken):,} do not."
                ),
                checkpoint=str(last["checkpoint"].iloc[0]),
                rows=[_claim(row) for _, row in last.iterrows()],
                violated=[
                    f"{row['checkpoint']}: {row['claim']} {row['quantity']} {row['layer']}".strip()
                    for _, row in certain[certain["slack"] < 1].iterrows()
                ],
            )
        )
    return found


def _claim(row: "pd.Series[Any]") -> tuple[str, str, str, str, str, str, str]:
    holds = row["holds"]
    verdict = "" if pd.isna(holds) else "holds" if holds else "does not hold"
    value = _text(row["value"]) or str(row["reason"])
    return (
        str(row["claim"]),
        str(row["layer"]),
        str(row["quantity"]),
        value,
        _text(row["bound"]),
        verdict,
        _text(row["slack"]),
    )


def findings(trajectory: pd.DataFrame) -> list[Findings]:
    """What became of each run: findings over steps, and those over depth of its last checkpoint, that have a value."""
    found = []
    for run, own in trajectory.groupby("run", sort=False):
        over_depth = own[own["checkpoint"] != ""]
        last = over_depth["checkpoint"].iloc[-1] if len(over_depth) else ""
        shown = own[own["checkpoint"].isin(["", last]) & ~own["finding"].isin(IN_CHARTS)]
        shown = shown[shown["value"].notna() | (shown["finding"] == "terminal_phase")]
        rows = [
            (
                str(row["finding"]),
                str(row["layer"]),
                " ".join(part for part in (str(row["metric"]), str(row["quantity"])) if part),
                _text(row["value"]) or str(row["reason"]),
            )
            for _, row in shown.iterrows()
        ]
        found.append(Findings(str(run), rows))
    return found


def _text(value: object) -> str:
    return "" if not isinstance(value, float) or math.isnan(value) else number(value)
