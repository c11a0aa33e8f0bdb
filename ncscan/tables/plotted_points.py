"""Put every number of layers and of linear maps into one frame, from which charts and heat maps are drawn.

In: the tables metrics and weights. Out: `points`, with the columns of metrics.csv for both, and means over seeds.
"""

import pandas as pd

from ncscan.layer_graph import joined_in_words
from ncscan.rows import leading
from ncscan.splits import TRAINING
from ncscan.trajectory import group_frame

MAPS = "map"
"""The kind of a place that is a linear map, a pair of them or a product."""
NETWORK = "network"
"""The place of a number that is about the network as a whole."""

KEYS = ("table", "metric", "quantity", "weighting")
"""The columns that tell numbers of a place apart."""


def points(metrics: pd.DataFrame, weights: pd.DataFrame) -> pd.DataFrame:
    """Return all rows of both tables, those of linear maps as layers of the kind `map`: one row a place and number.

    A layer that several linear maps read has a row for each of them, of which one leads.
    """
    of_maps = weights.assign(
        layer=_places(weights), split=TRAINING, kind=MAPS, reduction="", weighting="", classifier="", table="weights"
    )
    order = {place: rank for rank, place in enumerate(dict.fromkeys(of_maps["layer"]))}
    of_maps["depth"] = of_maps["layer"].map(order).astype("Int64")
    columns = [*metrics.columns, "table"]
    both = [part for part in (metrics.assign(table="metrics"), of_maps.reindex(columns=columns)) if len(part)]
    frame = pd.concat(both, ignore_index=True) if both else metrics.assign(table="metrics")
    frame = frame.astype(dict.fromkeys(("centred", "at_floor", "estimate", "leads"), "boolean"))
    return leading(frame, ["run", "checkpoint", "split", "layer", *KEYS])


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the runs of each group of several, as rows of a run named like it; low and high: ± 1 std.

    It is of all runs of the group: where one has no such number, layer or step there is none, with the reason.
    """
    several = frame.groupby("group")["run"].transform("nunique") > 1
    own = frame[several & (frame["group"] != "")]
    if own.empty:
        return frame.iloc[:0].assign(runs=0)
    parts = [
        group_frame(part).assign(table=table, value=lambda each: each["mean"])
        for table, part in own.groupby("table", sort=False)
    ]
    means = pd.concat(parts, ignore_index=True)
    means["low"], means["high"] = means["mean"] - means["std"], means["mean"] + means["std"]
    means["run"] = means["group"]
    whole = means["group"].map(own.groupby("group")["run"].nunique())
    part = means["runs"] < whole
    said = means["runs"].astype(str) + " of " + whole.astype(str) + " runs of the group have it"
    means["reason"] = said.where(part, "")
    means[["value", "low", "high"]] = means[["value", "low", "high"]].mask(part)
    return means.reindex(columns=[*frame.columns, "runs"])


def _places(weights: pd.DataFrame) -> "pd.Series[str]":
    pairs = zip(weights["map"], weights["next_map"], strict=True)
    return pd.Series([joined_in_words(*pair) or NETWORK for pair in pairs], index=weights.index, dtype=object)
