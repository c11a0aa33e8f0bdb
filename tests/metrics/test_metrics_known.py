"""Known answers on exact layers, symmetries, and layers of odd shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import by_name, exact_layer, naive_means, random_layer, rotation, simplex, simplex_layer, stats_of, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ncscan import api
from ncscan.errors import Undefined
from ncscan.metrics.evaluate import METRICS, Classifier, LayerView, Reader, Row, measure
from ncscan.metrics.layers.classifier import (
    bias_collapse,
    bias_collapse_raw,
    classifier_row_sum,
    etf_swap_error,
    nc2_etf_w,
)
from ncscan.metrics.layers.self_duality import nc3_subspace
from ncscan.metrics.layers.variability import vci
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.simplex_etf import nearest_simplex

EXACT = 1e-12
ROUNDING = 1e-8  # rotated and scaled sums of some thousand, through an inverse

KNOWN = {
    (10, 512, 3.0, 0.01): {
        "nc1_trace": 0.01 * 512 / 9,
        "nc1_pinv": 0.009,
        "cdnv": 0.256,
        "vci": 0.01 * 9 / (9 + 0.09),
        "nc1_normalized": 5.12 / 14.12,
        "separation": 0.09,
    },
    (4, 7, 1.0, 0.2): {
        "nc1_trace": 1.4,
        "nc1_pinv": 0.45,
        "cdnv": 0.525,
        "vci": 0.375,
        "nc1_normalized": 1.4 / 2.4,
        "separation": 1.8,
    },
}


@pytest.mark.parametrize("layer", list(KNOWN), ids=str)
def test_a_simplex_with_isotropic_classes_reads_what_theory_says(layer: tuple[int, int, float, float]) -> None:
    rows = by_name(measure(view_of(*simplex_layer(*layer))))
    for name, value in KNOWN[layer].items():
        assert rows[name].value == pytest.approx(value, rel=1e-10), name
    for name in ("nc2_equinorm", "nc2_equiangular", "nc2_etf", "nc2_etf_unit", "gnc2_uniformity.var"):
        assert rows[name].value == pytest.approx(0, abs=EXACT), name
    K, d, radius, variance = layer
    assert rows["gnc2_uniformity.mean"].value == pytest.approx(-0.5 * np.log(2 * K / (K - 1)), rel=EXACT)
    assert rows["norms.global_mean"].value == pytest.approx(0, abs=EXACT)
    # All samples: λ = radius²/(K−1) + σ² in K−1 directions, σ² in the others.
    high, low = radius**2 / (K - 1) + variance, variance
    assert rows["stable_rank"].value == pytest.approx(((K - 1) * high + (d - K + 1) * low) / high, rel=1e-10)


def test_what_collapse_reads() -> None:
    features, labels = simplex_layer(5, 8, 2.0, 0.0)
    M = naive_means(features, labels)
    view = replace(view_of(features, labels, W=3 * M), readers=(Reader("head", M, 4),))
    rows = by_name(measure(view))
    zero: tuple[str, ...] = (
        "nc1_pinv",
        "nc1_trace",
        "nc1_normalized",
        "cdnv",
        "vci",
        "separation",
        "nc2_etf",
        "nc2_etf_w",
        "norms.std",
    )
    zero += ("nc2_equinorm_w", "nc2_equiangular_w", "nc3_distance", "nc3_distance_squared", "nc3_etf", "nc3_uniform")
    zero += ("bias_collapse", "bias_collapse_raw", "classifier_row_sum", "etf_swap_error")
    for name in zero:
        assert rows[name].value == pytest.approx(0, abs=1e-12), name
    for name in ("nc3_cosine.samples", "nc3_subspace"):
        assert rows[name].value == pytest.approx(1, rel=EXACT)
    assert rows["nc3_subspace"].rank == 4
    for name in ("numerical_rank", "stable_rank", "effective_rank", "participation_ratio"):
        assert rows[name].value == pytest.approx(4, rel=EXACT), name


def test_an_orthogonal_frame_reads_what_theory_says() -> None:
    features, labels = exact_layer(np.eye(4, 9) @ rotation(9), 0.0)
    rows = by_name(measure(view_of(features, labels, W=2 * naive_means(features, labels))))
    assert rows["nc2_orthogonal"].value == pytest.approx(0, abs=EXACT)
    for name in ("numerical_rank", "stable_rank", "effective_rank", "participation_ratio"):
        assert rows[name].value == pytest.approx(4, rel=1e-10), name
    assert rows["classifier_row_sum"].value == pytest.approx(0.5, rel=EXACT)
    assert rows["nc2_equiangular_w"].value == pytest.approx(1 / 3, rel=EXACT)


@pytest.mark.parametrize(("K", "known"), [(2, 0.765367), (3, 0.605811), (10, 0.320364), (100, 0.100126)])
def test_orthogonal_rows_of_a_classifier_are_so_far_from_a_simplex(K: int, known: float) -> None:
    view = LayerView(stats_of(*exact_layer(np.eye(K, K), 0.1)), classifier=Classifier("head", np.eye(K)))
    assert nc2_etf_w(view) == pytest.approx(known, abs=5e-7)
    assert nc2_etf_w(view) == pytest.approx(np.sqrt(2 - 2 * np.sqrt((K - 1) / K)), rel=1e-10)


def test_bias_collapse_forgives_what_all_classes_share() -> None:
    features, labels = exact_layer(np.eye(4, 6), 0.1)
    W, b = np.random.default_rng(0).standard_normal((4, 6)), np.full(4, 0.25)
    shifted = b - W @ features.mean(axis=0)
    view = LayerView(stats_of(features, labels), classifier=Classifier("head", W, shifted))
    assert bias_collapse(view) == pytest.approx(0, abs=EXACT)
    assert bias_collapse_raw(view) == pytest.approx(0.5, rel=EXACT)  # 1/√K: what square loss does


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_simplex_needs_directions_above_the_rounding_of_the_rows_as_stored(dtype: str) -> None:
    """The weakest of K − 1 directions, above and below what storage resolves: in the measure, and in what it counts."""
    K, d = 5, 40
    across = np.linalg.svd(simplex(K))[0][:, : K - 1]
    along = rotation(d)[: K - 1]
    features, labels = random_layer(K, d, 6)
    for times, there in ((100, True), (0.01, False)):
        size = times * np.finfo(dtype).eps
        W = ((across * [1, 1, 1, size]) @ along).astype(dtype)
        rows, exact = api.measure(features, labels, W).set_index("metric"), W.astype(np.float64)
        assert (rows.reason["etf_swap_error"] == "") == there
        stats = layer_stats(
            lambda: [(0, features)], labels, K, AccumulationOptions(classifier=exact, classifier_precision=dtype)
        )
        assert (stats.swap_errors is not None) == there
        if there:
            wrong = np.argmax(features @ nearest_simplex(exact).T, axis=1) != labels
            assert rows.value["etf_swap_error"] == wrong.mean()
        else:
            assert "fewer than K − 1 directions" in rows.reason["etf_swap_error"]


def test_the_nearest_simplex_is_a_simplex_and_nearest() -> None:
    rng = np.random.default_rng(0)
    for K, d in ((4, 6), (4, 3), (7, 6)):
        W = rng.standard_normal((K, d))
        E = nearest_simplex(W)
        assert E @ E.T == pytest.approx(np.eye(K) - 1 / K, abs=EXACT)
        for seed in range(20):
            other = E @ rotation(d, seed)
            assert np.sum(W * other) < np.sum(W * E) + EXACT
        assert nearest_simplex(3 * E + rng.standard_normal(d)) == pytest.approx(E, abs=1e-10)  # of a shifted simplex


def test_the_swapped_classifier_is_right_where_the_classifier_is_a_shifted_simplex() -> None:
    features, labels = simplex_layer(5, 8, 2.0, 0.01)
    W = naive_means(features, labels) + 5.0
    assert etf_swap_error(view_of(features, labels, W=W)) == 0.0


@pytest.mark.parametrize(("rank", "said"), [(5000, "trivially 0"), (12, "only 12 of 60 samples are seen to be indep")])
def test_vci_of_few_samples_of_many_features_is_trivial_only_where_they_are_independent(rank: int, said: str) -> None:
    rng = np.random.default_rng(0)
    labels, d = np.arange(60) % 4, 5000
    Z = rng.standard_normal((4, rank))[labels] + 0.5 * rng.standard_normal((60, rank))
    reason = (
        api.measure(Z @ rng.standard_normal((rank, d)) if rank < d else Z, labels).set_index("metric").reason["vci"]
    )
    assert said in reason


def test_row_sum_is_1_when_all_rows_are_equal() -> None:
    view = view_of(*random_layer(), W=np.ones((4, 6)))
    assert classifier_row_sum(view) == pytest.approx(1, rel=EXACT)
    with pytest.raises(Undefined, match="fewer than K − 1 directions"):
        etf_swap_error(view)


# Symmetries.

SCALE_FREE = [m for m in METRICS if m.name not in ("norms", "bias_collapse", "bias_collapse_raw", "imbalance")]


def rows_of(Z: np.ndarray, y: np.ndarray, W: np.ndarray) -> dict[tuple[str, str, str], Row]:
    view = replace(view_of(Z, y, W=W), readers=(Reader("head", W, len(W) - 1),))
    return {(r.metric, r.quantity, r.weighting): r for r in measure(view)}


def assert_same(one: dict[tuple[str, str, str], Row], other: dict[tuple[str, str, str], Row], names: set[str]) -> None:
    assert set(one) == set(other)
    for key in one:
        if key[0] in names and one[key].value is None:
            assert other[key].value is None, key
        elif key[0] in names:
            assert other[key].value == pytest.approx(one[key].value, rel=ROUNDING, abs=1e-9), key


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100.0), balanced=st.booleans())
def test_rotation_scale_and_order_change_nothing(seed: int, scale: float, balanced: bool) -> None:
    Z, y = random_layer(4, 7, 30 if balanced else (20, 9, 40, 15), noise=0.6, seed=seed)
    rng = np.random.default_rng(seed)
    W, R, order = rng.standard_normal((4, 7)), rotation(7, seed), rng.permutation(len(y))
    every = {m.name for m in SCALE_FREE}
    assert_same(rows_of(Z, y, W), rows_of(scale * Z @ R, y, W @ R), every - {"negativity"})
    assert_same(rows_of(Z, y, W), rows_of(Z[order], y[order], W), every | {"norms", "imbalance", "bias_collapse"})


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_names_of_classes_change_nothing(seed: int) -> None:
    Z, y = random_layer(5, 7, (20, 9, 40, 15, 9), noise=0.6, seed=seed)
    rng = np.random.default_rng(seed)
    W, names = rng.standard_normal((5, 7)), rng.permutation(5)
    renamed = np.empty_like(W)
    renamed[names] = W
    assert_same(rows_of(Z, y, W), rows_of(Z, names[y], renamed), {m.name for m in METRICS})


UNMOVED = {"nc1_pinv", "nc1_trace", "nc1_normalized", "cdnv", "vci", "separation", "nc2_equinorm", "nc2_equiangular"}
UNMOVED |= {"nc2_etf", "nc2_etf_unit", "gnc2_uniformity", "ncc_error", "nc3_distance", "nc3_etf", "nc3_uniform"}
UNMOVED |= {"nc3_subspace", "imbalance", "imbalance_w", "nc2_etf_w", "classifier_row_sum"}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), length=st.floats(0.1, 100.0))
def test_what_is_centred_does_not_see_where_the_features_are(seed: int, length: float) -> None:
    Z, y = random_layer(4, 7, (20, 9, 40, 15), noise=0.6, seed=seed)
    rng = np.random.default_rng(seed)
    W, shift = rng.standard_normal((4, 7)), length * rng.standard_normal(7)
    assert_same(rows_of(Z, y, W), rows_of(Z + shift, y, W), UNMOVED)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_linear_map_changes_vci(seed: int) -> None:
    Z, y = random_layer(4, 6, (20, 9, 40, 15), noise=0.6, seed=seed)
    A = rotation(6, seed) @ np.diag([1, 2, 3, 1, 0.5, 5.0]) @ rotation(6, seed + 1)
    assert vci(view_of(Z @ A, y)) == pytest.approx(vci(view_of(Z, y)), rel=1e-7)


@pytest.mark.parametrize(("precision", "off"), [("float32", 1e-4), ("float16", 1e-3), ("bfloat16", 0.02)])
def test_rounding_of_a_wide_layer_foretells_nothing(precision: str, off: float) -> None:
    Z, y = random_layer(6, 3, 40, noise=0.6)
    wide = torch.from_numpy(Z @ np.random.default_rng(1).standard_normal((3, 200))).to(getattr(torch, precision))
    stats = layer_stats(lambda: [(0, wide)], y, 6)
    assert vci(LayerView(stats)) == pytest.approx(vci(view_of(Z, y)), rel=off)


# Odd shapes.


def test_no_simplex_fits_when_there_are_too_few_features() -> None:
    features, labels = random_layer(10, 5, 30)
    W = np.random.default_rng(0).standard_normal((10, 5))
    rows = by_name(measure(view_of(features, labels, W=W)))
    no_simplex = "d = 5 < K − 1 = 9: no simplex fits"
    for name in ("nc2_equiangular", "nc2_etf", "nc2_etf_unit", "nc2_equiangular_w", "nc2_etf_w", "nc3_etf"):
        assert (rows[name].value, rows[name].reason) == (None, no_simplex)
    assert rows["etf_swap_error"].reason == no_simplex
    assert rows["nc2_orthogonal"].reason == "d = 5 < K = 10: no orthogonal frame fits"
    for name in ("gnc2_uniformity.mean", "gnc2_uniformity.var", "nc2_equinorm", "nc1_pinv"):
        assert rows[name].value is not None
    assert rows["vci"].value is not None
    assert rows["nc1_pinv"].rank == 5


def test_a_simplex_fits_exactly_into_k_minus_1_dimensions() -> None:
    rows = by_name(measure(view_of(*simplex_layer(10, 9, 1.0, 0.01))))
    assert rows["nc2_etf"].value == pytest.approx(0, abs=EXACT)
    assert rows["nc2_orthogonal"].value is None


def test_angles_are_trivial_when_there_are_two_classes() -> None:
    rows = measure(view_of(*random_layer(2, 5, (9, 20)), W=np.eye(2, 5)))
    for name in ("nc2_equiangular", "nc2_etf_unit", "gnc2_uniformity"):
        assert {r.reason for r in rows if r.metric == name} == {"trivial at K = 2"}
    reasons = {r.weighting: r.reason for r in rows if r.metric == "nc2_etf"}
    assert reasons == {"class": "trivial at K = 2", "sample": ""}


def test_one_sample_a_class_cannot_vary() -> None:
    rows = by_name(measure(view_of(np.eye(4, 6), np.arange(4))))
    for name in ("nc1_pinv", "nc1_trace", "nc1_normalized", "cdnv", "vci", "separation"):
        assert rows[name].reason == "one sample a class: nothing can vary within classes"
    assert rows["nc2_etf"].value == pytest.approx(0, abs=EXACT)


def test_one_class_of_one_sample_is_measured() -> None:
    rows = measure(view_of(*random_layer(4, 6, (1, 9, 30, 9))))
    assert {r.value is None for r in rows if r.metric in ("nc1_pinv", "cdnv", "vci", "nc2_etf")} == {False}


def test_a_network_of_fewer_outputs_than_classes_says_so() -> None:
    features, labels = random_layer(4, 6)
    rows = measure(view_of(features, labels, W=np.eye(3, 6)))
    assert {r.reason for r in rows if r.classifier} == {"the network has 3 outputs, and there are samples of class 3"}


def test_vci_is_trivial_when_samples_are_few() -> None:
    for d in (40, 4200):
        row = by_name(measure(view_of(*random_layer(3, d, 9))))["vci"]
        assert row.value is None
        assert row.reason.startswith("trivially 0")


def test_vci_keeps_its_digits_at_collapse() -> None:
    K, d, variance = 5, 12, 1e-18
    assert vci(view_of(*simplex_layer(K, d, 1.0, variance))) == pytest.approx(variance * (K - 1), rel=1e-5)


def test_a_map_that_reads_another_width_says_so() -> None:
    view = view_of(*random_layer())
    with pytest.raises(Undefined, match="one reads 9 numbers where the layer has 6"):
        nc3_subspace(replace(view, readers=(Reader("one", np.eye(5, 9), 3),)))
    with pytest.raises(Undefined, match="one is zero"):
        nc3_subspace(replace(view, readers=(Reader("one", np.zeros((5, 6)), 3),)))
    with pytest.raises(Undefined, match="trivial: j = d = 3"):
        nc3_subspace(replace(view_of(*random_layer(4, 3, 9)), readers=(Reader("one", np.eye(5, 3), 3),)))


@pytest.mark.parametrize("shape", [(1100, 1200), (1200, 1100)])
def test_subspaces_of_wide_maps_are_those_of_the_whole_decomposition(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(0).standard_normal(shape)
    found = Reader("one", W, 5).strongest
    expected = np.linalg.svd(W, full_matrices=False)[2][:5]
    assert np.abs(found @ expected.T) == pytest.approx(np.eye(5), abs=1e-9)


def test_ranks_say_so_when_the_tail_of_the_spectrum_is_not_resolved() -> None:
    view = view_of(*random_layer())
    spectrum = view.stats.spectrum
    assert spectrum is not None
    seen = replace(spectrum, values=spectrum.values[:2], resolution=float(spectrum.values[2]))
    rows = by_name(measure(replace(view, stats=replace(view.stats, spectrum=seen))))
    for name in ("numerical_rank", "effective_rank"):
        assert rows[name].reason == "the tail of the spectrum is not resolved"
    assert rows["stable_rank"].value is not None
