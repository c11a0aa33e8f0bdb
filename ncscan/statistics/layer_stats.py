"""What a layer's activations amount to, and every decision about a rank.

In: `ClassSums` and `Scatter`, the partial sums of the two passes. Out: `LayerStats`, all that a metric may know of a
layer, a few numbers per class instead of N·d. Which singular values count is decided here, and of Z in spectrum.py.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.errors import DataError, Undefined
from ncscan.statistics.mean_frame import Frame, Spread, Weighting
from ncscan.statistics.partial_sums import ClassSums, NormSums, Permuted, PerSample, Scatter
from ncscan.statistics.precision import float_format, ulp
from ncscan.statistics.schur_complement import Unexplained, unexplained
from ncscan.statistics.sketch import largest_eigenvalue
from ncscan.statistics.spectrum import Negative, Spectrum, negative_of, spectrum_of, storage_noise

_HUNDREDFOLD = 100.0
"""A spread that is so many times the rounding of the means is known to 1 %."""


class Rank(NamedTuple):
    """A decision about a rank."""

    value: int
    certain: bool
    """False where directions that storage would have kept may hide under the resolution of the arithmetic."""


@dataclass(frozen=True)
class LayerStats:
    """All that a metric may know of the activations of one layer."""

    precision: str
    """Storage format of the activations."""
    obstacle: str
    """Why nothing of this layer can be measured (activations that are not finite), else empty."""
    batches: int
    """The number of pieces in which the sums were made; their rounding grows with its root."""
    classes: Int64[np.ndarray, "K"]
    """The labels of the classes that have samples; everything else of this layer is of those alone, in this order."""
    frame: Frame
    """The class means. Copies of this layer share it, and what was found of them."""
    within: Float64[np.ndarray, "K"]
    projected: Float64[np.ndarray, "r r"]
    right: Int64[np.ndarray, "K"]
    nearest: Int64[np.ndarray, "K K"] | None
    disagreements: Int64[np.ndarray, "K"] | None
    cosines: Float64[np.ndarray, "K"] | None
    zero_samples: int
    swap_errors: Int64[np.ndarray, "K"] | None
    norms: NormSums
    zeros: int
    unexplained: Unexplained | None
    """The unexplained scatter; None without a Gram matrix of the features, or where all class means coincide."""
    spectrum: Spectrum | None
    negative: Negative | None
    samples: PerSample | None = None
    """A few numbers a sample, for a bootstrap, where they were asked for."""
    permuted: Permuted | None = None
    """Class sums under permuted labels, where they were asked for."""
    exponent: int = 0
    """All sums are of activations in the unit 2^exponent; not 0 only where squares of them would leave float64."""
    mean_rounding: Float64[np.ndarray, "K e"] | None = None
    """δ_c, the shift of each class mean by rounding of its sum, as the second pass measured it; None where not."""
    noise: float = 0.0
    """‖Σ_W‖ where a Gram matrix was accumulated, else what of it lies in the span of the means, which it makes."""
    resolution: float | None = None
    """The tolerance, where it is that of another layer: a resample of this one has the rounding of what is stored."""

    @property
    def counts(self) -> Int64[np.ndarray, "K"]:
        """Return n_c, the samples of each class."""
        return self.frame.counts

    @property
    def means(self) -> Float64[np.ndarray, "K d"]:
        """Return μ_c as rows."""
        return self.frame.means

    @property
    def basis(self) -> Float64[np.ndarray, "r d"]:
        """Return orthonormal rows that span the differences of the class means."""
        return self.frame.basis

    @property
    def coordinates(self) -> Float64[np.ndarray, "K r"]:
        """Return the class means in that basis, from their plain average."""
        return self.frame.coordinates

    @property
    def n_classes(self) -> int:
        """Return K, the number of classes that have samples."""
        return self.frame.n_classes

    @property
    def n_samples(self) -> int:
        """Return N."""
        return self.frame.n_samples

    @property
    def n_features(self) -> int:
        """Return d."""
        return int(self.means.shape[1])

    @cached_property
    def total_square(self) -> float:
        """Return ‖Z‖_F² = Σ_c (n_c ‖μ_c‖² + Σ ‖h − μ_c‖²)."""
        return float(self.counts @ np.einsum("kd,kd->k", self.means, self.means) + self.within.sum())

    def weights(self, weighting: Weighting) -> Float64[np.ndarray, "K"]:
        """Return w_c, summing to 1."""
        return self.frame.weights(weighting)

    def centred(self, weighting: Weighting) -> Float64[np.ndarray, "K r"]:
        """Return the columns of M̃ = M − μ_G 1ᵀ as rows, in the basis of their span."""
        return self.frame.centred(weighting)

    def global_mean(self, weighting: Weighting) -> Float64[np.ndarray, "d"]:
        """Return μ_G = Σ_c w_c μ_c."""
        mean: Float64[np.ndarray, d] = self.weights(weighting) @ self.means
        return mean

    def ulps(self, precision: str) -> Float64[np.ndarray, "K d"]:
        """Return the distance of neighbouring numbers of a storage format around each class mean."""
        with np.errstate(under="ignore"):
            true = np.ldexp(self.means, self.exponent)
            return np.asarray(np.ldexp(ulp(true, precision), -self.exponent))

    @cached_property
    def tolerance(self) -> float:
        """Return τ = max((√d + √K)·max(2ω_p, 16√B·ω_53), 2‖δ‖): what rounding alone can give a singular value of M.

        ω_p² = mean_{c,j} ulp_p(μ_cj)²/12 is the variance of rounding the means to the storage precision p, B the
        number of batches that were summed, δ the shift of the means by rounding: equal numbers are all rounded to one
        side, and a million of them move their mean by more than any batch shows. A direction under τ is below storage
        precision.
        """
        if self.resolution is not None:
            return self.resolution
        stored, summed = (np.sqrt(np.mean(self.ulps(p) ** 2) / 12) for p in (self.precision, "float64"))
        size = np.sqrt(self.n_features) + np.sqrt(self.n_classes)
        return self.with_mean_rounding(float(size * max(2 * stored, 16 * np.sqrt(self.batches) * summed)))

    def with_mean_rounding(self, rounding: float) -> float:
        """Return what rounding can do to a singular value of M, never under 2‖δ‖."""
        if self.mean_rounding is None or 2 * np.linalg.norm(self.mean_rounding) <= rounding:  # ‖δ‖ ≤ ‖δ‖_F
            return rounding
        return max(rounding, 2 * _norm(self.mean_rounding))

    @cached_property
    def is_one_point(self) -> bool:
        """Return whether nothing is known to vary: rounding of the class means may be 1 % or more of √(tr Σ_T)."""
        mean_rounding = (
            0.0
            if self.mean_rounding is None
            else self.counts @ np.einsum("kd,kd->k", self.mean_rounding, self.mean_rounding)
        )
        centred = self.centred("sample")
        total = self.within.sum() + self.counts @ np.einsum("kr,kr->k", centred, centred)
        return bool(total <= _HUNDREDFOLD**2 * mean_rounding)


def require_extent(stats: LayerStats) -> None:
    """Raise Undefined where all samples are one point: no share of variance and no nearest mean means anything."""
    if stats.is_one_point:
        raise Undefined("all samples are one point, as far as float64 sums can tell")


def spread(stats: LayerStats, weighting: Weighting) -> Spread:
    """Return M̃'s singular values, class c counted √(K w_c) times, and their directions as rows; made once a layer."""
    return stats.frame.spread(weighting)


