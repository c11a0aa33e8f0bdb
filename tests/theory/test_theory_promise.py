"""Theorem 3.1 of Jacot et al.: hypotheses, the bound as printed in the paper, and a family on which it fails."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers import chain
from theory_heads import Maps, collapsed_head, random_heads, stats_of

from ncscan.layer_graph import TapGraph
from ncscan.theory.claims import Claim
from ncscan.theory.linear_head import HeadStats
from ncscan.theory.statements import CLAIMS
from ncscan.theory.theorem_3_1 import theorem_claims

ROUNDING = 1e-9


def graph_of(head: HeadStats, activation: str = "Identity") -> TapGraph:
    """A network 20-20-… that ends in this head, with an activation before it."""
    widths = [20, head.layers[0].width, *(layer.width for layer in head.layers[1:])]
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    graph = chain(shapes, [("activation",), *[()] * (len(shapes) - 2)], head=head.depth)
    taps = [
        replace(t, name="act", kind="activation", types=(activation,), depth=1) if t.name == "0" else t
        for t in graph.taps
    ]
    return replace(graph, taps=(*graph.taps, *(t for t in taps if t.name == "act")))


def rows(head: HeadStats, graph: TapGraph | None = None) -> dict[tuple[str, str], Claim]:
    return {(c.claim, c.quantity): c for c in theorem_claims(head, graph or graph_of(head))}


def biased_family(t: float) -> HeadStats:
    """K = 2, exact balance, a last bias, outputs within 2t² of the labels, and noise of size t in the features.

    The bias makes the common part ½(1, 1) of the labels, so W_L may nearly be blind to that direction (s_2 = t): what
    is t in the features is t² in the outputs, and without a bias s_2 could not be small.
    """
    difference, common = np.array([1.0, -1.0]) / np.sqrt(2), np.array([1.0, 1.0]) / np.sqrt(2)
    W = np.outer(difference, difference) + t * np.outer(common, common)
    y = np.array([0, 0, 1, 1])
    Z = np.outer([1, 1, -1, -1], difference / np.sqrt(2)) + np.outer([1, -1, 1, -1], common)
    return stats_of(Z, y, [(W, None), (W, np.array([0.5, 0.5]))])


def test_the_bound_equals_the_papers_formula() -> None:
    for head in random_heads("near balance", 10):
        claims = rows(head)
        K, N, maps = head.n_classes, head.n_samples, [linear.weight for linear in head.maps]
        epsilon1 = claims["theorem31_epsilon1", ""].value
        assert epsilon1 is not None
        epsilon2 = max(np.linalg.norm(b.T @ b - a @ a.T, 2) for a, b in pairwise(maps))
        r = max(*(float(np.linalg.norm(W, 2)) for W in maps), *(head.operator_norm(z) for z in head.layers[-3:-1]))
        psi = r * (epsilon1 / (np.sqrt(N / K) - epsilon1) + np.sqrt(maps[-1].shape[1] * epsilon2))
        bound = r**2 / N * psi**2 / (np.sqrt((K - 1) / K) - 2 * epsilon1 / np.sqrt(N)) ** 2
        found = claims["theorem31_nc1", ""]
        assert epsilon2 == pytest.approx(claims["theorem31_epsilon2", ""].value, rel=1e-6)
        assert r == pytest.approx(claims["theorem31_r", ""].value, rel=ROUNDING)
        if found.bound is not None:
            assert bound == pytest.approx(found.bound, rel=1e-6)
            assert head.features.nc1_trace == found.value


def test_the_theorem_is_not_violated_and_far_from_tight() -> None:
    found = [rows(head)["theorem31_nc1", ""] for head in random_heads("near balance", 300)]
    judged = [claim for claim in found if claim.holds is not None]
    assert len(judged) > 200
    assert all(claim.holds for claim in judged)
    slacks = [claim.slack for claim in judged if claim.slack is not None]
    assert min(slacks) > 2
    assert 1e2 < float(np.median(slacks)) < 1e6  # 1.4e4 on the heads of the derivation


def test_every_hypothesis_holds_at_exact_collapse() -> None:
    claims = rows(collapsed_head(4, 3))
    assert {c.claim for c in claims.values()} == {s.name for s in CLAIMS if s.name.startswith("theorem31")}
    for name in ("linear_head", "bias_free", "balanced", "epsilon1"):
        assert claims[f"theorem31_{name}", ""].holds is True
    assert 0 == pytest.approx(claims["theorem31_epsilon1", ""].value, abs=ROUNDING)
    assert 1 == pytest.approx(claims["theorem31_condition", ""].value, abs=ROUNDING)
    assert claims["theorem31_nc1", ""].holds is True


def test_a_last_bias_breaks_the_theorem_as_stated_and_not_as_corrected() -> None:
    t = 1e-4
    claims = rows(biased_family(t))
    assert claims["theorem31_bias_free", ""].holds is False
    assert claims["theorem31_epsilon1", "as stated"].holds is True
    stated, corrected = claims["theorem31_nc1", "as stated"], claims["theorem31_nc1", "without the last bias"]
    assert (2 * t**2, 16 * t**4) == pytest.approx((stated.value, stated.bound), rel=1e-6)  # 12,500,000 times over
    assert stated.holds is None
    assert stated.reason == "does not apply: the last map has a bias"
    assert (None, "ε1 is not below its threshold") == (corrected.bound, corrected.reason)


def test_a_last_bias_is_taken_out_before_the_theorem_is_applied() -> None:
    y = np.array([0, 0, 1, 1])
    Z = np.eye(2)[y] + 0.01 * np.outer([1, -1, 1, -1], [1.0, 2.0])
    plain = rows(stats_of(Z, y, [(np.eye(2), None)] * 2))["theorem31_nc1", ""]
    head = stats_of(Z, y, [(np.eye(2), None), (np.eye(2), np.array([3.0, -1.0]))])
    corrected = rows(head)["theorem31_nc1", "without the last bias"]
    assert (plain.value, plain.bound) == pytest.approx((corrected.value, corrected.bound), rel=1e-6)
    assert corrected.holds is True


def test_imbalance_and_inner_biases_leave_the_bound_without_a_verdict() -> None:
    y = np.array([0, 0, 0, 1])
    maps: Maps = [(np.eye(2), None), (np.eye(2), None)]
    found = rows(stats_of(np.eye(2)[y], y, maps))
    assert found["theorem31_balanced", ""].holds is False
    assert found["theorem31_balanced", ""].slack is None
    assert found["theorem31_nc1", ""].bound is not None
    assert found["theorem31_nc1", ""].holds is None
    assert found["theorem31_nc1", ""].reason == "does not apply: classes are not balanced"
    y = np.array([0, 0, 1, 1])
    shifted = stats_of(np.eye(2)[y] - 0.1, y, [(np.eye(2), np.full(2, 0.1)), (np.eye(2), None)])
    assert rows(shifted)["theorem31_nc1", ""].reason == "does not apply: the head has biases before the last"


def test_outputs_far_from_the_labels_leave_no_bound() -> None:
    y = np.array([0, 0, 1, 1])
    found = rows(stats_of(5 * np.eye(2)[y], y, [(np.eye(2), None), (np.eye(2), None)]))
    assert found["theorem31_epsilon1", ""].holds is False
    assert found["theorem31_nc1", ""].reason == "ε1 is not below its threshold"


def test_one_linear_map_is_no_linear_head() -> None:
    y = np.array([0, 0, 1, 1])
    head = stats_of(np.eye(2)[y], y, [(np.eye(2), None)])
    found = rows(head, chain([(2, 2)], []))
    assert found["theorem31_linear_head", ""].holds is False
    assert found["theorem31_nc1", ""].reason == "the head has one linear map"


@pytest.mark.parametrize(
    ("activation", "holds", "reason"),
    [
        ("ReLU", False, "slope 0 over half"),
        ("leaky_relu", False, "kink"),
        ("GELU", False, "no positive lower bound"),
        ("Snake", None, "not known"),
    ],
)
def test_smoothness_is_judged_by_the_activations(activation: str, holds: bool | None, reason: str) -> None:
    head = collapsed_head(3, 2)
    claim = rows(head, graph_of(head, activation))["theorem31_smooth", ""]
    assert (holds, "act") == (claim.holds, claim.layer)
    assert reason in claim.reason


def test_widths_are_judged_by_the_chain() -> None:
    head = collapsed_head(3, 2)
    linear = chain([(12, 5), (3, 12), (3, 3), (3, 3)], [(), (), ()], head=2)
    found = rows(head, linear)
    assert (12.0, 12.0, True) == (found["theorem31_wide", ""].value, found["theorem31_wide", ""].bound, True)
    assert found["theorem31_pyramid", ""].holds is True
    assert found["theorem31_smooth", ""].holds is True
    growing = rows(head, chain([(5, 5), (10, 5), (3, 10)], [(), ()], head=2))
    assert found["theorem31_wide", ""].holds is True
    assert growing["theorem31_wide", ""].holds is False
    assert 2.0 == growing["theorem31_pyramid", ""].value
    assert growing["theorem31_pyramid", ""].holds is False
    odd = replace(linear, maps=(replace(linear.maps[0], kind="convolution"), *linear.maps[1:]))
    assert rows(head, odd)["theorem31_wide", ""].reason == "0 is a convolution"
    split = replace(linear, links=linear.links[1:])
    assert rows(head, split)["theorem31_wide", ""].reason == "the network is no chain of linear maps"
