"""What of the scatter within classes, along the directions in which classes differ, no other direction foretells.

In: Gram matrices of samples minus their class mean. Out: an r×r matrix, which is all that `vci` needs to know of the
spectrum of Σ_T: with S = P − Q R⁺ Qᵀ the Schur complement of Σ_W = [[P, Q], [Qᵀ, R]] in the span of M̃ and outside,
tr(Σ_T⁺Σ_B) = tr((S + Σ_B)⁻¹Σ_B). So nothing is inverted but R, and collapse is not the difference of two large numbers.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.linalg import lapack, solve_triangular

from ncscan.resolution import RESOLVED


@dataclass(frozen=True)
class Unexplained:
    """Within-class scatter in the span of the class means, less what the other directions say of it."""

    scatter: Float64[np.ndarray, "r r"]
    """Σ over samples, in the basis of the frame."""
    trivial: bool
    """Whether the other directions are as many as the samples leave free: then they foretell anything."""
    resolved: float = 0.0
    """A direction with less scatter is rounding, and foretells nothing."""


def unexplained(
    gram: Float64[np.ndarray, "d d"],
    rounding: Float64[np.ndarray, "d d"] | None,
    basis: Float64[np.ndarray, "r d"],
    projected: Float64[np.ndarray, "r r"],
    freedom: int,
    storage: float,
) -> Unexplained:
    """S = P − Q R⁺ Qᵀ, with R⁺ over the directions that a pivoted Cholesky decomposition resolves: d³/3 products.

    Args:
        gram: Σ x_i x_iᵀ of samples minus their class mean, upper triangle.
        rounding: what rounding did to it, per unit of its trace, where it was not summed in float64.
        basis: orthonormal rows U, the directions in which classes differ.
        projected: P = Σ (U x_i)(U x_i)ᵀ, more exact than `gram` where that comes from float32 products.
        freedom: degrees of freedom of samples minus their class mean: N less the number of classes.
        storage: what rounding of the stored activations can give a singular value. Directions under it are rounding,
            and as many of them as there are samples would foretell anything.
    """
    d = len(gram)
    full = gram + np.triu(gram, 1).T
    along = basis @ full
    Q = along - (along @ basis.T) @ basis
    R = full - basis.T @ along - Q.T @ basis
    trace = float(np.trace(gram))
    error = np.finfo(np.float64).eps * trace
    if rounding is not None:
        # The norm of a symmetric matrix of independent entries is 2/√d of its Frobenius norm; √2: of one triangle.
        error += 2 * np.sqrt(2 / d) * float(np.linalg.norm(rounding)) * trace
    resolved = max(RESOLVED * error, storage**2)
    if np.diag(R).max(initial=0.0) <= resolved:  # LAPACK takes a first pivot whatever it is
        return Unexplained(projected, trivial=False, resolved=resolved)
    upper, pivots, rank, _ = lapack.dpstrf(R, tol=resolved)
    chosen = pivots[:rank] - 1  # LAPACK counts from 1
    foretold = solve_triangular(upper[:rank, :rank], Q[:, chosen].T, trans="T")
    S = projected - foretold.T @ foretold
    return Unexplained(S, trivial=bool(rank >= freedom), resolved=resolved)
