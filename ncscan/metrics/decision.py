"""NC4, and how well the network does: decisions by the nearest class mean, by the network, and the truth.

In: a LayerView, or logits and labels. Out: fractions of samples, losses.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int64

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView
from ncscan.resolution import true_value, unit_exponent
from ncscan.statistics import LayerStats, require_extent

_BLOCK_NUMBERS = 2**22
"""Logits at once: 32 MiB."""


def ncc_error(view: LayerView) -> float:
    """Error of the nearest class centre: P[y ≠ argmin_c ‖h − μ_c‖].

    Classes without samples have no mean, so no sample is nearest to them; among equal distances the lowest class wins.

    Args:
        view: any layer.

    Returns: in [0, 1]; 0 at collapse.

    Raises: Undefined when all samples are one point, or float64 sums cannot tell two class means apart that are not
        equal.

    Source: Papyan, Han and Donoho 2020; Galanti, György and Hutter 2021.
    """
    stats = view.stats
    require_apart(stats)
    return float((stats.n_samples - stats.right.sum()) / stats.n_samples)


def nc4_mismatch(view: LayerView) -> float:
    """How often the network and the nearest class centre disagree: P[argmax_c f_c ≠ argmin_c ‖h − μ_c‖].

    The network's decision is the argmax of its real logits, bias included.

    Args:
        view: any layer, with the network's decisions.

    Returns: in [0, 1]; 0 at collapse.

    Raises: Undefined when the network's decisions are not known, its logits are not finite, or `ncc_error` is.

    Source: Papyan, Han and Donoho 2020.
    """
    if view.decisions_obstacle:
        raise Undefined(view.decisions_obstacle)
    disagreements = view.stats.disagreements
    if disagreements is None:
        raise Undefined("the network's decisions are not known")
    require_apart(view.stats)
    return float(disagreements.sum() / view.stats.n_samples)


def require_apart(stats: LayerStats) -> None:
    """Undefined where which of two means is nearer is rounding: one point, a far offset, or another class far away."""
    require_extent(stats)
    (one, other), means = stats.crowding.pair, stats.means
    if not len(stats.basis):  # all are as near to each other: the first two that are not equal
        others = np.flatnonzero((means != means[0]).any(axis=1))
        one, other = (0, int(others[0])) if len(others) else (one, other)
    rounding = stats.with_drift(16 * np.finfo(np.float64).eps * float(np.linalg.norm(means)))
    unlike = (means[one] != means[other]).any() or 0 < stats.within.sum() <= stats.n_samples * rounding**2
    if stats.crowding.distance <= rounding and unlike:
        one, other = stats.classes[[one, other]]
        raise Undefined(f"the means of classes {one} and {other} differ by no more than rounding of float64 sums")


def training_error(logits: Float[np.ndarray, "N K"], labels: Int64[np.ndarray, "N"]) -> float:
    """Fraction of samples whose largest logit is not that of their label: P[y ≠ argmax_c f_c].

    Among equal logits the lowest class wins.

    Args:
        logits: f (N, K), what the network gives.
        labels: y (N,), classes 0 … K−1.

    Returns: in [0, 1]; 0 at collapse, which begins where it reaches 0 on the training set.

    Raises: Undefined when a logit is not finite.

    Source: Papyan, Han and Donoho 2020 (the terminal phase of training).

    >>> training_error(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0]))
    0.5
    """
    _require_finite(logits)
    return float(np.mean(np.argmax(logits, axis=1) != labels))


def mean_squared_error(logits: Float[np.ndarray, "N K"], labels: Int64[np.ndarray, "N"]) -> float:
    """Squared distance of the logits from one-hot labels: mean over i, c of (f_c − 1[c = y])².

    That is what torch's MSELoss gives: 1/K of the mean squared norm, without a factor ½ and without weight decay.

    Args:
        logits: f (N, K), what the network gives.
        labels: y (N,), classes 0 … K−1.

    Returns: ≥ 0, in squared units of the logits; 0 at collapse only where weight decay lets them reach their labels.

    Raises: Undefined when a logit is not finite, or the value exceeds float64.

    Source: Rangamani and Banburski-Fahey 2022, whose loss is K/2 times this.

    >>> mean_squared_error(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    0.25
    """
    _require_finite(logits)
    largest = max(logits.max(initial=0.0), -logits.min(initial=0.0))
    exponent, squares = max(unit_exponent(float(largest)), 0), 0.0
    for rows in _blocks(logits):
        off = np.ldexp(logits[rows].astype(np.float64), -exponent)
        off[np.arange(len(off)), labels[rows]] -= np.ldexp(1.0, -exponent)
        squares += float(np.vdot(off, off))
    return true_value(squares / logits.size, 2 * exponent)


def cross_entropy(logits: Float[np.ndarray, "N K"], labels: Int64[np.ndarray, "N"]) -> float:
    """Negative log-likelihood of the labels under the softmax of the logits: mean over i of log Σ_c exp(f_c) − f_y.

    Args:
        logits: f (N, K), what the network gives.
        labels: y (N,), classes 0 … K−1.

    Returns: ≥ 0, in nats, log K for equal logits; 0 only in the limit of infinite logits, so positive at collapse.

    Raises: Undefined when a logit is not finite.

    Source: Papyan, Han and Donoho 2020, who train with it.

    >>> round(cross_entropy(np.array([[0.0, 0.0]]), np.array([0])), 6)
    0.693147
    """
    _require_finite(logits)
    losses = np.empty(len(logits))
    for rows in _blocks(logits):
        shifted = logits[rows].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        own = shifted[np.arange(len(shifted)), labels[rows]]
        losses[rows] = np.log(np.exp(shifted, out=shifted).sum(axis=1)) - own
    return float(np.mean(losses))


def logits_obstacle(logits: Float[np.ndarray, "N K"]) -> str:
    """Why the network decides nothing for some samples: their logits are not finite. Empty where all are.

    >>> logits_obstacle(np.array([[0.0, 1.0], [np.nan, 1.0]]))
    '1 samples have non-finite logits, first in sample 1'
    """
    finite = [np.isfinite(logits[rows]).all(axis=1) for rows in _blocks(logits)]
    bad = np.flatnonzero(~np.concatenate(finite)) if finite else np.zeros(0, np.int64)
    return f"{len(bad)} samples have non-finite logits, first in sample {bad[0]}" if len(bad) else ""


def _blocks(logits: Float[np.ndarray, "N K"]) -> Iterator[slice]:
    """Some samples at a time: what is computed of all logits of thousands of classes takes no more memory than they."""
    step = max(1, _BLOCK_NUMBERS // logits.shape[1])
    for start in range(0, len(logits), step):
        yield slice(start, start + step)


def _require_finite(logits: Float[np.ndarray, "N K"]) -> None:
    obstacle = logits_obstacle(logits)
    if obstacle:
        raise Undefined(obstacle)
