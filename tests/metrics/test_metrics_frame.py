"""NC2 against the papers' formulas and known answers."""

import numpy as np
import pytest
from helpers import (
    by_name,
    exact_layer,
    naive_centred,
    naive_equiangular,
    naive_equinorm,
    naive_etf,
    naive_means,
    random_layer,
    simplex_layer,
    view_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ncscan.errors import Undefined
from ncscan.metrics.evaluate import measure
from ncscan.metrics.layers.class_means import (
    etf_distance,
    gnc2_uniformity,
    nc2_condition,
    nc2_equiangular,
    nc2_equinorm,
    nc2_etf,
)
from ncscan.statistics.mean_frame import Weighting

ROUNDING = 1e-9
FRAME = 1e-6  # the constants of the issue are given to six digits

ORTHONORMAL = [(2, 0.765367), (3, 0.605811), (10, 0.320364), (100, 0.100126), (1000, 0.031627)]


@pytest.mark.parametrize("K", [3, 4, 10])
def test_nc2_is_0_when_the_means_form_a_simplex(K: int) -> None:
    view = view_of(*simplex_layer(K, K + 3, 2.0, 0.1))
    assert nc2_equinorm(view) == pytest.approx(0, abs=1e-12)
    assert nc2_equiangular(view) == pytest.approx(0, abs=1e-12)
    assert nc2_etf(view) == pytest.approx(0, abs=1e-12)


def test_nc2_is_0_when_centred_means_are_those_of_an_orthonormal_frame() -> None:
    view = view_of(*exact_layer(np.eye(5, 8), 0.01))
    assert nc2_etf(view) == pytest.approx(0, abs=1e-12)
    assert nc2_condition(view) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("K", "distance"), ORTHONORMAL)
def test_etf_distance_is_known_when_vectors_are_orthonormal_and_not_centred(K: int, distance: float) -> None:
    assert etf_distance(np.eye(K)) == pytest.approx(distance, abs=FRAME)


@pytest.mark.parametrize("weighting", ["class", "sample"])
@pytest.mark.parametrize("per_class", [9, (3, 8, 20, 5)])
@pytest.mark.parametrize("d", [3, 6, 30])
def test_nc2_equals_the_formula(weighting: Weighting, per_class: int | tuple[int, ...], d: int) -> None:
    features, labels = random_layer(4, d, per_class)
    view, centred = view_of(features, labels, weighting=weighting), naive_centred(features, labels, weighting)
    assert nc2_equinorm(view) == pytest.approx(naive_equinorm(centred), rel=ROUNDING)
    assert nc2_equiangular(view) == pytest.approx(naive_equiangular(centred), rel=ROUNDING)
    assert nc2_etf(view) == pytest.approx(naive_etf(centred @ centred.T), rel=ROUNDING)


def test_nc2_condition_is_that_of_the_uncentred_means() -> None:
    features, labels = random_layer()
    assert nc2_condition(view_of(features, labels)) == pytest.approx(
        np.linalg.cond(naive_means(features, labels)), rel=ROUNDING
    )


def test_nc2_condition_is_undefined_with_its_rank_when_there_are_fewer_features_than_classes() -> None:
    view = view_of(*random_layer(4, 3))
    row = by_name(measure(view))["nc2_condition"]
    assert (row.value, row.rank, row.centred) == (None, 3, False)
    assert "rank 3 < 4" in row.reason


def test_nc2_condition_is_undefined_when_float32_cannot_tell_a_direction_from_rounding() -> None:
    means = np.random.default_rng(0).standard_normal((4, 20)).astype(np.float32)
    means[3] = np.nextafter(means[2], np.float32(9))  # one unit in the last place away
    view = view_of(np.repeat(means, 5, axis=0), np.repeat(np.arange(4), 5))
    with pytest.raises(Undefined, match="rank 3 < 4"):
        nc2_condition(view)


def test_nc2_is_trivial_when_there_are_two_classes_of_equal_weight() -> None:
    features, labels = random_layer(2, 6, (3, 9))
    for metric in (nc2_equinorm, nc2_equiangular, nc2_etf):
        with pytest.raises(Undefined, match="trivial at K = 2"):
            metric(view_of(features, labels))
    assert nc2_equinorm(view_of(features, labels, weighting="sample")) > 0


def test_nc2_is_undefined_when_the_class_means_coincide() -> None:
    view = view_of(*exact_layer(np.ones((3, 4)), 0.5))
    for metric in (nc2_equinorm, nc2_equiangular, nc2_etf):
        with pytest.raises(Undefined):
            metric(view)


def test_nc2_equiangular_names_the_class_when_its_mean_is_the_global_mean() -> None:
    means = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(Undefined, match="class 2"):
        nc2_equiangular(view_of(*exact_layer(means, 0.1)))


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-100, 100), seed=st.integers(0, 1000))
def test_nc2_does_not_change_when_features_are_scaled_and_shifted(scale: float, shift: float, seed: int) -> None:
    features, labels = random_layer(seed=seed)
    moved = view_of(scale * (features + shift), labels)
    for metric in (nc2_equinorm, nc2_equiangular, nc2_etf):
        assert metric(moved) == pytest.approx(metric(view_of(features, labels)), rel=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_classes_in_one_direction_but_for_rounding_are_named(dtype: str) -> None:
    """log(1/‖û_1 − û_3‖) of two that rounding alone tells apart would be most of the mean."""
    features, labels = random_layer(5, 9, (8, 20, 12, 30, 9))
    means = naive_means(features, labels)
    features[labels == 3] += means[1] - means[3]
    for weighting in ("class", "sample"):
        with pytest.raises(Undefined, match="classes 1 and 3 lie in one direction"):
            gnc2_uniformity(view_of(features.astype(dtype), labels, weighting=weighting))
    features[labels == 3] += 0.1
    found = gnc2_uniformity(view_of(features, labels))
    assert isinstance(found, dict)
    means = naive_centred(features, labels, "class")
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    logs = [-np.log(np.linalg.norm(unit[a] - unit[b])) for a in range(5) for b in range(a)]
    assert found["mean"] == pytest.approx(np.mean(logs), rel=1e-9)
