"""Prepare the data of a page about single classes, pairs of classes, and the picture of their means.

In: the tables classes and geometry. Out: plain values for JSON. Where there is too much, a few checkpoints are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ncscan.report.figures.scales import apart, spread_out
from ncscan.report.html.packing import floats, shorts
from ncscan.rows import of_training
from ncscan.wording import visible

MOST_OF_CLASSES = 120_000
"""The most numbers of single classes that the page has."""
MOST_IN_MATRICES = 150_000
"""The most numbers of pairs of classes; a layer has two matrices."""
MOST_COORDINATES = 120_000
"""The most coordinates of the picture."""
FEWEST_CHECKPOINTS = 8
"""The number of checkpoints that are kept before layers are."""

MEANS, ROWS, OWN_ROW = "pair_cosine", "nc3_pair_cosine", "nc3_class_cosine"
"""The matrix of class means, that of the classifier's rows against them, and the diagonal of the latter."""


def single_classes(table: pd.DataFrame, runs: Mapping[str, int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return numbers of single classes: arrays of checkpoints × layers × metrics × classes."""
    single = of_training(table[table["other_index"].isna()])
    found, left_out = [], list[str]()
    for run, own, budget in _shares(single, runs, MOST_OF_CLASSES):
        layers, metrics = list(dict.fromkeys(own["layer"])), list(dict.fromkeys(own["metric"]))
        present = sorted(own["class_index"].unique())
        layers, checkpoints, left = _kept(own, layers, budget // (len(metrics) * len(present)), "class by class")
        left_out += left
        own = own[own["checkpoint"].isin(checkpoints) & own["layer"].isin(layers)]
        values = np.full((len(checkpoints), len(layers), len(metrics), len(present)), np.nan)
        at = _codes(own, checkpoint=checkpoints, layer=layers, metric=metrics, class_index=present)
        values[tuple(at)] = own["value"]
        found.append(
            {
                **_described(run, own, checkpoints, layers),
                "metrics": [visible(name) for name in metrics],
                "value": floats(values),
            }
        )
    return found, left_out


def matrices(table: pd.DataFrame, runs: Mapping[str, int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return cosines of class means with each other, and of classifier rows with them.

    The shape is checkpoints × layers × 2 × K × K.
    """
    pairs = of_training(table[table["metric"].isin((MEANS, ROWS, OWN_ROW))])
    pairs = pairs[pairs["layer"].isin(set(pairs["layer"][pairs["other_index"].notna()]))]
    found, left_out = [], list[str]()
    for run, own, budget in _shares(pairs, runs, MOST_IN_MATRICES):
        layers = list(dict.fromkeys(own["layer"]))
        own = own.assign(other_index=own["other_index"].fillna(own["class_index"]))
        present = sorted({*own["class_index"], *own["other_index"]})
        K = len(present)
        layers, checkpoints, left = _kept(own, layers, budget // (2 * K * K), "pair by pair")
        left_out += left
        own = own[own["checkpoint"].isin(checkpoints) & own["layer"].isin(layers)]
        values = np.full((len(checkpoints), len(layers), 2, K, K), np.nan)
        step, layer, c, other = _codes(
            own, checkpoint=checkpoints, layer=layers, class_index=present, other_index=present
        )
        of_means = (own["metric"] == MEANS).to_numpy()
        values[step, layer, np.where(of_means, 0, 1), c, other] = own["value"]
        values[step[of_means], layer[of_means], 0, other[of_means], c[of_means]] = own["value"][of_means]
        known = ~np.isnan(values[:, :, 0]).all(axis=3)
        values[:, :, 0, np.arange(K), np.arange(K)] = np.where(known, 1.0, np.nan)
        found.append({**_described(run, own, checkpoints, layers), "value": shorts(np.clip(values, -1, 1), 1.0)})
    return found, left_out


def pictures(table: pd.DataFrame, runs: Mapping[str, int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return each checkpoint's picture: coordinates in 16 bits, those of classifier rows in a scale of their own."""
    axes = [name for name in table.columns if name.startswith("x")]
    found, left_out = [], list[str]()
    for run, own, budget in _shares(table, runs, MOST_COORDINATES):
        width = max(1, int(own[axes].notna().any().sum()))
        most = budget // (width * int(own.groupby("checkpoint").size().max()))
        _, checkpoints, left = _kept(own, [""], most, "in the picture")
        left_out += left
        classes = own.drop_duplicates("class_index")
        names = apart([visible(str(name)) for name in classes["class_name"]])
        found.append(
            {
                "run": run,
                "layer": visible(str(own["layer"].iloc[0])),
                "axes": width,
                "classes": [
                    {"index": int(c), "name": name} for c, name in zip(classes["class_index"], names, strict=True)
                ],
                "pictures": [_picture(own[own["checkpoint"] == name], name, axes[:width]) for name in checkpoints],
            }
        )
    return found, left_out


def _picture(rows: pd.DataFrame, name: str, axes: Sequence[str]) -> dict[str, Any]:
    X = rows[list(axes)].fillna(0.0).to_numpy(np.float64, copy=True)
    rays = (rows["item"] == "classifier").to_numpy()
    for part in (rays, ~rays):
        X[part] /= np.abs(X[part]).max(initial=0.0) or 1.0
    return {
        "checkpoint": visible(name),
        "items": "".join(item[0] for item in rows["item"]),
        "of": rows["class_index"].astype(int).tolist(),
        "value": shorts(X, 1.0),
    }


def _shares(table: pd.DataFrame, runs: Mapping[str, int], most: int) -> Iterator[tuple[int, pd.DataFrame, int]]:
    """Yield each run of the page with its rows and how many numbers it may have."""
    inside = table[table["run"].isin(list(runs))]
    for run, own in inside.groupby("run", sort=False):
        yield runs[str(run)], own, most // inside["run"].nunique()


def _kept(own: pd.DataFrame, layers: list[Any], most: int, what: str) -> tuple[list[Any], list[str], list[str]]:
    """Return the last layers and an even choice of the checkpoints, `most` of both together, and what is left out."""
    names = [str(name) for name in dict.fromkeys(own.sort_values("step", kind="stable")["checkpoint"])]
    few = min(FEWEST_CHECKPOINTS, len(names))
    last = layers[-max(1, most // few) :]
    checkpoints = spread_out(names, max(1, most // len(last)))
    left_out = [f"{len(last)} of {len(layers)} layers {what}"] if len(last) < len(layers) else []
    if len(checkpoints) < len(names):
        left_out.append(f"{len(checkpoints)} checkpoints of each run {what}")
    return last, checkpoints, left_out


def _codes(own: pd.DataFrame, **known: Sequence[Any]) -> list[np.ndarray]:
    """Return for each column which of its known values a row has."""
    return [own[name].map({x: i for i, x in enumerate(each)}).to_numpy(np.int64) for name, each in known.items()]


def _described(run: int, own: pd.DataFrame, checkpoints: Sequence[str], layers: Sequence[Any]) -> dict[str, Any]:
    names = own.drop_duplicates("class_index").sort_values("class_index")["class_name"]
    alike = apart([visible(str(name)) for name in names])
    return {
        "run": run,
        "checkpoints": [visible(name) for name in checkpoints],
        "layers": [visible(str(name)) for name in layers],
        "classes": alike,
    }
