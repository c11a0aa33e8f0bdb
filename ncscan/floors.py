"""The smallest value that each within-class measure can resolve: what rounding alone would make of collapsed classes.

In: a LayerView, and the variance of the forward pass's rounding where that was measured. Out: a `Floor` a metric. Only
this file says which measures have a floor, and how it comes about.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.metrics import METRICS, LayerView
from ncscan.metrics.view import Metric
from ncscan.resolution import ulp
from ncscan.statistics import LayerStats, Weighting, between

Source = Literal["storage", "arithmetic"]
"""Whose rounding it is: of the numbers as they are stored, or of the forward pass that made them."""

AT_FLOOR = 10.0
"""A value under this many floors is within what rounding can do: the value is then known to a tenth at best."""


class Floor(NamedTuple):
    """What rounding alone would read."""

    value: float
    source: Source


def storage_noise(stats: LayerStats) -> Float64[np.ndarray, "K d"]:
    """Variance that rounding to the storage precision gives each feature of each class: ulp_p(μ_cj)²/12."""
    noise: Float64[np.ndarray, "K d"] = ulp(stats.means, stats.precision) ** 2 / 12
    return noise


def pooled(noise: Float64[np.ndarray, "K d"], stats: LayerStats) -> Float64[np.ndarray, "d"]:
    """The diagonal of Σ_W that such noise makes: F_j = Σ_c (n_c/N) ulp_p(μ_cj)²/12, its sum F."""
    diagonal: Float64[np.ndarray, d] = stats.counts @ noise / stats.n_samples
    return diagonal


def floors(view: LayerView, arithmetic: Float64[np.ndarray, "d"] | None = None) -> dict[str, Floor]:
    """The floor of every measure that has one: the measure itself, with Σ_W = diag(F_j).

    Of storage and arithmetic the larger counts, measure by measure. A dump alone knows only its storage.

    Args:
        view: any layer.
        arithmetic: (d,), the mean squared difference of each feature from a float64 replay: `forward_noise`.

    Returns: measures whose value is undefined have no floor either.
    """
    noises: list[tuple[Source, Float64[np.ndarray, "K d"]]] = [("storage", storage_noise(view.stats))]
    if arithmetic is not None:
        noises.append(("arithmetic", np.tile(arithmetic, (view.stats.n_classes, 1))))
    found: dict[str, Floor] = {}
    for source, noise in noises:
        of_noise = replace(view, stats=_collapsed(view.stats, noise))
        for name, how, _ in FLOORS:
            value = _attempt(how, name, of_noise, noise)
            if value is not None and (name not in found or value > found[name].value):
                found[name] = Floor(value, source)
    return found


def floor_of(
    metric: str, weighting: Weighting, stats: LayerStats, arithmetic: Float64[np.ndarray, "d"] | None = None
) -> Floor | None:
    """The floor of one row of the table; None where the measure has none, or no value."""
    return floors(LayerView(stats, weighting), arithmetic).get(metric)


def is_at_floor(value: float, floor: Floor) -> bool:
    """Whether a value is so small that rounding may have made it: under AT_FLOOR floors. 0 means "less than that".

    >>> is_at_floor(3e-9, Floor(1e-9, "storage")), is_at_floor(3e-8, Floor(1e-9, "storage"))
    (True, False)
    """
    return value < AT_FLOOR * floor.value


def _collapsed(stats: LayerStats, noise: Float64[np.ndarray, "K d"]) -> LayerStats:
    """The same class means, around which there is nothing but independent rounding of each feature."""
    U = stats.basis
    return replace(
        stats, within=stats.counts * noise.sum(axis=1), projected=stats.n_samples * (U * pooled(noise, stats)) @ U.T
    )


Recipe = Callable[[str, LayerView, Float64[np.ndarray, "K d"]], float]


def _metric_itself(name: str, view: LayerView, _noise: Float64[np.ndarray, "K d"]) -> float:
    """What the measure reads where Σ_W is rounding; Undefined where this version does not have it."""
    metric = _BY_NAME[name]
    found = metric.function(view)
    value = next(iter(found.values())) if isinstance(found, Mapping) else found
    if isinstance(value, Undefined):
        raise value
    return value


def _vci(_name: str, view: LayerView, noise: Float64[np.ndarray, "K d"]) -> float:
    """1 − tr(Σ_T⁺Σ_B)/r with Σ_T = Σ_B + diag(F_j), without a d×d matrix.

    With Σ_B = AAᵀ, A of d×r, and S = Aᵀ diag(F_j)⁻¹ A it is tr((I + S)⁻¹)/r. F_j is zero only where all means are, and
    there A has a row of zeros.
    """
    stats = view.stats
    squares, axes = between(stats, "sample")
    F = pooled(noise, stats)
    A = (axes @ stats.basis).T * np.sqrt(squares)
    rounded = F > 0
    S = (A[rounded].T / F[rounded]) @ A[rounded]
    return float(np.mean(1 / (1 + np.linalg.eigvalsh(S))))


FLOORS: tuple[tuple[str, Recipe, str], ...] = (
    ("nc1_pinv", _metric_itself, "(1/K) Σ_j F_j (Σ_B⁺)_jj"),
    ("nc1_trace", _metric_itself, "F / tr Σ_B"),
    ("nc1_normalized", _metric_itself, "F / (F + tr Σ_B)"),
    ("cdnv", _metric_itself, "the formula with v_c = Σ_j ulp_p(μ_cj)²/12"),
    ("vci", _vci, "tr((I + S)⁻¹)/rank Σ_B, S = Aᵀ diag(F_j)⁻¹ A, AAᵀ = Σ_B"),
    ("separation", _metric_itself, "Σ_j F_j (Σ_B⁺)_jj, weighting by samples"),
)
"""Every measure that has a floor, how it is had, and as a formula. All others rest on class means, on decisions or
on angles, where rounding moves a value that is not small: those have none."""

_BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}


def _attempt(how: Recipe, name: str, view: LayerView, noise: Float64[np.ndarray, "K d"]) -> float | None:
    if view.stats.obstacle or name not in _BY_NAME:
        return None
    try:
        return how(name, view, noise)
    except Undefined:
        return None
