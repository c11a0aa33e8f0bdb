"""Put every number of a report into one frame, with the columns that identify it.

In: the tidy tables. Out: one row per number measured on a layer, on a linear map, or of a claim of the theory, with
one set of columns. What compares reports or judges them reads this frame alone.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ncscan.layer_graph import joined
from ncscan.rows import leading
from ncscan.tables.columns import FLAG, LEADS, NUMBER, TEXT, WHOLE, Columns

NUMBER_COLUMNS: Columns = (
    ("table", TEXT),
    ("run", TEXT),
    ("group", TEXT),
    ("checkpoint", TEXT),
    ("step", WHOLE),
    ("step_unit", TEXT),
    ("split", TEXT),
    ("layer", TEXT),
    ("depth", WHOLE),
    ("metric", TEXT),
    ("quantity", TEXT),
    ("weighting", TEXT),
    ("classifier", TEXT),
    ("value", NUMBER),
    ("reason", TEXT),
    ("low", NUMBER),
    ("high", NUMBER),
    ("at_floor", FLAG),
    ("estimate", FLAG),
    LEADS,
)
"""The columns of the frame and how each is kept, as in columns.py."""

SAME: tuple[str, ...] = ("table", "split", "layer", "metric", "quantity", "weighting", "classifier")
"""The columns that two rows of different checkpoints share when they are the same number."""


def numbers(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the numbers of the tables metrics, weights and theory, in this order and each in the order of its table.

    Args:
        tables: complete, with the columns of their contract.

    Returns: the columns of NUMBER_COLUMNS. `table` is where the number comes from. A linear map stands in `layer`
        under the name of the layer that it writes, a pair or a product of linear maps as `a..b`; a claim is its
        `metric`. What a table does not know is empty: weights and claims have no split, weighting or classifier.
        `depth` is that of the layer of this name, where there is one. `leads` is as in the tables, but that a pair of
        linear maps is a place of its own.
    """
    metrics, weights, theory = (tables[name] for name in ("metrics", "weights", "theory"))
    place = [joined(*pair) for pair in zip(weights["map"], weights["next_map"], strict=True)]
    one_each = leading(weights, ["run", "checkpoint", "map", "next_map", "metric"])
    of_pairs = weights.index.isin(one_each.index)
    parts = [
        _part(metrics, "metrics"),
        _part(weights.assign(layer=place, leads=of_pairs), "weights"),
        _part(theory.assign(metric=theory["claim"]), "theory"),
    ]
    frame = pd.concat(parts, ignore_index=True)
    layer = ["run", "checkpoint", "layer"]
    depths = metrics.drop_duplicates(layer).set_index(layer)["depth"]
    missing = frame["depth"].isna()
    frame.loc[missing, "depth"] = depths.reindex(pd.MultiIndex.from_frame(frame.loc[missing, layer])).array
    return frame


def _part(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table with the columns of all."""
    empty = {TEXT: "", WHOLE: pd.NA, NUMBER: math.nan, FLAG: pd.NA}
    missing: dict[str, Any] = {column: empty[kind] for column, kind in NUMBER_COLUMNS if column not in table.columns}
    kinds = dict(NUMBER_COLUMNS)
    return table.assign(**missing | {"table": name})[list(kinds)].astype(kinds)
