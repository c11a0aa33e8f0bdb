"""NC3: whether the rows of the classifier point where the class means point.

In: a LayerView with the linear map that reads the layer and writes the logits. Out: one number a metric.
"""

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.metrics.frame import matrix_etf_distance
from ncscan.metrics.view import LayerView, Value
from ncscan.statistics import LayerStats


def nc3_distance(view: LayerView) -> float:
    """Distance of the classifier from the centred class means, both of norm 1: ‖Wᵀ/‖W‖_F − M̃/‖M̃‖_F‖_F.

    Args:
        view: the layer that the last linear map reads.

    Returns: in [0, 2]; 0 at collapse, √2 (rms) for unrelated directions.

    Raises: Undefined when a class has no samples, the class means coincide, or W is zero or not finite.

    Source: Papyan, Han and Donoho 2020 (who plot its square); Rangamani and Banburski-Fahey 2022.
    """
    stats = view.stats
    W, M = _nonzero(view), stats.means - stats.global_mean(view.weighting)
    if np.linalg.norm(stats.centred(view.weighting)) <= stats.tolerance:
        raise Undefined("the class means coincide, as far as the storage precision can tell")
    return float(np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)))


def nc3_etf(view: LayerView) -> float:
    """Distance of the logits of the centred class means from a simplex: ‖W M̃/‖W M̃‖_F − ETF_K‖_F.

    Args:
        view: the layer that the last linear map reads.

    Returns: in [0, 2]; 0 at collapse, √2 (rms) for unrelated directions.

    Raises: Undefined when a class has no samples, W sees nothing of the class means, or W is not finite.

    Source: Zhu et al. 2021; Kothapalli 2023.
    """
    stats = view.stats
    W = _nonzero(view)
    product = W @ stats.basis.T @ stats.centred(view.weighting).T
    if np.linalg.norm(product) <= np.linalg.norm(W) * stats.tolerance:
        raise Undefined("the classifier sees nothing of the centred class means")
    return matrix_etf_distance(product)


def nc3_cosine(view: LayerView) -> Value:
    """Alignment of features with their row of the classifier, not centred: (1/N) Σ_i cos(h_i, W_{y_i}).

    Quantity `samples` is the formula; `means` is the same over class means, (1/K) Σ_c cos(μ_c, W_c).

    Args:
        view: the layer that the last linear map reads.

    Returns: both in [−1, 1]; 1 at collapse.

    Raises: Undefined when a row of W, a sample or a class mean is zero, or W is not finite.

    Source: Jacot, Súkeník, Wang and Mondelli 2024 (their NC3).
    """
    W, stats = view.rows, view.stats
    stats.require_every_class()
    zero = np.flatnonzero(np.linalg.norm(W, axis=1) == 0)
    if len(zero):
        raise Undefined(f"row {zero[0]} of the classifier is zero: it has no direction")
    return {"samples": _sample_cosine(stats), "means": _mean_cosine(W, stats)}


def _sample_cosine(stats: LayerStats) -> float | Undefined:
    if stats.cosines is None:
        return Undefined("the activations were accumulated without the classifier")
    if stats.zero_samples:
        return Undefined(f"{stats.zero_samples} samples have all activations zero: no direction")
    return float(stats.cosines.sum() / stats.n_samples)


def _mean_cosine(W: Float64[np.ndarray, "K d"], stats: LayerStats) -> float | Undefined:
    M = stats.means
    norms = np.linalg.norm(M, axis=1)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        return Undefined(f"the mean of class {zero[0]} is zero: no direction")
    return float(np.mean(np.einsum("kd,kd->k", W, M) / norms / np.linalg.norm(W, axis=1)))


def _nonzero(view: LayerView) -> np.ndarray:
    W = view.rows
    if np.linalg.norm(W) == 0:
        raise Undefined("the classifier is zero")
    return W
