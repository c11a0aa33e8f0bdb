"""Which linear map leads from a layer to the logits, and which ones read it.

In: the graph of a traced pass, and the weights. Out: what a LayerView compares a layer with, by the name of its tap.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float64, Int64

from ncscan.layer_graph import TapGraph, joined
from ncscan.metrics.view import Classifier, Reader
from ncscan.statistics import VANISHING, coarser

Weights = Mapping[str, tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."] | None]]
"""The parameters by name of the linear map: W as (outputs, inputs, …), and b or None."""


def head_classifiers(graph: TapGraph, weights: Weights) -> dict[str, Classifier]:
    """Return for every layer of the linear head the linear map to the logits, W_L, W_L W_{L−1}, …, with its bias.

    A head with L2 layers gives L2 of them; where other linear maps than matrices begin, it ends. A product is
    named `first..last`. There is none where the last linear map does not write the logits as they are: of any other, W
    shows nothing of the classes. A map w that writes one logit for two classes is taken as the rows −w/2 and w/2.
    """
    found: dict[str, Classifier] = {}
    W: Float64[np.ndarray, "outputs d"] | None = None
    b: Float64[np.ndarray, outputs] | None = None
    precision, lost = "float64", ""
    for name in reversed(graph.head):
        weight, bias = weights[name]
        if graph.map(name).kind != "linear" or weight.ndim != 2:
            break
        with np.errstate(over="ignore", invalid="ignore"):  # the classifier says it: see its obstacle
            own = weight.astype(np.float64)
            precision = coarser(precision, weight.dtype.name)
            own_bias = None if bias is None else bias.astype(np.float64)
            if W is None:
                if graph.has_one_logit:
                    own, own_bias = halves(own), None if own_bias is None else halves(own_bias)
                if len(own) != graph.n_outputs:
                    break
                W, b = own, own_bias
            else:
                if W.shape[1] != len(own):
                    break
                if own_bias is not None:
                    b = W @ own_bias + (0.0 if b is None else b)
                product = W @ own
                lost = lost or _lost(W, own, product)
                W = product
        last = graph.head[-1]
        found[graph.map(name).reads] = Classifier(joined(name, "" if name == last else last), W, b, precision, lost)
    return found


def _lost(
    W: Float64[np.ndarray, "outputs n"], own: Float64[np.ndarray, "n d"], product: Float64[np.ndarray, "outputs d"]
) -> str:
    """Return why a product of two finite matrices is no matrix of float64, else empty."""
    size, of_own, found = (float(np.abs(x).max(initial=0.0)) for x in (W, own, product))
    if not (np.isfinite(size) and np.isfinite(of_own)):
        return ""  # the weights themselves are not
    if not np.isfinite(found):
        return "the product of the classifier's maps is too large for float64"
    vanishes = found < VANISHING and size > 0 and of_own > 0 and size * of_own < VANISHING
    return "the product of the classifier's maps is too small for float64" if vanishes else ""


def readers(graph: TapGraph, weights: Weights, n_classes: int) -> dict[str, tuple[Reader, ...]]:
    """Return for every layer the matrices that read it, in the order of the pass."""
    found: dict[str, tuple[Reader, ...]] = {}
    for linear_map in graph.maps:
        W = weights[linear_map.name][0]
        if linear_map.kind == "linear" and W.ndim == 2:
            if graph.has_one_logit and graph.head[-1:] == (linear_map.name,):
                W = halves(W)
            reader = Reader(linear_map.name, W, max(n_classes - 1, 1))
            found[linear_map.reads] = (*found.get(linear_map.reads, ()), reader)
    return found


def halves(w: Float[np.ndarray, "1 ..."]) -> Float[np.ndarray, "2 ..."]:
    """Return the two rows that decide as one logit does, −w/2 and w/2.

    Of all pairs of rows whose difference is w they are the smallest, and the ones to which weight decay takes two rows:
    so they sum to zero as those of a classifier at collapse do, and the softmax of both is the sigmoid of the one.

    >>> halves(np.array([[2.0, 4.0]])).tolist()
    [[-1.0, -2.0], [1.0, 2.0]]
    """
    return np.concatenate([-w / 2, w / 2])


def of_members(
    reading: tuple[Reader, ...], classes: Int64[np.ndarray, "K"], outputs: int, classifier: Classifier | None
) -> tuple[Reader, ...]:
    """Return the linear maps that read a layer as they are to be compared with the means of these classes.

    Where the network knows others too, a linear map listens for all of them, and which K − 1 of its directions come
    first shows nothing: of the classifier the rows of these classes count, minus their mean; no other linear map can be
    compared.
    """
    if outputs == len(classes):
        return reading
    return tuple(_of_members(reader, classes, outputs, classifier) for reader in reading)


def _of_members(reader: Reader, classes: Int64[np.ndarray, "K"], outputs: int, classifier: Classifier | None) -> Reader:
    W = reader.weight
    if classifier is None or reader.name != classifier.name or len(W) <= classes.max():
        few = f"the data has {len(classes)} of the network's {outputs} classes"
        return replace(reader, obstacle=f"{few}, and {reader.name} reads for all of them")
    with np.errstate(over="ignore", invalid="ignore"):  # the reader says it: see its directions
        rows = W[classes].astype(np.float64)
        rows = (rows - rows.mean(axis=0)).astype(W.dtype)
    return replace(reader, weight=rows, directions=len(classes) - 1)
