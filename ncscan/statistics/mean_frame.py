"""The class means of a layer, and all that is a matter of them alone: each part of it is found once.

In: `ClassSums` of the first pass, or class sums of permuted labels. Out: `Frame`, which every copy of a layer with the
same class means shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_array

from ncscan.errors import DataError
from ncscan.statistics.class_pairs import Crowding, crowding
from ncscan.statistics.partial_sums import ClassSums, Permuted

Weighting = Literal["class", "sample"]
"""How much a class counts in μ_G and Σ_B: 1/K, or its share n_c/N of the samples."""

Spread: TypeAlias = tuple[Float64[np.ndarray, "q"], Float64[np.ndarray, "q r"]]
"""Singular values, and their directions as rows."""


@dataclass(frozen=True)
class Frame:
    """The class means, and an orthonormal basis of what their differences span."""

    counts: Int64[np.ndarray, "K"]
    means: Float64[np.ndarray, "K d"]
    """μ_c as rows."""
    basis: Float64[np.ndarray, "r d"]
    """At most K − 1 orthonormal rows, by decreasing spread of the class means."""
    coordinates: Float64[np.ndarray, "K r"]
    """The means in that basis, from their plain average."""

    @property
    def n_classes(self) -> int:
        """Return K, the number of classes that have samples."""
        return len(self.counts)

    @property
    def n_samples(self) -> int:
        """Return N."""
        return int(self.counts.sum())

    def weights(self, weighting: Weighting) -> Float64[np.ndarray, "K"]:
        """Return w_c, summing to 1."""
        K = self.n_classes
        return np.full(K, 1 / K) if weighting == "class" else self.counts / float(self.n_samples)

    def centred(self, weighting: Weighting) -> Float64[np.ndarray, "K r"]:
        """Return the columns of M̃ = M − μ_G 1ᵀ as rows, in the basis of their span."""
        centred: Float64[np.ndarray, "K r"] = self.coordinates - self.weights(weighting) @ self.coordinates
        return centred

    def spread(self, weighting: Weighting) -> Spread:
        """Return M̃'s singular values, class c counted √(K w_c) times, and their directions as rows; made once."""
        balanced = self.counts.min() == self.counts.max()  # then the two are one
        return self._class_spread if weighting == "class" or balanced else self._sample_spread

    @cached_property
    def _class_spread(self) -> Spread:
        return self._spread("class")

    @cached_property
    def _sample_spread(self) -> Spread:
        return self._spread("sample")

    def _spread(self, weighting: Weighting) -> Spread:
        scaled = np.sqrt(self.n_classes * self.weights(weighting))[:, None] * self.centred(weighting)
        _, s, axes = np.linalg.svd(scaled, full_matrices=False)
        return s, axes

    @cached_property
    def mean_spread(self) -> Float64[np.ndarray, "q"]:
        """Return the singular values of M, not centred."""
        return np.linalg.svd(self.means, compute_uv=False)

    @cached_property
    def crowding(self) -> Crowding:
        """Return how close the class means are to each other."""
        return crowding(self.coordinates)


def frame(sums: ClassSums) -> Frame:
    """Return the class means and the directions in which they differ, as far as float64 sums resolve them.

    Raises: DataError when fewer than two classes have samples.
    """
    if len(sums.counts) < 2:
        raise DataError("samples of one class only: collapse is a relation between classes, so give at least two")
    # Where activations are not finite, no metric of the layer has a value; the zeros are never read.
    means = (np.zeros_like(sums.sums) if sums.obstacle else sums.sums) / sums.counts[:, None]
    return _frame_of(sums.counts, means)


def _frame_of(counts: Int64[np.ndarray, "K"], means: Float64[np.ndarray, "K d"]) -> Frame:
    centred = means - means.mean(axis=0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    rounding = 16 * np.finfo(np.float64).eps * np.linalg.norm(means)
    r = min(int((s > rounding).sum()), len(counts) - 1)
    return Frame(counts=counts, means=means, basis=axes[:r], coordinates=centred @ axes[:r].T)


def permuted_frames(of: Frame, permuted: Permuted) -> Iterator[Frame]:
    """Yield the class means under each permutation; the sums are around the class means, so they keep their digits."""
    centre = of.means.mean(axis=0)
    K, N = len(of.means), len(permuted.true)
    for sums, labels in zip(permuted.sums, permuted.labels, strict=True):
        # How many samples of a permuted class (row) are of each true class (column): at most N numbers are not 0.
        origins = coo_array((np.ones(N), (labels, permuted.true)), shape=(K, K)).tocsr()
        means = (sums + origins @ (of.means - centre)) / of.counts[:, None]
        yield _frame_of(of.counts, means + centre)
