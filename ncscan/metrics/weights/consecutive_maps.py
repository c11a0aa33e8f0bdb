"""Measure linear maps in a chain: whether one reads the directions that the one before writes, and how norms differ.

In: matrices. Out: one number each.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from ncscan.errors import Undefined
from ncscan.statistics import storage_tolerance, strongest_directions, unit_exponent


def alignment(
    first: Float[np.ndarray, "n m"], following: Float[np.ndarray, "p n"], n_classes: int
) -> tuple[float, int]:
    """Return how far a linear map listens where the one before it speaks: mean singular value of V_j(W₂)ᵀ U_j(W₁).

    U_j are the j strongest output directions of W₁, V_j the j strongest input directions of W₂, j = min(K, ranks).
    Single directions would be undefined where s_1 ≈ s_2, as at collapse.

    Args:
        first: W₁ (n, m), as stored.
        following: W₂ (p, n), which reads what W₁ writes.
        n_classes: K.

    Returns: the mean cosine of principal angles, in [0, 1], 1 under exact balance; and j.

    Raises:
        Undefined: when a linear map is zero or not finite, j = n, or one has no j strongest directions: s_j = s_{j+1}.

    Source: Ji and Telgarsky 2019.

    >>> alignment(np.eye(4)[:, :2], np.eye(4)[:2], 2)
    (1.0, 2)
    """
    found = [strongest_directions(W, n_classes + 1) for W in (first.T, following)]
    j = min(n_classes, *(len(s) for s, _ in found))
    n = len(first)
    if j == 0:
        raise Undefined("a map is zero")
    if j == n:
        raise Undefined(f"trivial: j = {j} directions are all that the maps share")
    for (s, _), W in zip(found, (first, following), strict=True):
        resolved = 100 * storage_tolerance(W.astype(np.float64), str(W.dtype))  # turns the directions by 1 % at most
        if len(s) > j and s[j - 1] - s[j] < resolved:
            raise Undefined(f"s_{j} = s_{j + 1}: no {j} directions are the strongest")
    U, V = (axes[:j] for _, axes in found)
    return float(np.linalg.svd(V @ U.T, compute_uv=False).mean()), j


def norm_spread(maps: Sequence[Float64[np.ndarray, "..."]]) -> float:
    """Return how unequal the linear maps are in size: std_ℓ‖W_ℓ‖_F / mean_ℓ‖W_ℓ‖_F, with ddof 0.

    Args:
        maps: two or more, not all zero.

    Returns: ≥ 0, no unit; 0 at every critical point, where the linear maps are homogeneous and decayed alike.

    Source: Rangamani and Banburski-Fahey 2022.

    >>> norm_spread([np.array([[1.0]]), np.array([[3.0]])])
    0.5
    """
    largest = max(float(np.abs(W).max(initial=0.0)) for W in maps)
    exponent = unit_exponent(largest)
    sizes = np.array([np.linalg.norm(np.ldexp(W, -exponent) if exponent else W) for W in maps])
    return float(np.std(sizes) / np.mean(sizes))
