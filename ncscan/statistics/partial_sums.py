"""The partial sums of two passes over a layer's activations, and the frame of class means that the second starts from.

In: what the passes over a layer add up. Out: plain float64 sums; those of shards are merged by adding them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ncscan.errors import DataError
from ncscan.statistics.sketch import Sketch

MOST_PAIRED = 100
"""Up to so many classes there are numbers for every pair: 4,950 pairs. A thousand classes would have half a million."""

Sum = TypeVar(
    "Sum",
    Float64[np.ndarray, "..."] | None,
    Int64[np.ndarray, "..."] | None,
    float | None,
    Sketch | None,
    "PerSample | None",
    "Permuted | None",
)


@dataclass(frozen=True)
class Members:
    """The classes that have samples, and which of them each sample is of.

    All sums are over these classes alone, wherever their labels lie: a label that no sample has costs nothing.
    """

    classes: Int64[np.ndarray, "K"]
    """Their labels, in increasing order."""
    of: Int64[np.ndarray, "N"]
    """The place of each sample's class among them."""

    def places(self, labels: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """Return the index of each label among the classes, −1 where no sample has it.

        >>> members(np.array([5, 9, 5]), 10).places(np.array([9, 0, 5])).tolist()
        [1, -1, 0]
        """
        places = np.minimum(np.searchsorted(self.classes, labels), len(self.classes) - 1)
        return np.where(self.classes[places] == labels, places, -1)


def members(labels: Int64[np.ndarray, "N"], n_classes: int) -> Members:
    """Return the classes that have samples.

    Raises: DataError when there are no samples, or a label is not in 0 … n_classes − 1.

    >>> members(np.array([5, 9, 5]), 10)
    Members(classes=array([5, 9]), of=array([0, 1, 0]))
    """
    if len(labels) == 0:
        raise DataError("there are no samples: nothing to measure")
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        raise DataError(
            f"the label of sample {bad[0]} is {labels[bad[0]]}, but there are {n_classes} classes: labels go from 0 to "
            f"{n_classes - 1}"
        )
    classes, of = np.unique(labels, return_inverse=True)
    return Members(classes.astype(np.int64), of.astype(np.int64))


@dataclass(frozen=True)
class NormSums:
    """Sums on how long samples are: ‖h‖ around its mean, because the difference of two large sums has no digits."""

    count: int
    mean: float
    spread: float
    """Σ (‖h‖ − mean)²."""

    def __add__(self, other: "NormSums") -> "NormSums":
        """Return the sums over both sets of samples."""
        count = self.count + other.count
        if not (self.count and other.count):
            return self if self.count else other
        apart = other.mean - self.mean
        return NormSums(
            count,
            self.mean + apart * other.count / count,
            self.spread + other.spread + apart**2 * self.count * other.count / count,
        )


@dataclass(frozen=True)
class ClassSums:
    """Partial sums of the first pass."""

    counts: Int64[np.ndarray, "K"]
    sums: Float64[np.ndarray, "K d"]
    nonfinite: int
    """The number of samples with a NaN or an infinity."""
    first_nonfinite: int
    """The first of them; N or more when there is none."""
    norms: NormSums
    zeros: int
    """The number of entries that are exactly zero, among all N·d."""
    batches: int
    sketch: Sketch | None = None
    """The sketch of Z, where it is too wide for a Gram matrix."""
    negative_sketch: Sketch | None = None
    """The sketch of min(Z, 0)."""
    overflowing: int = 0
    """The number of other samples so large that their squares overflow."""
    first_overflowing: int = 2**62
    """The first of them, likewise."""
    extent: str = ""
    """Why no unit holds the largest samples and the smallest, else empty."""

    @property
    def obstacle(self) -> str:
        """Return why nothing of this layer can be measured, else empty."""
        if self.nonfinite:
            return f"{self.nonfinite} samples have non-finite activations, first in sample {self.first_nonfinite}"
        if not self.overflowing:
            return self.extent
        large = f"squares of the activations of {self.overflowing} samples exceed float64"
        return f"{large}, first in sample {self.first_overflowing}{self.extent and '; '}{self.extent}"

    def __add__(self, other: "ClassSums") -> "ClassSums":
        """Return the sums over both sets of samples."""
        return replace(
            self,
            counts=self.counts + other.counts,
            sums=self.sums + other.sums,
            nonfinite=self.nonfinite + other.nonfinite,
            first_nonfinite=min(self.first_nonfinite, other.first_nonfinite),
            overflowing=self.overflowing + other.overflowing,
            first_overflowing=min(self.first_overflowing, other.first_overflowing),
            extent=self.extent or other.extent,
            norms=self.norms + other.norms,
            zeros=self.zeros + other.zeros,
            batches=self.batches + other.batches,
            sketch=_added(self.sketch, other.sketch),
            negative_sketch=_added(self.negative_sketch, other.negative_sketch),
        )


@dataclass(frozen=True)
class PerSample:
    """The numbers that a bootstrap must know of each sample: r + 4, r ≤ K − 1."""

    labels: Int64[np.ndarray, "N"]
    squares: Float64[np.ndarray, "N"]
    """‖h − μ_y‖²."""
    projections: Float64[np.ndarray, "N r"]
    """U(h − μ_y), in the basis U of the frame."""
    nearest: Int64[np.ndarray, "N"]
    """The index of the nearest class mean."""
    disagrees: Bool[np.ndarray, "N"] | None
    """Whether the network decides otherwise."""
    cosines: Float64[np.ndarray, "N"] | None
    """cos(h, w_y), 0 where h is zero; None without a classifier."""

    def __add__(self, other: "PerSample") -> "PerSample":
        """Return the numbers of both sets of samples."""
        return join([self, other])


def join(parts: Sequence[PerSample]) -> PerSample:
    """Return the numbers of all parts, one after the other."""
    return PerSample(
        labels=np.concatenate([part.labels for part in parts]),
        squares=np.concatenate([part.squares for part in parts]),
        projections=np.concatenate([part.projections for part in parts]),
        nearest=np.concatenate([part.nearest for part in parts]),
        disagrees=_joined([part.disagrees for part in parts]),
        cosines=_joined([part.cosines for part in parts]),
    )


@dataclass(frozen=True)
class Permuted:
    """Class sums under P permutations of the labels."""

    sums: Float64[np.ndarray, "P K d"]
    """Σ (h − μ_y) over the samples of each permuted class, μ_y of their true class."""
    labels: Int64[np.ndarray, "P N"]
    """The permuted class of every sample."""
    true: Int64[np.ndarray, "N"]
    """Its true class."""

    def __add__(self, other: "Permuted") -> "Permuted":
        """Return the sums over both sets of samples, under the same permutations."""
        return replace(self, sums=self.sums + other.sums)


@dataclass(frozen=True)
class Scatter:
    """Partial sums of the second pass, all about samples minus their class mean, x_i = h_i − μ_{y_i}."""

    residuals: Float64[np.ndarray, "K d"]
    """Σ x_i per class: zero but for rounding, or the second pass did not see what the first saw."""
    within: Float64[np.ndarray, "K"]
    """Σ ‖x_i‖² per class."""
    projected: Float64[np.ndarray, "r r"]
    """Σ (U x_i)(U x_i)ᵀ in the basis of the frame."""
    right: Int64[np.ndarray, "K"]
    """The samples of each class that lie nearest to their own class mean."""
    nearest: Int64[np.ndarray, "K K"] | None
    """Samples of class y (row) that lie nearest to the mean of class c (column); None for more than MOST_PAIRED."""
    disagreements: Int64[np.ndarray, "K"] | None
    """The samples of each class for which the network decides otherwise than the nearest class mean."""
    cosines: Float64[np.ndarray, "K"] | None
    """Σ cos(h_i, w_{y_i}) per class, w the rows of the classifier."""
    zero_samples: int
    """The samples whose activations are all zero: no cosine (counted where there is a classifier)."""
    swap_errors: Int64[np.ndarray, "K"] | None
    """The samples of each class that the simplex nearest to the classifier decides wrongly, without a bias."""
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
    sketch: Sketch | None = None
    """The sketch of Z, with the directions that the first pass found."""
    negative_sketch: Sketch | None = None
    """The sketch of min(Z, 0), likewise."""
    samples: PerSample | None = None
    permuted: Permuted | None = None

    def __add__(self, other: "Scatter") -> "Scatter":
        """Return the sums over both sets of samples, centred with the same class means."""
        return replace(
            self,
            residuals=self.residuals + other.residuals,
            within=self.within + other.within,
            projected=self.projected + other.projected,
            right=self.right + other.right,
            nearest=_added(self.nearest, other.nearest),
            disagreements=_added(self.disagreements, other.disagreements),
            cosines=_added(self.cosines, other.cosines),
            zero_samples=self.zero_samples + other.zero_samples,
            swap_errors=_added(self.swap_errors, other.swap_errors),
            gram=_added(self.gram, other.gram),
            rows=_joined([self.rows, other.rows]),
            gram_error=other.gram_error if self.gram_error is None else self.gram_error,
            negative_gram=_added(self.negative_gram, other.negative_gram),
            negative_square=_added(self.negative_square, other.negative_square),
            batches=self.batches + other.batches,
            sketch=_added(self.sketch, other.sketch),
            negative_sketch=_added(self.negative_sketch, other.negative_sketch),
            samples=_added(self.samples, other.samples),
            permuted=_added(self.permuted, other.permuted),
        )


def _added(one: Sum, other: Sum) -> Sum:
    return None if one is None or other is None else one + other


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None
