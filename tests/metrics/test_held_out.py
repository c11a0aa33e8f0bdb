"""Other data against the class means of the training set: naive oracles, and data whose place is known."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from ncscan.errors import DataError, Undefined
from ncscan.metrics.held_out import auroc, confidence_rows, confidences, held_out_rows, outside_rows, placed
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.layer_stats import LayerStats

K, D, N = 4, 7, 200
ROUNDING = 1e-10


def data(seed: int, n: int = N, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % K)
    means = 3 + np.random.default_rng(99).standard_normal((K, D)) * 2
    return means[labels] + spread * rng.standard_normal((n, D)), labels


def stats_of(features: np.ndarray, labels: np.ndarray) -> LayerStats:
    return layer_stats(lambda: [(0, features)], labels, K)


def test_place_is_that_of_a_loop_over_samples_and_classes() -> None:
    (train, labels), (test, _) = data(0), data(1, 63)
    there = placed(lambda: [(0, test[:30]), (30, test[30:])], stats_of(train, labels))
    means = np.stack([train[labels == c].mean(axis=0) for c in range(K)])
    radius = np.sqrt(np.mean(np.sum((means - means.mean(axis=0)) ** 2, axis=1)))
    for i, h in enumerate(test):
        distances = [np.linalg.norm(h - mean) for mean in means]
        assert int(np.argmin(distances)) == there.nearest[i]
        assert min(distances) / radius == pytest.approx(there.distances[i], rel=ROUNDING)
    assert test.mean(axis=0) == pytest.approx(there.mean)


def test_held_out_rows_are_by_the_class_means_of_the_training_set() -> None:
    (train, labels), (test, wanted) = data(0), data(1, 63)
    moved = test + 10 * np.eye(D)[0]  # its own class means would move along, and find no error
    own = stats_of(train, labels)
    there = placed(lambda: [(0, moved)], own)
    means = np.stack([train[labels == c].mean(axis=0) for c in range(K)])
    nearest = np.linalg.norm(moved[:, None] - means, axis=2).argmin(axis=1)
    decisions = np.zeros(63, np.int64)
    rows = {(row.metric, row.quantity): row.value for row in held_out_rows(there, own, wanted, decisions)}
    assert np.mean(nearest != wanted) == rows["ncc_error", ""]
    assert np.mean(nearest != 0) == rows["nc4_mismatch", ""]
    assert np.median(there.distances) == rows["nearest_distance", "p50"]
    assert ("nc4_mismatch", "") not in {(row.metric, row.quantity) for row in held_out_rows(there, own, wanted, None)}


def test_a_split_of_other_classes_is_measured_where_the_training_set_has_means() -> None:
    (train, labels), (test, wanted) = data(0), data(1, 63)
    label = np.array([2, 5, 7, 8, 11])[:K]  # where the training set's classes lie
    own = layer_stats(lambda: [(0, train)], label[labels], 20)
    plain = placed(lambda: [(0, test)], stats_of(train, labels))
    there = placed(lambda: [(0, test)], own)
    assert np.array_equal(there.nearest, label[plain.nearest])
    assert np.array_equal(there.distances, plain.distances)
    strange = np.where(np.arange(63) % 3 == 0, 3, label[wanted])  # a third is of a class that it lacks
    rows = {(row.metric, row.quantity): row for row in held_out_rows(there, own, strange, label[plain.nearest])}
    known = strange != 3
    assert rows["ncc_error", ""].value == np.mean(there.nearest[known] != strange[known])
    assert rows["nc4_mismatch", ""].value == 0
    only = {row.metric: row for row in held_out_rows(there, own, np.full(63, 3), None)}
    assert only["ncc_error"].reason == "no sample is of a class that the training set has"


def test_the_nearest_of_many_means_takes_no_table_of_samples_by_means_by_features() -> None:
    rng = np.random.default_rng(2)
    n, many, d = 400, 900, 100
    means = rng.standard_normal((many, d))
    own = layer_stats(lambda: [(0, np.repeat(means, 2, axis=0))], np.repeat(np.arange(many), 2), many)
    tracemalloc.start()
    there = placed(lambda: [(0, means[:n] + 1e-9)], own)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert there.nearest.tolist() == list(range(n))
    assert peak < 0.2 * 8 * n * many * d


@given(st.integers(0, 2**31))
def test_distances_stay_when_all_is_turned_scaled_and_moved(seed: int) -> None:
    (train, labels), (test, _) = data(0), data(1, 20)
    turn, moved = ortho_group.rvs(D, random_state=seed), np.random.default_rng(seed).standard_normal(D)
    before = placed(lambda: [(0, test)], stats_of(train, labels))
    after = placed(lambda: [(0, 3 * test @ turn + moved)], stats_of(3 * train @ turn + moved, labels))
    assert before.distances == pytest.approx(after.distances, rel=1e-8)
    assert before.nearest.tolist() == after.nearest.tolist()


def test_data_in_a_direction_of_its_own_is_orthogonal_and_told_apart() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % K
    train = np.eye(D)[labels] + 1e-3 * rng.standard_normal((N, D))
    far = 5 * np.eye(D)[np.full(50, D - 1)]
    stats = stats_of(train, labels)
    inside, outside = placed(lambda: [(0, train)], stats), placed(lambda: [(0, far)], stats)
    rows = {(row.metric, row.quantity): row.value for row in outside_rows(outside, inside, stats)}
    assert rows["ood_orthogonality", ""] == pytest.approx(0, abs=1e-3)  # the noise of the means
    assert rows["ood_auroc", "distance"] == 1.0
    same = {row.metric: row.value for row in outside_rows(inside, inside, stats)}
    assert same["ood_auroc"] == pytest.approx(0.5)
    assert same["ood_orthogonality"] == pytest.approx(1 / np.sqrt(K), abs=1e-3)


def test_orthogonality_when_a_mean_is_zero_says_so() -> None:
    train, labels = data(0)
    stats = stats_of(train, labels)
    here = placed(lambda: [(0, np.array([np.ones(D), -np.ones(D)]))], stats)
    (row, *_) = outside_rows(here, here, stats)
    assert (None, "a mean is zero: it has no direction") == (row.value, row.reason)


def test_class_means_that_coincide_place_nothing() -> None:
    with pytest.raises(Undefined, match="coincide"):
        placed(lambda: [(0, np.ones((3, D)))], stats_of(np.ones((8, D)), np.arange(8) % K))


def test_activations_that_are_not_finite_are_placed_nowhere() -> None:
    train, labels = data(0)
    with pytest.raises(Undefined, match="not finite"), np.errstate(invalid="ignore"):
        placed(lambda: [(0, np.full((3, D), np.inf))], stats_of(train, labels))


def test_distances_whose_squares_exceed_float64_are_said_as_they_are() -> None:
    train, labels = data(0)
    with pytest.raises(Undefined, match="squares of distances from the class means exceed float64"):
        placed(lambda: [(0, 1e200 * train)], stats_of(train, labels))


def test_orthogonality_does_not_depend_on_the_size_of_the_data() -> None:
    train, labels = data(0)
    stats = stats_of(train, labels)
    here = placed(lambda: [(0, train)], stats)
    one, other = (outside_rows(replace(here, mean=scale * here.mean), here, stats)[0] for scale in (1, 2.0**-600))
    assert one == other


def test_another_width_is_an_error() -> None:
    train, labels = data(0)
    with pytest.raises(DataError, match="6 features where the training set has 7"):
        placed(lambda: [(0, train[:, :6])], stats_of(train, labels))


def test_confidences_are_the_largest_softmax() -> None:
    f = np.random.default_rng(0).standard_normal((20, K)) * 300  # exp of it overflows
    exact = np.exp((f - f.max(axis=1, keepdims=True)).astype(np.longdouble))
    assert (exact.max(axis=1) / exact.sum(axis=1)).astype(float) == pytest.approx(confidences(f))
    assert ["max_softmax"] * 4 == [row.metric for row in confidence_rows(confidences(f))]
    assert 0.5 == confidence_rows(confidences(f), confidences(f))[-1].value


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_auroc_is_the_share_of_pairs(inside: list[int], outside: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in inside for b in outside]
    assert np.mean(pairs) == pytest.approx(auroc(np.array(inside, float), np.array(outside, float)))
