"""Certificates of a linear head: no violation on any head, tight near balance, exact at balance."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from theory_heads import KINDS, Maps, balanced, collapsed_head, fitted, random_heads, stats_of

import ncscan.theory.certificates as certificates_module
from ncscan.theory.certificates import TIGHTER, certify
from ncscan.theory.claims import Claim, at_least, at_most
from ncscan.theory.head_geometry import ReadLayer
from ncscan.theory.linear_head import HeadStats
from ncscan.theory.statements import CLAIMS

HEADS = {
    "near balance": 600,
    "exact balance": 200,
    "biased": 400,
    "rank-deficient": 300,
    "two classes": 250,
    "labels missed": 250,
    "adversarial": 1000,
    "annihilating": 150,
    "common row": 150,
    "at a threshold": 150,
}
"""3,450 in all; tests/benchmarks/bench_certificates.py makes any number of others."""

EXACT = 1e-9
"""float64, through a few products of matrices with condition numbers near 1."""

Key = tuple[str, str, str]


def rows(head: HeadStats) -> dict[Key, Claim]:
    """By claim, quantity and layer."""
    return {(c.claim, c.quantity, c.layer): c for c in certify(head)}


def one(claims: Mapping[Key, Claim], name: str, quantity: str = "") -> Claim:
    """The claim of that name about the layer nearest to the outputs."""
    return next(c for (claim, q, _), c in claims.items() if (claim, q) == (name, quantity))


@cache
def certified(kind: str) -> tuple[Claim, ...]:
    """All claims on the random heads of a kind."""
    return tuple(claim for head in random_heads(kind, HEADS[kind]) for claim in certify(head))


def violated(claims: Iterable[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.holds is False]


def value_of(claim: Claim) -> float:
    assert claim.value is not None, claim.reason
    return claim.value


@pytest.mark.parametrize("kind", KINDS)
def test_no_certificate_is_violated_on_random_heads(kind: str) -> None:
    assert violated(certified(kind)) == []


def test_every_claim_is_one_of_the_table_and_has_a_value_or_a_reason() -> None:
    names = {statement.name for statement in CLAIMS if not statement.name.startswith("theorem31")}
    seen = set()
    for kind in KINDS:
        for claim in certified(kind):
            seen.add(claim.claim)
            assert (claim.value is not None) or claim.reason
            for number in (claim.value, claim.bound, claim.slack):
                assert number is None or np.isfinite(number)
            if claim.holds and claim.slack is not None:
                assert claim.slack >= 1 - 1e-7
    assert names == seen


# Median slack over the heads near balance, and how far a median over other random heads may be from it.
NEAR_BALANCE = {
    ("nc1_upper", "orthogonal"): (1.00, 0.01),
    ("nc1_upper_spectral", "orthogonal"): (1.00, 0.01),
    ("nc1_lower", "orthogonal"): (1.00, 0.01),
    ("nc1_interpolation", "orthogonal"): (2.3, 0.8),  # 2.78 on the heads of the derivation
    ("nc2_upper", "orthogonal"): (1.003, 0.04),
    ("nc2_target_free", "orthogonal"): (1.001, 0.03),
    ("nc3_class", "orthogonal"): (1.06, 0.03),
    ("head_condition", "relative"): (1.00, 0.02),
    ("nc2_head", ""): (1.008, 0.06),
    ("nc3_head", "orthogonal"): (1.06, 0.04),
    ("nc2_upper", "simplex"): (1.6, 0.2),
    ("nc3_class", "simplex"): (1.5, 0.2),
}


def test_certificates_are_tight_near_balance() -> None:
    slacks = defaultdict[tuple[str, str], list[float]](list)
    for claim in certified("near balance"):
        if claim.slack is not None:
            slacks[claim.claim, claim.quantity.partition(" ")[0]].append(claim.slack)
    for key, (median, tolerance) in NEAR_BALANCE.items():
        assert median == pytest.approx(float(np.median(slacks[key])), abs=tolerance), key


@pytest.mark.parametrize("broken", ["bound", "weights", "projection"])
def test_a_wrong_formula_is_seen(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "bound":
        # The forgotten term: as if nothing leaked through imbalance.
        monkeypatch.setattr(ReadLayer, "a", property(lambda self: 0.0))
    elif broken == "weights":
        monkeypatch.setattr(certificates_module, "_eta", lambda head: 1e-3)
    else:
        monkeypatch.setattr(ReadLayer, "from_outputs", lambda self, factor: float(np.sum(factor**2)))
    assert violated(claim for head in random_heads("biased", 40) for claim in certify(head))


def corrupted(head: HeadStats, part: str) -> HeadStats:
    """A head of which one part is not what the others make of it, by 1 % (a class mean: by its length, unread)."""
    below, last = head.features, head.classifier
    if part == "classifier":
        return replace(head, maps=(*head.maps[:-1], replace(last, weight=1.01 * last.weight)))
    if part == "means":
        unread = np.linalg.svd(last.weight)[2][-1] * np.linalg.norm(below.means)
        wrong = replace(below, means=below.means + np.outer(unread, np.eye(head.n_classes)[0]))
    else:
        wrong = replace(below, **{part: 1.01 * getattr(below, part)})
    return replace(head, layers=(*head.layers[:-2], wrong, head.layers[-1]))


@pytest.mark.parametrize(
    ("part", "noticed"),
    [
        ("noise", "nc1_split nc1_upper"),
        ("signal", "nc1_lower"),
        ("classifier", "nc1_split"),
        ("means", "nc2_target_free nc2_upper nc3_class"),
    ],
)
def test_a_corrupted_head_violates_a_certificate(part: str, noticed: str) -> None:
    """That rounding has no verdict must not make certificates blind."""
    heads = [head for head in random_heads("near balance", 80) if head.features.width > head.n_classes + 1][:20]
    broken = [{claim.claim for claim in violated(certify(corrupted(head, part)))} for head in heads]
    assert all(broken)
    assert set(noticed.split()) <= set.union(*broken)
    assert not any(violated(certify(head)) for head in heads)


@pytest.mark.parametrize("K", [2, 3, 10])
@pytest.mark.parametrize("L2", [2, 4])
def test_certificates_are_exact_at_collapse_and_balance(K: int, L2: int) -> None:
    claims = rows(collapsed_head(K, L2))
    for name in ("nc1_upper", "nc1_interpolation", "nc1_lower"):
        claim = one(claims, name, "orthogonal")
        assert (0.0, 0.0) == pytest.approx((claim.value, claim.bound), abs=EXACT)
    for name in ("nc2_upper", "nc2_lower", "nc2_target_free"):
        claim = one(claims, name, "orthogonal")
        assert (1.0, 1.0) == pytest.approx((claim.value, claim.bound), abs=EXACT)
    for c in range(K):
        for name, form in (("nc3_class", "orthogonal"), ("nc3_head", "orthogonal")):
            claim = one(claims, name, f"{form} class {c}")
            assert (1.0, 1.0) == pytest.approx((claim.value, claim.bound), abs=EXACT)
    assert "as far as rounding can tell" in one(claims, "head_condition", "absolute").reason
    assert 1.0 == pytest.approx(value_of(one(claims, "head_condition", "relative")), abs=EXACT)


@pytest.mark.parametrize("K", [2, 3, 10])
def test_the_simplex_form_is_exact_at_a_simplex_etf(K: int) -> None:
    claims = rows(collapsed_head(K, 3, centred=True))
    for c in range(K):
        claim = one(claims, "nc3_class", f"simplex class {c}")
        assert (1.0, 1.0) == pytest.approx((claim.value, claim.bound), abs=EXACT)
    condition = one(claims, "nc2_upper", "simplex")
    if K == 2:
        assert "trivial at K = 2" in condition.reason
    else:
        assert (1.0, 1.0) == pytest.approx((condition.value, condition.bound), abs=EXACT)
    assert one(claims, "nc2_upper", "orthogonal").reason == "M has a lower rank"


def test_nc1_is_what_the_outputs_show_when_balance_is_exact() -> None:
    rng = np.random.default_rng(0)
    s = np.array([2.0, 1.5, 1.0])
    maps: Maps = [(W, None) for W in balanced([8, 7, 6, 3], s, rng)]
    y = np.repeat(np.arange(3), [5, 9, 4])
    head = stats_of(rng.standard_normal((18, 8)), y, maps)
    claims = rows(head)
    for layer in ("Z1", "Z2"):
        upper, lower = claims["nc1_upper", "orthogonal", layer], claims["nc1_lower", "orthogonal", layer]
        assert upper.value == pytest.approx(upper.bound, rel=EXACT)
        assert lower.value == pytest.approx(lower.bound, rel=EXACT)
        assert 0 == pytest.approx(value_of(claims["nc1_imbalance_share", "orthogonal", layer]), abs=EXACT)
        assert claims["imbalance_leak", "orthogonal", layer].holds is None


def test_the_shares_of_nc1_equal_the_naive_split() -> None:
    for head in random_heads("biased", 5):
        claims = rows(head)
        for form, Q in (
            ("orthogonal", np.eye(head.n_classes)),
            ("simplex", np.eye(head.n_classes) - 1 / head.n_classes),
        ):
            V = Q @ head.classifier.weight
            P = np.linalg.pinv(V, rcond=1e-10) @ V
            within = head.features.noise @ head.features.noise.T
            between = np.trace(head.features.signal @ head.features.signal.T)
            output = one(claims, "nc1_output_share", form)
            leak = one(claims, "nc1_imbalance_share", form)
            assert np.trace(P @ within @ P) / between == pytest.approx(output.value, rel=1e-8)
            A = (np.eye(len(P)) - P) @ head.maps[-2].weight
            below = head.layers[-3].noise
            assert np.linalg.norm(A @ below) ** 2 / between == pytest.approx(leak.value, rel=1e-8, abs=1e-20)


def test_the_simplex_form_does_not_see_a_last_bias() -> None:
    rng = np.random.default_rng(1)
    W = balanced([6, 5, 3], np.array([1.2, 1.1, 1.0]), rng)
    y = np.repeat(np.arange(3), 6)
    Z = rng.standard_normal((18, 6))
    plain = rows(stats_of(Z, y, [(W[0], None), (W[1], None)]))
    shifted = rows(stats_of(Z, y, [(W[0], None), (W[1], np.array([50.0, -20.0, 3.0]))]))
    for (name, quantity, layer), claim in plain.items():
        if quantity.startswith("simplex"):
            other = shifted[name, quantity, layer]
            assert (claim.holds, claim.reason.partition("=")[0]) == (other.holds, other.reason.partition("=")[0])
            if claim.bound is not None:
                assert claim.bound == pytest.approx(other.bound, rel=1e-8)


@pytest.mark.parametrize("e", [3e-4, 1e-2, 0.5])
def test_outputs_far_smaller_than_labels_break_no_certificate(e: float) -> None:
    """‖QY(Π−J)‖ and ‖Q(Z_L−Y)‖ then agree in ten digits, and their difference must not be theirs."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 30)
    Z = np.maximum(np.array([[2.0, 0.0], [0.0, 2.0]])[y] + 0.1 * rng.standard_normal((60, 2)), 0)
    W = e * np.array([[1.0, -1.0], [-1.0, 1.0]]) / 2
    claim = one(rows(stats_of(Z, y, [(W, None)] * 3)), "nc1_interpolation", "simplex")
    # In the limit of small outputs, with s the one singular value and t the mean output on target, less the mean.
    centred = Z - Z.mean(axis=0)
    F = centred @ np.linalg.matrix_power(W, 3)
    means = np.array([F[y == c].mean(axis=0) for c in range(2)])
    noise = np.sum((F - means[y]) ** 2) / 60
    on_target = np.mean([means[c, c] - means[c].mean() for c in range(2)])
    if e < 0.1:
        shown = 2 * on_target / (2 * np.sqrt(0.5))
        assert claim.bound == pytest.approx(noise / shown**2, rel=1e-3 if e > 1e-3 else 1e-6)
    assert claim.holds
    assert (claim.slack or 0) >= 1


