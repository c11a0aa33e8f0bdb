"""The singular values of a layer's activations, from Gram matrices: those above rounding, and the rest.

In: the sums of the second pass. Out: `Spectrum` of Z, `Negative` of its negative part.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from ncscan.statistics.mean_frame import Frame
from ncscan.statistics.partial_sums import Scatter
from ncscan.statistics.precision import RESOLVED, eigenvalues, float_format
from ncscan.statistics.sketch import Decomposition, decompose, largest_eigenvalue


@dataclass(frozen=True)
class Spectrum:
    """The singular values of Z, from its Gram matrix: exact down to what that resolves."""

    values: Float64[np.ndarray, "r"]
    """The values that are resolved, in decreasing order: non-zero beyond doubt, and right to 1 %."""
    full: int
    """The number of values that Z could have: min(N, columns that are not all zero)."""
    storage: float
    """A singular value under this may be no more than the rounding of the stored activations."""
    resolution: float
    """A singular value under this may be rounding of the Gram matrix: the first unresolved one, with its error."""
    reason: str
    """Why there are no values, else empty."""
    sketch: Decomposition | None = None
    """The top of it where the layer is too wide for a Gram matrix, with what is left."""

    @property
    def rank(self) -> int:
        """Return how many singular values are resolved."""
        return len(self.values)

    @property
    def complete(self) -> bool:
        """Return whether nothing that storage would have kept can hide under the resolution."""
        return self.rank == self.full or self.resolution <= self.storage


@dataclass(frozen=True)
class Negative:
    """The part of Z that a ReLU removes, min(Z, 0)."""

    square: float
    """Its squared Frobenius norm."""
    largest: float | None
    """Its operator norm, None where the layer is too wide for a Gram matrix."""
    sketch: Decomposition | None = None


def spectrum_of(of: Frame, scatter: Scatter, precision: str, too_wide: str, exponent: int) -> Spectrum | None:
    """Return the singular values of Z, from ZᵀZ or ZZᵀ, whichever was accumulated."""
    if too_wide:
        found = None if scatter.sketch is None else decompose(scatter.sketch)
        return Spectrum(np.zeros(0), min(int(of.counts.sum()), of.means.shape[1]), 0.0, 0.0, too_wide, found)
    N, d = int(of.counts.sum()), of.means.shape[1]
    if scatter.gram is not None:
        # ZᵀZ = Σ x_i x_iᵀ + Σ_c n_c μ_c μ_cᵀ, the second term exact in float64.
        gram = scatter.gram + np.triu((of.means.T * of.counts) @ of.means)
        live = np.flatnonzero(np.diag(gram))  # a dead unit is an exact zero, which rounding must not blur
        inside = np.ix_(live, live)
        rounding = None if scatter.gram_error is None else scatter.gram_error[inside] * scatter.within.sum()
        squares, errors = eigenvalues(gram[inside], rounding)
        full = min(N, len(live))
    elif scatter.rows is not None:
        squares, errors = eigenvalues(_row_gram(scatter.rows), None)
        full = min(N, int(scatter.rows.any(axis=0).sum()))
    else:
        return None
    values, resolutions = (np.sqrt(np.maximum(x[:full], 0.0)) for x in (squares, RESOLVED * errors))
    storage = storage_noise(float(squares.sum()), N, d, precision, exponent)
    counted = values > np.maximum(resolutions, storage)
    rank = full if counted.all() else int(np.argmin(counted))
    return Spectrum(values[:rank], full, storage, float(resolutions[rank]) if rank < full else 0.0, "")


def storage_noise(total_square: float, N: int, d: int, precision: str, exponent: int) -> float:
    """Return what rounding to the storage precision can give a singular value of Z: (√N + √d)·2ω_p.

    As rounding of independent entries: N×d of them of variance ω_p² ≤ (2^{1−p} rms)²/12, and twice that to be safe.
    Under the smallest normal number the steps of a format no longer shrink.
    """
    _, digits, min_exponent = float_format(precision)
    normal = np.ldexp(1.0, min(min_exponent - exponent, 1023)) / np.sqrt(12)
    ulps = 2.0 ** (1 - digits) * max(np.sqrt(max(total_square, 0.0) / (N * d) / 12), normal)
    return float(2 * (np.sqrt(N) + np.sqrt(d)) * ulps)


def negative_of(scatter: Scatter) -> Negative | None:
    if scatter.negative_square is None:
        return None
    gram = scatter.negative_gram
    if gram is None and scatter.rows is not None:
        gram = _row_gram(np.minimum(scatter.rows, 0))
    if gram is None:
        sketch = scatter.negative_sketch
        return Negative(scatter.negative_square, None, None if sketch is None else decompose(sketch))
    return Negative(scatter.negative_square, float(np.sqrt(max(largest_eigenvalue(np.triu(gram)), 0.0))))


def _row_gram(rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n n"]:
    """Return ZZᵀ in float64, some columns at a time: no copy of all of Z."""
    gram = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], 4096):
        columns = rows[:, start : start + 4096].astype(np.float64)
        gram += columns @ columns.T
    return gram
