"""NC1 against the papers' formulas and known answers."""

import numpy as np
import pytest
from helpers import (
    by_name,
    chunked,
    exact_layer,
    naive_cdnv,
    naive_nc1_pinv,
    naive_nc1_trace,
    random_layer,
    rotation,
    simplex_layer,
    stats_of,
    view_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ncscan.errors import Undefined
from ncscan.metrics.evaluate import LayerView, measure
from ncscan.metrics.layers.variability import cdnv, nc1_pinv, nc1_trace
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.mean_frame import Weighting

ROUNDING = 1e-9  # relative: float64 sums of 1e4 samples
SHIFTED = 1e-7  # an offset of 1e4 leaves 12 digits of a feature, of which centring and squaring cost some
STORED = 1e-6  # float32 values near 1 with 1e-5 between them: against a float64 oracle on the very same values

KNOWN = [
    # K, d, r, σ², nc1_trace, nc1_pinv, cdnv
    (10, 512, 3.0, 0.01, 0.568889, 0.009, 0.256),
    (4, 7, 1.0, 0.2, 1.4, 0.45, 0.525),
]


@pytest.mark.parametrize(("K", "d", "r", "variance", "trace", "pinv", "pairs"), KNOWN)
def test_nc1_is_what_theory_says_when_the_means_form_a_simplex(
    K: int, d: int, r: float, variance: float, trace: float, pinv: float, pairs: float
) -> None:
    features, labels = simplex_layer(K, d, r, variance)
    for shift, tolerance in ((0.0, ROUNDING), (1e4, SHIFTED)):
        view = LayerView(stats_of(features + shift, labels))
        assert nc1_trace(view) == pytest.approx(d * variance / r**2, rel=tolerance)
        assert nc1_pinv(view) == pytest.approx(variance * (K - 1) ** 2 / (K * r**2), rel=tolerance)
        assert cdnv(view) == pytest.approx(d * variance * (K - 1) / (2 * K * r**2), rel=tolerance)
    assert (nc1_trace(view), nc1_pinv(view), cdnv(view)) == pytest.approx((trace, pinv, pairs), rel=1e-5)


@pytest.mark.parametrize("weighting", ["class", "sample"])
@pytest.mark.parametrize("per_class", [9, (3, 8, 20, 5), (1, 7, 7, 7)])
@pytest.mark.parametrize("d", [2, 3, 6, 30])
def test_nc1_equals_the_formula_when_classes_are_of_any_size(
    weighting: Weighting, per_class: int | tuple[int, ...], d: int
) -> None:
    features, labels = random_layer(4, d, per_class)
    view = view_of(features, labels, weighting=weighting)
    assert nc1_pinv(view) == pytest.approx(naive_nc1_pinv(features, labels, weighting), rel=ROUNDING)
    assert nc1_trace(view) == pytest.approx(naive_nc1_trace(features, labels, weighting), rel=ROUNDING)
    assert cdnv(view) == pytest.approx(naive_cdnv(features, labels), rel=ROUNDING)


def test_weightings_agree_when_classes_are_balanced() -> None:
    features, labels = random_layer()
    one, other = (view_of(features, labels, weighting=w) for w in ("class", "sample"))
    assert nc1_pinv(one) == pytest.approx(nc1_pinv(other), rel=ROUNDING)


def test_nc1_keeps_its_digits_when_float32_means_are_near_1_and_noise_is_1e_5() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 200)
    means = 1 + 0.01 * rng.standard_normal((5, 40))
    features = (means[labels] + 1e-5 * rng.standard_normal((1000, 40))).astype(np.float32)
    exact = features.astype(np.float64)
    view = view_of(features, labels)
    assert nc1_pinv(view) == pytest.approx(naive_nc1_pinv(exact, labels), rel=STORED)
    assert nc1_trace(view) == pytest.approx(naive_nc1_trace(exact, labels), rel=STORED)
    assert cdnv(view) == pytest.approx(naive_cdnv(exact, labels), rel=STORED)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nc1_pinv_counts_every_direction_when_the_means_have_condition_1000(dtype: type) -> None:
    K, d = 6, 20
    means = np.zeros((K, d))
    centred = np.linalg.svd(np.eye(K) - 1 / K)[0][:, : K - 1]  # orthonormal, summing to zero over classes
    scales = np.geomspace(1, 1e-3, K - 1)
    means[:, : K - 1] = centred * scales
    features, labels = exact_layer(means @ rotation(d), 1e-6)
    view = view_of(features.astype(dtype), labels)
    expected = 1e-6 * np.sum(K / scales**2) / K
    assert nc1_pinv(view) == pytest.approx(expected, rel=1e-9 if dtype == np.float64 else 1e-3)
    assert by_name(measure(view))["nc1_pinv"].rank == K - 1


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 1000),
    size=st.integers(1, 40),
)
def test_nc1_does_not_change_when_features_are_scaled_turned_shifted_and_shuffled(
    scale: float, seed: int, size: int
) -> None:
    features, labels = random_layer(seed=seed)
    rng = np.random.default_rng(seed)
    order, classes = rng.permutation(len(labels)), rng.permutation(4)
    moved = scale * (features[order] @ rotation(6, seed) + 3)
    stats = layer_stats(lambda: chunked(moved, size), classes[labels[order]], 4)
    for metric in (nc1_pinv, nc1_trace, cdnv):
        assert metric(LayerView(stats)) == pytest.approx(metric(view_of(features, labels)), rel=1e-8)


def test_nc1_is_defined_when_there_are_two_classes() -> None:
    features, labels = random_layer(2)
    assert nc1_pinv(view_of(features, labels)) == pytest.approx(naive_nc1_pinv(features, labels), rel=ROUNDING)


def test_nc1_is_0_when_every_sample_is_its_class_mean() -> None:
    features = np.repeat(np.eye(3), 4, axis=0)
    view = view_of(features, np.repeat(np.arange(3), 4))
    assert (nc1_pinv(view), nc1_trace(view), cdnv(view)) == (0.0, 0.0, 0.0)


def test_nc1_is_undefined_when_all_class_means_coincide() -> None:
    features, labels = exact_layer(np.ones((3, 4)), 0.5)
    for metric in (nc1_pinv, nc1_trace, cdnv):
        with pytest.raises(Undefined, match="coincide"):
            metric(view_of(features, labels))


def test_cdnv_names_the_pair_when_two_class_means_coincide() -> None:
    means = np.eye(4)
    means[3] = means[1]
    features, labels = exact_layer(means, 0.5)
    with pytest.raises(Undefined, match="classes 1 and 3 coincide"):
        cdnv(view_of(features, labels))
    assert nc1_pinv(view_of(features, labels)) > 0  # rank 2 of 3: still a value


def test_nc1_ignores_a_feature_when_it_is_constant() -> None:
    features, labels = random_layer()
    with_constant = np.column_stack([features, np.full(len(labels), 7.0)])
    assert nc1_pinv(view_of(with_constant, labels)) == pytest.approx(nc1_pinv(view_of(features, labels)), rel=ROUNDING)