def test_a_large_bias_below_hides_no_class_means_from_the_simplex_form() -> None:
    """Centred class means are what the maps make of differences: a bias of 1e9 must not enter and leave again."""
    rng = np.random.default_rng(2)
    W = balanced([6, 5, 3], np.array([1.2, 1.1, 1.0]), rng)
    y = np.repeat(np.arange(3), 6)
    Z = fitted([(W[0], None), (W[1], None)], np.eye(3)[y]) + 0.01 * rng.standard_normal((18, 6))
    plain = rows(stats_of(Z, y, [(W[0], None), (W[1], None)]))
    shifted = rows(stats_of(Z, y, [(W[0], 1e9 * rng.standard_normal(5)), (W[1], None)]))
    for key in plain:
        if key[0] in ("nc2_upper", "nc2_lower", "nc3_class") and key[1].startswith("simplex"):
            assert plain[key].value == pytest.approx(shifted[key].value, rel=1e-9)
            assert plain[key].bound == pytest.approx(shifted[key].bound, rel=1e-9)


def test_a_difference_that_rounding_decides_has_no_verdict() -> None:
    assert at_most("nc1_upper", 1.0 + 1e-6, 1.0).holds is False
    undecided = at_most("nc1_upper", 1.0 + 1e-6, 1.0, rounding=1e-5)
    assert (None, None) == (undecided.holds, undecided.slack)
    assert "as far as rounding can tell" in undecided.reason
    assert at_least("nc1_lower", 1.0, 1.0 + 1e-9).slack == 1.0


