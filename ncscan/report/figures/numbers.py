"""Prepare what a panel is drawn from: numbers of a report as mean and spread over the runs of a group.

In: the tidy tables. Out: frames with a row per group, layer or pair, and step: mean, standard deviation, number of
runs. Where there is no number, the reason is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ncscan.layer_graph import joined, joined_in_words
from ncscan.ordering import NOT_KNOWN
from ncscan.rows import of_main_split
from ncscan.splits import TRAINING
from ncscan.tables import compared, rows_in_convention
from ncscan.trajectory import group_frame

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Head:
    """The linear layers at the end of the networks of one group."""

    reads: tuple[str, ...]
    """The layers that they read, first to last; the last is what the classifier reads."""
    nonlinear: int
    """The number of linear maps before them."""


@dataclass(frozen=True)
class PanelNumbers:
    """The numbers of one panel, or why there are none."""

    rows: pd.DataFrame
    reason: str = ""


def named(tables: Tables, convention: str, name: str) -> pd.DataFrame:
    """Return the rows of what a paper calls `name`, on the training set, in the paper's own scale."""
    rows = rows_in_convention(convention, trained(tables["metrics"]))
    return rows[rows["name"] == name].drop(columns="name")


def measured(tables: Tables, metric: str, quantity: str = "") -> pd.DataFrame:
    """Return the rows of one metric on the training set, as it stands."""
    metrics = trained(tables["metrics"])
    return metrics[(metrics["metric"] == metric) & (metrics["quantity"] == quantity)]


def of_maps(tables: Tables, metric: str, quantity: str) -> pd.DataFrame:
    """Return one metric of the weights with the columns of the metrics: its place is the linear map, or the pair."""
    weights = _with_groups(tables["weights"])
    maps = {name: depth for depth, name in enumerate(dict.fromkeys(weights["map"]))}
    rows = weights[(weights["metric"] == metric) & (weights["quantity"] == quantity)]
    place = [joined_in_words(*pair) for pair in zip(rows["map"], rows["next_map"], strict=True)]
    return _filled(rows.assign(layer=place, depth=rows["map"].map(maps)))


def trained(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the training set, where it was measured."""
    return _with_groups(of_main_split(metrics))


def groups(tables: Tables) -> tuple[str, ...]:
    """Return the groups of a report, in the order of its runs; a run without one is its own."""
    return tuple(dict.fromkeys(trained(tables["metrics"])["group"]))


def runs(tables: Tables) -> dict[str, int]:
    """Return how many runs each group has."""
    return {str(name): int(n) for name, n in trained(tables["metrics"]).groupby("group")["run"].nunique().items()}


def heads(tables: Tables) -> dict[str, Head]:
    """Return each group's linear head, if any: it is known from what was compared with the last linear map.

    The last linear map is the one that gives the outputs.
    """
    found: dict[str, Head] = {}
    rows_of_heads = compared(trained(tables["metrics"])).drop_duplicates(["group", "layer", "classifier"])
    weights = of_maps(tables, "weight_condition", "condition")
    for group, ordered in rows_of_heads.groupby("group", sort=False):
        classifier = str(ordered["classifier"].iloc[-1])
        to_output = (ordered["classifier"] == classifier) | ordered["classifier"].str.endswith(joined("", classifier))
        reads = tuple(dict.fromkeys(ordered.loc[to_output, "layer"]))
        maps = weights.loc[weights["group"] == group, "map"].nunique()
        found[str(group)] = Head(reads, max(maps - len(reads), 0))
    return found


def of_head(rows: pd.DataFrame, head_of: Mapping[str, Head]) -> pd.DataFrame:
    """Return the rows of layers that a linear head reads; of a comparison, those with all of the head that follows."""
    wanted = {(group, layer) for group, head in head_of.items() for layer in head.reads}
    inside = [(group, layer) in wanted for group, layer in zip(rows["group"], rows["layer"], strict=True)]
    own = rows[np.array(inside, np.bool_)]
    if own.empty or not (own["classifier"] != "").any():
        return own
    length = own["classifier"].str.len()  # `first..last` is longer than `first`, its part
    return own[length == length.groupby([own["group"], own["layer"]]).transform("max")]


def over_steps(rows: pd.DataFrame) -> PanelNumbers:
    """Return mean and spread at every step."""
    rows, unknown = _with_steps(rows)
    if unknown:
        return PanelNumbers(_grouped(rows), unknown)
    if rows["step"].nunique() < 2 and len(rows):
        return PanelNumbers(_grouped(rows.iloc[:0]), "one step: nothing to draw over the training")
    return _numbers(rows)


def at_end(rows: pd.DataFrame) -> PanelNumbers:
    """Return mean and spread over the last checkpoint of each run."""
    return _end(rows, "max")


def at_start(rows: pd.DataFrame) -> PanelNumbers:
    """Return mean and spread over the first checkpoint of each run."""
    return _end(rows, "min")


def summarised(rows: pd.DataFrame, how: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per run, step and way of summing up its places (`mean`, `min`, `max`), named after the way."""
    keys = ["run", "group", "checkpoint", "step", "step_unit"]
    grouped = rows.groupby(keys, sort=False, dropna=False)["value"]
    parts = [
        grouped.agg(way).reset_index().assign(layer=name, depth=depth, metric=name, quantity="", reason="")
        for depth, (name, way) in enumerate(how.items())
    ]
    return _filled(pd.concat(parts, ignore_index=True))


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the columns of metrics.csv that mean nothing here, by which numbers are grouped all the same."""
    return rows.assign(split=TRAINING, centred=False, kind="", reduction="", weighting="", classifier="")


def _end(rows: pd.DataFrame, which: Literal["min", "max"]) -> PanelNumbers:
    """Return mean and spread over each run's own first or last checkpoint; those of a group count as one step."""
    rows, unknown = _with_steps(rows)
    at_end = rows[rows["step"] == rows.groupby("run")["step"].transform(which)].assign(step=0)
    return PanelNumbers(_grouped(at_end), unknown) if unknown else _numbers(at_end)


def _with_steps(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of checkpoints that have a step, and where none has one why not."""
    known = rows[rows["step"].notna()]
    return known, NOT_KNOWN if len(rows) and known.empty else ""


def _numbers(rows: pd.DataFrame) -> PanelNumbers:
    if rows.empty:
        return PanelNumbers(_grouped(rows), "not measured here")
    grouped = _grouped(rows)
    known = grouped[grouped["mean"].notna()]
    reasons = [reason for reason in rows["reason"] if reason]
    return PanelNumbers(known, "" if len(known) else (reasons[0] if reasons else "no value"))


def _grouped(rows: pd.DataFrame) -> pd.DataFrame:
    frame = group_frame(rows).rename(columns={"layer": "place"})
    return frame[["group", "place", "depth", "step", "step_unit", "mean", "std", "runs"]]


def _with_groups(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(group=rows["group"].where(rows["group"] != "", rows["run"]))
