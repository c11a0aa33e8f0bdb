"""Spectra of layers that are too wide for a Gram matrix: one thin product a pass, and how far it can be trusted.

In: activations, block by block, or the products of both passes. Out: `Sketch` (mergeable sums) and `Bracket`s, the
intervals in which spectral numbers lie for certain. Only numpy; the passes multiply on whatever device they like.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.sparse.linalg import LinearOperator, eigsh

from ncscan.errors import DataError, Undefined

OVERSAMPLING, FEWEST = 4, 64
"""A sketch has l = max(4k, 64) columns, to see k directions well."""

RESOLVED_RANK = 1e-6
"""Where the remainder is under this share of λ_1, no direction with s > 1e-3 s_1 is left in it."""

RESOLVED_ENTROPY = 0.01
"""What is left may add this share to Σ√λ: beyond it the entropy of the singular values is not known."""

_EPS = float(np.finfo(np.float64).eps)

_SMALL = 256
"""Up to this order computing all eigenvalues takes no time."""


def first_columns(d: int, k: int, seed: int = 0) -> Float64[np.ndarray, "d l"]:
    """Return Ω of the first pass: l = max(4k, 64) random orthonormal columns, at most d, the same for a seed."""
    width = min(d, max(OVERSAMPLING * k, FEWEST))
    columns: np.ndarray = np.linalg.qr(np.random.default_rng([seed, d]).standard_normal((d, width)))[0]
    return columns


@dataclass(frozen=True)
class Sketch:
    """Σ x (xᵀΩ) of rows x, for an Ω of orthonormal columns: all that one pass keeps of HᵀH."""

    columns: Float64[np.ndarray, "d l"]
    """Ω."""
    product: Float64[np.ndarray, "d l"]
    """Y = HᵀHΩ."""
    square: float
    """‖H‖_F²."""

    def __add__(self, other: "Sketch") -> "Sketch":
        """Return the sums over both sets of rows, sketched with the same Ω."""
        if not np.array_equal(self.columns, other.columns):
            raise DataError("two sketches of different columns cannot be merged: sketch both shards with one seed")
        return replace(self, product=self.product + other.product, square=self.square + other.square)


@dataclass(frozen=True)
class Decomposition:
    """λ̂_i ≤ λ_i = s_i² ≤ λ̂_i + R holds for every i, λ̂_i = 0 beyond the sketch; only rounding breaks it."""

    values: Float64[np.ndarray, "l"]
    """λ̂_i in decreasing order."""
    vectors: Float64[np.ndarray, "d l"]
    """Orthonormal vectors of the λ̂_i."""
    remainder: float
    """R = ‖H‖_F² − Σλ̂_i, which is what the sketch did not see."""
    square: float
    """‖H‖_F²."""


def decompose(sketch: Sketch) -> Decomposition:
    """Return the Nyström approximation of HᵀH from one product.

    Â = Y(ΩᵀY)⁻¹Yᵀ is computed for HᵀH + νI with a tiny shift ν.

    Â ≤ HᵀH in the order of semidefinite matrices, and tr(HᵀH − Â) = R bounds every eigenvalue of the difference:
    that is the bracket. A second pass with Ω = the vectors of the first tightens it.

    Args:
        sketch: of one pass over all rows.

    Source: Tropp, Yurtsever, Udell and Cevher 2017, algorithm 3; Gittens and Mahoney 2013.

    >>> H = np.diag([3.0, 2.0, 0.0])
    >>> found = decompose(Sketch(np.eye(3, 2), H.T @ H @ np.eye(3, 2), 13.0))
    >>> found.values.round(9).tolist(), bool(found.remainder < 1e-12)
    ([9.0, 4.0], True)
    """
    Omega, Y = sketch.columns, sketch.product
    size = float(np.linalg.norm(Y))
    if size == 0:
        return Decomposition(np.zeros(Omega.shape[1]), Omega, sketch.square, sketch.square)
    shift = np.sqrt(len(Y)) * _EPS * size
    shifted = Y + shift * Omega
    core = Omega.T @ shifted
    inner, axes = np.linalg.eigh((core + core.T) / 2)
    # Directions under the shift are rounding; as large as the shift they can only make Â smaller, so it stays a bound.
    root = shifted @ (axes / np.sqrt(np.maximum(inner, shift)))
    vectors, s, _ = np.linalg.svd(root, full_matrices=False)
    values = np.maximum(s**2 - shift, 0.0)
    rounding = len(values) * shift
    remainder = float(max(sketch.square - values.sum(), 0.0) + rounding)
    return Decomposition(values, vectors, remainder, sketch.square)


class Bracket(NamedTuple):
    """A number of which only this is certain: low ≤ number ≤ high."""

    value: float
    """The value to show: the best guess between."""
    low: float
    high: float | None
    """The upper end; None where nothing bounds it from above."""


def stable_rank(found: Decomposition) -> Bracket:
    """Return ‖H‖_F²/‖H‖², whose numerator is known."""
    first = _nonzero(found)
    return Bracket(found.square / first, max(1.0, found.square / (first + found.remainder)), found.square / first)


def participation_ratio(found: Decomposition, full: int) -> Bracket:
    """Return (Σλ)²/Σλ², Σλ known.

    What is left adds least to Σλ² when spread over all other directions, most in the first.

    Args:
        found: of all rows.
        full: min(N, d), how many eigenvalues there can be.
    """
    first, R, known = _nonzero(found), found.remainder, float((found.values**2).sum())
    # Numbers e_i ≥ 0 with sum R are added to λ̂_i: Σ(λ̂_i + e_i)² grows most with all in the first, by R²/full at least.
    least, most = known + R**2 / max(full, 1), known + 2 * first * R + R**2
    # The best guess: what was not seen lies in the directions that were not seen, all alike.
    guess = known + R**2 / max(full - len(found.values), 1)
    square = found.square**2
    return Bracket(square / guess, max(1.0, square / most), square / least)


def numerical_rank(found: Decomposition) -> Bracket:
    """Return #{s_i > 1e-3 s_1}.

    It is bracketed where R ≤ 1e-6 λ̂_1, for then nothing that counts is left; else it is a lower bound.
    """
    first, R = _nonzero(found), found.remainder
    low = float((found.values > RESOLVED_RANK * (first + R)).sum())
    if R > RESOLVED_RANK * first:
        return Bracket(low, low, None)
    high = float((found.values + R > RESOLVED_RANK * first).sum())
    return Bracket(float((found.values > RESOLVED_RANK * first).sum()), low, high)


def effective_rank(found: Decomposition, full: int) -> Bracket:
    """Return exp(entropy of s/Σs), where what is left cannot add more than 1 % to Σs: √(min(N, d)·R) ≤ 0.01 Σ√λ̂.

    Raises: Undefined where it can.
    """
    _nonzero(found)
    s = np.sqrt(found.values[found.values > 0])
    hidden = float(np.sqrt(full * found.remainder))
    if hidden > RESOLVED_ENTROPY * s.sum():
        raise Undefined("tail not resolved: what the sketch did not see may add more than 1 % to the singular values")
    share = s / s.sum()
    entropy = float(-(share * np.log(share)).sum())
    # Moving a share t of the mass changes an entropy over m outcomes by at most t log m + h(t) (Fannes, Audenaert).
    t = hidden / (s.sum() + hidden)
    moved = t * np.log(max(full, 2)) + (-t * np.log(t) - (1 - t) * np.log1p(-t) if t > 0 else 0.0)
    return Bracket(float(np.exp(entropy)), float(np.exp(max(entropy - moved, 0.0))), float(np.exp(entropy + moved)))


def operator_ratio(part: Decomposition, whole: Decomposition) -> Bracket:
    """Return ‖min(Z, 0)‖/‖Z‖ from the sketches of both, with the error of both."""
    top, over = _nonzero(part) if part.square else 0.0, _nonzero(whole)
    value, low, high = np.sqrt([top / over, top / (over + whole.remainder), (top + part.remainder) / over]).tolist()
    return Bracket(value, low, high)


def largest_eigenvalue(upper: Float64[np.ndarray, "n n"]) -> float:
    """Return the largest eigenvalue of a semidefinite matrix given by its upper triangle.

    It takes a few dozen products with it, where all eigenvalues would take n³.

    >>> largest_eigenvalue(np.array([[2.0, 1.0], [0.0, 2.0]]))
    3.0
    """
    n = len(upper)
    if n <= _SMALL or not upper.any():
        return float(np.linalg.eigvalsh(upper, UPLO="U")[-1]) if n else 0.0
    diagonal = np.diag(upper)
    product = LinearOperator((n, n), matvec=lambda v: upper @ v + upper.T @ v - diagonal * v, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)  # ARPACK's own would differ from call to call
    return float(eigsh(product, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


def _nonzero(found: Decomposition) -> float:
    if not len(found.values) or found.values[0] == 0:
        raise Undefined("all activations are zero")
    return float(found.values[0])
