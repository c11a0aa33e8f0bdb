"""Find the linear maps that the outputs of a network scale with: what weight decay implies for norms holds for these.

In: the traced graph and the weights. Out: the norm of each linear map, or what keeps the outputs from scaling as it
does.
"""

from collections.abc import Mapping

import numpy as np

from ncscan.errors import Undefined
from ncscan.layer_graph import LinearMap, TapGraph
from ncscan.metrics import Weights

HOMOGENEOUS = ("relu", "relu_", "leakyrelu", "leaky_relu", "leaky_relu_", "prelu")
"""Activations with σ(ax) = aσ(x) for a > 0, by the names of modules and functions in lower case."""


def scaling_norms(graph: TapGraph, weights: Weights) -> Mapping[str, float | Undefined]:
    """Return ‖W_k‖_F of every linear map, or why f − b_L does not scale as W_k does.

    It does where all that follows is positively homogeneous: hence no bias from W_k on but the last one.
    """
    if not graph.head:
        return {linear.name: Undefined("no linear map writes the logits") for linear in graph.maps}
    found: dict[str, float | Undefined] = {}
    blocked = ""
    for linear in reversed(graph.maps):
        blocked = blocked or _obstacle(graph, weights, linear)
        W = weights[linear.name][0].astype(np.float64)
        if blocked:
            found[linear.name] = Undefined(blocked)
        elif [m.weight for m in graph.maps].count(linear.weight) > 1:
            found[linear.name] = Undefined(f"the weights of {linear.name} are used more than once")
        elif not np.isfinite(W).all():
            found[linear.name] = Undefined(f"{linear.name} has non-finite weights")
        else:
            found[linear.name] = float(np.linalg.norm(W))
    return dict(reversed(found.items()))


def _obstacle(graph: TapGraph, weights: Weights, linear: LinearMap) -> str:
    """Return what in or right after a linear map keeps the outputs from scaling as it does, else empty."""
    if linear.name == graph.head[-1]:
        return ""
    if linear.kind == "embedding":
        return f"{linear.name} is an embedding"
    if weights[linear.name][1] is not None:
        return f"{linear.name} has a bias"
    onward = [link for link in graph.links if link.first == linear.name]
    if len(onward) != 1:
        return f"{linear.name} is read by {len(onward)} maps: the network is no chain"
    for kind in onward[0].between:
        if kind not in ("activation", "pooling"):
            return f"{kind} after {linear.name}"
    if "activation" in onward[0].between:
        taps = {tap.name: tap for tap in graph.taps}
        written, activation = taps.get(linear.name), None
        if written is None:
            return f"{linear.name} writes no layer of the graph"
        if written.activated_by:
            activation = taps.get(written.activated_by)
            if activation is None:
                return f"{linear.name} is activated by {written.activated_by}, which is no layer of the graph"
        types = activation.types if activation else ()
        if not any(name.lower() in HOMOGENEOUS for name in types):
            return f"the activation after {linear.name} is not a ReLU: {types[0] if types else 'unknown'}"
    return ""
