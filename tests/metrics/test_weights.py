"""Weights alone against the formulas, and which pairs count."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from helpers import chain, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from ncscan.errors import Undefined
from ncscan.layer_graph import LayerKind, TapGraph
from ncscan.metrics.weights import balancedness
from ncscan.metrics.weights.balancedness import NORMS, balance
from ncscan.metrics.weights.conditioning import SIZES, condition
from ncscan.metrics.weights.consecutive_maps import alignment
from ncscan.metrics.weights.evaluate import WeightRow, measure_weights

ROUNDING = 1e-10

Weights = dict[str, tuple[np.ndarray, np.ndarray | None]]


def random_weights(shapes: list[tuple[int, int]], bias: bool = False, dtype: type = np.float64) -> Weights:
    rng = np.random.default_rng(0)
    return {
        str(i): (rng.standard_normal(s).astype(dtype), rng.standard_normal(s[0]).astype(dtype) if bias else None)
        for i, s in enumerate(shapes)
    }


def rows_of(weights: Weights, graph: TapGraph) -> dict[tuple[str, str, str, str], WeightRow]:
    return {(r.map, r.next_map, r.metric, r.quantity): r for r in measure_weights(weights, graph)}


def operator_norm(A: np.ndarray) -> float:
    return float(np.linalg.norm(A, 2))


SHAPES = [(5, 3), (6, 5), (4, 6)]


@pytest.mark.parametrize("bias", [False, True])
def test_balancedness_equals_the_formula(bias: bool) -> None:
    weights = random_weights(SHAPES, bias)
    rows = rows_of(weights, chain(SHAPES, [(), ()], head=3))
    for a, b in (("0", "1"), ("1", "2")):
        W, W2, v = weights[a][0], weights[b][0], weights[a][1]
        D = W2.T @ W2 - W @ W.T
        for metric, matrix in (("balancedness", D), ("balancedness_bias", None if v is None else D - np.outer(v, v))):
            if matrix is None:
                assert (a, b, metric, "op") not in rows
                continue
            terms = (W2.T @ W2, W @ W.T)
            for quantity, norm in (("op", operator_norm), ("fro", np.linalg.norm)):
                raw, smaller = norm(matrix), min(norm(term) for term in terms)
                assert rows[a, b, metric, quantity].value == pytest.approx(raw, rel=ROUNDING)
                assert rows[a, b, metric, f"{quantity}_relative"].value == pytest.approx(raw / smaller, rel=ROUNDING)


@pytest.mark.parametrize("bias", [False, True])
def test_only_the_diagonal_counts_across_one_relu(bias: bool) -> None:
    weights = random_weights(SHAPES[:2], bias)
    rows = rows_of(weights, chain(SHAPES[:2], [("activation",)]))
    W, W2, v = weights["0"][0], weights["1"][0], weights["0"][1]
    d = np.diag(W2.T @ W2 - W @ W.T - (0 if v is None else np.outer(v, v)))
    terms = [np.diag(W2.T @ W2), np.diag(W @ W.T)]
    assert not [key for key in rows if key[2] in ("balancedness", "balancedness_bias")]
    assert rows["0", "1", "balancedness_diagonal", "op"].value == pytest.approx(np.abs(d).max(), rel=ROUNDING)
    assert rows["0", "1", "balancedness_diagonal", "fro"].value == pytest.approx(np.linalg.norm(d), rel=ROUNDING)
    assert rows["0", "1", "balancedness_diagonal", "fro_relative"].value == pytest.approx(
        np.linalg.norm(d) / min(np.linalg.norm(t) for t in terms), rel=ROUNDING
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_balance_is_exact_when_neighbours_share_their_singular_values_and_relative_has_no_unit(
    seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    first, following = rng.standard_normal((5, 3)), rng.standard_normal((4, 5))
    one, other = balance(first, following), balance(scale * first, scale * following)
    assert other["op_relative"] == pytest.approx(one["op_relative"], rel=1e-9)
    assert other["op"] == pytest.approx(scale**2 * float(str(one["op"])), rel=1e-9)
    U, V = rotation(5, seed), rotation(5, seed + 1)
    s = np.diag([3.0, 2.0, 1.0, 0.5, 0.0])
    assert balance(U @ s @ V, V @ s @ U.T)["op"] == pytest.approx(0, abs=1e-13)


def test_wide_pairs_have_the_same_norms_without_the_wide_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first, following, b = rng.standard_normal((300, 20)), rng.standard_normal((10, 300)), rng.standard_normal(300)
    dense = balance(first, following, b)
    monkeypatch.setattr(balancedness, "_WIDEST_DENSE", 100)
    assert balance(first, following, b) == pytest.approx(dense, rel=1e-8)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (("normalisation",), "normalisation between"),
        (("activation", "activation"), "activation and activation between"),
        (("activation", "pooling"), "activation and pooling between"),
        (("residual",), "residual between"),
    ],
)
def test_balancedness_says_what_stands_between(between: tuple[LayerKind, ...], reason: str) -> None:
    graph = chain(SHAPES[:2], [between])
    rows = rows_of(random_weights(SHAPES[:2]), graph)
    for quantity in NORMS:
        row = rows["0", "1", "balancedness", quantity]
        assert row.value is None
        assert reason in row.reason


@pytest.mark.parametrize("kind", ["convolution", "embedding"])
def test_maps_that_are_no_matrices_say_so(kind: Literal["convolution", "embedding"]) -> None:
    graph = chain(SHAPES[:2], [()], head=2)
    weights = random_weights(SHAPES[:2])
    if kind == "convolution":
        weights["0"] = (np.ones((5, 3, 2, 2)), None)
    graph = replace(graph, maps=(replace(graph.maps[0], kind=kind), graph.maps[1]))
    rows = rows_of(weights, graph)
    for key in (("0", "1", "balancedness", "op"), ("0", "", "weight_condition", "condition")):
        assert (rows[key].value, kind in rows[key].reason) == (None, True)
    assert kind in rows["0..1", "", "head_condition", "root"].reason
    assert rows["1", "", "weight_condition", "condition"].value is not None


def test_pairs_that_do_not_fit_say_so() -> None:
    shapes = [(5, 3), (6, 10)]  # a view between: two samples' worth of features in one
    assert (
        "writes 5 numbers where the next reads 10"
        in rows_of(random_weights(shapes), chain(shapes, [()]))["0", "1", "balancedness", "op"].reason
    )


def test_relative_balance_is_undefined_when_a_map_is_zero() -> None:
    weights = random_weights(SHAPES[:2])
    weights["1"] = (np.zeros((6, 5)), None)
    rows = rows_of(weights, chain(SHAPES[:2], [()]))
    assert rows["0", "1", "balancedness", "op"].value == pytest.approx(np.linalg.norm(weights["0"][0], 2) ** 2)
    assert rows["0", "1", "balancedness", "op_relative"].reason == "a map is zero: nothing to be relative to"
    assert rows["1", "", "weight_condition", "condition"].reason == "the map is zero"


def test_weights_that_are_not_finite_say_so() -> None:
    weights = random_weights(SHAPES[:2])
    weights["0"][0][2, 1] = np.inf
    rows = rows_of(weights, chain(SHAPES[:2], [()]))
    assert rows["0", "1", "balancedness", "fro"].reason == "0 has non-finite weights"


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e100])
@pytest.mark.parametrize("between", [(), ("activation",)])
def test_a_bias_that_is_not_finite_says_so(bad: float, between: tuple[LayerKind, ...]) -> None:
    weights = {**random_weights(SHAPES[:2]), "0": (np.ones(SHAPES[0]), np.full(SHAPES[0][0], bad))}
    rows = rows_of(weights, chain(SHAPES[:2], [between]))
    metric = "balancedness_diagonal" if between else "balancedness_bias"
    why = "weights of the pair differ in size" if bad == 1e100 else "0 has a non-finite bias"
    assert rows["0", "1", metric, "op"].value is None
    assert rows["0", "1", metric, "op"].reason.startswith(why)
    assert between or rows["0", "1", "balancedness", "op"].value is not None  # which has no use for the bias


@pytest.mark.parametrize("scale", [1e-60, 1e74])
def test_the_head_has_the_condition_of_its_product_at_any_size(scale: float) -> None:
    shapes = [(4, 4)] * 6  # their product would be scale⁶
    graph = chain(shapes, [()] * 5, head=6)
    weights = random_weights(shapes)
    scaled: Weights = {name: (W * scale, None) for name, (W, _) in weights.items()}
    key = ("0..5", "", "head_condition", "condition")
    expected = rows_of(weights, graph)[key].value
    assert expected is not None
    # Scaling rounds each weight; the condition of the product multiplies that.
    assert rows_of(scaled, graph)[key].value == pytest.approx(expected, rel=1e-14 * expected)


def test_the_condition_is_undefined_when_a_matrix_is_not_finite() -> None:
    with pytest.raises(Undefined, match="not finite"):
        condition(np.diag([np.inf, 1.0]), 0.0)


def test_a_pair_has_no_balance_when_no_unit_holds_the_squares_of_both() -> None:
    weights = random_weights(SHAPES[:2])
    weights["0"][0][2, 1] = 1e100
    rows = rows_of(weights, chain(SHAPES[:2], [()]))
    assert {row.reason for key, row in rows.items() if "balance" in key[2]} == {
        "weights of the pair differ in size by more than float64 can square"
    }
    assert rows["0", "", "weight_condition", "s_1"].value == pytest.approx(1e100)


@pytest.mark.parametrize("between", [(), ("activation",)])
@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-600, 2.0**-250, 2.0**250, 2.0**600, 2.0**1000])
def test_weights_of_any_size_have_the_same_numbers(scale: float, between: tuple[LayerKind, ...]) -> None:
    shapes = SHAPES[:2]
    weights = {name: (W, np.ones(len(W)) if name == "0" else None) for name, (W, _) in random_weights(shapes).items()}
    scaled = {name: (W * scale, None if b is None else b * scale) for name, (W, b) in weights.items()}
    one, other = (rows_of(w, chain(shapes, [between])) for w in (weights, scaled))
    for key, row in one.items():
        metric, quantity = key[2:]
        squares = metric.startswith("balancedness") and quantity in ("op", "fro")
        size = metric == "weight_condition" and quantity in ("s_1", "s_r", "fro")
        if other[key].reason != row.reason:
            assert squares, key
            assert "for float64" in other[key].reason
            assert not 1e-150 < scale < 1e150
        elif row.value is not None:
            assert np.ldexp(row.value, (2 * squares + size) * int(np.log2(scale))) == other[key].value, key


def test_weight_condition_equals_an_svd() -> None:
    weights = random_weights(SHAPES)
    rows = rows_of(weights, chain(SHAPES, [(), ()]))
    s = np.linalg.svd(weights["1"][0], compute_uv=False)
    expected = (s[0] / s[-1], s[0], s[-1], np.sum(s**2) / s[0] ** 2, np.sqrt(np.sum(s**2)))
    for quantity, value in zip(SIZES, expected, strict=True):
        row = rows["1", "", "weight_condition", quantity]
        assert row.value == pytest.approx(value, rel=ROUNDING)
        assert row.rank == 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weight_condition_leaves_out_what_rounding_makes_of_zero(dtype: type) -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((40, 4)) @ rng.standard_normal((4, 30))
    s = np.linalg.svd(exact, compute_uv=False)
    row = rows_of({"0": (exact.astype(dtype), None)}, chain([(40, 30)], []))["0", "", "weight_condition", "condition"]
    assert row.value == pytest.approx(s[0] / s[3], rel=1e-5)
    assert row.rank == 4


def test_head_condition_is_that_of_the_product() -> None:
    weights = random_weights(SHAPES)
    rows = rows_of(weights, chain(SHAPES, [(), ()], head=2))
    product = weights["2"][0] @ weights["1"][0]
    s = np.linalg.svd(product, compute_uv=False)
    assert rows["1..2", "", "head_condition", "condition"].value == pytest.approx(s[0] / s[-1], rel=ROUNDING)
    assert rows["1..2", "", "head_condition", "condition"].rank == 4
    assert rows["1..2", "", "head_condition", "root"].value == pytest.approx((s[0] / s[-1]) ** 0.5, rel=ROUNDING)
    assert rows["1..2", "", "head_condition", "last"].value == pytest.approx(np.linalg.cond(weights["2"][0]), rel=1e-9)


def test_root_equals_last_when_the_head_is_balanced() -> None:
    U, V, Q = rotation(5, 1), rotation(5, 2), rotation(5, 3)
    s = np.diag([3.0, 2.0, 1.5, 1.0, 0.5])
    weights: Weights = {"0": (U @ s @ Q, None), "1": (V @ s @ U.T, None), "2": (Q @ s @ V.T, None)}
    rows = rows_of(weights, chain([(5, 5)] * 3, [(), ()], head=3))
    assert rows["0", "1", "balancedness", "op_relative"].value == pytest.approx(0, abs=1e-13)
    root, last = (rows["0..2", "", "head_condition", q].value for q in ("root", "last"))
    assert root == pytest.approx(6.0, rel=1e-9)
    assert last == pytest.approx(6.0, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_head_has_the_rank_of_its_narrowest_map(dtype: type) -> None:
    shapes = [(3, 8), (9, 3), (6, 9)]
    rows = rows_of(random_weights(shapes, dtype=dtype), chain(shapes, [(), ()], head=3))
    assert rows["0..2", "", "head_condition", "condition"].rank == 3


def test_the_rank_of_the_head_leaves_out_what_rounding_one_map_makes_of_zero() -> None:
    rng = np.random.default_rng(0)
    low = (rng.standard_normal((40, 4)) @ rng.standard_normal((4, 30))).astype(np.float32)
    last = rng.standard_normal((20, 40)).astype(np.float32)
    rows = rows_of({"0": (low, None), "1": (last, None)}, chain([(40, 30), (20, 40)], [()], head=2))
    assert rows["0..1", "", "head_condition", "condition"].rank == 4
    assert rows["0..1", "", "head_condition", "last"].rank == 20


def test_a_head_of_one_map_is_that_map() -> None:
    rows = rows_of(random_weights(SHAPES), chain(SHAPES, [("activation",), ("activation",)], head=1))
    one = rows["2", "", "weight_condition", "condition"].value
    assert [rows["2", "", "head_condition", q].value for q in ("condition", "root", "last")] == [one] * 3


def test_there_are_no_head_rows_when_there_is_no_linear_head() -> None:
    graph = replace(chain(SHAPES, [(), ()]), head=())
    assert not [row for row in measure_weights(random_weights(SHAPES), graph) if row.metric == "head_condition"]


def naive_alignment(first: np.ndarray, following: np.ndarray, j: int) -> float:
    U = np.linalg.svd(first)[0][:, :j]
    V = np.linalg.svd(following)[2].T[:, :j]
    return float(np.mean(np.linalg.svd(V.T @ U)[1]))


def test_alignment_is_the_mean_cosine_of_the_strongest_subspaces() -> None:
    rng = np.random.default_rng(0)
    for n, m, p, K in ((9, 5, 6, 3), (9, 12, 12, 4), (8, 2, 7, 5)):
        first, following = rng.standard_normal((n, m)), rng.standard_normal((p, n))
        value, j = alignment(first, following, K)
        assert j == min(K, m, n)
        assert value == pytest.approx(naive_alignment(first, following, j), rel=1e-10)


def test_alignment_is_1_under_balance_and_0_across() -> None:
    W = np.random.default_rng(0).standard_normal((9, 5))
    assert alignment(W, W.T, 3) == pytest.approx((1.0, 3), rel=1e-12)
    assert alignment(np.eye(6)[:, :2], np.eye(6)[2:4], 2) == pytest.approx((0.0, 2), abs=1e-12)


def test_alignment_is_undefined_without_strongest_directions() -> None:
    with pytest.raises(Undefined, match="s_2 = s_3"):
        alignment(np.eye(6)[:, :4], np.eye(6)[:4], 2)
    with pytest.raises(Undefined, match="trivial: j = 3"):
        alignment(np.eye(3), np.eye(3), 3)
    with pytest.raises(Undefined, match="a map is zero"):
        alignment(np.zeros((4, 3)), np.eye(4), 2)


def spread_row(
    weights: dict[str, tuple[np.ndarray, np.ndarray | None]], between: list[tuple[LayerKind, ...]]
) -> WeightRow:
    shapes = [W.shape for W, _ in weights.values()]
    (row,) = [r for r in measure_weights(weights, chain(shapes, between)) if r.metric == "norm_spread"]
    return row


def test_norm_spread_is_over_maps_whose_scale_reaches_the_output() -> None:
    W = [k * np.ones((3, 3)) for k in (1.0, 2.0, 4.0)]
    relu: list[tuple[LayerKind, ...]] = [("activation",), ("activation",)]
    row = spread_row({str(i): (w, None) for i, w in enumerate(W)}, relu)
    sizes = np.array([3.0, 6.0, 12.0])
    assert row.map == "0..2"
    assert row.value == pytest.approx(sizes.std() / sizes.mean(), rel=1e-12)
    row = spread_row({"0": (W[0], np.ones(3)), "1": (W[1], None), "2": (W[2], np.ones(3))}, relu)
    assert row.map == "1..2"
    assert row.value == pytest.approx(1 / 3, rel=1e-12)
    row = spread_row({"0": (W[0], None), "1": (W[1], np.ones(3)), "2": (W[2], None)}, relu)
    assert row.reason.startswith("fewer than two maps")


def test_norm_spread_leaves_out_what_is_normalised_and_is_undefined_beside_residual_sums() -> None:
    weights: dict[str, tuple[np.ndarray, np.ndarray | None]] = {str(i): (np.eye(3) * (i + 1), None) for i in range(3)}
    row = spread_row(weights, [("normalisation", "activation"), ("activation",)])
    assert row.map == "1..2"
    assert row.value == pytest.approx(0.2, rel=1e-12)
    assert "residual between maps" in spread_row(weights, [("residual",), ("activation",)]).reason
