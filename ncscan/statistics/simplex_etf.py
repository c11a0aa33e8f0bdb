"""The simplex ETF that lies nearest to a classifier, and where one fits at all.

In: the rows of a weight matrix. Out: rows of a simplex.
"""

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.statistics.precision import storage_tolerance


def nearest_simplex(W: Float64[np.ndarray, "K d"], precision: str = "float64") -> Float64[np.ndarray, "K d"]:
    """Return the simplex ETF nearest to W, up to scale: C W = U S Vᵀ, E = U Vᵀ over its K−1 directions, C = I − 11ᵀ/K.

    Every simplex is s·C R with orthonormal columns of R; ⟨W, C R⟩ = ⟨C W, R⟩ is largest at the polar factor of C W
    (Procrustes), and its scale s > 0 changes no decision.

    Args:
        W: (K, d), one row a class.
        precision: the format in which W was stored: what is rounding of it is no direction.

    Returns: (K, d), rows summing to zero, with E Eᵀ = C.

    Raises: Undefined when d < K − 1, when C W has fewer than K − 1 directions, or W is not finite.

    Source: Schönemann 1966 (Procrustes); Yang et al. 2022 (classifiers fixed to a simplex).

    >>> W = np.array([[3.0, 0.0], [0.0, 1.0]])
    >>> (nearest_simplex(W) @ nearest_simplex(W).T).round(12).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    K, d = W.shape
    require_room(d, K)
    if not np.isfinite(W).all():
        raise Undefined("the classifier's weights are not finite")
    u, s, vt = np.linalg.svd(W - W.mean(axis=0), full_matrices=False)
    if not s[K - 2] > storage_tolerance(W, precision):
        raise Undefined("the centred rows of the classifier span fewer than K − 1 directions: no simplex is nearest")
    nearest: Float64[np.ndarray, "K d"] = u[:, : K - 1] @ vt[: K - 1]
    return nearest


def require_room(n_features: int, n_classes: int) -> None:
    """Raise Undefined when K points cannot be equally far from each other in d dimensions."""
    if n_features < n_classes - 1:
        raise Undefined(f"d = {n_features} < K − 1 = {n_classes - 1}: no simplex fits")
