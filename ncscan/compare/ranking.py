"""Rank what changed between A and B: every row of a diff in one of six kinds, the largest changes first.

In: the rows of a diff. Out: counts, and rows sorted for people.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from ncscan.rows import leading

BEYOND, UNKNOWN, WITHIN, EQUAL = "beyond noise", "of unknown noise", "within noise", "equal"
LOST, ONE_SIDE, NO_VALUE = "a value on one side", "on one side only", "without a value"

KINDS: Mapping[str, str] = {
    BEYOND: "the difference is larger than its noise floor",
    LOST: "one side has a reason in place of the value",
    ONE_SIDE: "the other side does not have this number at all",
    UNKNOWN: "the values differ, and nothing tells how much of it is noise",
    WITHIN: "the difference is no larger than its noise floor, or both values may be made by rounding",
    EQUAL: "the same number, to the last digit",
    NO_VALUE: "both sides have a reason in place of the value",
}
"""The kinds of rows, those to look at first before the others."""

MAIN = ("table", "run_a", "run_b", "checkpoint_a", "checkpoint_b", "split", "layer", "metric", "classifier")
"""The columns in which rows agree of which one leads, those of other quantities and weightings."""


def kinds(frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the kind of every row."""
    beyond = frame["beyond_noise"]
    cases = [
        frame["reason"].isin(["only in A", "only in B"]),
        frame["a"].isna() & frame["b"].isna(),
        frame["a"].isna() | frame["b"].isna(),
        frame["a"] == frame["b"],
        beyond.fillna(value=False).astype(bool),
        beyond.notna(),
    ]
    names = np.select(cases, [ONE_SIDE, NO_VALUE, LOST, EQUAL, BEYOND, WITHIN], default=UNKNOWN)
    return pd.Series(names, index=frame.index, dtype=object)


def counts(frame: pd.DataFrame) -> dict[str, int]:
    """Return how many rows are of each kind, in the order of KINDS."""
    found = kinds(frame).value_counts()
    return {kind: int(found.get(kind, 0)) for kind in KINDS}


def most_changed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return all rows with their `kind`, what changed most first.

    Kind by kind; within one by the difference over its noise where that is known, else by |log ratio|. Zero has no
    ratio, so the logarithm is linear below the smallest value that the metric has anywhere here, as on a chart's axis.
    """
    kind = kinds(frame)
    size, noise = (np.abs(frame[name].to_numpy(np.float64)) for name in ("difference", "noise"))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Beyond a floor of zero everything is infinitely far, and there the logarithms decide.
        far = np.where(kind.isin([BEYOND, WITHIN]), np.nan_to_num(size / noise, nan=0.0, posinf=np.inf), 0.0)
    rank = kind.map({name: i for i, name in enumerate(KINDS)})
    order = np.lexsort((np.arange(len(frame)), -_log_ratio(frame), -far, rank))
    return frame.assign(kind=kind).iloc[order]


def _log_ratio(frame: pd.DataFrame) -> Float64[np.ndarray, "n"]:
    """Return how far the two values are apart on a logarithmic axis that is linear near zero."""
    values = frame[["a", "b"]].to_numpy(np.float64)
    sizes = pd.Series(np.abs(values).T.ravel()).replace(0.0, np.nan)
    numbers = pd.concat([frame[["table", "metric", "quantity", "weighting"]]] * 2, ignore_index=True)
    smallest = sizes.groupby([numbers[name] for name in numbers.columns], sort=False).transform("min")
    constant = smallest.to_numpy(np.float64)[: len(frame), None]
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = (np.sign(values) * np.log1p(np.abs(values) / constant)).T
        return np.asarray(np.nan_to_num(np.abs(b - a), nan=0.0), np.float64)


def to_show(moved: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return so many rows of `most_changed`.

    Of what one side lacks it takes the leading numbers, at most a fifth of all of each kind.
    """
    if len(moved) <= most:
        return moved
    gone = moved["kind"].isin([LOST, ONE_SIDE])
    few = main_rows(moved[gone]).groupby("kind", sort=False).head(most // 5)
    return moved[~gone | moved.index.isin(few.index)].head(most)


def missing(moved: pd.DataFrame) -> list[str]:
    """Return in words what one side lacks: whole layers and metrics first, then numbers that lost their value."""
    said = []
    one_side = moved[moved["kind"] == ONE_SIDE]
    for name in ("layer", "metric"):
        for (reason, what), own in one_side.groupby(["reason", name], sort=False):
            if what and len(own) == (moved[name] == what).sum():
                said.append(f"{reason}: {name} {what}, {len(own):,} numbers")
                one_side = one_side.drop(own.index)
    said += [
        f"{reason}: {len(own):,} more numbers" for reason, own in one_side.groupby("reason", sort=False) if len(own)
    ]
    for row in main_rows(moved[moved["kind"] == LOST]).to_dict("records"):
        said.append(
            f"{row['metric']} at {row['layer'] or 'the network'}, {', '.join(run_and_step(row))}: {row['reason']}"
        )
    return said


def is_changed(moved: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether the two values of a row of `most_changed` are there and differ."""
    return moved["kind"].isin([BEYOND, UNKNOWN, WITHIN])


def run_and_step(row: Mapping[Any, Any], *, unit: bool = True) -> tuple[str, str]:
    """Return the run of a row, and its step or, where there is none, its checkpoint; both sides where they differ."""
    run = " → ".join(dict.fromkeys((str(row["run_a"]), str(row["run_b"]))))
    steps = [row["step_a"], row["step_b"]]
    if any(pd.isna(step) for step in steps):
        return run, " → ".join(dict.fromkeys((str(row["checkpoint_a"]), str(row["checkpoint_b"]))))
    told = " → ".join(dict.fromkeys(f"{step:,}" for step in steps))
    return run, f"{row['step_unit']} {told}" if unit else told


def main_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return of every metric at a place one row, whose quantity and weighting lead it."""
    return leading(frame, MAIN)
