"""Measures of arrays at hand, without a checkpoint, a dump or a command line.

In: features and labels, numpy or torch. Out: a tidy DataFrame, one row per number.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int64

from ncscan.data import MAX_CLASSES
from ncscan.errors import DataError
from ncscan.metrics import Classifier, LayerView, Reader, Row, answers, logit_blocks, most_at_once, of_members, rows_of
from ncscan.rows import with_leads
from ncscan.statistics import FLOAT_FORMATS, members
from ncscan.statistics.accumulation import AccumulationOptions, layer_stats
from ncscan.uncertainty import estimated

Array: TypeAlias = Any
"""Accepts a numpy array or a torch tensor, or what numpy makes an array of."""

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
    "leads",
)
"""The columns of metrics.csv that make sense without a checkpoint."""

_TENSOR_TYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)
"""The real numbers among torch's types."""

_VANISHING = 1e-290
"""Products below this have lost digits, or will not tell classes apart."""

_BLOCK_NUMBERS = 2**22
"""Numbers in a chunk of features: what is converted at once."""


def measure(
    features: Array,
    labels: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    logits: Array | None = None,
) -> pd.DataFrame:
    """Return every measure of one layer of activations, and of the classifier that reads it where one is given.

    Args:
        features: (N, d), numpy or torch, on any device; float16, bfloat16, float32, float64 or integers, in any order
            of bytes and strides.
        labels: (N,) integers from 0 on, below the number of rows of `weight` or columns of `logits` where given, and
            below 100,000. K is how many of them have samples; whatever the labels are, the values are the same.
        weight: (K, d), W of the linear classifier that reads the features.
        bias: (K,), its bias.
        logits: (N, K), what the network gives; computed from weight and bias where they are not given.

    Returns: a row per number, with the columns layer, metric, quantity, value, reason, weighting, centred, rank,
        estimate, classifier, leads. Where there is no value, the reason tells why; of the rows of a metric one leads,
        which is meant where nothing but the metric is named.

    Raises: DataError when shapes, labels or types do not fit, or an array is masked, ragged, sparse or without data.

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
    if bias is not None and weight is None:
        raise DataError("there is a bias without a weight; give the weight too")
    W = None if weight is None else _fitting(weight, "weight", ("K", d))
    b = None if bias is None or W is None else _fitting(bias, "bias", (len(W),))
    f = None if logits is None else _fitting(logits, "logits", (N, "K" if W is None else len(W)))
    known = len(W) if W is not None else f.shape[1] if f is not None else None
    n_labels = int(y.max()) + 1 if known is None else known
    if n_labels > MAX_CLASSES:
        raise DataError(f"there are {n_labels} classes; class means are made for up to {MAX_CLASSES}")
    members(y, n_labels)  # which says what label does not fit
    answered = None
    if f is not None:
        answered = answers(logit_blocks(f), y)
    elif W is not None:
        answered = answers(_products(rows, W, b), y)
    stored = None if weight is None or W is None else _as_stored(weight, W)
    classifier = None if W is None or stored is None else Classifier("weight", W, b, stored.dtype.name)
    obstacle = "" if answered is None else answered.obstacle
    if f is None and b is None and answered is not None and _vanish(answered.largest, rows, W):
        obstacle = obstacle or "the logits are too small for float64"
    asked = AccumulationOptions(
        decisions=None if answered is None or obstacle else answered.decisions,
        classifier=None if classifier is None or classifier.obstacle else classifier.scaled,
        classifier_precision="float64" if classifier is None else classifier.precision,
    )
    stats = layer_stats(lambda: _chunks(rows), y, n_labels, asked)
    reading = () if stored is None else (Reader("weight", stored, stats.n_classes - 1),)
    view = LayerView(
        stats,
        classifier=classifier,
        decisions_obstacle=obstacle,
        readers=of_members(reading, stats.classes, known or stats.n_classes, classifier),
        n_outputs=known,
    )
    found = [("features", row) for row in estimated(view)]
    if answered is not None:
        network = rows_of(answered)
        found += [("", replace(row, value=None, reason=obstacle) if obstacle else row) for row in network]
    return _table(found)


def _table(found: list[tuple[str, Row]]) -> pd.DataFrame:
    table = pd.DataFrame([{"layer": layer, **asdict(row)} for layer, row in found], columns=list(COLUMNS[:-1]))
    return with_leads(table.astype({"value": "float64", "rank": "Int64", "centred": "boolean"}))


def _products(
    rows: np.ndarray | torch.Tensor, W: Float64[np.ndarray, "K d"], b: Float64[np.ndarray, "K"] | None
) -> Iterator[tuple[int, Float64[np.ndarray, "n K"]]]:
    """Yield W h + b of some rows at a time. What is not finite there is described in the rows of the table."""
    step = most_at_once(len(W))
    for first, chunk in _chunks(rows):
        for start in range(0, len(chunk), step):
            some = _numpy(chunk[start : start + step]).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                product = some @ W.T + (0.0 if b is None else b)
            yield first + start, product  # outside: whoever takes it keeps warnings of its own


def _vanish(largest: float, rows: np.ndarray | torch.Tensor, W: Float64[np.ndarray, "K d"] | None) -> bool:
    """Return whether products W h underflow, so that no decision can be read off them."""
    factors = W is not None and W.any() and any(bool((chunk != 0).any()) for _, chunk in _chunks(rows))
    return bool(largest < _VANISHING and factors)


def _features(features: Array) -> np.ndarray | torch.Tensor:
    """Return rows of real numbers, where and as they are."""
    rows = _array(features, "features")
    if rows.ndim != 2:
        raise DataError(f"features of shape {tuple(rows.shape)}: give one row a sample, (N, d)")
    if len(rows) == 0 or rows.shape[1] == 0:
        raise DataError(f"features of shape {tuple(rows.shape)}: nothing to measure")
    return rows


def _labels(labels: Array) -> Int64[np.ndarray, "N"]:
    y = _numpy(_array(labels, "labels"))
    if y.ndim != 1:
        raise DataError(f"labels of shape {y.shape}: give one class index a sample, (N,)")
    if y.dtype.kind not in "iu":
        raise DataError(f"labels of type {y.dtype}: give class indices, integers from 0")
    wrong = np.flatnonzero((y < 0) | (y >= MAX_CLASSES))
    if len(wrong):
        allowed = "0 or more" if y[wrong[0]] < 0 else f"under {MAX_CLASSES}"
        raise DataError(f"labels must be {allowed}; that of sample {wrong[0]} is {y[wrong[0]]}")
    return y.astype(np.int64)


def _fitting(given: Array, name: str, shape: tuple[int | str, ...]) -> Float64[np.ndarray, "..."]:
    """Return an array as float64, where its shape is the one that is expected; K stands for any number."""
    array = _numpy(_array(given, name))
    if array.ndim != len(shape) or any(want not in ("K", have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = str(shape).replace("'", "")
        raise DataError(f"{name} of shape {array.shape}: here it must be {wanted}")
    return array.astype(np.float64)


def _as_stored(given: Array, exact: Float64[np.ndarray, "K d"]) -> Float[np.ndarray, "K d"]:
    """Return weights in the precision in which they were given, which shows what of them is rounding."""
    array = _numpy(_array(given, "weight"))
    return exact.astype(array.dtype.newbyteorder("=")) if array.dtype.name in ("float16", "float32") else exact


def _array(given: Array, name: str) -> np.ndarray | torch.Tensor:
    """Return the real numbers that were given, all of them, where they are; else DataError."""
    if isinstance(given, torch.Tensor):
        if given.layout != torch.strided or given.is_nested or given.is_meta:
            what = "without data" if given.is_meta else "nested" if given.is_nested else "sparse"
            raise DataError(f"{name} in a tensor that is {what}: give a dense one")
        if given.dtype not in _TENSOR_TYPES:
            raise DataError(f"{name} of type {str(given.dtype).removeprefix('torch.')}: give real numbers")
        return given.detach().resolve_neg()
    if np.ma.is_masked(given):
        raise DataError(f"{name} in a masked array: leave out or fill what is masked")
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError, OverflowError) as why:
        raise DataError(f"{name} cannot be read as an array: {str(why).splitlines()[0]}") from why
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} of type {array.dtype}: give real numbers")
    return array


def _numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return an array as numpy, which has no bfloat16: that becomes float32, exactly."""
    if not isinstance(array, torch.Tensor):
        return array
    return (array.float() if array.dtype == torch.bfloat16 else array).cpu().numpy()


def _chunks(rows: np.ndarray | torch.Tensor) -> Iterator[tuple[int, np.ndarray | torch.Tensor]]:
    """Yield so many rows that a chunk stays small: it alone is copied where rows are not floats as torch reads them."""
    step = max(1, _BLOCK_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        yield start, _as_floats(rows[start : start + step])


def _as_floats(chunk: np.ndarray | torch.Tensor) -> Float[np.ndarray, "n d"] | Float[torch.Tensor, "n d"]:
    """Return floats of the same precision; integers as float64."""
    if isinstance(chunk, torch.Tensor):
        return chunk if chunk.is_floating_point() else chunk.double()
    native = chunk.dtype.newbyteorder("=")
    known = native.name in {known.name for known in FLOAT_FORMATS}
    return np.require(chunk, native if known else np.float64, ["C", "A"])
