"""Pairs of many classes: the same numbers as the naive K×K tables, in blocks, and no oftener than needed."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from helpers import naive_means, random_layer, simplex, stats_of, view_of
from scipy.spatial.distance import pdist, squareform

from ncscan.errors import Undefined
from ncscan.metrics.evaluate import LayerView, measure
from ncscan.metrics.layers.class_means import (
    cross_etf_distance,
    equiangular,
    etf_distance,
    gnc2_uniformity,
    product_distance,
)
from ncscan.metrics.layers.variability import cdnv
from ncscan.statistics import class_pairs, mean_frame
from ncscan.statistics.class_pairs import crowding, distance_blocks
from ncscan.uncertainty.evaluate import honest

ROUNDING = 1e-12
"""Four bits of a double are lost where a product stands for a difference, and few more in sums."""


def table(points: np.ndarray) -> np.ndarray:
    """The K×K distances from the blocks above the diagonal."""
    whole = np.zeros((len(points),) * 2)
    for start, block in distance_blocks(points):
        whole[start : start + len(block), start:] = block
    return np.asarray(np.triu(whole, 1) + np.triu(whole, 1).T)


@pytest.mark.parametrize("most", [1, 7, 60, 2**22])
@pytest.mark.parametrize("case", ["random", "two clusters", "offset", "near", "huge", "tiny", "equal", "simplex"])
def test_distances_are_those_of_differences(case: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_pairs, "_BLOCK_NUMBERS", most)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((15, 6))
    points = {
        "random": points,
        "two clusters": 1e-5 * points + 100 * (np.arange(15) % 2)[:, None],
        "offset": 1e-3 * points + 1e3,
        "near": np.vstack([points, points[3] + 1e-9]),
        "huge": 1e180 * points,
        "tiny": 1e-180 * points,
        "equal": np.repeat(points[:5], 3, axis=0),
        "simplex": simplex(15),
    }[case]
    # Differences first, in long double: what the stored points say.
    exact = points.astype(np.longdouble)
    expected = np.sqrt(((exact[:, None] - exact) ** 2).sum(axis=2)).astype(np.float64)
    assert table(points) == pytest.approx(expected, rel=ROUNDING)


def test_crowding_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).standard_normal((23, 5))
    distances = squareform(pdist(points))
    np.fill_diagonal(distances, np.inf)
    for most in (1, 50, 2**22):
        monkeypatch.setattr(class_pairs, "_BLOCK_NUMBERS", most)
        found = crowding(points)
        assert found.distance == pytest.approx(distances.min(), rel=ROUNDING)
        assert found.pair == tuple(map(int, np.unravel_index(distances.argmin(), distances.shape)))
        assert found.inverse_squares == pytest.approx((distances**-2).sum(axis=1), rel=ROUNDING)


@pytest.mark.parametrize("K", [2, 3, 17])
def test_pair_metrics_do_not_depend_on_the_size_of_blocks(K: int, monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(*random_layer(K, 20, 5), W=np.random.default_rng(2).standard_normal((K, 20)))
    whole = {(row.metric, row.quantity): row.value for row in measure(view)}
    monkeypatch.setattr(class_pairs, "_BLOCK_NUMBERS", 5)
    fresh = view_of(*random_layer(K, 20, 5), W=np.random.default_rng(2).standard_normal((K, 20)))
    for row in measure(fresh):
        expected = whole[row.metric, row.quantity]
        assert row.value == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-12))


def test_frame_distances_equal_the_papers_formulas_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_pairs, "_BLOCK_NUMBERS", 30)
    K = 11
    V, W = np.random.default_rng(3).standard_normal((2, K, 14))
    etf = (np.eye(K) - 1 / K) / np.sqrt(K - 1)
    for a, b, found in ((V, V, etf_distance(V)), (V, W, cross_etf_distance(V, W))):
        gram = a @ b.T
        assert found == pytest.approx(np.linalg.norm(gram / np.linalg.norm(gram) - etf), rel=ROUNDING)
    gram = V @ V.T
    naive = np.linalg.norm(gram / np.linalg.norm(gram) - np.eye(K) / np.sqrt(K))
    assert product_distance(V, V, 1 / np.sqrt(K), 0.0) == pytest.approx(naive, rel=ROUNDING)
    unit = V / np.linalg.norm(V, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(K, k=1)]
    assert equiangular(V) == pytest.approx(np.abs(cosines + 1 / (K - 1)).mean(), rel=ROUNDING)
    assert etf_distance(simplex(K)) < ROUNDING


def test_classes_that_coincide_are_named_from_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_pairs, "_BLOCK_NUMBERS", 20)
    features, labels = random_layer(9, 4, 6)
    means = naive_means(features, labels)
    features[labels == 7] += means[5] - means[7]
    with pytest.raises(Undefined, match="classes 5 and 7 coincide"):
        cdnv(LayerView(stats_of(features, labels)))


@pytest.mark.parametrize(
    ("per_class", "decompositions"),
    [(2, 2), ([2] * 119 + [3], 3)],  # M, and M̃ in each weighting; of balanced classes the two are one
)
def test_pairs_are_gone_through_once_a_layer_whatever_the_floors_need(
    per_class: int | list[int], decompositions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"crowding": 0, "svd": 0}
    original, svd = class_pairs.crowding, np.linalg.svd

    def counted(points: np.ndarray) -> class_pairs.Crowding:
        calls["crowding"] += 1
        return original(points)

    def counted_svd(a: np.ndarray, *args: object, **kwargs: object) -> object:
        calls["svd"] += a.shape in shapes
        return svd(a, *args, **kwargs)  # type: ignore[call-overload]  # as it was called

    view = LayerView(stats_of(*random_layer(120, 12, per_class)))  # so many that no chance level is drawn
    shapes = view.stats.coordinates.shape, view.stats.means.shape
    fresh = replace(view.stats, frame=replace(view.stats.frame))  # without what making the layer may have found
    view = replace(view, stats=fresh)
    monkeypatch.setattr(mean_frame, "crowding", counted)
    monkeypatch.setattr(np.linalg, "svd", counted_svd)
    arithmetic = np.full(12, 1e-12)
    assert any(each.floor for each in honest(view, arithmetic=arithmetic))
    assert calls["crowding"] == 1
    assert calls["svd"] == decompositions


def test_memory_of_pairs_does_not_grow_with_their_number() -> None:
    K = 6000
    points = np.random.default_rng(4).standard_normal((K, 3))
    view = LayerView(stats_of(np.repeat(points, 2, axis=0), np.repeat(np.arange(K), 2)))
    tracemalloc.start()
    crowding(points)
    gnc2_uniformity(view)
    equiangular(points)
    etf_distance(points)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 8 * class_pairs._BLOCK_NUMBERS < 0.75 * 8 * K**2
