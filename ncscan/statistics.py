"""What a layer's activations amount to: plain float64 sums, and every decision about a rank.

In: `ClassSums` and `Scatter`, the partial sums of the two passes of accumulate.py; those of shards are merged by
adding them. Out: `LayerStats`, all that a metric may know of a layer, a few numbers per class instead of N·d.
Only this file decides what counts as zero: which singular values stand above what storage and arithmetic resolve.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int64

from ncscan.errors import DataError, Undefined

Weighting = Literal["class", "sample"]
"""How much a class counts in μ_G and Σ_B: 1/K, or its share n_c/N of the samples."""


class FloatFormat(NamedTuple):
    """A storage format: digits of the significand, and the exponent under which numbers are subnormal."""

    name: str
    digits: int
    min_exponent: int


FLOAT_FORMATS = (
    FloatFormat("float16", 11, -14),
    FloatFormat("bfloat16", 8, -126),
    FloatFormat("float32", 24, -126),
    FloatFormat("float64", 53, -1022),
)

WIDEST_GRAM = 4096
"""Above this min(N, d) a spectrum is not exact any more: its Gram matrix costs min(N, d)² numbers."""

_RESOLVED = 50.0
"""An eigenvalue this many times its error is 2 % off, and the singular value 1 %."""

Sum = TypeVar("Sum", Float64[np.ndarray, "..."] | None, Int64[np.ndarray, "..."] | None, float | None)


def float_format(name: str) -> FloatFormat:
    """The storage format of that name; DataError when it is not a float."""
    for known in FLOAT_FORMATS:
        if known.name == name:
            return known
    raise DataError(f"activations are stored as {name}; use one of {', '.join(f.name for f in FLOAT_FORMATS)}")


def ulp(x: Float64[np.ndarray, "..."], precision: str) -> Float64[np.ndarray, "..."]:
    """The distance between neighbouring numbers of a storage format around x: 2^{max(⌊log₂|x|⌋, e_min) − (p−1)}.

    ulp(0) = 0: a zero is stored exactly.

    >>> ulp(np.array([0.0, 1.0, 1.5, 1000.0]), "float16").tolist()
    [0.0, 0.0009765625, 0.0009765625, 0.5]
    """
    _, digits, min_exponent = float_format(precision)
    _, exponent = np.frexp(x)  # x = m·2^e with ½ ≤ |m| < 1, so ⌊log₂|x|⌋ = e − 1
    return np.where(x == 0, 0.0, np.exp2(np.maximum(exponent - 1.0, min_exponent) - (digits - 1)))


@dataclass(frozen=True)
class ClassSums:
    """Partial sums of the first pass."""

    counts: Int64[np.ndarray, "K"]
    sums: Float64[np.ndarray, "K d"]
    nonfinite: int
    """Samples with a NaN or an infinity, or so large that squares overflow."""
    first_nonfinite: int
    """The first of them; N or more when there is none."""
    batches: int

    @property
    def obstacle(self) -> str:
        """Why nothing of this layer can be measured, else empty."""
        if not self.nonfinite:
            return ""
        return f"{self.nonfinite} samples have non-finite activations, first in sample {self.first_nonfinite}"

    def __add__(self, other: "ClassSums") -> "ClassSums":
        """The sums over both sets of samples."""
        return replace(
            self,
            counts=self.counts + other.counts,
            sums=self.sums + other.sums,
            nonfinite=self.nonfinite + other.nonfinite,
            first_nonfinite=min(self.first_nonfinite, other.first_nonfinite),
            batches=self.batches + other.batches,
        )


@dataclass(frozen=True)
class Frame:
    """The class means, and an orthonormal basis of what their differences span."""

    counts: Int64[np.ndarray, "K"]
    means: Float64[np.ndarray, "K d"]
    """μ_c as rows; the rows of classes without samples are zero."""
    basis: Float64[np.ndarray, "r d"]
    """At most K − 1 orthonormal rows, by decreasing spread of the class means."""
    coordinates: Float64[np.ndarray, "K r"]
    """The means in that basis, from the plain average of the means of all classes that have samples."""

    @property
    def present(self) -> np.ndarray:
        """Which classes have samples."""
        return self.counts > 0


def frame(sums: ClassSums) -> Frame:
    """The class means and the directions in which they differ, as far as float64 sums resolve them.

    Raises: DataError when fewer than two classes have samples.
    """
    present = sums.counts > 0
    if present.sum() < 2:
        raise DataError(
            f"samples of one class only ({present.sum()} of {len(present)} classes have any): collapse is a relation "
            "between classes, so give at least two"
        )
    # Where activations are not finite, no metric of the layer has a value; the zeros are never read.
    means = (np.zeros_like(sums.sums) if sums.obstacle else sums.sums) / np.maximum(sums.counts, 1)[:, None]
    centred = means[present] - means[present].mean(axis=0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    rounding = 16 * np.finfo(np.float64).eps * np.linalg.norm(means)
    r = min(int((s > rounding).sum()), int(present.sum()) - 1)
    coordinates = np.zeros((len(means), r))
    coordinates[present] = centred @ axes[:r].T
    return Frame(counts=sums.counts, means=means, basis=axes[:r], coordinates=coordinates)


@dataclass(frozen=True)
class Scatter:
    """Partial sums of the second pass, all about samples minus their class mean, x_i = h_i − μ_{y_i}."""

    residuals: Float64[np.ndarray, "K d"]
    """Σ x_i per class: zero but for rounding, or the second pass did not see what the first saw."""
    within: Float64[np.ndarray, "K"]
    """Σ ‖x_i‖² per class."""
    projected: Float64[np.ndarray, "r r"]
    """Σ (U x_i)(U x_i)ᵀ in the basis of the frame."""
    nearest: Int64[np.ndarray, "K K"]
    """How many samples of class y (row) lie nearest to the mean of class c (column)."""
    disagreements: Int64[np.ndarray, "K"] | None
    """Per class, samples for which the network decides otherwise than the nearest class mean."""
    cosines: Float64[np.ndarray, "K"] | None
    """Σ cos(h_i, w_{y_i}) per class, w the rows of the classifier."""
    zero_samples: int
    """Samples whose activations are all zero: no cosine (counted where there is a classifier)."""
    gram: Float64[np.ndarray, "d d"] | None
    """Σ x_i x_iᵀ, upper triangle."""
    gram_error: Float64[np.ndarray, "d d"] | None
    """What rounding does to `gram`, per unit of its trace, as measured on a block; None where all of it is float64."""
    rows: Float[np.ndarray, "n d"] | None
    """The activations themselves, where there are few samples and many features, so that ZZᵀ is the smaller Gram."""
    negative_gram: Float64[np.ndarray, "d d"] | None
    """Σ of min(h_i, 0) min(h_i, 0)ᵀ, upper triangle."""
    negative_square: float | None
    """‖min(Z, 0)‖_F²."""
    batches: int

    def __add__(self, other: "Scatter") -> "Scatter":
        """The sums over both sets of samples, centred with the same class means."""
        return replace(
            self,
            residuals=self.residuals + other.residuals,
            within=self.within + other.within,
            projected=self.projected + other.projected,
            nearest=self.nearest + other.nearest,
            disagreements=_added(self.disagreements, other.disagreements),
            cosines=_added(self.cosines, other.cosines),
            zero_samples=self.zero_samples + other.zero_samples,
            gram=_added(self.gram, other.gram),
            rows=None if self.rows is None or other.rows is None else np.concatenate([self.rows, other.rows]),
            gram_error=other.gram_error if self.gram_error is None else self.gram_error,
            negative_gram=_added(self.negative_gram, other.negative_gram),
            negative_square=_added(self.negative_square, other.negative_square),
            batches=self.batches + other.batches,
        )


def _added(one: Sum, other: Sum) -> Sum:
    return None if one is None or other is None else one + other


@dataclass(frozen=True)
class Spectrum:
    """The singular values of Z, from its Gram matrix: exact down to what that resolves."""

    values: Float64[np.ndarray, "r"]
    """Those that are resolved, in decreasing order: non-zero beyond doubt, and right to 1 %."""
    full: int
    """How many Z could have: min(N, columns that are not all zero)."""
    storage: float
    """Under this, a singular value cannot be told from the rounding of the stored activations."""
    resolution: float
    """Under this, it cannot be told from the rounding of the Gram matrix: the first that is not, with its error."""
    reason: str
    """Why there are no values, else empty."""

    @property
    def rank(self) -> int:
        """How many singular values are resolved."""
        return len(self.values)

    @property
    def complete(self) -> bool:
        """Whether nothing that storage would have kept can hide under the resolution."""
        return self.rank == self.full or self.resolution <= self.storage


@dataclass(frozen=True)
class Negative:
    """The part of Z that a ReLU removes, min(Z, 0)."""

    square: float
    """Its squared Frobenius norm."""
    largest: float | None
    """Its operator norm, None where the layer is too wide for a Gram matrix."""


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
    """In how many pieces the sums were made; their rounding grows with its root."""
    counts: Int64[np.ndarray, "K"]
    means: Float64[np.ndarray, "K d"]
    basis: Float64[np.ndarray, "r d"]
    coordinates: Float64[np.ndarray, "K r"]
    within: Float64[np.ndarray, "K"]
    projected: Float64[np.ndarray, "r r"]
    nearest: Int64[np.ndarray, "K K"]
    disagreements: Int64[np.ndarray, "K"] | None
    cosines: Float64[np.ndarray, "K"] | None
    zero_samples: int
    spectrum: Spectrum | None
    negative: Negative | None

    @property
    def n_classes(self) -> int:
        """K, classes without samples included."""
        return len(self.counts)

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.counts.sum())

    @property
    def n_features(self) -> int:
        """d."""
        return int(self.means.shape[1])

    @cached_property
    def total_square(self) -> float:
        """‖Z‖_F² = Σ_c (n_c ‖μ_c‖² + Σ ‖h − μ_c‖²)."""
        return float(self.counts @ np.einsum("kd,kd->k", self.means, self.means) + self.within.sum())

    def weights(self, weighting: Weighting) -> Float64[np.ndarray, "K"]:
        """w_c, summing to 1."""
        K = self.n_classes
        return np.full(K, 1 / K) if weighting == "class" else self.counts / float(self.n_samples)

    def centred(self, weighting: Weighting) -> Float64[np.ndarray, "K r"]:
        """The columns of M̃ = M − μ_G 1ᵀ as rows, in the basis of their span; Undefined when a class has no samples."""
        self.require_every_class()
        centred: Float64[np.ndarray, "K r"] = self.coordinates - self.weights(weighting) @ self.coordinates
        return centred

    def global_mean(self, weighting: Weighting) -> Float64[np.ndarray, "d"]:
        """μ_G = Σ_c w_c μ_c; Undefined when a class has no samples."""
        self.require_every_class()
        mean: Float64[np.ndarray, d] = self.weights(weighting) @ self.means
        return mean

    def require_every_class(self) -> None:
        """Undefined when a class has no samples, so no mean."""
        missing = np.flatnonzero(self.counts == 0)
        if len(missing):
            raise Undefined(f"{_classes(missing)} no samples")

    @cached_property
    def tolerance(self) -> float:
        """τ = (√d + √K)·max(2ω_p, 16√B·ω_53): what rounding alone can give a singular value of M.

        ω_p² = mean_{c,j} ulp_p(μ_cj)²/12 is the variance of rounding the means to the storage precision p, B the
        number of batches that were summed. A direction under τ is below storage precision.
        """
        stored, summed = (np.sqrt(np.mean(ulp(self.means, p) ** 2) / 12) for p in (self.precision, "float64"))
        size = np.sqrt(self.n_features) + np.sqrt(self.n_classes)
        return float(size * max(2 * stored, 16 * np.sqrt(self.batches) * summed))


def between(stats: LayerStats, weighting: Weighting) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k r"]]:
    """The positive eigenvalues of Σ_B = Σ_c w_c μ̃_c μ̃_cᵀ in decreasing order, with their eigenvectors as rows.

    They come from the singular values of M̃, never from Σ_B itself, which would square the condition number. At
    most K − 1 count, and only those above the tolerance. Undefined when none does.
    """
    K = stats.n_classes
    _, s, axes = np.linalg.svd(
        np.sqrt(K * stats.weights(weighting))[:, None] * stats.centred(weighting), full_matrices=False
    )
    rank = int((s > stats.tolerance).sum())  # at most K − 1: the frame has no more directions
    if rank == 0:
        raise Undefined("the class means coincide, as far as the storage precision can tell")
    return s[:rank] ** 2 / K, axes[:rank]


def centred_rank(stats: LayerStats, weighting: Weighting) -> Rank:
    """The rank of M̃."""
    return Rank(len(between(stats, weighting)[0]), certain=True)


def mean_singular_values(stats: LayerStats) -> tuple[Float64[np.ndarray, "k"], int]:
    """The singular values of M (not centred), and how many stand above the tolerance."""
    stats.require_every_class()
    s = np.linalg.svd(stats.means, compute_uv=False)
    return s, int((s > stats.tolerance).sum())


def storage_tolerance(matrix: Float64[np.ndarray, "n m"], precision: str) -> float:
    """(√n + √m)·2ω_p: what rounding its entries to the storage precision can give a singular value of a matrix.

    Never under what a float64 decomposition resolves, eps·√max(n, m)·‖A‖_F.
    """
    n, m = matrix.shape
    stored = np.sqrt(np.mean(ulp(matrix, precision) ** 2) / 12)
    resolved = np.finfo(np.float64).eps * np.sqrt(max(n, m)) * np.linalg.norm(matrix)
    return float(max(2 * (np.sqrt(n) + np.sqrt(m)) * stored, resolved))


def layer_stats_from(
    sums: ClassSums,
    scatter: Scatter,
    of: Frame,
    *,
    precision: str,
    too_wide: str = "",
) -> LayerStats:
    """What both passes found, after checking that they saw the same samples.

    Args:
        sums: of the first pass.
        scatter: of the second.
        of: the frame made from `sums`, with which `scatter` was made.
        precision: storage format of the activations.
        too_wide: why a spectrum that was asked for was not accumulated.

    Raises: DataError when the second pass saw other activations than the first.
    """
    if not sums.obstacle:
        _check_same_samples(of, scatter, precision)
    return LayerStats(
        precision=precision,
        obstacle=sums.obstacle,
        batches=max(sums.batches, 1),
        counts=of.counts,
        means=of.means,
        basis=of.basis,
        coordinates=of.coordinates,
        within=scatter.within,
        projected=scatter.projected,
        nearest=scatter.nearest,
        disagreements=scatter.disagreements,
        cosines=scatter.cosines,
        zero_samples=scatter.zero_samples,
        spectrum=_spectrum(of, scatter, precision, too_wide),
        negative=_negative(scatter),
    )


def _check_same_samples(of: Frame, scatter: Scatter, precision: str) -> None:
    """Around their mean, the samples of a class sum to zero, if they are those that made the mean."""
    squares = of.counts * np.einsum("kd,kd->k", of.means, of.means) + scatter.within
    # A model replayed on a GPU may differ in the last digit of each activation; other samples differ by far more.
    allowed = 2.0 ** (1 - float_format(precision).digits) + 64 * np.finfo(np.float64).eps * np.sqrt(of.counts)
    off = np.linalg.norm(scatter.residuals, axis=1) > allowed * np.sqrt(of.counts * squares)
    if off.any():
        raise DataError(
            f"the second pass saw other activations than the first ({_classes(np.flatnonzero(off))} another mean): the "
            "source shuffles, augments or is not deterministic; give it a fixed order, without augmentation or dropout"
        )


def _spectrum(of: Frame, scatter: Scatter, precision: str, too_wide: str) -> Spectrum | None:
    """Singular values of Z, from ZᵀZ or ZZᵀ, whichever was accumulated."""
    if too_wide:
        return Spectrum(np.zeros(0), 0, 0.0, 0.0, too_wide)
    N, d = int(of.counts.sum()), of.means.shape[1]
    if scatter.gram is not None:
        # ZᵀZ = Σ x_i x_iᵀ + Σ_c n_c μ_c μ_cᵀ, the second term exact in float64.
        gram = scatter.gram + np.triu((of.means.T * of.counts) @ of.means)
        live = np.flatnonzero(np.diag(gram))  # a dead unit is an exact zero, which rounding must not blur
        inside = np.ix_(live, live)
        rounding = None if scatter.gram_error is None else scatter.gram_error[inside] * scatter.within.sum()
        squares, errors = _eigenvalues(gram[inside], rounding)
        full = min(N, len(live))
    elif scatter.rows is not None:
        squares, errors = _eigenvalues(_row_gram(scatter.rows), None)
        full = min(N, int(scatter.rows.any(axis=0).sum()))
    else:
        return None
    values, resolutions = (np.sqrt(np.maximum(x[:full], 0.0)) for x in (squares, _RESOLVED * errors))
    # As rounding of independent entries: N×d of them of variance ≤ (2^{1−p} rms)²/12, and twice that to be safe.
    ulps = 2.0 ** (1 - float_format(precision).digits) * np.sqrt(max(squares.sum(), 0.0) / (N * d) / 12)
    storage = float(2 * (np.sqrt(N) + np.sqrt(d)) * ulps)
    counted = values > np.maximum(resolutions, storage)
    rank = full if counted.all() else int(np.argmin(counted))
    return Spectrum(values[:rank], full, storage, float(resolutions[rank]) if rank < full else 0.0, "")


def _eigenvalues(
    gram: Float64[np.ndarray, "n n"], rounding: Float64[np.ndarray, "n n"] | None
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Eigenvalues of an upper triangle in decreasing order, and the error of each.

    That of sums and decomposition is one for all of them, eps·s_1². That of float32 products is far smaller where the
    spectrum is small: with E what rounding did to a block and v an eigenvector, |vᵀEv|, and 4‖Ev‖/√n in case that
    happens to be near zero.
    """
    if not len(gram):
        return np.zeros(0), np.zeros(0)
    if rounding is None:
        squares = np.linalg.eigvalsh(gram, UPLO="U")[::-1]
        product_errors = np.zeros(len(gram))
    else:
        ascending, vectors = np.linalg.eigh(gram, UPLO="U")
        squares, vectors = ascending[::-1], vectors[:, ::-1]
        moved = (rounding + np.triu(rounding, 1).T) @ vectors
        along = np.abs(np.einsum("ij,ij->j", vectors, moved))
        product_errors = along + 4 * np.linalg.norm(moved, axis=0) / np.sqrt(len(gram))
    return squares, product_errors + np.finfo(np.float64).eps * max(squares[0], 0.0)


def _negative(scatter: Scatter) -> Negative | None:
    if scatter.negative_square is None:
        return None
    gram = scatter.negative_gram
    if gram is None and scatter.rows is not None:
        gram = _row_gram(np.minimum(scatter.rows, 0))
    if gram is None:
        return Negative(scatter.negative_square, None)
    return Negative(scatter.negative_square, float(np.sqrt(max(np.linalg.eigvalsh(gram, UPLO="U")[-1], 0.0))))


def _row_gram(rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n n"]:
    """ZZᵀ in float64, some columns at a time: no copy of all of Z."""
    gram = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], 4096):
        columns = rows[:, start : start + 4096].astype(np.float64)
        gram += columns @ columns.T
    return gram


def _classes(indices: Int64[np.ndarray, "n"]) -> str:
    """`class 3 has`, `classes 3 and 7 have`, `classes 0, 1, 2 and 37 more have`."""
    if len(indices) == 1:
        return f"class {indices[0]} has"
    shown, more = indices[:3], len(indices) - 3
    last = f"{more} more" if more > 0 else str(shown[-1])
    return f"classes {', '.join(map(str, shown if more > 0 else shown[:-1]))} and {last} have"
