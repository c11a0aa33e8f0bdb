"""Evaluate theorem 3.1 of Jacot et al.: measure and judge every hypothesis, and compare the bound with what it bounds.

In: HeadStats, and the traced graph for what the paper assumes of the layers under the head. Out: claims. The bound is
printed wherever it is a number; it is judged only where the theorem applies.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from ncscan.errors import Undefined
from ncscan.layer_graph import TapGraph
from ncscan.theory.claims import Claim, at_most, claims_of, fact, hypothesis, undefined
from ncscan.theory.head_geometry import condition_of, require
from ncscan.theory.linear_head import HeadStats

LACKS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"relu", "relu6", "threshold", "hardtanh"}), "slope 0 over half of the line, and a kink"),
    (frozenset({"leakyrelu", "prelu", "rrelu"}), "a kink: not smooth"),
    (
        frozenset({"celu", "elu", "gelu", "hardswish", "logsigmoid", "mish", "selu", "sigmoid"})
        | frozenset({"silu", "softplus", "softsign", "tanh"}),
        "no positive lower bound of its slope",
    ),
)
"""Activations by name without underscores, and what each lacks of a smooth one with slope bounded below."""

OF_HEAD = (
    *("theorem31_linear_head", "theorem31_bias_free", "theorem31_balanced", "theorem31_epsilon1"),
    *("theorem31_epsilon2", "theorem31_r", "theorem31_condition"),
)
OF_NETWORK = ("theorem31_wide", "theorem31_pyramid", "theorem31_smooth")
"""The claims about the head, and about the network below it."""


def theorem_claims(head: HeadStats, graph: TapGraph) -> list[Claim]:
    """Return theorem 3.1 of Jacot, Súkeník, Wang and Mondelli (2024): its hypotheses, then its bound on NC1.

    nc1_trace(Z_{L−1}) ≤ (r²/N)·Ψ²/(√((K−1)/K) − 2ε1/√N)², Ψ = r(ε1/(s_K(Y)−ε1) + √(n_{L−1}ε2)), s_K(Y) = √(N/K).
    With a last bias it is false as stated, and true of the outputs without that bias: both are given then.

    Args:
        head: of the training set.
        graph: of the whole network.

    Returns: claims named `theorem31_…`; the bound has no verdict where a hypothesis fails, and tells which.
    """
    return [
        *claims_of(lambda: _of_head(head), OF_HEAD),
        *claims_of(lambda: _of_network(head, graph), OF_NETWORK),
        *claims_of(lambda: _bounds(head), ("theorem31_nc1",)),
    ]


def _residuals(head: HeadStats) -> list[tuple[str, float]]:
    """Return ε1 with the label of the case that it is for."""
    if not head.classifier.has_bias:
        return [("", head.residual)]
    return [("as stated", head.residual), ("without the last bias", head.residual_without_bias)]


def _bounds(head: HeadStats) -> Iterator[Claim]:
    """Yield NC1 against the bound, judged only where the theorem applies."""
    where: dict[str, Any] = {"layer": head.features.name}
    always = [] if _balance_of_classes(head) == 1 else ["classes are not balanced"]
    if any(linear.bias.any() for linear in head.maps[:-1]):
        always.append("the head has biases before the last")
    for quantity, epsilon1 in _residuals(head):
        failing = always + (["the last map has a bias"] if quantity == "as stated" else [])
        try:
            require(head.depth >= 2, "the head has one linear map")
            require(epsilon1 < _threshold(head), "ε1 is not below its threshold")
            found = at_most(
                "theorem31_nc1", head.features.nc1_trace, _bound(head, epsilon1), quantity=quantity, **where
            )
            why = f"does not apply: {', '.join(failing)}" if failing else ""
            yield replace(found, holds=None, reason=why) if failing else found
        except Undefined as why_not:
            yield undefined("theorem31_nc1", why_not, quantity=quantity, **where)


def _bound(head: HeadStats, epsilon1: float) -> float:
    K, N, r = head.n_classes, head.n_samples, _r(head)
    psi = r * (epsilon1 / (np.sqrt(N / K) - epsilon1) + np.sqrt(head.features.width * max(head.imbalance)))
    return float(r**2 / N * psi**2 / (np.sqrt((K - 1) / K) - 2 * epsilon1 / np.sqrt(N)) ** 2)


def _threshold(head: HeadStats) -> float:
    """Return min(s_K(Y), √((K−1)N/(4K)))."""
    K, N = head.n_classes, head.n_samples
    return float(min(np.sqrt(N / K), np.sqrt((K - 1) * N / (4 * K))))


def _r(head: HeadStats) -> float:
    """Return r = max(‖Z_{L−2}‖, ‖Z_{L−1}‖, ‖W_l‖)."""
    norms = [head.operator_norm(layer) for layer in head.layers[-3:-1]]
    return max(*norms, *(linear.norm for linear in head.maps))


def _balance_of_classes(head: HeadStats) -> float:
    return float(head.counts.max() / head.counts.min())


def _of_head(head: HeadStats) -> Iterator[Claim]:
    """Yield the assumptions of the theorem itself."""
    yield hypothesis("theorem31_linear_head", float(head.depth), 2.0, holds=head.depth >= 2)
    bias = max(float(np.linalg.norm(linear.bias)) for linear in head.maps)
    yield hypothesis("theorem31_bias_free", bias, 0.0, holds=bias == 0)
    ratio = _balance_of_classes(head)
    yield hypothesis("theorem31_balanced", ratio, 1.0, holds=ratio == 1)
    for quantity, epsilon1 in _residuals(head):
        limit = _threshold(head)
        yield hypothesis("theorem31_epsilon1", epsilon1, limit, holds=epsilon1 < limit, quantity=quantity)
    try:
        require(head.depth >= 2, "the head has one linear map")
        yield fact("theorem31_epsilon2", max(head.imbalance))
        yield fact("theorem31_r", _r(head))
    except Undefined as why:
        yield undefined("theorem31_epsilon2", why)
        yield undefined("theorem31_r", why)
    try:
        yield fact("theorem31_condition", condition_of(head.product))
    except Undefined as why:
        yield undefined("theorem31_condition", why)


def _of_network(head: HeadStats, graph: TapGraph) -> Iterator[Claim]:
    """Yield the further assumptions of the paper, so that training gets there."""
    try:
        widths = _widths(graph)
        yield hypothesis("theorem31_wide", float(widths[0]), float(head.n_samples), holds=widths[0] >= head.n_samples)
        growth = max((b / a for a, b in pairwise(widths)), default=0.0)
        yield hypothesis("theorem31_pyramid", growth, 1.0, holds=growth <= 1)
    except Undefined as why:
        yield undefined("theorem31_wide", why)
        yield undefined("theorem31_pyramid", why)
    yield _smooth(graph)


def _widths(graph: TapGraph) -> list[int]:
    """Return the width that each linear map of a plain chain writes; Undefined where the network is no such chain."""
    odd = next((m for m in graph.maps if m.kind != "linear"), None)
    require(odd is None, f"{odd.name} is {'an' if odd.kind == 'embedding' else 'a'} {odd.kind}" if odd else "")
    links = [(link.first, link.next) for link in graph.links]
    require(links == [(a.name, b.name) for a, b in pairwise(graph.maps)], "the network is no chain of linear maps")
    return [m.shape[0] for m in graph.maps]


def _smooth(graph: TapGraph) -> Claim:
    """Return whether every activation before the outputs is smooth, with a slope bounded below."""
    decided = graph.tap(graph.last.name).depth if graph.last else 0
    unknown = ""
    for tap in graph.taps:
        if tap.kind != "activation" or tap.depth > decided:
            continue
        names = {name.lower().replace("_", "") for name in (*tap.types, tap.name.rsplit("/")[-1])}
        lacks = next((lack for known, lack in LACKS if names & known), None)
        if lacks:
            return replace(undefined("theorem31_smooth", lacks, layer=tap.name), holds=False)
        unknown = unknown or tap.name
    if unknown:
        return undefined("theorem31_smooth", "its slope is not known here", layer=unknown)
    return replace(undefined("theorem31_smooth", "there is no activation"), holds=True)
