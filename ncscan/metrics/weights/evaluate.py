"""Measures of the weights alone: balance of consecutive linear maps, conditioning of maps and of the linear head.

In: weights and biases by the name of their map, and the graph that says which map feeds which. Out: WeightRow, one
per number. Which maps are consecutive, and what stands between, comes from the traced pass, never from names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Float64
from scipy.sparse.linalg import LinearOperator, eigsh

from ncscan.computable import attempt, computable
from ncscan.errors import Undefined
from ncscan.layer_graph import Link, TapGraph, joined
from ncscan.metrics.head_readers import Weights
from ncscan.metrics.weights.consecutive_maps import alignment, norm_spread
from ncscan.metrics.weights.table import WEIGHT_METRICS
from ncscan.statistics import HOLDS_FOURTH_POWERS, storage_tolerance, true_value, unit_exponent

__all__ = [
    "NORMS",
    "SIZES",
    "WEIGHT_METRICS",
    "Condition",
    "WeightRow",
    "Weights",
    "alignment",
    "balance",
    "balance_diagonal",
    "condition",
    "measure_weights",
    "norm_spread",
]

_WIDEST_DENSE = 4096
"""Up to this width D is formed; beyond it only its products with vectors are."""


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


@dataclass(frozen=True)
class Condition:
    """The sizes of a matrix over its non-zero singular values."""

    condition: float
    s_1: float
    s_r: float
    stable_rank: float
    fro: float
    rank: int


NORMS = ("op", "fro", "op_relative", "fro_relative")
"""The quantities of the balancedness of a pair."""

SIZES = ("condition", "s_1", "s_r", "stable_rank", "fro")
"""The quantities of a single linear map."""


def measure_weights(weights: Weights, graph: TapGraph) -> list[WeightRow]:
    """Return every measure of the weights of a traced model: pairs, single linear maps, the head, then all together."""
    rows = [row for link in graph.links for row in _pair(link, weights, graph)]
    rows += [row for linear_map in graph.maps for row in _single(linear_map.name, weights, graph)]
    return rows + list(_head(weights, graph)) + list(_norm_spread(weights, graph))


def balance(
    first: Float64[np.ndarray, "n m"],
    following: Float64[np.ndarray, "p n"],
    bias: Float64[np.ndarray, "n"] | None = None,
) -> dict[str, float | Undefined]:
    """Return the imbalance of two consecutive linear maps: norms of D = W₂ᵀW₂ − W₁W₁ᵀ − b₁b₁ᵀ, raw and relative.

    Args:
        first: W₁ (n, m).
        following: W₂ (p, n), which reads what W₁ writes.
        bias: b₁ (n,), where it counts.

    Returns: `op`, `fro` in the unit of squared weights; `op_relative`, `fro_relative` divided by the smaller of the
        norms of W₂ᵀW₂ and W₁W₁ᵀ, Undefined where one of them is zero. All 0 under exact balance.

    Source: Arora, Cohen and Hazan 2018; Jacot, Súkeník, Wang and Mondelli 2024.

    >>> W = np.array([[2.0, 0.0], [0.0, 1.0]])
    >>> balance(W, W.T)["op"], balance(W, np.eye(2))["fro"]
    (0.0, 3.0)
    """
    first, following, bias, exponent = _in_one_unit(first, following, bias)
    incoming = first if bias is None else np.column_stack([first, bias])  # W₁W₁ᵀ + b₁b₁ᵀ is one Gram matrix
    op, fro = _difference_norms(following, incoming)
    terms_op = min(_operator_norm(following) ** 2, _operator_norm(first) ** 2)
    terms_fro = min(_gram_norm(following), _gram_norm(first.T))
    return _with_relative(op, fro, terms_op, terms_fro, exponent)


def balance_diagonal(
    first: Float64[np.ndarray, "n m"],
    following: Float64[np.ndarray, "p n"],
    bias: Float64[np.ndarray, "n"] | None = None,
) -> dict[str, float | Undefined]:
    """Return the unit-wise imbalance of two linear maps around a ReLU: norms of diag(W₂ᵀW₂ − W₁W₁ᵀ − b₁b₁ᵀ).

    A ReLU between the two linear maps lets gradient flow conserve the diagonal of D alone.

    Args:
        first: W₁ (n, m).
        following: W₂ (p, n), which reads the n units that W₁ writes.
        bias: b₁ (n,), where it counts.

    Returns: `op`, the largest absolute entry, and `fro`, the Euclidean norm, in the unit of squared weights;
        `op_relative`, `fro_relative` divided by the smaller of those norms of the diagonals of W₂ᵀW₂ and W₁W₁ᵀ, each
        Undefined where one of them is zero. All 0 under exact balance.

    Source: Du, Hu and Lee 2018 (what is conserved, without biases); derived for b₁.

    >>> balance_diagonal(np.array([[3.0], [1.0]]), np.array([[1.0, 1.0]]))["op"]
    8.0
    """
    first, following, bias, exponent = _in_one_unit(first, following, bias)
    outgoing, incoming = (following**2).sum(axis=0), (first**2).sum(axis=1)
    d = outgoing - incoming - (0.0 if bias is None else bias**2)
    terms = (outgoing, incoming)
    return _with_relative(
        float(np.abs(d).max()),
        float(np.linalg.norm(d)),
        float(min(t.max() for t in terms)),
        float(min(np.linalg.norm(t) for t in terms)),
        exponent,
    )


def _in_one_unit(
    first: Float64[np.ndarray, "n m"],
    following: Float64[np.ndarray, "p n"],
    bias: Float64[np.ndarray, "n"] | None,
) -> tuple[Float64[np.ndarray, "n m"], Float64[np.ndarray, "p n"], Float64[np.ndarray, "n"] | None, int]:
    """Return the same arrays in the unit 2^exponent, and the exponent.

    In that unit fourth powers of the largest stay in float64.

    Undefined where no unit can hold the squares of both linear maps.
    """
    sizes = [float(np.abs(x).max(initial=0.0)) for x in (first, following)]
    own = 0.0 if bias is None else float(np.abs(bias).max(initial=0.0))
    exponent = unit_exponent(max(*sizes, own))
    least = min((size for size in sizes if size), default=1.0)
    if unit_exponent(least) != exponent and least < max(*sizes, own) / HOLDS_FOURTH_POWERS:
        raise Undefined("weights of the pair differ in size by more than float64 can square")
    if not exponent:
        return first, following, bias, 0
    bias = None if bias is None else np.ldexp(bias, -exponent)
    return np.ldexp(first, -exponent), np.ldexp(following, -exponent), bias, exponent


def _with_relative(
    op: float, fro: float, terms_op: float, terms_fro: float, exponent: int
) -> dict[str, float | Undefined]:
    zero = Undefined("a map is zero: nothing to be relative to")
    return {
        "op": attempt(lambda: true_value(op, 2 * exponent)),
        "fro": attempt(lambda: true_value(fro, 2 * exponent)),
        "op_relative": op / terms_op if terms_op else zero,
        "fro_relative": fro / terms_fro if terms_fro else zero,
    }


def _difference_norms(A: Float64[np.ndarray, "p n"], B: Float64[np.ndarray, "n m"]) -> tuple[float, float]:
    """Return ‖AᵀA − BBᵀ‖ and ‖AᵀA − BBᵀ‖_F."""
    n = len(B)
    if n <= _WIDEST_DENSE:
        D = A.T @ A - B @ B.T
        return float(np.abs(np.linalg.eigvalsh(D)).max()), float(np.linalg.norm(D))
    # Too wide to form. The Frobenius norm comes from rows of D at a time, the operator norm from products with vectors.
    squares = sum(float(np.linalg.norm(A.T[i : i + 1024] @ A - B[i : i + 1024] @ B.T) ** 2) for i in range(0, n, 1024))
    D = LinearOperator((n, n), matvec=lambda v: A.T @ (A @ v) - B @ (B.T @ v), dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    largest = eigsh(D, k=1, which="LM", v0=start, tol=1e-10, return_eigenvectors=False)
    return float(np.abs(largest[0])), float(np.sqrt(squares))


def _operator_norm(W: Float64[np.ndarray, "n m"]) -> float:
    return float(np.linalg.norm(W, 2))


def _gram_norm(A: Float64[np.ndarray, "p n"]) -> float:
    """Return ‖AᵀA‖_F, from the smaller of AᵀA and AAᵀ."""
    return float(np.linalg.norm(A @ A.T if len(A) <= A.shape[1] else A.T @ A))


def condition(W: Float64[np.ndarray, "n m"], tolerance: float) -> Condition:
    """Return κ(W) = s_1/s_r over the r singular values above the tolerance.

    Args:
        W: any matrix (n, m).
        tolerance: what rounding alone can give a singular value: `storage_tolerance` of precision.py.

    Returns: κ ≥ 1, no unit, 1 where the r singular values are equal (a linear head at collapse); its rank r; s_1, s_r
        and ‖W‖_F in the unit of the weights; the stable rank ‖W‖_F²/‖W‖² in [1, r].

    Raises: Undefined when no singular value is above the tolerance, or W is not finite.

    Source: Jacot, Súkeník, Wang and Mondelli 2024.

    >>> condition(np.diag([3.0, 1.5, 0.0]), 1e-9).condition
    2.0
    """
    if not np.isfinite(W).all():
        raise Undefined("the map is not finite")
    exponent = unit_exponent(float(np.abs(W).max(initial=0.0)))
    W, tolerance = np.ldexp(W, -exponent) if exponent else W, float(np.ldexp(tolerance, -exponent))
    s = np.linalg.svd(W, compute_uv=False)
    rank = int((s > tolerance).sum())
    if rank == 0:
        raise Undefined("the map is zero")
    square = float((W**2).sum())
    return Condition(
        condition=float(s[0] / s[rank - 1]),
        s_1=true_value(s[0], exponent),
        s_r=true_value(s[rank - 1], exponent),
        stable_rank=square / float(s[0]) ** 2,
        fro=true_value(np.sqrt(square), exponent),
        rank=rank,
    )


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
    sizes = [2.0 ** min(float(np.frexp(_operator_norm(W))[1]), 1023.0) for W in maps]
    maps = [W / size for W, size in zip(maps, sizes, strict=True)]
    tolerances = [tolerance / size for tolerance, size in zip(tolerances, sizes, strict=True)]
    product = maps[-1]
    for W in reversed(maps[:-1]):  # from the narrow end
        product = product @ W
    norms = [_operator_norm(W) for W in maps]
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