def between(stats: LayerStats, weighting: Weighting) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k r"]]:
    """Return the positive eigenvalues of Σ_B = Σ_c w_c μ̃_c μ̃_cᵀ in decreasing order, with their eigenvectors as rows.

    They come from the singular values of M̃, never from Σ_B itself, which would square the condition number. At
    most K − 1 count, and only those above the tolerance. Undefined when none does.
    """
    s, axes = spread(stats, weighting)
    rank = int((s > stats.tolerance).sum())  # at most K − 1: the frame has no more directions
    if rank == 0:
        raise Undefined("the class means coincide, as far as the storage precision can tell")
    return s[:rank] ** 2 / stats.n_classes, axes[:rank]


def centred_rank(stats: LayerStats, weighting: Weighting) -> Rank:
    """Return the rank of M̃."""
    return Rank(len(between(stats, weighting)[0]), certain=True)


def rank_sampling(stats: LayerStats, weighting: Weighting) -> int:
    """Return how many directions of M̃ stand above what a mean of so few noisy samples gives by itself.

    s_i > 1.1 (√tr Σ_W + √(K‖Σ_W‖))/√(min n_c): K means of n samples each err by a K×d matrix whose rows have covariance
    Σ_W/n, and that is its norm. A direction under it is resolved by storage, but may not be there in other samples.
    """
    K = stats.n_classes
    s, _ = spread(stats, weighting)
    trace = stats.within.sum() / stats.n_samples
    chance = 1.1 * (np.sqrt(trace) + np.sqrt(K * stats.noise)) / np.sqrt(stats.counts.min())
    return int((s > max(chance, stats.tolerance)).sum())


