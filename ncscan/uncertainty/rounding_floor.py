"""Compute the smallest value that each within-class measure can resolve: what rounding makes of collapsed classes.

In: a LayerView, and the variance of the forward pass's rounding where that was measured. Out: a `Floor` a metric. Only
this file decides which measures have a floor, and how large it is.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from ncscan.metrics import Key, LayerView, key_of, measure
from ncscan.statistics import LayerStats, Unexplained, between

RoundingSource = Literal["storage", "arithmetic"]
"""The origin of the rounding: the numbers as they are stored, or the forward pass that made them."""

AT_FLOOR = 10.0
"""A value under this many floors is within what rounding can do: the value is then known to a tenth at best."""


class Floor(NamedTuple):
    """The value that rounding alone would give."""

    value: float
    source: RoundingSource
    bounded: bool = False
    """Whether the measure ends at 1."""


def storage_noise(stats: LayerStats) -> Float64[np.ndarray, "K d"]:
    """Return the variance that rounding to the storage precision gives each feature of each class: ulp_p(μ_cj)²/12."""
    noise: Float64[np.ndarray, "K d"] = stats.ulps(stats.precision) ** 2 / 12
    return noise


def pooled(noise: Float64[np.ndarray, "K d"], stats: LayerStats) -> Float64[np.ndarray, "d"]:
    """Return the diagonal of Σ_W that such noise makes: F_j = Σ_c (n_c/N) ulp_p(μ_cj)²/12, its sum F."""
    diagonal: Float64[np.ndarray, d] = stats.counts @ noise / stats.n_samples
    return diagonal


def floors(view: LayerView, arithmetic: Float64[np.ndarray, "d"] | None = None) -> dict[Key, Floor]:
    """Return the floor of every row that has one: the measure itself, with Σ_W = diag(F_j).

    Of storage and arithmetic the larger counts, row by row. A dump alone knows only its storage.

    Args:
        view: any layer.
        arithmetic: (d,), the mean squared difference of each feature from a float64 replay: `forward_noise`.

    Returns: rows without a value have no floor either.
    """
    noises: list[tuple[RoundingSource, Float64[np.ndarray, "K d"]]] = [("storage", storage_noise(view.stats))]
    if arithmetic is not None:
        with np.errstate(over="ignore", under="ignore"):
            own = np.ldexp(arithmetic, -2 * view.stats.exponent)
        noises.append(("arithmetic", np.tile(own, (view.stats.n_classes, 1))))
    found: dict[Key, Floor] = {}
    bounded = {name: ends for name, ends, _ in FLOORS}
    for source, noise in noises:
        of_noise = replace(view, stats=_collapsed(view.stats, noise))
        for row in measure(of_noise, only=bounded):
            key = key_of(row)
            if row.value is not None and (key not in found or row.value > found[key].value):
                found[key] = Floor(row.value, source, bounded[row.metric])
    return found


def is_at_floor(value: float, floor: Floor) -> bool:
    """Return whether a value is so small that rounding may have made it: under AT_FLOOR floors.

    0 means "less than that".

    A measure that ends at 1 is compared as x/(1 − x): near 1 nothing is ten times the floor.

    >>> is_at_floor(3e-9, Floor(1e-9, "storage")), is_at_floor(3e-8, Floor(1e-9, "storage"))
    (True, False)
    >>> is_at_floor(0.999, Floor(0.9, "storage", bounded=True))
    False
    """
    if floor.bounded:
        return value * (1 - floor.value) < AT_FLOOR * floor.value * (1 - value)
    return value < AT_FLOOR * floor.value


def _collapsed(stats: LayerStats, noise: Float64[np.ndarray, "K d"]) -> LayerStats:
    """Return the same class means, around which there is nothing but independent rounding of each feature."""
    U, N, F = stats.basis, stats.n_samples, pooled(noise, stats)
    return replace(
        stats,
        within=stats.counts * noise.sum(axis=1),
        projected=N * (U * F) @ U.T,
        unexplained=None if stats.unexplained is None else _alone(stats, stats.unexplained, F),
        resolution=stats.tolerance,  # found already, of the same class means
    )


def _alone(stats: LayerStats, found: Unexplained, F: Float64[np.ndarray, "d"]) -> Unexplained:
    """Return what other directions do not predict of such noise: (U diag(F_j)⁻¹ Uᵀ)⁻¹, U the axes of Σ_B."""
    U = between(stats, "sample")[1] @ stats.basis
    inverse = np.divide(1.0, F, out=np.zeros_like(F), where=F > 0)  # F_j is 0 where all means are, so U
    alone = stats.n_samples * np.linalg.pinv((U * inverse) @ U.T, hermitian=True)
    return Unexplained(alone, trivial=found.trivial)


FLOORS: tuple[tuple[str, bool, str], ...] = (
    ("nc1_pinv", False, "(1/K) Σ_j F_j (Σ_B⁺)_jj"),
    ("nc1_trace", False, "F / tr Σ_B"),
    ("nc1_normalized", True, "F / (F + tr Σ_B)"),
    ("cdnv", False, "the formula with v_c = Σ_j ulp_p(μ_cj)²/12"),
    ("vci", True, "1 − tr(Σ_T⁺Σ_B)/rank Σ_B with Σ_T = Σ_B + diag(F_j)"),
    ("separation", False, "Σ_j F_j (Σ_B⁺)_jj, weighting by samples"),
)
"""Every measure that has a floor, whether it ends at 1, and the floor as a formula. All others rest on class means, on
decisions or on angles, where rounding moves a value that is not small: those have none."""
