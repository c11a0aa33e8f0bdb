"""NC4, error and loss against counting by hand and torch."""

import tracemalloc

import numpy as np
import pytest
import torch
from helpers import by_name, chunked, naive_nearest, nearest_of, random_layer, rotation, stats_of, view_of

from ncscan.metrics.evaluate import LayerView, measure, network_rows
from ncscan.metrics.layers import nearest_class_center
from ncscan.metrics.layers.nearest_class_center import ncc_error
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats


@pytest.mark.parametrize("d", [1, 3, 6, 30])
def test_ncc_error_equals_counting_when_classes_overlap(d: int) -> None:
    features, labels = random_layer(4, d, 50, noise=1.5)
    assert ncc_error(view_of(features, labels)) == np.mean(naive_nearest(features, labels) != labels)


def test_nearest_counts_are_per_class() -> None:
    features, labels = random_layer(3, 4, (5, 9, 2), noise=2.0)
    expected = np.zeros((3, 3), dtype=np.int64)
    for y, c in zip(labels, naive_nearest(features, labels), strict=True):
        expected[y, c] += 1
    assert (nearest_of(stats_of(features, labels)) == expected).all()


@pytest.mark.parametrize("seed", range(5))
def test_ties_go_to_the_lowest_class_however_the_features_are_turned_and_chunked(seed: int) -> None:
    means = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    # On the mean, beyond it, and where all four means are equally near.
    features = np.concatenate([means, 2 * means, 0 * means])
    labels = np.tile(np.arange(4), 3)
    turned = features @ rotation(2, seed) + 0.3
    stats = layer_stats(lambda: chunked(turned, 1 + seed), labels, 4)
    assert nearest_of(stats).tolist() == [[3, 0, 0, 0], [1, 2, 0, 0], [1, 0, 2, 0], [1, 0, 0, 2]]


def test_ties_go_to_the_lowest_class_when_two_class_means_are_equal() -> None:
    features = np.repeat([[0.0, 1.0], [1.0, 0.3], [1.0, 0.3]], 4, axis=0) @ rotation(2, 3)
    stats = stats_of(features, np.repeat(np.arange(3), 4))
    assert nearest_of(stats).tolist() == [[4, 0, 0], [0, 4, 0], [0, 4, 0]]


def test_ncc_error_never_chooses_a_class_when_it_is_empty() -> None:
    features, labels = random_layer(3, 4)
    labels[labels == 1] = 3
    stats = stats_of(features, labels, K=5)
    assert stats.classes.tolist() == [0, 2, 3]
    nearest = naive_nearest(features, np.unique(labels, return_inverse=True)[1])
    assert ncc_error(LayerView(stats)) == np.mean(stats.classes[nearest] != labels)


def test_nc4_mismatch_compares_with_the_network_not_with_the_labels() -> None:
    features, labels = random_layer(4, 6, 30, noise=1.5)
    nearest = naive_nearest(features, labels)
    decisions = np.where(np.arange(len(labels)) % 3 == 0, (nearest + 1) % 4, nearest)
    stats = layer_stats(lambda: chunked(features), labels, 4, AccumulationOptions(decisions=decisions))
    row = by_name(measure(LayerView(stats)))["nc4_mismatch"]
    assert row.value == np.mean(nearest != decisions)
    assert stats.disagreements is not None
    assert stats.disagreements.tolist() == [int(np.sum((nearest != decisions)[labels == c])) for c in range(4)]


def test_nc4_mismatch_has_no_row_when_decisions_are_not_known() -> None:
    assert "nc4_mismatch" not in by_name(measure(view_of(*random_layer())))


def test_nc4_mismatch_says_why_when_the_network_decides_nothing() -> None:
    features, labels = random_layer()
    stats = layer_stats(lambda: chunked(features), labels, 4, AccumulationOptions(decisions=labels))
    for known in (stats, stats_of(features, labels)):  # whether or not something was counted
        row = by_name(measure(LayerView(known, decisions_obstacle="no decision")))["nc4_mismatch"]
        assert (row.value, row.reason) == (None, "no decision")


def test_network_rows_equal_torch() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    rows = by_name(network_rows(logits, labels))
    f, y = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    one_hot = torch.nn.functional.one_hot(y, 4).double()
    assert rows["error"].value == pytest.approx(float((f.argmax(1) != y).double().mean()), rel=1e-12)
    assert rows["loss.mse"].value == pytest.approx(float(torch.nn.functional.mse_loss(f, one_hot)), rel=1e-12)
    assert rows["loss.cross_entropy"].value == pytest.approx(float(torch.nn.functional.cross_entropy(f, y)), rel=1e-12)


def test_cross_entropy_is_finite_when_logits_are_large() -> None:
    rows = by_name(network_rows(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0])))
    assert rows["loss.cross_entropy"].value == 5e3


def test_the_loss_says_so_when_it_overflows() -> None:
    rows = by_name(network_rows(np.array([[1e200, 0.0], [0.0, 1e200]]), np.array([0, 0])))
    assert (rows["loss.mse"].value, rows["loss.mse"].reason) == (None, "the value is too large for float64")
    assert rows["loss.cross_entropy"].value == 5e199


def test_network_rows_say_why_when_logits_are_not_finite() -> None:
    rows = network_rows(np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]))
    assert {(row.value, row.reason) for row in rows} == {(None, "1 samples have non-finite logits, first in sample 1")}


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_answers_do_not_depend_on_the_size_of_blocks(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each block has a unit of its own, because squares of some leave float64."""
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    for sizes in (np.ones(20), 10.0 ** rng.integers(0, 150, 20)):
        whole = network_rows(sizes[:, None] * logits, labels)
        with monkeypatch.context() as small:
            small.setattr(nearest_class_center, "_BLOCK_NUMBERS", 4 * rows)
            for one, other in zip(whole, network_rows(sizes[:, None] * logits, labels), strict=True):
                assert other.value == pytest.approx(one.value, rel=1e-12)
            broken = sizes[:, None] * logits
            broken[13, 1] = np.inf
            reasons = {row.reason for row in network_rows(broken, labels)}
            assert reasons == {"1 samples have non-finite logits, first in sample 13"}


def test_losses_of_many_logits_take_no_copy_of_them() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6000, 3000), np.float32), rng.integers(0, 3000, 6000)
    tracemalloc.start()
    rows = by_name(network_rows(logits, labels))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 8 * nearest_class_center._BLOCK_NUMBERS < 8 * logits.size
    some = logits[:50].astype(np.float64)
    first = by_name(network_rows(logits[:50], labels[:50]))
    assert first["loss.mse"].value == pytest.approx(np.mean((some - np.eye(3000)[labels[:50]]) ** 2), rel=1e-12)
    assert rows["loss.cross_entropy"].value == pytest.approx(
        float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))), rel=1e-5
    )