def test_the_tighter_of_two_forms_says_so() -> None:
    claims = certify(next(random_heads("near balance", 1)))
    both = {c.quantity: c for c in claims if c.claim == "nc1_upper" and c.layer == claims[0].layer}
    marked = [form for form, claim in both.items() if claim.reason == TIGHTER]
    assert [min(both, key=lambda form: both[form].slack or 0.0)] == marked
    assert not [c for c in claims if c.claim in ("imbalance_leak", "nc1_split") and c.reason == TIGHTER]


def test_one_linear_map_has_no_certificate() -> None:
    Z, y = np.eye(3), np.arange(3)
    claims = certify(stats_of(Z, y, [(np.eye(3), None)]))
    assert {"the head has one linear map"} == {c.reason for c in claims}
    names = {s.name for s in CLAIMS if not s.name.startswith("theorem31")}
    assert names - {"imbalance_leak_bias"} == {c.claim for c in claims}


def test_float32_weights_read_no_direction_below_their_storage() -> None:
    """A classifier of rank 2 stored in float32: its third singular value is rounding, and nothing rests on it."""
    rng = np.random.default_rng(0)
    last = balanced([5, 3], np.array([1.2, 1.0, 0.0]), rng)[0].astype(np.float32)
    y = np.repeat(np.arange(3), 6)
    claims = rows(stats_of(rng.standard_normal((18, 6)), y, [(rng.standard_normal((5, 6)), None), (last, None)]))
    assert "reads 2 directions of 3" in one(claims, "nc2_upper", "orthogonal").reason
    assert [c for c in claims.values() if c.holds is False] == []


