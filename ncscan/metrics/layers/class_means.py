"""NC2: how close the class means are to a simplex of equal lengths and equal angles.

In: a LayerView. Out: one number a metric; 0 at collapse, for the condition number 1.
"""

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView, Metric, Value
from ncscan.statistics import (
    Rank,
    distance_blocks,
    fits_a_block,
    mean_singular_values,
    not_above_diagonal,
    product_blocks,
    require_room,
)


def nc2_equinorm(view: LayerView) -> float:
    """Return the spread of the lengths of the centred class means: std_c‖μ̃_c‖ / mean_c‖μ̃_c‖, with ddof 1.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse.

    Raises: Undefined when the class means coincide, or K = 2 with class weighting.

    Source: Papyan, Han and Donoho 2020.
    """
    return equinorm(_centred(view))


def nc2_equiangular(view: LayerView) -> float:
    """Return the mean distance of the angles from those of a simplex: mean over c ≠ c' of |cos(μ̃_c, μ̃_c') + 1/(K−1)|.

    Args:
        view: any layer.

    Returns: in [0, 1 + 1/(K−1)]; 0 at collapse.

    Raises: Undefined when a class sits at the global mean, d < K − 1, or K = 2.

    Source: Papyan, Han and Donoho 2020.
    """
    require_room(view.stats.n_features, view.stats.n_classes)
    return equiangular(centred_directions(view))


def nc2_etf(view: LayerView) -> float:
    """Return the distance of the Gram matrix of the centred class means from a simplex: ‖M̃ᵀM̃/‖M̃ᵀM̃‖_F − ETF_K‖_F.

    ETF_K = (I − 11ᵀ/K)/√(K−1), of norm 1.

    Args:
        view: any layer.

    Returns: in [0, √2]; 0 at collapse. Random means in a wide layer read √(2 − 2/√(1+K/d)).

    Raises: Undefined when the class means coincide, d < K − 1, or K = 2 with class weighting.

    Source: Zhu et al. 2021; Kothapalli 2023.
    """
    require_room(view.stats.n_features, view.stats.n_classes)
    return etf_distance(_centred(view))


def nc2_etf_unit(view: LayerView) -> float:
    """Return the same distance for directions alone, class means scaled to length 1: ‖ÛᵀÛ/‖ÛᵀÛ‖_F − ETF_K‖_F.

    Args:
        view: any layer.

    Returns: in [0, √2]; 0 at collapse, also where lengths differ.

    Raises: Undefined when a class sits at the global mean, d < K − 1, or K = 2.

    Source: Súkeník, Mondelli and Lampert 2023 (deep neural collapse).
    """
    require_room(view.stats.n_features, view.stats.n_classes)
    return etf_distance(centred_directions(view))


def nc2_orthogonal(view: LayerView) -> float:
    """Return the distance of MᵀM from an orthogonal frame, not centred: ‖MᵀM/‖MᵀM‖_F − I/√K‖_F.

    MᵀM is the Gram matrix of the class means.

    Args:
        view: any layer.

    Returns: in [0, √2]; 0 at collapse after a ReLU. Random means in a wide layer read √(2 − 2/√(1+(K+1)/d)).

    Raises: Undefined when all class means are zero, or d < K.

    Source: Jacot, Súkeník, Wang and Mondelli 2024; Tirer and Bruna 2022 (features after a ReLU).
    """
    stats = view.stats
    K, d = stats.n_classes, stats.n_features
    if d < K:
        raise Undefined(f"d = {d} < K = {K}: no orthogonal frame fits")
    size = np.abs(stats.means).max()
    if np.linalg.norm(stats.means / size if size else stats.means) * size <= stats.tolerance:
        raise Undefined("the class means are zero, as far as the storage precision can tell")
    return product_distance(stats.means, stats.means, 1 / np.sqrt(K), 0.0)


def gnc2_uniformity(view: LayerView) -> Value:
    """Return how evenly the classes' directions share the sphere: log(1/‖û_c − û_c'‖) over c < c', û = μ̃/‖μ̃‖.

    Quantities `mean` and `var` (ddof 0). It is what can be asked where d < K − 1 and no simplex fits.

    Args:
        view: any layer.

    Returns: mean ≥ −½ log(2K/(K−1)), its value on a simplex; var ≥ 0, and 0 on a simplex.

    Raises: Undefined when a class sits at the global mean, two lie in one direction but for rounding, or K = 2.

    Source: Liu et al. 2023; Wu and Papyan 2024.
    """
    unit, classes = centred_directions(view), view.stats.classes
    # A direction is known to the rounding of its mean, over its length.
    known = view.stats.tolerance / np.linalg.norm(view.stats.centred(view.weighting), axis=1)
    parts: list[tuple[int, float, float]] = []
    for start, distances in distance_blocks(unit):
        distances[not_above_diagonal(distances)] = np.inf  # each pair once
        close = distances <= np.maximum(known[start : start + len(distances), None], known[start:])
        if close.any():
            one, other = start + np.argwhere(close)[0]
            raise Undefined(f"classes {classes[one]} and {classes[other]} lie in one direction")
        apart = distances[np.isfinite(distances)]
        if len(apart):  # the last row has no pair left
            logs = -np.log(apart)
            parts.append((len(logs), float(logs.mean()), float(logs.var())))
    n, mean, var = np.array(parts).T
    whole = float(n @ mean / n.sum())
    return {"mean": whole, "var": float(n @ (var + (mean - whole) ** 2) / n.sum())}


