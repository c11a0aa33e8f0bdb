"""Compute where means, samples and rows of a few classes lie at every checkpoint of a run, on one fixed simplex.

In: the tables of a report and the classes that are wanted. Out: tracks, one per run. What has no position has a reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from ncscan.errors import Undefined, UsageError
from ncscan.ordering import NOT_KNOWN
from ncscan.report.etf_animation.simplex import Positions, positions
from ncscan.rows import in_series
from ncscan.tables import known_onsets
from ncscan.wording import visible

COORDINATES = [f"x{i}" for i in range(1, 10)]


@dataclass(frozen=True)
class PlacedCheckpoint:
    """One checkpoint of a track."""

    step: int
    at: Positions | None
    """The positions; None where the means have no place on the simplex."""
    reason: str = ""


@dataclass(frozen=True)
class Track:
    """One run over its checkpoints."""

    run: str
    group: str
    step_unit: str
    layer: str
    names: tuple[str, ...]
    """The names of the classes, in the order in which they were asked for."""
    owners: Int64[np.ndarray, "n"]
    """The class among them that each sample belongs to."""
    checkpoints: tuple[PlacedCheckpoint, ...]
    onset: int | None
    """The step of the first checkpoint without training errors."""


def tracks(tables: Mapping[str, pd.DataFrame], wanted: Sequence[str], default: int) -> tuple[list[Track], list[str]]:
    """Return a track for each run whose classes are pictured, and why the others have none.

    Args:
        tables: `geometry` and `trajectory` of a report.
        wanted: names, else numbers, of classes; empty for the first ones.
        default: how many of the first.

    Raises: UsageError when a run has no class of that name or number among those of its picture.
    """
    geometry, began = in_series(tables["geometry"]), known_onsets(tables["trajectory"])
    found, missing = [], []
    for run, rows in geometry.groupby("run", sort=False):
        if rows["step"].isna().any():
            missing.append(f"{run}: {NOT_KNOWN}")
            continue
        means = rows[rows["item"] == "mean"]
        known = dict(sorted(zip(means["class_index"].astype(int), means["class_name"], strict=True)))
        classes = _chosen(known, wanted, default, str(run))
        if len(classes) < 3:
            missing.append(f"{run}: {len(known)} classes have a mean; a simplex that is seen has three or four")
            continue
        found.append(_track(str(run), rows, classes, known, began.get(str(run))))
    return found, missing


def _chosen(known: Mapping[int, str], wanted: Sequence[str], default: int, run: str) -> list[int]:
    if not wanted:
        return list(known)[:default]
    by_name: dict[str, int] = {}
    for index, name in known.items():
        by_name.setdefault(name, index)
    there = visible(", ".join(by_name))
    chosen: list[int] = []
    for name in wanted:
        index = by_name.get(name, int(name) if name.isdecimal() else -1)
        if index not in known:
            raise UsageError(f"--classes: {visible(run)} has no class {name!r} with samples; there are {there}")
        if index in chosen:
            raise UsageError(f"--classes: {name!r} is named twice")
        chosen.append(index)
    return chosen


def _track(run: str, rows: pd.DataFrame, classes: Sequence[int], known: Mapping[int, str], onset: int | None) -> Track:
    own = rows[rows["class_index"].isin(classes)]
    samples = own[own["item"] == "sample"].drop_duplicates("sample").sort_values("sample")
    order = samples["sample"].tolist()
    checkpoints = []
    for _, at in own.sort_values("step", kind="stable").groupby("checkpoint", sort=False):
        step = int(at["step"].iloc[0])
        try:
            checkpoints.append(PlacedCheckpoint(step, _positions(at, classes, order)))
        except Undefined as why:
            checkpoints.append(PlacedCheckpoint(step, None, str(why)))
    return Track(
        run=run,
        group=str(rows["group"].iloc[0]),
        step_unit=str(rows["step_unit"].iloc[0]),
        layer=str(rows["layer"].iloc[0]),
        names=tuple(known[c] for c in classes),
        owners=np.array([list(classes).index(c) for c in samples["class_index"]], np.int64),
        checkpoints=tuple(checkpoints),
        onset=onset,
    )


def _positions(at: pd.DataFrame, classes: Sequence[int], samples: Sequence[int]) -> Positions:
    means, rows = (_coordinates(at[at["item"] == item], "class_index", classes) for item in ("mean", "classifier"))
    placed = _coordinates(at[at["item"] == "sample"], "sample", samples)
    if means is None or placed is None:
        raise Undefined("the picture of this checkpoint lacks a class or a sample of the others")
    return positions(means, placed, rows)


def _coordinates(rows: pd.DataFrame, key: str, order: Sequence[int]) -> Float64[np.ndarray, "n 9"] | None:
    """Return the vectors in this order; None when one is missing. A dimension that is not there is zero for all."""
    table = rows.drop_duplicates(key).set_index(key)
    if not set(order) <= set(table.index):
        return None
    return np.asarray(table.loc[list(order), COORDINATES].fillna(0.0).to_numpy(np.float64))
