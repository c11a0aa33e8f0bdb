"""NC1: how far samples stray from their class mean, against how far the class means lie apart.

In: a LayerView. Out: one number a metric, 0 at collapse.
"""

import numpy as np

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView
from ncscan.statistics import Rank, between, centred_rank


def nc1_pinv(view: LayerView) -> float:
    """Within-class scatter in units of the between-class scatter, direction by direction: tr(Σ_W Σ_B⁺)/K.

    Σ_B⁺ inverts the at most K−1 directions of the centred class means that stand above the storage precision, so
    nothing of Σ_W outside their span counts.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse. Not changed by any scaling or rotation of the features.

    Raises: Undefined when a class has no samples or the class means coincide.

    Source: Papyan, Han and Donoho 2020; Zhu et al. 2021; Kothapalli 2023.
    """
    stats = view.stats
    squares, axes = between(stats, view.weighting)
    within = np.einsum("kr,rs,ks->k", axes, stats.projected, axes) / stats.n_samples  # diagonal of Σ_W in those axes
    return float(np.sum(within / squares) / stats.n_classes)


def nc1_trace(view: LayerView) -> float:
    """Total within-class variance over total between-class variance: tr Σ_W / tr Σ_B.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse. One direction with much noise counts as much as many with little.

    Raises: Undefined when a class has no samples or the class means coincide.

    Source: Tirer and Bruna 2022; Jacot, Súkeník, Wang and Mondelli 2024 (their NC1).
    """
    stats = view.stats
    squares, _ = between(stats, view.weighting)
    return float(stats.within.sum() / stats.n_samples / squares.sum())


def cdnv(view: LayerView) -> float:
    """Class-distance normalised variance: mean over c ≠ c' of (v_c + v_c')/(2‖μ_c − μ_c'‖²).

    v_c is the mean of ‖h − μ_c‖² over class c.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse.

    Raises: Undefined when a class has no samples or two class means coincide.

    Source: Galanti, György and Hutter 2021.
    """
    stats = view.stats
    stats.require_every_class()
    v = stats.within / stats.counts
    a = stats.coordinates
    one, other = np.triu_indices(len(a), k=1)
    distances = _pair_distances(a)[one, other]
    if (distances <= stats.tolerance).any():
        pair = int(np.argmin(distances))
        raise Undefined(f"the means of classes {one[pair]} and {other[pair]} coincide")
    return float(np.mean((v[one] + v[other]) / (2 * distances**2)))


def means_rank(view: LayerView) -> Rank:
    """The rank of M̃, on which Σ_B⁺ rests."""
    return centred_rank(view.stats, view.weighting)


def _pair_distances(a: np.ndarray) -> np.ndarray:
    """‖a_c − a_c'‖ from differences, because the Gram form loses all digits of two means that are close."""
    return np.stack([np.linalg.norm(a - row, axis=1) for row in a])
