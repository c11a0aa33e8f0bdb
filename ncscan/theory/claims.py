"""Define what the theory claims about a checkpoint, from a dump alone: hypotheses, bounds, certificates.

In: class means and scatter of a head (linear_head.py). Out: `Claim`, one row of theory.csv, made by theorem_3_1.py
(theorem 3.1 of Jacot et al.), certificates.py (what holds for the last layers of any linear head) and weight_decay.py
(what weight decay implies). Only numpy: neither the model nor the data is needed, and a claim without a value has a
reason.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ncscan.computable import computable
from ncscan.errors import Undefined

TOLERANCE = 1e-7
"""A bound counts as violated only beyond this, relatively: rounding in float64 stays far below it."""


@dataclass(frozen=True)
class Claim:
    """One statement of the theory about one checkpoint."""

    claim: str
    """Its name in CLAIMS."""
    quantity: str
    """Form, class or pair, where there are several; else empty."""
    layer: str
    """The layer or linear map it is about, where it is about one; else empty."""
    value: float | None
    bound: float | None
    holds: bool | None
    """Whether it holds; None where nothing is claimed, or the claim does not apply."""
    slack: float | None
    """The slack of a bound alone: bound/value of an upper one, value/bound of a lower one, at least 1 when it holds."""
    reason: str
    """Why there is no value, no verdict or, for an equality, no deviation; else empty."""
    target: float | None = None
    """The target of an equality alone: what the value is where it holds."""
    deviation: float | None = None
    """|value − target|/|target|, or the value itself where that is a relative distance, whose target is 0."""

    @property
    def expected(self) -> float | None:
        """Return what the value is compared with: the bound, or the target."""
        return self.target if self.bound is None else self.bound


def fact(claim: str, value: float, *, quantity: str = "", layer: str = "", reason: str = "") -> Claim:
    """Return a number that the theory is about, without a bound."""
    return _finite(Claim(claim, quantity, layer, value, None, None, None, reason))


def undefined(claim: str, why: Undefined | str, *, quantity: str = "", layer: str = "") -> Claim:
    """Return a claim without a value."""
    return Claim(claim, quantity, layer, None, None, None, None, str(why))


def equality(
    claim: str,
    value: float,
    target: float,
    *,
    quantity: str = "",
    layer: str = "",
    always: bool = False,
    rounding: float = 0.0,
) -> Claim:
    """Return the claim value = target, which has no slack: an equality can be missed on either side.

    Args:
        claim: its name.
        value: what the checkpoint has.
        target: what it is where the equality holds; the deviation is relative to it, and has a reason instead where it
            is 0 and the value is not.
        quantity: which form.
        layer: the layer or linear map it is about.
        always: whether it holds for every network, so that there is a verdict; else it is one of a critical point, and
            nothing shows that this checkpoint is one.
        rounding: what rounding may have done to `value − target`, absolutely. There is no verdict where that decides.

    >>> claim = equality("radial", 0.75, 1.0)
    >>> claim.target, claim.deviation, claim.holds, claim.slack
    (1.0, 0.25, None, None)
    """
    apart = abs(value - target)
    deviation = apart / abs(target) if target else (None if apart else 0.0)
    allowed = TOLERANCE * max(abs(value), abs(target))
    holds = apart <= allowed if always else None
    reason = ""
    if always and allowed < apart <= allowed + rounding:
        holds, reason = None, "no verdict: value and target are equal, as far as rounding can tell"
    known = deviation is not None and math.isfinite(deviation)
    if not known and not reason:
        reason = (
            f"no deviation: {'it exceeds the range of float64' if target else 'it is relative, and the target is 0'}"
        )
    return _finite(
        Claim(claim, quantity, layer, value, None, holds, None, reason, target, deviation if known else None)
    )


def distance(claim: str, value: float, *, quantity: str = "", layer: str = "") -> Claim:
    """Return an equality whose value is itself the relative distance of its two sides: its target is 0."""
    return _finite(Claim(claim, quantity, layer, value, None, None, None, "", 0.0, value))


def hypothesis(claim: str, value: float, bound: float, *, holds: bool, quantity: str = "") -> Claim:
    """Return an assumption of a theorem: no slack, since its failure violates nothing; the theorem does not apply."""
    return _finite(Claim(claim, quantity, "", value, bound, holds, None, ""))


def at_most(
    claim: str, value: float, bound: float, *, quantity: str = "", layer: str = "", rounding: float = 0.0
) -> Claim:
    """Return the claim value ≤ bound.

    Args:
        claim: its name in CLAIMS.
        value: what the checkpoint has.
        bound: what the theory allows it.
        quantity: which form, class or pair.
        layer: the layer or linear map it is about.
        rounding: what rounding may have done to `value − bound`, absolutely. There is no verdict where that decides.

    >>> claim = at_most("nc1_upper", 2.0, 3.0)
    >>> claim.holds, claim.slack
    (True, 1.5)
    """
    return _judged(Claim(claim, quantity, layer, value, bound, None, None, ""), bound - value, rounding, bound, value)


def at_least(
    claim: str, value: float, bound: float, *, quantity: str = "", layer: str = "", rounding: float = 0.0
) -> Claim:
    """Return the claim value ≥ bound; the arguments are those of `at_most`."""
    return _judged(Claim(claim, quantity, layer, value, bound, None, None, ""), value - bound, rounding, value, bound)


def _judged(claim: Claim, margin: float, rounding: float, larger: float, smaller: float) -> Claim:
    """Return the claim with whether a bound holds by this margin, and how many times if both sides are positive."""
    if not math.isfinite(larger) or not math.isfinite(smaller):
        return _finite(claim)
    if 0 < rounding >= max(abs(larger), abs(smaller)):
        return replace(claim, reason="zero, as far as rounding can tell")
    allowed = TOLERANCE * abs(claim.bound or 0.0)
    if margin < -allowed:
        if margin >= -(allowed + rounding):
            return replace(claim, reason="no verdict: value and bound are equal, as far as rounding can tell")
        return replace(claim, holds=False, slack=_ratio(larger, smaller))
    slack = _ratio(larger, smaller) if smaller > rounding else None
    return replace(claim, holds=True, slack=slack and max(slack, 1.0))


def _finite(claim: Claim) -> Claim:
    """Return the claim, or a reason instead where its value, or what it is compared with, exceeds float64's range."""
    if all(number is None or math.isfinite(number) for number in (claim.value, claim.bound, claim.target)):
        return claim
    return undefined(
        claim.claim, "the computation exceeds the range of float64", quantity=claim.quantity, layer=claim.layer
    )


def claims_of(made: Callable[[], Iterable[Claim]], names: Iterable[str], **where: str) -> list[Claim]:
    """Return the claims of a generator; where float64 stops it on the way, those left of `names` with the reason."""
    claims: list[Claim] = []
    try:
        with computable():
            for claim in made():
                claims.append(claim)  # noqa: PERF402 - those before an exception are kept
    except Undefined as why:
        known = {claim.claim for claim in claims}
        claims += [undefined(name, why, **where) for name in names if name not in known]
    return claims


def _ratio(larger: float, smaller: float) -> float | None:
    ratio = larger / smaller if smaller > 0 else None
    return ratio if ratio is not None and math.isfinite(ratio) else None
