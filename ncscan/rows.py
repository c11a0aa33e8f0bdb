"""Choose which of several rows of a table are meant where quantity, weighting or split are left open.

In: rows of the tidy tables, or of two reports side by side. Out: `leads`, the column, made once where rows become a
table; and from then on `leading`, which chooses by that column and by the content of the rows, never by their order;
and the rows of the training split.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ncscan.ordering import BESIDE
from ncscan.splits import IMPLIED, SPLITS

PLACE = (
    *("table", "run", "run_a", "run_b", "checkpoint", "checkpoint_a", "checkpoint_b", "split"),
    *("layer", "map", "metric", "claim"),
)
"""The columns, as far as a table has them, in which the rows agree of which one leads."""

CLOSE = ("quantity", "classifier", "next_map")
"""The columns by which a row is close to the one that leads."""

NAMES = (*CLOSE, "weighting", "layer", "map", "checkpoint")
"""The columns that decide where nothing else does."""


def with_leads(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its column `leads`, of rows in the order in which they were measured.

    That is the order of the definitions: the first quantity of a metric, classes weighted alike, the first linear map
    that reads the layer, or that follows, come first, and of each metric at a place the first row leads.
    """
    place = [name for name in PLACE if name in table.columns]
    return table.assign(leads=(~table.duplicated(place, keep="first")).astype("boolean"))


def leading(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return one row for each combination of the columns `by`, in whatever order rows come, which they keep.

    It is the one that leads its metric. Where that is none of them it is the closest: of the same quantity, with
    classes weighted alike, compared with the same linear map, followed by the same one; then the first by name, such as
    the first checkpoint of a run that has two at one step.

    >>> rows = pd.DataFrame({"weighting": ["sample", "class"], "value": [0.2, 0.1], "leads": [False, True]})
    >>> leading(rows.assign(metric="nc1_pinv"), ["metric"])["value"].tolist()
    [0.1]
    """
    several = rows.duplicated(list(by), keep=False).to_numpy()
    if not several.any():
        return rows
    at = np.flatnonzero(several)
    own = rows.iloc[at].reset_index(drop=True)
    ranks = _ranks(own, rows[is_leading(rows).to_numpy()])
    order = ranks.sort_values(list(ranks.columns), kind="stable").index
    kept = ~several
    kept[at[own.loc[order].drop_duplicates(list(by), keep="first").index]] = True
    return rows[kept]


def is_leading(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows lead their metric; where the column is empty, none does."""
    if "leads" not in rows.columns:
        return pd.Series(data=False, index=rows.index, dtype=bool)
    return rows["leads"].astype("boolean").fillna(value=False).astype(bool)


def in_series(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of checkpoints that are a part of the series of their run."""
    return rows[rows["step_unit"] != BESIDE]


def of_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the training split, and those that are of no split."""
    return rows[rows["split"].isin(IMPLIED)]


def of_main_split(rows: pd.DataFrame) -> pd.DataFrame:
    """Return of each run the rows of the training split where it was measured, else those of the next of SPLITS.

    >>> rows = pd.DataFrame({"run": ["a", "a", "b"], "split": ["test", "train", "ood"]})
    >>> of_main_split(rows)["split"].tolist()
    ['train', 'ood']
    """
    others = sorted(set(rows["split"]) - {*IMPLIED, *SPLITS})
    rank = dict.fromkeys(IMPLIED, 0) | {name: i for i, name in enumerate([*SPLITS, *others])}
    ranks = rows["split"].map(rank)
    return rows[ranks == ranks.groupby(rows["run"], sort=False).transform("min")]


def _ranks(own: pd.DataFrame, leads: pd.DataFrame) -> pd.DataFrame:
    """Return what rows are ordered by, the best least; `leads` are the rows that lead, of the same table."""
    place = [name for name in PLACE if name in own.columns]
    close = [name for name in CLOSE if name in own.columns]
    names = [name for name in NAMES if name in own.columns]
    ranks = {"follows": ~is_leading(own)}
    if place and close:
        first = leads.drop_duplicates(place)[[*place, *close]]
        beside = own[place].merge(first, on=place, how="left")
        ranks |= {f"other {name}": own[name] != beside[name] for name in close}
    if "weighting" in own.columns:
        ranks |= {"by sample": own["weighting"] == "sample"}
    ordered = ("follows", "other quantity", "by sample", "other classifier", "other next_map")
    return pd.DataFrame({name: ranks[name] for name in ordered if name in ranks} | {name: own[name] for name in names})
