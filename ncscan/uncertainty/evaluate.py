"""Add to every number of a layer what rounding, other samples and chance would read, and how sure an estimate is.

In: a LayerView, with what the passes were asked to keep. Out: one `Honest` row a number. The one function that a report
calls for all of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.metrics import Key, LayerView, Row, key_of, measure
from ncscan.statistics import Bracket, effective_rank, numerical_rank, operator_ratio, participation_ratio, stable_rank
from ncscan.uncertainty.bootstrap import Interval, bootstrap
from ncscan.uncertainty.chance import CLOSED_FORMS, Chance, is_chance, permutation_baseline, random_directions
from ncscan.uncertainty.rounding_floor import Floor, floors, is_at_floor

Kind = TypeVar("Kind")

MOST_DRAWN = 100
"""Up to so many classes random directions are drawn; beyond, their formulas give the mean alone."""

_COLLAPSE = {"nc3_subspace": 1.0}
"""The value at collapse where that is not 0, for the measures that have a chance level."""


@dataclass(frozen=True)
class Honest:
    """A row, and what to compare it with; None where there is nothing."""

    row: Row
    """The row, with the estimate as its value where the spectrum was sketched."""
    low: float | None = None
    """The ends of what is certain for an estimate; else those of 95 % of the resamples."""
    high: float | None = None
    floor: Floor | None = None
    at_floor: bool | None = None
    chance: Chance | None = None
    """The chance level of directions at random."""
    permuted: Chance | None = None
    """The chance level of permuted labels."""
    is_chance: bool | None = None
    """Whether the value is no nearer to collapse than either of them reads."""


def honest(
    view: LayerView, *, resamples: int = 0, seed: int = 0, arithmetic: Float64[np.ndarray, "d"] | None = None
) -> list[Honest]:
    """Return every row of a layer with its floor, interval and chance levels, in the order of the table.

    Args:
        view: a layer. Intervals need `stats.samples`, levels of permuted labels `stats.permuted`.
        resamples: B of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
        arithmetic: (d,), the mean squared rounding of the forward pass, where it was measured.
    """
    stats = view.stats
    samples, shuffled = stats.samples, stats.permuted
    wanted = resamples > 0 and samples is not None
    intervals = _or_none(lambda: bootstrap(view, samples, resamples, seed) if wanted and samples is not None else {})
    permuted = _or_none(lambda: permutation_baseline(view, shuffled) if shuffled is not None else {})
    floor = _or_none(lambda: floors(view, arithmetic))
    chance = chance_levels(stats.n_classes, stats.n_features, centred_rows=view.is_partial)
    estimate = estimates(view)
    rows = [_estimated(row, estimate.get(key_of(row))) for row in measure(view)]
    return [_with_uncertainty(row, key_of(row), intervals, floor, chance, permuted, estimate) for row in rows]


def _or_none(compute: Callable[[], dict[Key, Kind]]) -> dict[Key, Kind]:
    """Return what is computed for the rows, or nothing where float64 cannot compute it: the rows themselves stay."""
    found = attempt(compute)
    return {} if isinstance(found, Undefined) else found


def estimated(view: LayerView) -> list[Row]:
    """Return every row of a layer, with a sketch's estimates in place of what only an exact spectrum could give."""
    estimate = estimates(view)
    return [_estimated(row, estimate.get(key_of(row))) for row in measure(view)]


def _with_uncertainty(
    row: Row,
    key: Key,
    intervals: dict[Key, Interval],
    floor: dict[Key, Floor],
    chance: dict[str, Chance],
    permuted: dict[Key, Chance],
    estimate: dict[Key, Bracket | Undefined],
) -> Honest:
    if row.value is None:
        return Honest(row)
    own, level, shuffled = floor.get(key), None, permuted.get(key)
    if row.weighting != "sample" and not row.quantity:  # directions at random have classes of one size
        level = chance.get(row.metric)
    levels = [one for one in (level, shuffled) if one is not None]
    collapse = _COLLAPSE.get(row.metric, 0.0)
    ends = estimate.get(key, intervals.get(key))
    known = ends if isinstance(ends, Bracket | Interval) else None
    return Honest(
        row,
        low=known.low if known else None,
        high=known.high if known else None,
        floor=own,
        at_floor=is_at_floor(row.value, own) if own else None,
        chance=level,
        permuted=shuffled,
        is_chance=any(is_chance(row.value, one, collapse) for one in levels) if levels else None,
    )


@cache
def chance_levels(K: int, d: int, *, centred_rows: bool = False) -> dict[str, Chance]:
    """Return the values of directions at random, by metric: drawn, or by formula where there are many classes.

    `centred_rows` where rows of the classifier are taken minus their mean: then they are as centred means are.
    """
    if K <= MOST_DRAWN:
        return random_directions(K, d, centred_rows=centred_rows)
    found = {name: Chance(form(K, d), None, None) for name, form in CLOSED_FORMS}
    return found | ({"nc2_etf_w": found["nc2_etf"]} if centred_rows else {})


def estimates(view: LayerView) -> dict[Key, Bracket | Undefined]:
    """Return a sketch's estimates for a layer too wide for a Gram matrix, by row; none where the spectrum is exact."""
    spectrum, negative = view.stats.spectrum, view.stats.negative
    if view.stats.obstacle or spectrum is None or spectrum.sketch is None:
        return {}
    found, full = spectrum.sketch, spectrum.full
    part = None if negative is None else negative.sketch
    asked = {
        "stable_rank": lambda: stable_rank(found),
        "numerical_rank": lambda: numerical_rank(found),
        "participation_ratio": lambda: participation_ratio(found, full),
        "effective_rank": lambda: effective_rank(found, full),
        "feature_condition": _no_tail,
    }
    said: dict[Key, Bracket | Undefined] = {}
    for name, number in asked.items():
        try:
            said[name, "", "", ""] = number()
        except Undefined as why:
            said[name, "", "", ""] = why
    if part is not None and found.square > 0:
        said["negativity", "op", "", ""] = operator_ratio(part, found)
    return said


def _no_tail() -> Bracket:
    raise Undefined("tail not resolved")


def _estimated(row: Row, found: Bracket | Undefined | None) -> Row:
    if found is None:
        return row
    if isinstance(found, Undefined):
        return replace(row, value=None, reason=str(found), estimate=False)
    return replace(row, value=found.value, reason="", estimate=True)