def nc2_condition(view: LayerView) -> float:
    """Return the condition number of the class means, not centred: κ(M) = s_1/s_K.

    Args:
        view: any layer.

    Returns: ≥ 1, no unit; 1 for orthogonal means of one length.

    Raises: Undefined when fewer than K singular values stand above the storage precision, so that κ is infinite.

    Source: Jacot, Súkeník, Wang and Mondelli 2024 (their NC2).
    """
    s, rank = mean_singular_values(view.stats)
    if rank < view.stats.n_classes:
        raise Undefined(f"infinite: the class means have rank {rank} < {view.stats.n_classes}")
    return float(s[0] / s[-1])


def uncentred_rank(view: LayerView) -> Rank:
    """Return the rank of M."""
    return Rank(mean_singular_values(view.stats)[1], certain=True)


def equinorm(vectors: Float64[np.ndarray, "K n"]) -> float:
    """Return the spread of the lengths of K vectors: std_c‖v_c‖ / mean_c‖v_c‖, with ddof 1.

    Args:
        vectors: (K, n), one a row, not all zero.

    Returns: in [0, √K], no unit; 0 at collapse.

    Source: Papyan, Han and Donoho 2020.

    >>> round(equinorm(np.diag([1.0, 3.0])), 6)
    0.707107
    """
    norms = np.linalg.norm(vectors, axis=1)
    return float(np.std(norms, ddof=1) / np.mean(norms))


