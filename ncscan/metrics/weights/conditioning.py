"""Compute the conditioning of one matrix from the singular values that rounding resolves.

In: a matrix and its tolerance. Out: `Condition`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.statistics import true_value, unit_exponent

SIZES = ("condition", "s_1", "s_r", "stable_rank", "fro")
"""The quantities of a single linear map."""


@dataclass(frozen=True)
class Condition:
    """The sizes of a matrix over its non-zero singular values."""

    condition: float
    s_1: float
    s_r: float
    stable_rank: float
    fro: float
    rank: int


def condition(W: Float64[np.ndarray, "n m"], tolerance: float) -> Condition:
    """Return κ(W) = s_1/s_r over the r singular values above the tolerance.

    Args:
        W: any matrix (n, m).
        tolerance: what rounding alone can give a singular value: `storage_tolerance` of precision.py.

    Returns: κ ≥ 1, no unit, 1 where the r singular values are equal (a linear head at collapse); its rank r; s_1, s_r
        and ‖W‖_F in the unit of the weights; the stable rank ‖W‖_F²/‖W‖² in [1, r].

    Raises: Undefined when no singular value is above the tolerance, or W is not finite.

    Source: Jacot, Súkeník, Wang and Mondelli 2024.

    >>> condition(np.diag([3.0, 1.5, 0.0]), 1e-9).condition
    2.0
    """
    if not np.isfinite(W).all():
        raise Undefined("the map is not finite")
    exponent = unit_exponent(float(np.abs(W).max(initial=0.0)))
    W, tolerance = np.ldexp(W, -exponent) if exponent else W, float(np.ldexp(tolerance, -exponent))
    s = np.linalg.svd(W, compute_uv=False)
    rank = int((s > tolerance).sum())
    if rank == 0:
        raise Undefined("the map is zero")
    square = float((W**2).sum())
    return Condition(
        condition=float(s[0] / s[rank - 1]),
        s_1=true_value(s[0], exponent),
        s_r=true_value(s[rank - 1], exponent),
        stable_rank=square / float(s[0]) ** 2,
        fro=true_value(np.sqrt(square), exponent),
        rank=rank,
    )
