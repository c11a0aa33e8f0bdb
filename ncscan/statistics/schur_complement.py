"""Compute the scatter within classes, along the directions in which classes differ, that no other direction predicts.

In: Gram matrices of samples minus their class mean. Out: k×k matrices, which are all that `vci` needs to know of the
spectrum of Σ_T: with S = P − Q R⁺ Qᵀ the Schur complement of Σ_W = [[P, Q], [Qᵀ, R]] in the span of M̃ and outside,
tr(Σ_T⁺Σ_B) = tr((S + Σ_B)⁻¹Σ_B). So nothing is inverted but R, and collapse is not the difference of two large numbers.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ncscan.statistics.precision import RESOLVED

ARITHMETIC = 300.0
"""So many times the rounding of storage a forward pass in float32 can leave in a square: six layers of 512 features."""


@dataclass(frozen=True)
class Unexplained:
    """The within-class scatter in the span of the class means, less what the other directions predict of it.

    Sums over samples, in the axes in which Σ_B (weighted by samples) is diagonal.
    """

    scatter: Float64[np.ndarray, "k k"]
    """The scatter that is left by the directions which storage resolves."""
    trivial: bool
    """Whether these are as many as the samples leave free: then they predict anything."""
    doubtful: float = 0.0
    """Directions that may be rounding or not, as a share of what the samples leave free: S would change by as much, if
    they were counted otherwise and foretold no more than directions at random do."""


def unexplained(
    gram: Float64[np.ndarray, "d d"],
    rounding: Float64[np.ndarray, "d d"] | None,
    axes: Float64[np.ndarray, "k d"],
    projected: Float64[np.ndarray, "k k"],
    above: Float64[np.ndarray, "k"],
    freedom: int,
    storage: float,
) -> Unexplained:
    """Return S = P − Q R⁺ Qᵀ over the directions that an eigendecomposition of Σ_W resolves: one of order d.

    Neither single pivots nor the eigenvalues of R decide which those are: rounding tilts U, and a direction of nothing
    but rounding, seen at a right angle to the tilted U, has a share of what lies along U, which it predicts exactly.

    Args:
        gram: Σ x_i x_iᵀ of samples minus their class mean, upper triangle.
        rounding: what rounding did to it, per unit of its trace, where it was not summed in float64.
        axes: orthonormal rows U, the directions in which classes differ beyond rounding.
        projected: P = Σ (U x_i)(U x_i)ᵀ, more exact than `gram` where that comes from float32 products.
        above: squared, how many times the rounding of the means they differ along each axis.
        freedom: degrees of freedom of samples minus their class mean: N less the number of classes.
        storage: what rounding of the stored activations can give a singular value. Directions under it are rounding,
            and as many of them as there are samples would predict anything.
    """
    d = len(gram)
    trace = float(np.trace(gram))
    error = np.finfo(np.float64).eps * trace
    if rounding is not None:
        # The norm of a symmetric matrix of independent entries is 2/√d of its Frobenius norm; √2: of one triangle.
        error += 2 * np.sqrt(2 / d) * float(np.linalg.norm(rounding)) * trace
    computed = RESOLVED * error
    resolved = max(computed, storage**2)
    full = gram + np.triu(gram, 1).T
    along = axes @ full
    # In units of rounding, scatter and class means together span what counts; no share of U below its own rounding.
    # Where the means stand further above theirs than the scatter is large, more of them would only blur it.
    beside = np.minimum(storage**2 * above, trace / max(len(axes), 1))
    values, vectors = np.linalg.eigh(full + (axes.T * beside) @ axes)
    counted = values > resolved
    scale, kept = np.sqrt(values[counted]), vectors[:, counted]
    _, cosines, inside = np.linalg.svd(axes @ kept, full_matrices=False)
    inside = inside[cosines > _INSIDE]
    shared = along @ kept
    shared -= (shared @ inside.T) @ inside
    # R⁻¹ among the eigenvectors: what is left of their 1/Λ outside U.
    shared /= scale
    outside = np.linalg.qr((inside / scale).T)[0]
    shared -= (shared @ outside) @ outside.T
    predictors = len(scale) - len(inside)
    doubtful = np.count_nonzero(np.diag(gram)) - (values > max(computed, ARITHMETIC * storage**2)).sum()
    return Unexplained(
        scatter=projected - shared @ shared.T,
        trivial=predictors >= freedom,
        doubtful=float(doubtful / max(freedom - predictors, 1)),
    )


_INSIDE = 0.5
"""The cosine above which a direction lies in a space that is known but for rounding."""
