"""The standing simplex: exact answers for turned, reflected and degenerate means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncscan.errors import Undefined
from ncscan.report.etf_animation.simplex import positions, vertices

EXACT = 1e-12
NONE = np.zeros((0, 9))


def isometry(seed: int, k: int, dimensions: int, *, reflect: bool = False) -> np.ndarray:
    """Orthonormal rows (k−1, dimensions): a simplex standing somewhere in a larger space."""
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))[0]
    rotation[:, 0] *= np.sign(np.linalg.det(rotation)) * (-1 if reflect else 1)
    return rotation[: k - 1]


@pytest.mark.parametrize("k", [2, 3, 4, 10])
def test_vertices_are_unit_vectors_at_equal_angles_around_zero(k: int) -> None:
    F = vertices(k)
    assert F.shape == (k, k - 1)
    expected = (np.eye(k) - 1 / k) * k / (k - 1)
    assert np.abs(F @ F.T - expected).max() < EXACT
    assert np.abs(F.sum(axis=0)).max() < EXACT
    assert np.abs(F[0] - np.eye(k - 1)[-1]).max() < EXACT or k == 2


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_simplex_that_was_turned_moved_and_scaled_lands_on_the_vertices(k: int, reflect: bool) -> None:
    R = isometry(k, k, 9, reflect=reflect)
    means = 7.0 * vertices(k) @ R + 3.0
    placed = positions(means, means[[1, 1, 0]], 0.01 * vertices(k) @ R - 5.0)
    assert np.abs(placed.means - vertices(k)).max() < EXACT
    assert np.abs(placed.samples - vertices(k)[[1, 1, 0]]).max() < EXACT
    assert placed.rows is not None
    assert np.abs(placed.rows - vertices(k)).max() < EXACT


def test_mirror_image_is_turned_back_where_there_is_no_room_to_turn() -> None:
    """In k − 1 dimensions only a reflection brings a mirrored simplex onto the vertices, and it may."""
    mirrored = vertices(3) * np.array([-1.0, 1.0])
    placed = positions(mirrored, mirrored[:0])
    assert np.abs(placed.means - vertices(3)).max() < EXACT
    rotation = isometry(0, 3, 2)
    assert np.linalg.det(rotation) > 0
    again = positions(mirrored @ rotation, mirrored[:0])
    assert np.abs(again.means - vertices(3)).max() < EXACT


@given(st.integers(0, 10_000), st.sampled_from([3, 4]))
def test_no_other_turn_brings_the_means_nearer_and_no_length_is_lost(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, 6))
    placed = positions(means, means[:0])
    centred = means - means.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1).mean()
    assert np.abs(placed.means @ placed.means.T - centred @ centred.T).max() < EXACT
    best = (placed.means * vertices(k)).sum()
    for other in range(20):
        assert best >= ((centred @ isometry(other, k, 6).T) * vertices(k)).sum() - EXACT


def test_samples_keep_their_distance_from_their_mean_and_rows_their_own_length() -> None:
    R = isometry(1, 3, 9)
    means = 2.0 * vertices(3) @ R
    samples = means[[0, 0]] + np.array([[1.0], [-1.0]]) * R[0]
    placed = positions(means, samples, np.ones((3, 9)) + 4.0 * vertices(3)[[1, 2, 0]] @ R)
    assert np.abs(np.linalg.norm(placed.samples - placed.means[0], axis=1) - 0.5).max() < EXACT
    assert placed.rows is not None
    assert np.abs(placed.rows - vertices(3)[[1, 2, 0]]).max() < EXACT


def test_degenerate_means_are_undefined() -> None:
    point, line = np.zeros((3, 9)), np.outer([0.0, 1.0, 5.0], np.ones(9))
    for means in (point, line, line[:, :1]):
        with pytest.raises(Undefined, match="these 3 classes differ in fewer than 2 directions"):
            positions(means, means[:0])
    with pytest.raises(Undefined, match="not finite"):
        positions(np.full((3, 9), np.nan), NONE)


@pytest.mark.parametrize("rows", [np.ones((3, 9)), np.full((3, 9), np.inf)])
def test_rows_that_tell_no_direction_have_no_place(rows: np.ndarray) -> None:
    means = vertices(3) @ isometry(2, 3, 9)
    assert positions(means, NONE, rows).rows is None
