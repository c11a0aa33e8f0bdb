"""The picture of class means: its coordinates are the geometry, and no more is read than it needs."""

from collections.abc import Iterator

import numpy as np
import pytest
from helpers import naive_means, random_layer, simplex_layer, stats_of

from ncscan.metrics.class_mean_coordinates import MOST_CLASSES, MOST_SAMPLES, PicturedVector, pictured, places

ROUNDING = 1e-12


def whole(features: np.ndarray, size: int = 7) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(features), size):
        yield start, features[start : start + size]


def vectors(found: list[PicturedVector], item: str) -> np.ndarray:
    return np.array([place.coordinates for place in found if place.item == item])


def test_means_keep_their_distances_and_angles() -> None:
    Z, y = random_layer(4, 6, (9, 20, 30, 12))
    found = places(stats_of(Z, y), lambda: whole(Z), y, None, range(4))
    M = naive_means(Z, y)
    C = M - M.mean(axis=0)
    X = vectors(found, "mean")
    assert X.shape == (4, 3)
    assert np.allclose(X @ X.T, C @ C.T, atol=ROUNDING)
    assert [p.norm for p in found if p.item == "mean"] == pytest.approx(np.linalg.norm(C, axis=1))


def test_classifier_and_samples_are_projected_on_what_the_means_span() -> None:
    Z, y = random_layer(3, 6, 9)
    W = np.random.default_rng(1).standard_normal((3, 6))
    found = places(stats_of(Z, y), lambda: whole(Z), y, W, range(3))
    M = naive_means(Z, y)
    centre = M.mean(axis=0)
    assert np.allclose(vectors(found, "classifier") @ vectors(found, "mean").T, W @ (M - centre).T, atol=ROUNDING)
    samples = [p for p in found if p.item == "sample"]
    assert [y[p.sample] for p in samples] == [p.class_index for p in samples]
    for place in samples:
        inner = np.array(place.coordinates) @ vectors(found, "mean").T
        assert np.allclose(inner, (Z[place.sample] - centre) @ (M - centre).T, atol=ROUNDING)
        assert place.norm == pytest.approx(np.linalg.norm(Z[place.sample] - centre))


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-560, 2.0**560, 2.0**1015])
def test_lengths_have_the_size_of_the_features_whatever_it_is(scale: float) -> None:
    Z, y = random_layer(4, 6, (9, 20, 30, 12))
    W = np.random.default_rng(1).standard_normal((4, 6))
    found = places(stats_of(Z, y), lambda: whole(Z), y, W, range(4))
    other = places(stats_of(scale * Z, y), lambda: whole(scale * Z), y, scale * W, range(4))
    for one, same in zip(found, other, strict=True):
        assert same.norm == scale * one.norm > 0
        assert np.abs(same.coordinates) == pytest.approx(np.abs(one.coordinates) * scale, rel=1e-9, abs=1e-9 * scale)


def test_samples_are_the_first_of_each_class_and_nothing_behind_them_is_read() -> None:
    Z, y = random_layer(3, 5, 200)
    read: list[int] = []

    def chunks() -> Iterator[tuple[int, np.ndarray]]:
        for start, chunk in whole(Z):
            read.append(start)
            yield start, chunk

    found = places(stats_of(Z, y), chunks, y, None, range(3))
    numbers = sorted(p.sample for p in found if p.sample is not None)
    assert numbers == sorted(i for c in range(3) for i in np.flatnonzero(y == c)[:MOST_SAMPLES])
    assert read[-1] <= numbers[-1] < read[-1] + 7


def test_means_on_a_simplex_have_equal_norms_and_angles() -> None:
    Z, y = simplex_layer(5, 12, radius=3.0, variance=0.01)
    X = vectors(places(stats_of(Z, y), lambda: whole(Z), y, None, range(5)), "mean")
    cosines = X @ X.T / 9
    assert np.allclose(cosines, np.where(np.eye(5) > 0, 1, -1 / 4), atol=ROUNDING)


def test_pictured_takes_what_is_wanted_and_skips_the_empty() -> None:
    Z, y = random_layer(12, 5, 3)
    stats = stats_of(Z[y != 1], y[y != 1], K=12)
    assert pictured(stats) == (0, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert pictured(stats, [11, 1, 3])[:3] == (11, 3, 0)
    assert len(pictured(stats, [11])) == MOST_CLASSES


def test_nothing_comes_of_what_is_not_finite_or_alone() -> None:
    Z, y = random_layer(3, 5)
    assert places(stats_of(Z, y), lambda: whole(Z), y, None, [0]) == []
    Z[0, 0] = np.inf
    assert places(stats_of(Z, y), lambda: whole(Z), y, None, range(3)) == []
