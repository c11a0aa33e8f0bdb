"""Measures of arrays at hand, without a checkpoint, a dump or a command line.

In: features and labels, numpy or torch. Out: a tidy DataFrame, one row per number.
"""

from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64

from ncscan.accumulate import layer_stats
from ncscan.errors import DataError
from ncscan.metrics import Classifier, LayerView, Row, network_rows
from ncscan.metrics import measure as measure_layer
from ncscan.resolution import FLOAT_FORMATS

Array: TypeAlias = Any
"""A numpy array or a torch tensor, or what numpy makes an array of."""

COLUMNS = (
    "layer",
    "metric",
    "quantity",
    "value",
    "reason",
    "weighting",
    "centred",
    "rank",
    "estimate",
    "classifier",
)
"""The columns of metrics.csv that make sense without a checkpoint."""

_BLOCK_NUMBERS = 2**22
"""Numbers in a chunk of features: what is converted at once."""


def measure(
    features: Array,
    labels: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    logits: Array | None = None,
) -> pd.DataFrame:
    """Every measure of one layer of activations, and of the classifier that reads it where one is given.

    Args:
        features: (N, d), numpy or torch, on any device; float16, bfloat16, float32, float64 or integers.
        labels: (N,) integers 0 … K−1. K is the number of rows of `weight` or columns of `logits` where given, else
            the largest label plus one.
        weight: (K, d), W of the linear classifier that reads the features.
        bias: (K,), its bias.
        logits: (N, K), what the network gives; computed from weight and bias where they are not given.

    Returns: a row per number, with the columns layer, metric, quantity, value, reason, weighting, centred, rank,
        estimate, classifier. Where there is no value, the reason says why.

    Raises: DataError when shapes, labels or types do not fit.

    >>> import numpy as np
    >>> features = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    >>> table = measure(features, [0, 0, 1, 1]).set_index("metric")
    >>> print(table.value["nc1_trace"].round(12), table.reason["nc2_etf"], sep="; ")
    0.01; trivial at K = 2
    """
    rows, y = _features(features), _labels(labels)
    N, d = rows.shape
    if len(y) != N:
        raise DataError(f"there are {N} rows of features and {len(y)} labels; they must match one to one")
    W = None if weight is None else _matrix(weight, "weight", ("K", d))
    f = None if logits is None else _matrix(logits, "logits", (N, "K" if W is None else len(W)))
    K = len(W) if W is not None else f.shape[1] if f is not None else int(y.max()) + 1
    if bias is not None and W is None:
        raise DataError("there is a bias without a weight; give the weight too")
    if f is None and W is not None:
        b = np.zeros(K) if bias is None else _matrix(np.atleast_2d(_plain(bias)), "bias", (1, K))[0]
        f = np.concatenate([_plain(chunk).astype(np.float64) @ W.T + b for _, chunk in _chunks(rows)])
    stats = layer_stats(
        lambda: _chunks(rows),
        y,
        K,
        decisions=None if f is None else np.argmax(f, axis=1),
        classifier=W,
    )
    view = LayerView(stats, classifier=None if W is None else Classifier("weight", W))
    found = [("features", row) for row in measure_layer(view)]
    if f is not None:
        found += [("", row) for row in network_rows(f, y)]
    return _table(found)


def _table(found: list[tuple[str, Row]]) -> pd.DataFrame:
    table = pd.DataFrame([{"layer": layer, **asdict(row)} for layer, row in found], columns=list(COLUMNS))
    return table.astype({"value": "float64", "rank": "Int64", "centred": "boolean"})


def _features(features: Array) -> np.ndarray | torch.Tensor:
    """Rows of floats, without a copy where they are floats."""
    rows = features.detach() if isinstance(features, torch.Tensor) else np.asarray(features)
    if rows.ndim != 2:
        raise DataError(f"features have shape {tuple(rows.shape)}; give one row a sample, (N, d)")
    if len(rows) == 0 or rows.shape[1] == 0:
        raise DataError(f"features have shape {tuple(rows.shape)}: nothing to measure")
    if isinstance(rows, torch.Tensor):
        if rows.is_complex():
            raise DataError("features are complex; give real numbers")
        return rows if rows.is_floating_point() else rows.double()
    if rows.dtype.kind not in "fiub":
        raise DataError(f"features have type {rows.dtype}; give real numbers")
    return rows if rows.dtype.name in {known.name for known in FLOAT_FORMATS} else rows.astype(np.float64)


def _labels(labels: Array) -> Int64[np.ndarray, "N"]:
    y = _plain(labels)
    if y.ndim != 1:
        raise DataError(f"labels have shape {y.shape}; give one class index a sample, (N,)")
    if y.dtype.kind not in "iu":
        raise DataError(f"labels have type {y.dtype}; give class indices, integers from 0")
    return y.astype(np.int64)


def _matrix(given: Array, name: str, shape: tuple[int | str, int | str]) -> Float64[np.ndarray, "n m"]:
    matrix = _plain(given)
    if matrix.ndim != 2 or any(want not in ("K", have) for want, have in zip(shape, matrix.shape, strict=True)):
        raise DataError(f"{name} has shape {matrix.shape}; here it must be ({shape[0]}, {shape[1]})")
    return matrix.astype(np.float64)


def _plain(given: Array) -> np.ndarray:
    """As numpy, which has no bfloat16: that becomes float32, exactly."""
    if not isinstance(given, torch.Tensor):
        return np.asarray(given)
    tensor = given.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _chunks(rows: np.ndarray | torch.Tensor) -> list[tuple[int, np.ndarray | torch.Tensor]]:
    """Views of so many rows that a chunk stays small."""
    step = max(1, _BLOCK_NUMBERS // rows.shape[1])
    return [(start, rows[start : start + step]) for start in range(0, len(rows), step)]
