"""What the theory promises for a checkpoint, from a dump alone: hypotheses, bounds, certificates.

In: a head in moments (linear_head.py). Out: `Claim`, one row of theory.csv, made by theorem_3_1.py (theorem 3.1 of
Jacot et al.), certificates.py (what holds for the last layers of any linear head) and weight_decay.py (what weight
decay implies). Only numpy: neither the model nor the data is needed, and a claim without a value says why.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ncscan.computable import computable
from ncscan.errors import Undefined

TOLERANCE = 1e-7
"""A bound counts as violated only beyond this, relatively: rounding in float64 stays far below it."""


@dataclass(frozen=True)
class Statement:
    """The documentation of a claim."""

    name: str
    kind: Literal["hypothesis", "bound", "identity", "number"]
    """A hypothesis that fails makes a theorem not apply; a bound or an identity that fails is a bug, here or in the
    data."""
    statement: str
    source: str
    undefined: str
    """The conditions under which there is no value, or no verdict."""


CLAIMS: tuple[Statement, ...] = (
    Statement(
        "theorem31_linear_head",
        "hypothesis",
        "at least two linear maps stand at the end: L2 ≥ 2",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_bias_free",
        "hypothesis",
        "no map of the head has a bias: max‖b‖ = 0",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_balanced",
        "hypothesis",
        "all classes have as many samples: max n_c/min n_c = 1",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_epsilon1",
        "hypothesis",
        "ε1 = ‖Z_L − Y‖_F < min(s_K(Y), √((K−1)N/(4K))); with a last bias also of Z_L − b_L1ᵀ",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_epsilon2",
        "number",
        "ε2 = max‖D_l‖ over neighbouring maps of the head",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the head has one linear map",
    ),
    Statement(
        "theorem31_r",
        "number",
        "r = max(‖Z_{L−2}‖, ‖Z_{L−1}‖, ‖W_l‖) over the head",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the head has one linear map",
    ),
    Statement(
        "theorem31_condition",
        "number",
        "κ(W_L…W_{L1+1}); enters only what the paper says of NC2 and NC3",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "its rank is below K",
    ),
    Statement(
        "theorem31_wide",
        "hypothesis",
        "the first layer is at least N wide",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the network is no chain of linear maps",
    ),
    Statement(
        "theorem31_pyramid",
        "hypothesis",
        "widths do not increase after the first layer: max n_{l+1}/n_l ≤ 1",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the network is no chain of linear maps",
    ),
    Statement(
        "theorem31_smooth",
        "hypothesis",
        "activations are smooth, with a slope bounded below; no value, only a verdict",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "an activation that is not in the table",
    ),
    Statement(
        "theorem31_nc1",
        "bound",
        "nc1_trace(Z_{L−1}) ≤ (r²/N)Ψ²/(√((K−1)/K) − 2ε1/√N)²",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "ε1 is not below its threshold; the head has one linear map; no verdict where it does not apply",
    ),
    Statement(
        "imbalance_leak",
        "bound",
        "‖A_l‖² ≤ Σ_{j≥l}‖D_j‖ + ρ²",
        "derived",
        "no verdict where both are rounding",
    ),
    Statement(
        "imbalance_leak_bias",
        "bound",
        "‖[A, (I−P)b_{L−1}]‖² ≤ ‖D − b_{L−1}b_{L−1}ᵀ‖ + ρ²",
        "derived",
        "absent where W_{L−1} has no bias; no verdict where both are rounding",
    ),
    Statement(
        "nc1_split",
        "identity",
        "tr Σ_W(Z_l) = tr(G⁺QS_WQ) + tr(A Σ_W(Z_{l−1}) Aᵀ)",
        "derived",
        "the head has one linear map; no verdict where rounding decides",
    ),
    Statement(
        "nc1_output_share",
        "number",
        "tr(G⁺QS_WQ)/tr Σ_B(Z_l): the noise of the outputs, seen through the maps",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_imbalance_share",
        "number",
        "tr(A Σ_W(Z_{l−1}) Aᵀ)/tr Σ_B(Z_l): what only imbalance lets through; 0 at a critical point with decay",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_upper",
        "bound",
        "nc1_trace(Z_l) ≤ (tr(G⁺QS_WQ) + ‖A‖² tr Σ_W(Z_{l−1}))/tr(G⁺QS_BQ)",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_upper_spectral",
        "bound",
        "the same with (1/N)Σ s_i(A)² s_i(Z_{l−1}(I−Π))² for the second term",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_lower",
        "bound",
        "nc1_trace(Z_l) ≥ tr(G⁺QS_WQ)/(tr(G⁺QS_BQ) + ‖A‖² tr Σ_B(Z_{l−1}))",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_interpolation",
        "bound",
        "nc1_upper from ‖Q(Z_L − Y)‖_F and the largest and smallest singular value of V alone",
        "derived",
        "‖Q(Z_L − Y)‖_F is not below ‖QY(Π−J)‖_F; the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc2_target_free",
        "bound",
        "κ_k(M) ≤ (s_1/s_k(T))·hypot(s_1(T)/s_k, β)",
        "derived",
        "T has a lower rank; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc2_upper",
        "bound",
        "κ_k(M) ≤ s_1/(1−e)·hypot((1+e)/s_k, β/α)",
        "derived",
        "e ≥ 1; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc2_lower",
        "bound",
        "κ_k(M) ≥ (1−e)/s_k / hypot((1+e)/s_1, β/α)",
        "derived",
        "e ≥ 1; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc3_class",
        "bound",
        "cos(Vᵀu_c, Mu_c) ≥ (1−e)/hypot((κ+1/κ)/2 + eκ, s_1β_c)",
        "derived",
        "e ≥ 1; V reads fewer than k directions; a mean or row is zero; no verdict where both are rounding",
    ),
    Statement(
        "nc3_samples",
        "bound",
        "|mean_{i in c} cos(h_i, w_c) − cos(μ_c, w_c)| ≤ 2√v_c/‖μ_c‖",
        "derived",
        "a sample, a mean or a row of W_L is zero; no verdict where both are rounding",
    ),
    Statement(
        "head_power",
        "bound",
        "‖W_:W_:ᵀ − (W_LW_Lᵀ)^{L2}‖ ≤ η = (L2(L2−1)/2) r^{2(L2−1)} ε2",
        "derived",
        "ε2 is rounding; the head has one linear map",
    ),
    Statement(
        "head_condition",
        "bound",
        "κ(W_L) ≤ [(s_1(W_:)²+η)/(s_K(W_:)²−η)]^{1/(2 L2)}; `relative`: ≤ [κ(W_:)²(1+d*)/(1−d*)]^{1/(2 L2)}",
        "derived",
        "η ≥ s_K(W_:)², or ε2 is rounding; d* ≥ 1, or κ(W_L)^{2 L2} is beyond float64; the head has one linear map",
    ),
    Statement(
        "nc2_head",
        "bound",
        "κ_K(M) ≤ κ̄·hypot(1+e, s_Kβ/α)/(1−e), κ̄ the smaller bound of head_condition",
        "derived",
        "head_condition has no bound; e ≥ 1; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc3_head",
        "bound",
        "nc3_class with κ̄ in the place of κ",
        "derived",
        "as nc2_head",
    ),
)
"""Theorem 3.1 and the certificates, in the order of the rows; what weight decay implies is in weight_decay.py."""

ALWAYS_TRUE = frozenset(statement.name for statement in CLAIMS if statement.kind in ("bound", "identity")) | {
    *("balance_at_rest", "floor"),  # the two bounds of weight_decay.py, where all else is of a critical point
}
"""Claims that hold for every linear head and all data: one that does not is a bug, or its dump is damaged."""


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
