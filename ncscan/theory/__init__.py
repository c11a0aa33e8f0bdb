"""What the theory promises for a checkpoint, from a dump alone: hypotheses, bounds, certificates.

In: a head in moments (head.py). Out: `Claim`, one row of theory.csv, made by promise.py (theorem 3.1 of Jacot et al.),
certificates.py (what holds for the last layers of any linear head) and decay.py (what weight decay implies). Only
numpy: neither the model nor the data is needed, and a claim without a value says why.
"""

from dataclasses import dataclass

from ncscan.errors import Undefined

TOLERANCE = 1e-7
"""A bound counts as violated only beyond this, relatively: rounding in float64 stays far below it."""


@dataclass(frozen=True)
class Claim:
    """One statement of the theory about one checkpoint."""

    claim: str
    """Its name in CLAIMS."""
    quantity: str
    """Which form, class or pair, where there are several; else empty."""
    layer: str
    """The layer or map it is about, where it is about one; else empty."""
    value: float | None
    bound: float | None
    holds: bool | None
    """None where nothing is claimed, or the claim does not apply."""
    slack: float | None
    """bound/value of an upper bound, value/bound of a lower one: at least 1 when it holds."""
    reason: str
    """Why there is no value, or no verdict; else empty."""


def fact(claim: str, value: float, *, quantity: str = "", layer: str = "", reason: str = "") -> Claim:
    """A number that the theory speaks of, without a bound."""
    return Claim(claim, quantity, layer, value, None, None, None, reason)


def undefined(claim: str, why: Undefined | str, *, quantity: str = "", layer: str = "") -> Claim:
    """A claim without a value."""
    return Claim(claim, quantity, layer, None, None, None, None, str(why))


def at_most(
    claim: str, value: float, bound: float, *, quantity: str = "", layer: str = "", rounding: float = 0.0
) -> Claim:
    """value ≤ bound; no verdict where both are under what rounding leaves of zero.

    >>> at_most("nc1_upper", 2.0, 3.0)
    Claim(claim='nc1_upper', quantity='', layer='', value=2.0, bound=3.0, holds=True, slack=1.5, reason='')
    """
    if max(abs(value), abs(bound)) <= rounding:
        return Claim(claim, quantity, layer, value, bound, None, None, "zero, as far as rounding can tell")
    return Claim(
        claim, quantity, layer, value, bound, value <= bound + TOLERANCE * abs(bound), _ratio(bound, value), ""
    )


def at_least(claim: str, value: float, bound: float, *, quantity: str = "", layer: str = "") -> Claim:
    """value ≥ bound."""
    holds = value >= bound - TOLERANCE * abs(bound)
    return Claim(claim, quantity, layer, value, bound, holds, _ratio(value, bound), "")


def _ratio(larger: float, smaller: float) -> float | None:
    return larger / smaller if smaller > 0 else None
