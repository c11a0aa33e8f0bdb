"""Estimate how a number would vary with other samples of the same classes, by a bootstrap from summaries.

In: a LayerView, and a few numbers per sample of it (`PerSample`, O(N·K) in all). Out: percentile intervals. The model
is not run again, and no activation is read again: only this file resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.errors import Undefined
from ncscan.metrics import Classifier, Key, LayerView, bare, key_of, measure
from ncscan.statistics import Frame, LayerStats, PerSample, between

LEVEL = 0.95
"""The share of the resamples inside an interval; as much is cut off below as above."""

RESAMPLED = (
    *("nc1_pinv", "nc1_trace", "nc1_normalized", "cdnv", "separation"),
    *("nc2_equinorm", "nc2_equiangular", "nc2_etf", "nc2_etf_unit", "nc2_orthogonal", "nc2_condition"),
    *("gnc2_uniformity", "ncc_error", "nc4_mismatch"),
    *("nc3_distance", "nc3_etf", "nc3_cosine", "nc3_uniform"),
)
"""The measures that are functions of the summaries. Those of a spectrum, of zeros or of weights alone are not, nor is
`nc3_subspace`: it turns with the span of the means, and how that turns is not in the summaries."""

MOST_CLASSES = 1000
"""Up to so many classes there are resamples: each has some matrices of 3K columns, 300 MB there, and grows with K²."""

MOST_MOMENTS = 2000
"""Up to so many products p_a p_b a sample their sums are resampled; beyond (K > 63) tr(Σ_W Σ_B⁺) is linearised."""

_BLOCK_NUMBERS = 2**23
"""The number of weights at once: 64 MiB."""

_TINY = np.finfo(np.float64).tiny


class Interval(NamedTuple):
    """An interval in which LEVEL of the resamples lie."""

    low: float
    high: float


def bootstrap(view: LayerView, samples: PerSample, B: int, seed: int = 0) -> dict[Key, Interval]:
    """Return percentile intervals (95 %) of every measure in RESAMPLED that this layer has.

    Within each class, n_c samples are drawn with replacement, B times: as B × n_c multinomial weights, so that every
    sum over samples is a product of matrices, O(B·N·K) (with K²/2 products a sample up to K = 63). The measures
    themselves are then called on each resample, at a cost that does not know N.

    Exact where the features lie in the span of the centred class means. Elsewhere three things are approximated: the
    movement of a class mean outside that span is its expected square, at right angles to everything; noise within
    classes along that movement is left out of tr(Σ_W Σ_B⁺); and a sample keeps the class whose mean was nearest.

    Args:
        view: a layer.
        samples: of the same layer, from the second pass.
        B: how many resamples; 1,000 give two digits of an end.
        seed: the same seed draws the same samples in every layer.

    Returns: measures without a value in some resample have no interval.

    Raises: Undefined when there are more than MOST_CLASSES classes.

    Source: Efron 1979; percentile intervals within strata.
    """
    if too_many := many_classes(view.stats.n_classes):
        raise Undefined(too_many)
    drawn: dict[Key, list[float]] = {}
    for resample in resamples(view, samples, B, seed):
        for row in measure(resample, only=RESAMPLED):
            if row.value is not None:
                drawn.setdefault(key_of(row), []).append(row.value)
    tail = (1 - LEVEL) / 2
    return {
        key: Interval(*map(float, np.quantile(values, [tail, 1 - tail])))
        for key, values in drawn.items()
        if len(values) == B
    }


def many_classes(K: int) -> str:
    """Return why there are no resamples of so many classes, else empty."""
    return f"intervals are made for up to {MOST_CLASSES:,} classes, and there are {K:,}" if K > MOST_CLASSES else ""


def resamples(view: LayerView, samples: PerSample, B: int, seed: int) -> Iterator[LayerView]:
    """Yield the layer as each of B resamples shows it, up to a rotation of the features.

    Only lengths and angles matter to a measure, so the features of a resample are r + 1 + 2K: the span of the centred
    means; the direction of their centre outside it; one for the movement of each class mean outside it; and what is
    left of the classifier, which no mean sees.
    """
    stats = bare(view).stats
    if stats.obstacle:
        return
    K, r = stats.coordinates.shape
    centre = stats.means.mean(axis=0)
    outside = centre - stats.basis.T @ (stats.basis @ centre)
    length = float(np.linalg.norm(outside))
    if length <= 1e-12 * np.linalg.norm(centre):  # rounding has a length, but no direction of its own
        length, outside = 0.0, np.zeros_like(outside)
    direction = outside / length if length > 0 else outside
    home = np.hstack([stats.means @ stats.basis.T, np.full((K, 1), length), np.zeros((K, 2 * K))])
    moving = np.r_[:r, r + 1 : r + 1 + K]
    basis = np.eye(r + 1 + 2 * K)[moving]
    classifier = view.classifier
    if classifier is not None and not classifier.obstacle:
        classifier = Classifier(classifier.name, _seen(view.rows, stats, direction), classifier.bias)
    for sums in _resampled_sums(view, samples, B, seed):
        means = home.copy()
        means[:, :r] += sums.movement
        means[:, r + 1 : r + 1 + K] = np.diag(np.sqrt(sums.outside))
        projected = np.zeros((r + K, r + K))
        projected[:r, :r] = sums.projected
        resample = replace(
            stats,
            classes=np.arange(K),  # the rows of the classifier that are kept are theirs
            frame=Frame(stats.counts, means, basis, (means - means.mean(axis=0))[:, moving]),
            within=sums.within,
            projected=projected,
            right=sums.right,
            nearest=None,  # which class a wrong sample is nearest to is not kept
            disagreements=sums.disagreements,
            cosines=sums.cosines,
            resolution=stats.tolerance,  # a fact of the stored layer, not of the axes chosen here
        )
        yield replace(bare(view), stats=resample, classifier=classifier, readers=())


def weights(rng: np.random.Generator, n: int, b: int) -> Float64[np.ndarray, "b n"]:
    """Return how often each of n samples is drawn when n are drawn with replacement, b times.

    >>> weights(np.random.default_rng(0), 4, 2).sum(axis=1).tolist()
    [4.0, 4.0]
    """
    drawn = rng.integers(0, n, (b, n)) + n * np.arange(b)[:, None]
    times: Float64[np.ndarray, "b n"] = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)
    return times


@dataclass(frozen=True)
class _Sums:
    """The sums of one resample."""

    movement: Float64[np.ndarray, "K r"]
    """The movement of the class means, inside the span."""
    outside: Float64[np.ndarray, "K"]
    """Its expected square outside the span."""
    within: Float64[np.ndarray, "K"]
    projected: Float64[np.ndarray, "r r"]
    right: Int64[np.ndarray, "K"]
    disagreements: Int64[np.ndarray, "K"] | None
    cosines: Float64[np.ndarray, "K"] | None


def _resampled_sums(view: LayerView, samples: PerSample, B: int, seed: int) -> Iterator[_Sums]:
    """Yield each resample's sums, class by class, b resamples at a time.

    They are weights (b, n_c) times what is summed (n_c, m).
    """
    stats = view.stats
    K, r = stats.coordinates.shape
    n = stats.counts
    members = np.split(np.argsort(samples.labels, kind="stable"), np.cumsum(n)[:-1])
    generators = [np.random.default_rng([seed, c]) for c in range(K)]
    outside = np.array([_outside(samples.squares[i], samples.projections[i]) for i in members])
    second = _SecondMoments(view, samples)
    step = max(1, min(B, _BLOCK_NUMBERS // max(int(n.max()), K * (r + 4))))
    for start in range(0, B, step):
        b = min(step, B - start)
        totals, seconds = np.zeros((K, b, r + 4)), np.zeros((b, second.n_columns))
        for c, (i, rng) in enumerate(zip(members, generators, strict=True)):
            w = weights(rng, len(i), b)
            totals[c] = w @ _summed(samples, i, c)
            seconds += w @ second.columns(i)
        for at in range(b):
            q, right, disagrees, cosines = totals[:, at, :4].T
            movement = totals[:, at, 4:] / n[:, None]
            shift = n * (np.einsum("kr,kr->k", movement, movement) + outside)
            yield _Sums(
                movement=movement,
                outside=outside,
                within=np.maximum(q - shift, 0.0),
                projected=second.matrix(seconds[at]) - (movement.T * n) @ movement,
                right=np.rint(right).astype(np.int64),
                disagreements=None if samples.disagrees is None else np.rint(disagrees).astype(np.int64),
                cosines=None if samples.cosines is None else cosines,
            )


def _summed(samples: PerSample, i: Int64[np.ndarray, "n"], c: int) -> Float64[np.ndarray, "n m"]:
    """Return what is summed over the samples of a class: ‖x‖², right, disagrees, cosine, and the projections."""
    zeros = np.zeros(len(i))
    disagrees = zeros if samples.disagrees is None else samples.disagrees[i]
    cosines = zeros if samples.cosines is None else samples.cosines[i]
    return np.column_stack([samples.squares[i], samples.nearest[i] == c, disagrees, cosines, samples.projections[i]])


class _SecondMoments:
    """Σ w p pᵀ of resamples: exactly, or where that is too much its share of tr(Σ_W Σ_B⁺).

    To first order, tr(Σ_W* Σ_B*⁺) needs no more of Σ_W* than Σ w pᵀ Σ_B⁺ p: one number a sample instead of K²/2.
    """

    def __init__(self, view: LayerView, samples: PerSample) -> None:
        self._projections = samples.projections
        self._upper = np.triu_indices(samples.projections.shape[1])
        self._exact = len(self._upper[0]) <= MOST_MOMENTS
        self.n_columns = len(self._upper[0]) if self._exact else 1
        if not self._exact:
            self._total = samples.projections.T @ samples.projections
            squares, axes = between(view.stats, view.weighting)
            scaled = samples.projections @ (axes.T / np.sqrt(squares))
            self._share = np.einsum("nk,nk->n", scaled, scaled) / max(float((scaled**2).sum()), _TINY)

    def columns(self, i: Int64[np.ndarray, "n"]) -> Float64[np.ndarray, "n m"]:
        """Return what is summed of each of these samples."""
        if not self._exact:
            return np.asarray(self._share[i, None])
        p, (a, b) = self._projections[i], self._upper
        return np.asarray(p[:, a] * p[:, b])

    def matrix(self, summed: Float64[np.ndarray, "m"]) -> Float64[np.ndarray, "r r"]:
        """Return Σ w p pᵀ from the sum of its columns."""
        if not self._exact:
            return np.asarray(summed[0] * self._total)
        full: Float64[np.ndarray, "r r"] = np.zeros((self._projections.shape[1],) * 2)
        full[self._upper] = full.T[self._upper] = summed
        return full


def _outside(q: Float64[np.ndarray, "n"], p: Float64[np.ndarray, "n r"]) -> float:
    """Return E‖δ‖² of a resampled class mean outside the span: the mean of ‖x‖² − ‖p‖², over n."""
    total, inside = float(q.sum()), float((p**2).sum())
    return (total - inside) / len(q) ** 2 if total - inside > 1e-12 * total else 0.0  # else it is rounding


def _seen(
    W: Float64[np.ndarray, "K d"], stats: LayerStats, direction: Float64[np.ndarray, "d"]
) -> Float64[np.ndarray, "K e"]:
    """Return rows of weights in the axes of a resample: their lengths, angles and products with the means are kept."""
    K = stats.n_classes
    inside, along = W @ stats.basis.T, W @ direction
    rest = W - inside @ stats.basis - np.outer(along, direction)
    corner = np.linalg.qr(rest.T)[1].T
    unseen = np.zeros((K, K))
    unseen[:, : corner.shape[1]] = corner
    return np.hstack([inside, along[:, None], np.zeros((K, K)), unseen])