def rank_doubt(stats: LayerStats, weighting: Weighting) -> str:
    """Return why the rank of M̃ may not be that of other samples, else empty. It changes no value."""
    try:
        rank, sampled = centred_rank(stats, weighting).value, rank_sampling(stats, weighting)
    except Undefined:
        return ""
    if rank == sampled or stats.counts.min() < 2:  # one sample says nothing of chance
        return ""
    few = f"only {sampled} stand above what {stats.counts.min()} samples of the smallest class give by chance"
    return f"the class means differ in {rank} directions, but {few}: nc1_pinv may not hold for other samples"


def mean_singular_values(stats: LayerStats) -> tuple[Float64[np.ndarray, "k"], int]:
    """Return the singular values of M (not centred), and how many stand above the tolerance."""
    s = stats.frame.mean_spread
    return s, int((s > stats.tolerance).sum())


def layer_stats_from(
    sums: ClassSums,
    scatter: Scatter,
    of: Frame,
    *,
    precision: str,
    classes: Int64[np.ndarray, "K"] | None = None,
    too_wide: str = "",
    exponent: int = 0,
) -> LayerStats:
    """Return the statistics that both passes found, after checking that they saw the same samples.

    Args:
        sums: of the first pass.
        scatter: of the second.
        of: the frame made from `sums`, with which `scatter` was made.
        precision: storage format of the activations.
        classes: the labels of the classes, where they are not 0 … K−1.
        too_wide: why a spectrum that was asked for was not accumulated.
        exponent: of the unit 2^exponent that all sums are in.

    Raises: DataError when the second pass saw other activations than the first.
    """
    classes = np.arange(len(of.counts)) if classes is None else classes
    # Residuals sum to zero in every class; what is left of them is the rounding of the means, and is taken out.
    mean_rounding = None
    if not sums.obstacle:
        _check_same_samples(of, scatter, classes, precision)
        mean_rounding = scatter.residuals / of.counts[:, None]
        scatter = _around_own_means(of, scatter, mean_rounding)
    stats = LayerStats(
        precision=precision,
        obstacle=sums.obstacle,
        batches=max(sums.batches, 1),
        classes=classes,
        frame=of,
        within=scatter.within,
        projected=scatter.projected,
        right=scatter.right,
        nearest=scatter.nearest,
        disagreements=scatter.disagreements,
        cosines=scatter.cosines,
        zero_samples=scatter.zero_samples,
        swap_errors=scatter.swap_errors,
        norms=sums.norms,
        zeros=sums.zeros,
        unexplained=None,
        spectrum=spectrum_of(of, scatter, precision, too_wide, exponent),
        negative=negative_of(scatter),
        samples=scatter.samples,
        permuted=scatter.permuted,
        exponent=exponent,
        mean_rounding=mean_rounding,
        noise=_largest_noise(of, scatter, sums.obstacle),
    )
    return replace(stats, unexplained=_unexplained(stats, scatter))


