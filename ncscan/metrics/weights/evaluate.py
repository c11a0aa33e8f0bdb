"""Measure the weights alone: balance of consecutive linear maps, conditioning of single ones and of the linear head.

In: weights and biases by linear map, and the graph of which one reads what another wrote. Out: WeightRow, one
per number. Which linear maps are consecutive, and what stands between, comes from the traced pass, never from names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Float64

from ncscan.computable import attempt, computable
from ncscan.errors import Undefined
from ncscan.layer_graph import Link, TapGraph, joined
from ncscan.metrics.head_readers import Weights
from ncscan.metrics.weights.balancedness import NORMS, balance, balance_diagonal, operator_norm
from ncscan.metrics.weights.conditioning import SIZES, condition
from ncscan.metrics.weights.consecutive_maps import alignment, norm_spread
from ncscan.statistics import storage_tolerance


@dataclass(frozen=True)
class WeightRow:
    """One number of one linear map, of a pair of consecutive ones, or of the product of the linear head."""

    map: str
    """Name of the linear map; a product is written `first..last`."""
    next_map: str
    """The linear map that follows, for a pair; else empty."""
    metric: str
    quantity: str
    value: float | None
    rank: int | None
    reason: str
    """Why there is no value, else empty."""


def measure_weights(weights: Weights, graph: TapGraph) -> list[WeightRow]:
    """Return every measure of the weights of a traced model: pairs, single linear maps, the head, then all together."""
    rows = [row for link in graph.links for row in _pair(link, weights, graph)]
    rows += [row for linear_map in graph.maps for row in _single(linear_map.name, weights, graph)]
    return rows + list(_head(weights, graph)) + list(_norm_spread(weights, graph))


def _pair(link: Link, weights: Weights, graph: TapGraph) -> Iterator[WeightRow]:
    """Yield the balance of one link: in full where nothing stands between, on the diagonal across one activation."""
    has_bias = weights[link.first][1] is not None
    if link.between == ("activation",):
        metrics: tuple[str, ...] = ("balancedness_diagonal",)
    else:
        metrics = ("balancedness", "balancedness_bias") if has_bias else ("balancedness",)
    for metric in metrics:
        found = attempt(partial(_balance_of, metric, link, weights, graph))
        values = dict.fromkeys(NORMS, found) if isinstance(found, Undefined) else found
        for quantity in NORMS:
            yield _row(link.first, link.next, metric, quantity, values[quantity], None)
    if link.between != ("activation",):
        yield _aligned(link, weights, graph)


def _aligned(link: Link, weights: Weights, graph: TapGraph) -> WeightRow:
    def aligned() -> tuple[float, int]:
        _require_consecutive(link, weights, graph)
        n_classes = 1 if graph.last is None else graph.last.shape[0]
        return alignment(weights[link.first][0], weights[link.next][0], n_classes)

    found = attempt(aligned)
    value, j = (found, None) if isinstance(found, Undefined) else found
    return _row(link.first, link.next, "alignment", "", value, j)


def _balance_of(metric: str, link: Link, weights: Weights, graph: TapGraph) -> Mapping[str, float | Undefined]:
    first, following = _require_consecutive(link, weights, graph, across=metric == "balancedness_diagonal")
    if metric == "balancedness":
        return balance(first, following)
    bias = weights[link.first][1]
    b = None if bias is None else _finite(bias, f"{link.first} has a non-finite bias")
    return (balance if metric == "balancedness_bias" else balance_diagonal)(first, following, b)


def _require_consecutive(
    link: Link, weights: Weights, graph: TapGraph, *, across: bool = False
) -> tuple[Float64[np.ndarray, "n m"], Float64[np.ndarray, "p k"]]:
    """Return the two linear maps of a link as matrices that fit; Undefined where something stands between.

    With `across` something may stand between.
    """
    if link.between and not across:
        raise Undefined(f"{' and '.join(link.between)} between the two maps")
    first, following = _matrix(link.first, weights, graph), _matrix(link.next, weights, graph)
    if len(first) != following.shape[1]:
        raise Undefined(f"the first map writes {len(first)} numbers where the next reads {following.shape[1]}")
    return first, following


def _single(name: str, weights: Weights, graph: TapGraph) -> Iterator[WeightRow]:
    try:
        with computable():
            W = _matrix(name, weights, graph)
            found = condition(W, storage_tolerance(W, str(weights[name][0].dtype)))
    except Undefined as why:
        for quantity in SIZES:
            yield _row(name, "", "weight_condition", quantity, why, None)
        return
    for quantity in SIZES:
        yield _row(name, "", "weight_condition", quantity, getattr(found, quantity), found.rank)


def _head(weights: Weights, graph: TapGraph) -> Iterator[WeightRow]:
    """Yield the linear head as one linear map.

    In a head without a middle this is the last linear map itself.
    """
    if not graph.head:
        return
    name = joined(graph.head[0], graph.head[-1] if len(graph.head) > 1 else "")
    try:
        with computable():
            maps = [_matrix(m, weights, graph) for m in graph.head]
            tolerances = [storage_tolerance(W, str(weights[m][0].dtype)) for m, W in zip(graph.head, maps, strict=True)]
            product = condition(*_product(maps, tolerances))
            last = condition(maps[-1], tolerances[-1])
    except Undefined as why:
        for quantity in ("condition", "root", "last"):
            yield _row(name, "", "head_condition", quantity, why, None)
        return
    yield _row(name, "", "head_condition", "condition", product.condition, product.rank)
    yield _row(name, "", "head_condition", "root", product.condition ** (1 / len(maps)), product.rank)
    yield _row(name, "", "head_condition", "last", last.condition, last.rank)


def _norm_spread(weights: Weights, graph: TapGraph) -> Iterator[WeightRow]:
    """Yield the spread of the linear maps whose scale goes through to the output unchanged.

    No linear map after them adds a bias, but the last.
    """
    if len(graph.maps) < 2:
        return
    free = list(graph.maps)
    biased = [i for i, m in enumerate(free[:-1]) if weights[m.name][1] is not None]
    free = free[biased[-1] + 1 :] if biased else free
    scaleless = {link.first for link in graph.links if "normalisation" in link.between}
    free = [m for m in free if m.name not in scaleless]
    name = joined(free[0].name, free[-1].name) if free else ""

    def spread() -> float:
        if len(free) < 2:
            raise Undefined("fewer than two maps without a bias of their own or after them, and without normalisation")
        odd = {kind for link in graph.links for kind in link.between} & {"residual", "attention"}
        if odd:
            raise Undefined(f"{' and '.join(sorted(odd))} between maps: their sizes need not agree")
        if len({m.weight for m in graph.maps}) < len(graph.maps):
            raise Undefined("maps share a weight: their sizes need not agree")
        maps = [_finite(weights[m.name][0], f"{m.name} has non-finite weights") for m in free]
        if not any(W.any() for W in maps):
            raise Undefined("all maps are zero")
        return norm_spread(maps)

    yield _row(name or graph.maps[-1].name, "", "norm_spread", "", attempt(spread), None)


def _product(
    maps: Sequence[Float64[np.ndarray, "_ _"]], tolerances: Sequence[float]
) -> tuple[Float64[np.ndarray, "n m"], float]:
    """Return W_L…W_{L1+1} up to scale, and its tolerance.

    A rounding of one linear map comes out scaled by the norms of the others.

    κ has no unit, and powers of two cost no digit: so linear maps near norm 1 are multiplied, and nothing overflows.
    """
    sizes = [2.0 ** min(float(np.frexp(operator_norm(W))[1]), 1023.0) for W in maps]
    maps = [W / size for W, size in zip(maps, sizes, strict=True)]
    tolerances = [tolerance / size for tolerance, size in zip(tolerances, sizes, strict=True)]
    product = maps[-1]
    for W in reversed(maps[:-1]):  # from the narrow end
        product = product @ W
    norms = [operator_norm(W) for W in maps]
    return product, float(
        sum(t * np.prod([n for j, n in enumerate(norms) if j != i]) for i, t in enumerate(tolerances))
    )


def _matrix(name: str, weights: Weights, graph: TapGraph) -> Float64[np.ndarray, "n m"]:
    """Return the weight of a linear map as a float64 matrix; Undefined where it is none."""
    kind, W = graph.map(name).kind, weights[name][0]
    if kind != "linear" or W.ndim != 2:
        raise Undefined(f"{name} is {'an' if kind == 'embedding' else 'a'} {kind}, not a matrix")
    return _finite(W, f"{name} has non-finite weights")


def _finite(array: Float[np.ndarray, "..."], otherwise: str) -> Float64[np.ndarray, "..."]:
    """Return an array as float64; Undefined where something in it is not finite."""
    exact = array.astype(np.float64)
    if not np.isfinite(exact).all():
        raise Undefined(otherwise)
    return exact


def _row(
    map_name: str, next_map: str, metric: str, quantity: str, value: float | Undefined, rank: int | None
) -> WeightRow:
    if not isinstance(value, Undefined) and not np.isfinite(value):
        value = Undefined("not a finite number")
    return WeightRow(
        map=map_name,
        next_map=next_map,
        metric=metric,
        quantity=quantity,
        value=None if isinstance(value, Undefined) else value,
        rank=rank,
        reason=str(value) if isinstance(value, Undefined) else "",
    )
