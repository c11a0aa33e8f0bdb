"""Certificates: what collapse at the outputs forces upon the layers of a linear head, for any loss and any bias.

In: HeadStats. Out: claims. The last layers of a linear head hide nothing: a feature is what the outputs show of it, and
the rest, which only imbalance of neighbouring linear maps lets through. Derivations: docs/theory.md.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.theory.claims import TOLERANCE, Claim, at_least, at_most, claims_of, equality, fact, undefined
from ncscan.theory.head_geometry import (
    RESOLVED,
    ROUNDING,
    MeansAgainstHead,
    ReadLayer,
    TargetFrame,
    centred_rows,
    condition_of,
    cosines,
    norm,
    readings_of,
    require,
)
from ncscan.theory.linear_head import HeadStats

FORMS: tuple[TargetFrame, ...] = ("orthogonal", "simplex")

TIGHTER = "the tighter of two forms"


def certify(head: HeadStats) -> list[Claim]:
    """Return every certificate of a linear head: each inner layer's NC1, then NC2 and NC3 of the layer that W_L reads.

    Both forms are there; of two about the same thing, the reason of the tighter one notes it.

    >>> Z, y = np.array([[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]]), np.array([0, 0, 1, 1])
    >>> from ncscan.theory.linear_head import head_stats
    >>> claims = certify(head_stats(lambda: [(0, Z)], y, 2, [(np.eye(2), None), (np.eye(2), None)]))
    >>> [(round(c.value, 6), round(c.bound, 6)) for c in claims if c.claim == "nc1_upper"]
    [(0.02, 0.02), (0.02, 0.03)]
    """
    if head.depth < 2:
        return [undefined(name, "the head has one linear map") for name in (*NC1, *FRAME, *BY_CLASS, *HEAD)]
    readings = {form: attempt(partial(readings_of, head, form)) for form in FORMS}
    claims, frames = [], []
    for form, found in readings.items():
        if isinstance(found, Undefined):
            claims += [undefined(name, found, quantity=form) for name in (*NC1, *FRAME, BY_CLASS[0])]
            continue
        for reading in found:
            claims += claims_of(partial(_layer, reading), NC1, quantity=form, layer=reading.layer.name)
        frames.append(MeansAgainstHead(head, found[0]))
    for frame in frames:
        claims += claims_of(
            partial(_frame, frame), (*FRAME, BY_CLASS[0]), quantity=frame.reading.form, layer=head.features.name
        )
    claims += claims_of(partial(_samples, head), BY_CLASS[1:], layer=head.features.name)
    orthogonal = next((frame for frame in frames if frame.reading.form == "orthogonal"), None)
    claims += claims_of(partial(_head, head, orthogonal), HEAD, layer=head.classifier.name)
    return _mark_tighter(claims)


NC1 = (
    "imbalance_leak",
    "nc1_split",
    "nc1_output_share",
    "nc1_imbalance_share",
    "nc1_upper",
    "nc1_upper_spectral",
    "nc1_lower",
    "nc1_interpolation",
)
"""The claims about every inner layer."""


def _layer(reading: ReadLayer) -> Iterator[Claim]:
    """Yield certificates (0), (1), (2), (6) of one inner layer."""
    head, form, layer, below = reading.head, reading.form, reading.layer, reading.below
    where: dict[str, Any] = {"quantity": form, "layer": layer.name}
    largest = max(linear.norm for linear in head.maps) ** 2
    a2 = reading.a**2
    yield at_most("imbalance_leak", a2, reading.allowed, rounding=ROUNDING * largest, **where)
    through = head.maps[reading.index - 1]
    if through.has_bias and reading.index == head.depth - 1:
        b = through.bias[:, None]
        joint = norm(np.column_stack([reading.unread, reading.beside(b)])) ** 2
        allowed = reading.allowed_with_bias
        yield at_most(
            "imbalance_leak_bias",
            joint,
            allowed,
            rounding=ROUNDING * (largest + float(through.bias @ through.bias)),
            **where,
        )
    noise, signal = (reading.from_outputs(F) for F in (head.outputs.noise, head.outputs.signal))
    leaked = float(np.sum((reading.unread @ below.noise) ** 2))
    # A linear map that nearly annihilates the noise below leaves its rounding, which goes with what it read.
    local = ROUNDING * through.norm * np.sqrt(below.within)
    rounding = float(local * (2 * np.sqrt(layer.within) + local))
    yield equality("nc1_split", layer.within, noise + leaked, always=True, rounding=rounding, **where)
    try:
        nc1 = layer.nc1_trace
        require(signal > 0, "the outputs do not tell the classes apart")
    except Undefined as why:
        for name in NC1[2:]:
            yield undefined(name, why, **where)
        return
    yield fact("nc1_output_share", noise / layer.between, **where)
    yield fact("nc1_imbalance_share", leaked / layer.between, **where)
    q = min(len(below.spread), len(reading.leaks))
    spectral = float(below.spread[:q] @ reading.leaks[:q])
    yield at_most("nc1_upper", nc1, (noise + a2 * below.within) / signal, **where)
    yield at_most("nc1_upper_spectral", nc1, (noise + spectral) / signal, **where)
    yield at_least("nc1_lower", nc1, noise / (signal + a2 * below.between), **where)
    try:
        yield at_most("nc1_interpolation", nc1, _interpolation(reading), **where)
    except Undefined as why:
        yield undefined("nc1_interpolation", why, **where)


def _interpolation(reading: ReadLayer) -> float:
    """Return NC1 bounded by ‖Q(Z_L − Y)‖_F and the largest and smallest singular value of V alone."""
    head, form, s = reading.head, reading.form, reading.s
    N = head.n_samples
    noise = centred_rows(head.outputs.noise, form)
    unread = centred_rows(head.outputs.signal, form)
    unread = unread - reading.U @ (reading.U.T @ unread)  # what V shows outside the directions that count
    shown = _shown(head, form) - np.sqrt(N) * float(np.linalg.norm(unread))
    require(shown > 0, "the outputs are too far from the labels: ‖Q(Z_L−Y)‖_F is not below ‖QY(Π−J)‖_F")
    top = float(np.sum(noise**2)) / s[-1] ** 2 + reading.a**2 * reading.below.within
    return float(top / (shown**2 / (N * s[0] ** 2)))


def _shown(head: HeadStats, form: TargetFrame) -> float:
    """Return ‖QY(Π−J)‖_F − ‖Q(Z_L−Y)‖_F, as (a² − b²)/(a + b): the two are nearly equal where outputs are small.

    With p = n_c/N and f_c the mean output of class c,

        (a² − b²)/N = 2Σp_c⟨Qf_c, e_c⟩ − Σp_c‖Qf_c‖² − tr QS_WQ − u

    where u is Σp_c² in the orthogonal form and Σ(p_c − 1/K)² in the simplex form. Undefined where rounding decides.
    """
    p, K = head.shares, head.n_classes
    F = centred_rows(head.outputs.means, form)
    off = centred_rows(head.outputs.means - np.eye(K), form)
    noise = float(np.sum(centred_rows(head.outputs.noise, form) ** 2))
    uneven = float(np.sum(p**2 if form == "orthogonal" else (p - 1 / K) ** 2))
    terms = np.array([2 * float(p @ np.diag(F)), -float(p @ np.sum(F**2, axis=0)), -noise, -uneven])
    difference = float(terms.sum())
    # The mean outputs are sums in which a bias may be large: their own error goes with their uncentred size.
    size = float(p @ np.linalg.norm(head.outputs.means, axis=0))
    error = 16 * float(np.finfo(np.float64).eps) * (float(np.abs(terms).sum()) + size * (1 + size))
    require(
        difference <= 0 or error < TOLERANCE / 4 * difference,
        "the outputs are too small: ‖QY(Π−J)‖_F − ‖Q(Z_L−Y)‖_F is rounding",
    )
    wanted = np.sqrt(1 - np.sum(p**2))
    missed = np.sqrt(p @ np.sum(off**2, axis=0) + noise)
    return float(np.sqrt(head.n_samples) * difference / (wanted + missed))


FRAME = ("nc2_target_free", "nc2_upper", "nc2_lower")
BY_CLASS = ("nc3_class", "nc3_samples")


def _frame(frame: MeansAgainstHead) -> Iterator[Claim]:
    """Yield certificates (3) and (4) in one form."""
    where: dict[str, Any] = {"quantity": frame.reading.form, "layer": frame.head.features.name}
    bounds: tuple[tuple[str, Callable[[MeansAgainstHead], float]], ...] = (
        ("nc2_target_free", _target_free),
        ("nc2_upper", _upper),
        ("nc2_lower", _lower),
    )
    for name, bound in bounds:
        try:
            require(frame.k > 1, "trivial at K = 2: one direction has no condition number")
            yield (at_least if name == "nc2_lower" else at_most)(name, frame.condition, bound(frame), **where)
        except Undefined as why:
            yield undefined(name, why, **where)
    try:
        least = frame.least_cosines(float(frame.s[0] / frame.s[-1]))
        yield from _classes("nc3_class", frame, least)
    except Undefined as why:
        yield undefined("nc3_class", why, **where)


def _target_free(frame: MeansAgainstHead) -> float:
    """Return (s_1/s_k(T)) hypot(s_1(T)/s_k, β)."""
    t = np.linalg.svd(frame.class_outputs, compute_uv=False)
    require(t[frame.k - 1] > RESOLVED * frame.entered, "the class outputs have a lower rank")
    return float(frame.s[0] / t[frame.k - 1] * np.hypot(t[0] / frame.s[-1], frame.beta))


def _upper(frame: MeansAgainstHead) -> float:
    """Return s_1/(1−e)·hypot((1+e)/s_k, β')."""
    s, e = frame.s, frame.e
    return float(s[0] / (1 - e) * np.hypot((1 + e) / s[-1], frame.beta / frame.alpha))


def _lower(frame: MeansAgainstHead) -> float:
    """Return (1−e)/s_k / hypot((1+e)/s_1, β')."""
    s, e = frame.s, frame.e
    return float((1 - e) / s[-1] / np.hypot((1 + e) / s[0], frame.beta / frame.alpha))


def _classes(name: str, frame: MeansAgainstHead, least: Float64[np.ndarray, "K"]) -> Iterator[Claim]:
    for c, (cosine, bound) in enumerate(zip(frame.duality(), least, strict=True)):
        quantity, layer = f"{frame.reading.form} class {c}", frame.head.features.name
        rounding = frame.duality_rounding
        yield at_least(name, float(cosine), float(bound), quantity=quantity, layer=layer, rounding=rounding)


def _samples(head: HeadStats) -> Iterator[Claim]:
    """Yield NC3 of samples against NC3 of their means: |mean cos(h_i, w_c) − cos(μ_c, w_c)| ≤ 2√v_c/‖μ_c‖."""
    M = head.features.means
    lengths = np.linalg.norm(M, axis=0)
    if head.cosines is None or not lengths.all():
        yield undefined("nc3_samples", "a sample, a class mean or a row of W_L is zero", layer=head.features.name)
        return
    off = np.abs(head.cosines - cosines(head.classifier.weight.T, M))
    # Samples and class means take different ways through the linear maps below: each has a rounding of its own.
    rounding = 10 * ROUNDING * np.maximum(1, head.entered_features / lengths)
    for c, bound in enumerate(2 * np.sqrt(head.class_within) / lengths):
        where = {"quantity": f"class {c}", "layer": head.features.name}
        yield at_most("nc3_samples", float(off[c]), float(bound), rounding=float(rounding[c]), **where)


HEAD = ("head_power", "head_condition", "nc2_head", "nc3_head")
"""The claims about the head as one linear map: (5), orthogonal form."""


def _head(head: HeadStats, frame: MeansAgainstHead | None) -> Iterator[Claim]:
    """Yield certificate (5): between balanced neighbours κ(W_L) is the L2-th root of the head's κ as one linear map."""
    last, layer = head.classifier, head.features.name
    kappas = []
    try:
        yield _power(head)
    except Undefined as why:
        yield undefined("head_power", why, layer=last.name)
    for quantity, bound in (("absolute", _absolute), ("relative", _relative)):
        try:
            kappa = bound(head)
            yield at_most("head_condition", condition_of(last.weight), kappa, quantity=quantity, layer=last.name)
            kappas.append(kappa)
        except Undefined as why:
            yield undefined("head_condition", why, quantity=quantity, layer=last.name)
    try:
        require(len(kappas) > 0, "the head is too far from balance to bound κ(W_L)")
        kappa = min(kappas)
        if frame is None:
            raise Undefined("the singular values of the head exceed the range of float64")
        beside = frame.s[-1] * frame.beta / frame.alpha
        yield at_most(
            "nc2_head", frame.condition, float(kappa * np.hypot(1 + frame.e, beside) / (1 - frame.e)), layer=layer
        )
        yield from _classes("nc3_head", frame, frame.least_cosines(kappa))
    except Undefined as why:
        yield undefined("nc2_head", why, layer=layer)
        yield undefined("nc3_head", why, layer=layer)


def _eta(head: HeadStats) -> float:
    """Return η = (L2(L2−1)/2) r^{2(L2−1)} ε2; Undefined where ε2 is but rounding."""
    r = max(linear.norm for linear in head.maps)
    epsilon2 = max(head.imbalance)
    require(epsilon2 >= ROUNDING * r**2, f"ε2 = {epsilon2:.2g} is zero, as far as rounding can tell")
    return float(head.depth * (head.depth - 1) / 2 * r ** (2 * (head.depth - 1)) * epsilon2)


def _power(head: HeadStats) -> Claim:
    """Return the claim ‖W_:W_:ᵀ − (W_LW_Lᵀ)^{L2}‖ ≤ η, where W_: = W_L…W_{L1+1}."""
    # W_L = Q R, and both lie in the span of Q: no K×K matrix, which of many classes would be large, and of rank d.
    Q, R = np.linalg.qr(head.classifier.weight)
    product = Q.T @ head.product
    apart = norm(product @ product.T - np.linalg.matrix_power(R @ R.T, head.depth))
    return at_most("head_power", apart, _eta(head), layer=head.classifier.name, rounding=_power_rounding(head))


def _power_rounding(head: HeadStats) -> float:
    """Return what rounding can do to W_:W_:ᵀ, to (W_LW_Lᵀ)^{L2} and to η: all are of the size r^{2 L2}."""
    r = max(linear.norm for linear in head.maps)
    return float(head.depth**2 * ROUNDING * r ** (2 * head.depth))


def _absolute(head: HeadStats) -> float:
    """Return [(s_1(W_:)² + η)/(s_K(W_:)² − η)]^{1/(2 L2)}."""
    eta, s = _eta(head), np.linalg.svd(head.product, compute_uv=False)
    smallest = float(s[-1] ** 2) if len(s) == head.n_classes else 0.0
    require(eta < smallest, f"η = {eta:.3g}, not below s_K(W_L…W_L1+1)² = {smallest:.3g}")
    rounding = _power_rounding(head)
    require(rounding < TOLERANCE * (smallest - eta), "s_K(W_L…W_L1+1)² − η is rounding")
    return float(((s[0] ** 2 + eta) / (smallest - eta)) ** (1 / (2 * head.depth)))


def _relative(head: HeadStats) -> float:
    """Return [κ(W_:)² (1+d*)/(1−d*)]^{1/(2 L2)}, d* = ‖(W_LW_Lᵀ)^{−L2/2} W_:W_:ᵀ (W_LW_Lᵀ)^{−L2/2} − I‖."""
    last = condition_of(head.classifier.weight)
    drowned = last ** (2 * head.depth) > RESOLVED / float(np.finfo(np.float64).eps)
    require(not drowned, f"κ(W_L)^{2 * head.depth} is beyond what float64 resolves")
    U, s, _ = np.linalg.svd(head.classifier.weight, full_matrices=False)
    inside = (U.T @ head.product) / s[:, None] ** head.depth
    distance = norm(inside @ inside.T - np.eye(len(s)))
    require(distance < 1, f"d* = {distance:.3g}, not below 1")
    require(1 - distance > RESOLVED * last**head.depth, "d* is 1, as far as rounding can tell")
    return float((condition_of(head.product) ** 2 * (1 + distance) / (1 - distance)) ** (1 / (2 * head.depth)))


ALONE = ("imbalance_leak", "imbalance_leak_bias", "nc1_split")
"""Each form of these makes a statement about its own A: neither is the tighter."""


def _mark_tighter(claims: Sequence[Claim]) -> list[Claim]:
    """Mark the tighter of two forms that certify the same: the one with less slack has it in its reason."""
    about = defaultdict[tuple[str, str, str], list[Claim]](list)
    for claim in claims:
        form, _, rest = claim.quantity.partition(" ")
        if form in FORMS and claim.slack is not None and claim.claim not in ALONE:
            about[claim.claim, claim.layer, rest].append(claim)
    tighter = {id(min(both, key=lambda c: c.slack or 0.0)) for both in about.values() if len(both) > 1}
    return [replace(claim, reason=TIGHTER) if id(claim) in tighter else claim for claim in claims]