def equiangular(vectors: Float64[np.ndarray, "K n"]) -> float:
    """Return the mean distance of K directions from a simplex's angles: mean over c ≠ c' of |cos(v_c, v_c') + 1/(K−1)|.

    Args:
        vectors: (K, n), one a row, none zero.

    Returns: in [0, 1 + 1/(K−1)]; 0 at collapse.

    Source: Papyan, Han and Donoho 2020.

    >>> equiangular(np.eye(3))
    0.5
    """
    K = len(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    total = 0.0
    for start, cosines in product_blocks(unit, unit):
        off = np.abs(cosines + 1 / (K - 1))
        total += float(off.sum() - np.trace(off, offset=start))
    return total / (K * (K - 1))


def etf_distance(vectors: Float64[np.ndarray, "K n"]) -> float:
    """Return the distance of the Gram matrix of K vectors from a simplex: ‖VVᵀ/‖VVᵀ‖_F − ETF_K‖_F.

    Args:
        vectors: V (K, n), one a row, not all zero.

    Returns: in [0, √2]; 0 at collapse.

    Source: Zhu et al. 2021; Kothapalli 2023.

    >>> round(etf_distance(np.eye(10)), 6)
    0.320364
    """
    return cross_etf_distance(vectors, vectors)


def cross_etf_distance(a: Float64[np.ndarray, "K n"], b: Float64[np.ndarray, "K n"]) -> float:
    """Return the distance of the products of two sets of K vectors from a simplex: ‖abᵀ/‖abᵀ‖_F − ETF_K‖_F.

    Args:
        a: (K, n), one a row.
        b: (K, n); a bᵀ is not zero.

    Returns: in [0, 2]; 0 at collapse, √2 (rms) for unrelated directions.

    Source: Zhu et al. 2021; Kothapalli 2023.

    >>> cross_etf_distance(np.array([[-3.0], [3.0]]), np.array([[1.0], [-1.0]]))
    2.0
    """
    K = len(a)
    scale = 1 / np.sqrt(K - 1)
    return product_distance(a, b, (1 - 1 / K) * scale, -scale / K)


def product_distance(
    a: Float64[np.ndarray, "K n"], b: Float64[np.ndarray, "K n"], diagonal: float, off: float
) -> float:
    """Return ‖abᵀ/‖abᵀ‖_F − T‖_F, T of norm 1 with one number on its diagonal and one off it, block by block."""
    a, b = (x / np.abs(x).max() for x in (a, b))  # the norm of large entries overflows
    blocks = list(product_blocks(a, b)) if fits_a_block(len(a)) else None
    size = np.sqrt(sum(np.vdot(block, block) for _, block in blocks or product_blocks(a, b)))
    total = 0.0
    for start, block in blocks or product_blocks(a, b):
        block /= size
        at = np.arange(len(block))
        own = block[at, start + at] - diagonal
        block -= off
        block[at, start + at] = own
        total += np.vdot(block, block)
    return float(np.sqrt(total))


def centred_directions(view: LayerView) -> Float64[np.ndarray, "K r"]:
    """Return û_c = μ̃_c/‖μ̃_c‖; Undefined where one has no direction, or K = 2, where they always point apart."""
    stats = view.stats
    if stats.n_classes == 2:
        raise Undefined("trivial at K = 2")
    vectors = _centred(view)
    norms = np.linalg.norm(vectors, axis=1)
    at_centre = np.flatnonzero(norms <= stats.tolerance)
    if len(at_centre):
        raise Undefined(f"the mean of class {stats.classes[at_centre[0]]} is the global mean: it has no direction")
    unit: Float64[np.ndarray, "K r"] = vectors / norms[:, None]
    return unit


def _centred(view: LayerView) -> Float64[np.ndarray, "K r"]:
    """Return M̃, where it can differ from a simplex at all."""
    stats = view.stats
    vectors = stats.centred(view.weighting)
    if stats.n_classes == 2 and view.weighting == "class":
        raise Undefined("trivial at K = 2")
    if np.linalg.norm(vectors, axis=1).max() <= stats.tolerance:
        raise Undefined("the class means coincide, as far as the storage precision can tell")
    return vectors


CLASS_MEANS: tuple[Metric, ...] = (
    Metric(
        name="nc2_equinorm",
        function=nc2_equinorm,
        family="frame",
        formula="std_c‖μ̃_c‖ / mean_c‖μ̃_c‖",
        range="[0, √K]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ddof 1",
        source="Papyan, Han, Donoho 2020",
        reading="Whether all classes are equally far from the centre; imbalanced classes usually are not.",
        undefined="the class means coincide; K = 2 with class weighting (0 by construction)",
    ),
    Metric(
        name="nc2_equiangular",
        function=nc2_equiangular,
        family="frame",
        formula="mean over c≠c' of |cos(μ̃_c, μ̃_c') + 1/(K−1)|",
        range="[0, 1 + 1/(K−1)]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="",
        source="Papyan, Han, Donoho 2020",
        reading="Whether all classes are equally far from each other, seen from the centre.",
        undefined="the mean of a class is μ_G; d < K − 1; K = 2 (0 by construction)",
    ),
    Metric(
        name="nc2_etf",
        function=nc2_etf,
        family="frame",
        formula="‖M̃ᵀM̃/‖M̃ᵀM̃‖_F − ETF_K‖_F",
        range="[0, √2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ETF_K = (I − 11ᵀ/K)/√(K−1)",
        source="Zhu et al. 2021; Kothapalli 2023",
        reading="Lengths and angles in one number. Random means read √(2 − 2/√(1+K/d)): little in a wide layer.",
        undefined="the class means coincide; d < K − 1; K = 2 with class weighting",
    ),
    Metric(
        name="nc2_etf_unit",
        function=nc2_etf_unit,
        family="frame",
        formula="‖ÛᵀÛ/‖ÛᵀÛ‖_F − ETF_K‖_F, û = μ̃/‖μ̃‖",
        range="[0, √2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="each centred class mean first scaled to length 1",
        source="Súkeník, Mondelli, Lampert 2023",
        reading="Angles alone; beside nc2_etf it shows what unequal lengths add.",
        undefined="the mean of a class is μ_G; d < K − 1; K = 2 (0 by construction)",
    ),
    Metric(
        name="nc2_orthogonal",
        function=nc2_orthogonal,
        family="frame",
        formula="‖MᵀM/‖MᵀM‖_F − I/√K‖_F",
        range="[0, √2]",
        at_collapse="0",
        centred=False,
        convention="not centred: what features after a ReLU become",
        source="Tirer & Bruna 2022; Jacot, Súkeník, Wang, Mondelli 2024",
        reading="Lengths and right angles in one number. Random means read √(2 − 2/√(1+(K+1)/d)).",
        undefined="all class means are zero; d < K",
    ),
    Metric(
        name="nc2_condition",
        function=nc2_condition,
        family="frame",
        formula="κ(M) = s_1/s_K",
        range="[1, ∞)",
        at_collapse="1",
        centred=False,
        rank=uncentred_rank,
        convention="an infinite κ is said as rank < K",
        source="Jacot, Súkeník, Wang, Mondelli 2024 (their NC2)",
        reading="Whether the class means form an orthogonal frame, as features after a ReLU do at collapse.",
        undefined="the rank of M is under K",
    ),
    Metric(
        name="gnc2_uniformity",
        function=gnc2_uniformity,
        family="frame",
        quantities=("mean", "var"),
        formula="mean and variance over c<c' of log(1/‖û_c − û_c'‖), û = μ̃/‖μ̃‖",
        range="mean [−½ log(2K/(K−1)), ∞), var [0, ∞)",
        at_collapse="var 0",
        weighted=True,
        centred=True,
        convention="ddof 0",
        source="Liu et al. 2023; Wu & Papyan 2024",
        reading="How evenly classes share the sphere; it takes over where d < K − 1 and no simplex fits.",
        undefined="the mean of a class is μ_G; two classes lie in one direction; K = 2",
    ),
)
