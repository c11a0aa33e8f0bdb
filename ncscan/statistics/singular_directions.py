"""Compute the strongest input directions of a matrix, as far as its precision resolves them.

In: a matrix as stored. Out: singular values and vectors. The only decomposition of wide matrices that keeps vectors.
"""

import numpy as np
from jaxtyping import Float, Float64
from scipy.linalg import eigh

from ncscan.errors import Undefined
from ncscan.statistics.precision import storage_tolerance, unit_exponent

_DECOMPOSED_WHOLE = 1024
"""Up to this width all singular vectors are computed; beyond it only those asked for, from the Gram matrix."""


def strongest_directions(
    W: Float[np.ndarray, "m n"], k: int
) -> tuple[Float64[np.ndarray, "j"], Float64[np.ndarray, "j n"]]:
    """Return the k largest singular values of W above rounding, and their right singular vectors as rows.

    Args:
        W: (m, n), as stored: its type decides what is rounding.
        k: how many are asked.

    Returns: j ≤ k of each, in decreasing order; none for a matrix that is zero.

    Raises: Undefined when W is not finite.

    >>> s, axes = strongest_directions(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]), 2)
    >>> s.tolist(), np.abs(axes).tolist()
    ([2.0, 1.0], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    """
    exact = W.astype(np.float64)
    if not np.isfinite(exact).all():
        raise Undefined("not finite")
    exponent = unit_exponent(float(np.abs(exact).max(initial=0.0)))
    tolerance = np.ldexp(storage_tolerance(exact, str(W.dtype)), -exponent)
    exact = np.ldexp(exact, -exponent) if exponent else exact
    m, n = W.shape
    k = min(k, m, n)
    if min(m, n) <= _DECOMPOSED_WHOLE:
        _, s, axes = np.linalg.svd(exact, full_matrices=False)
        s, axes = s[:k], axes[:k]
    else:
        gram = exact.T @ exact if n <= m else exact @ exact.T
        squares, vectors = eigh(gram, subset_by_index=(len(gram) - k, len(gram) - 1), overwrite_a=True)
        s, axes = np.sqrt(np.maximum(squares[::-1], 0.0)), vectors.T[::-1]
        if n > m:
            axes = axes @ exact / np.maximum(s, np.finfo(np.float64).tiny)[:, None]
    # A Gram matrix squares the condition number: under √eps of the largest it says nothing.
    squared = 0.0 if min(m, n) <= _DECOMPOSED_WHOLE else 1e-7 * float(s[0])
    rank = int((s > max(tolerance, squared)).sum())
    return np.ldexp(s[:rank], exponent), axes[:rank]