def test_no_matrix_of_classes_by_classes_is_decomposed_when_features_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,000 classes it would take minutes; what a map of rank d makes of it lies in d dimensions."""
    rng = np.random.default_rng(1)
    K, d = 40, 6
    y = np.repeat(np.arange(K), 3)
    head = stats_of(rng.standard_normal((len(y), d)), y, [(rng.standard_normal((n, d)), None) for n in (d, d, K)])
    shapes: list[tuple[int, ...]] = []
    for name in ("svd", "eigvalsh", "eigh", "matrix_power", "norm"):
        original = getattr(np.linalg, name)

        def seen(X: np.ndarray, *args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            if name != "norm" or 2 in args:
                shapes.append(X.shape)
            return original(X, *args, **kwargs)

        monkeypatch.setattr(np.linalg, name, seen)
    claims = certify(head)
    assert {c.claim for c in claims if c.value is not None} > {"head_power", "nc1_upper"}
    assert len(shapes) > 20
    assert max(min(shape) for shape in shapes) <= d + 1
    W, product = head.classifier.weight, head.product
    apart = np.linalg.norm(product @ product.T - np.linalg.matrix_power(W @ W.T, 3), 2)
    assert one(rows(head), "head_power", "").value == pytest.approx(apart, rel=EXACT)


def claims_table() -> str:
    """CLAIMS as the table of docs/theory.md."""
    lines = ["| claim | kind | statement | source | no value or verdict when |", "|---|---|---|---|---|"]
    for s in CLAIMS:
        cells = (f"`{s.name}`", s.kind, s.statement, s.source, s.undefined)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def test_the_page_on_theory_holds_the_table_of_claims_and_names_tests_that_exist() -> None:
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "theory.md").read_text()
    assert claims_table() in page
    ours = page.partition("## Weight decay")[0]
    written = "".join(path.read_text() for path in tests.glob("theory/test_theory_*.py"))
    named = re.findall(r"`(test_[a-z0-9_]+)`", ours)
    assert len(named) > 10
    assert [name for name in named if f"def {name}(" not in written] == []