def _around_own_means(of: Frame, scatter: Scatter, mean_rounding: Float64[np.ndarray, "K d"]) -> Scatter:
    """Return the scatter around the means that classes have, not around those that rounding shifted by δ_c.

    Σ‖h − μ_c‖² = Σ‖h − (μ_c + δ_c)‖² + n_c‖δ_c‖². What is left of equal samples is the rounding of that difference: 0.
    """
    moved = of.counts * np.einsum("kd,kd->k", mean_rounding, mean_rounding)
    own = scatter.within - moved
    rounding = 4 * np.finfo(np.float64).eps * of.counts * scatter.within
    within = np.where(own > rounding, own, 0.0)
    if within.any():
        return replace(scatter, within=within)
    gram = None if scatter.gram is None else np.zeros_like(scatter.gram)
    return replace(scatter, within=within, projected=np.zeros_like(scatter.projected), gram=gram)


def _norm(matrix: Float64[np.ndarray, "K d"]) -> float:
    """Return ‖A‖ by the smaller of its Gram matrices."""
    size = float(np.abs(matrix).max(initial=0.0))
    A = matrix / size if size else matrix
    return size * float(np.sqrt(largest_eigenvalue(np.triu(A @ A.T if len(A) <= A.shape[1] else A.T @ A))))


def _check_same_samples(of: Frame, scatter: Scatter, classes: Int64[np.ndarray, "K"], precision: str) -> None:
    """Check that both passes saw the same samples: around their mean, the samples of a class sum to zero.

    They do so if they are those that made the mean.
    """
    squares = of.counts * np.einsum("kd,kd->k", of.means, of.means) + scatter.within
    # A model replayed on a GPU may differ in the last digit of each activation; other samples differ by far more.
    # Sums of equal numbers are rounded to one side every time: n roundings, not √n.
    summed = np.finfo(np.float64).eps * np.maximum(64 * np.sqrt(of.counts), of.counts)
    allowed = 2.0 ** (1 - float_format(precision).digits) + summed
    off = np.linalg.norm(scatter.residuals, axis=1) > allowed * np.sqrt(of.counts * squares)
    if off.any():
        raise DataError(
            f"the second pass saw other activations than the first ({_classes(classes[off])} another mean): the "
            "source shuffles, augments or is not deterministic; give it a fixed order, without augmentation or dropout"
        )


def _largest_noise(of: Frame, scatter: Scatter, obstacle: str) -> float:
    """Return ‖Σ_W‖. Without a Gram matrix, its share in the span of the means: noise that shifts them lies there."""
    known = scatter.projected if scatter.gram is None else scatter.gram
    return 0.0 if obstacle else largest_eigenvalue(np.triu(known)) / max(int(of.counts.sum()), 1)


def _unexplained(stats: LayerStats, scatter: Scatter) -> Unexplained | None:
    """Return the unexplained scatter; None without a Gram matrix, or where no class means differ.

    Then nothing is asked of it.
    """
    if scatter.gram is None or stats.obstacle:
        return None
    try:
        squares, axes = between(stats, "sample")
    except Undefined:
        return None
    N, d = stats.n_samples, stats.n_features
    projected = axes @ stats.projected @ axes.T
    storage = storage_noise(stats.total_square, N, d, stats.precision, stats.exponent)
    above = stats.n_classes * (np.sqrt(squares) / stats.tolerance) ** 2
    freedom = N - stats.n_classes
    return unexplained(scatter.gram, scatter.gram_error, axes @ stats.basis, projected, above, freedom, storage)


def _classes(indices: Int64[np.ndarray, "n"]) -> str:
    """Return `class 3 has`, `classes 3 and 7 have`, `classes 0, 1, 2 and 37 more have`."""
    if len(indices) == 1:
        return f"class {indices[0]} has"
    shown, more = indices[:3], len(indices) - 3
    last = f"{more} more" if more > 0 else str(shown[-1])
    return f"classes {', '.join(map(str, shown if more > 0 else shown[:-1]))} and {last} have"
