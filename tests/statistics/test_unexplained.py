"""`vci` of low-rank layers with few samples: directions of rounding foretell nothing, or the row is an estimate."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import by_name, random_layer, stats_of

from ncscan.metrics.evaluate import LayerView, Row, measure
from ncscan.statistics.accumulation.passes import layer_stats

N, UNITS = 120, 16
EXACT = 1e-9
ROUNDED = 2e-4  # float32 of units as small as 10^−3.5
OFF = 0.01  # what a row must be off by to be called an estimate


def units(seed: int, K: int, n: int = N, span: float = 3.5, sizes: int = UNITS) -> tuple[np.ndarray, np.ndarray, float]:
    """Units of sizes 1 … 10^−span, the classes of the samples, and the index by its formula before sizes matter."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    h = 0.5 * rng.standard_normal((K, sizes))[y] + rng.standard_normal((n, sizes))
    means = np.stack([h[y == c].mean(axis=0) for c in range(K)])
    offsets = (means - h.mean(axis=0)) * np.sqrt(np.bincount(y) / n)[:, None]
    total = np.cov(h.T, ddof=0)
    index = 1 - np.trace(np.linalg.solve(total, offsets.T @ offsets)) / min(K - 1, sizes)
    return h * 10.0 ** -np.linspace(0, span, sizes), y, float(index)


def row(features: torch.Tensor, y: np.ndarray) -> Row:
    return by_name(measure(LayerView(layer_stats(lambda: [(0, features)], y, int(y.max()) + 1))))["vci"]


@pytest.mark.parametrize("K", [4, 10, 15, 17, 20])
def test_directions_of_rounding_foretell_nothing(K: int) -> None:
    # With as many classes as units the class means differ by little in some direction, and rounding tilts it.
    for seed in range(12):
        h, y, index = units(seed, K)
        A = np.random.default_rng(seed).standard_normal((UNITS, 20)).astype(np.float32)
        found = row(torch.tensor(h.astype(np.float32) @ A), y)
        assert found.value == pytest.approx(index, rel=ROUNDED), seed
        assert found.rank == min(K - 1, UNITS)
        assert found.estimate  # four directions more, or not, of 100 that are free


WIDER: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "mapped": lambda h, rng: h @ rng.standard_normal((h.shape[1], 60)),
    "duplicated": lambda h, rng: np.hstack([h, h[:, ::-1]]),
    "sums": lambda h, rng: np.hstack([h, h @ rng.standard_normal((h.shape[1], 40))]),
    "dead": lambda h, rng: np.hstack([h, np.zeros((len(h), 40))]),
}


@pytest.mark.parametrize("wider", WIDER)
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("K", "n"), [(3, 120), (10, 40), (10, 31)])
def test_a_value_is_right_or_an_estimate_in_all_precisions(wider: str, precision: str, K: int, n: int) -> None:
    for seed, span in ((0, 0.0), (1, 2.0), (2, 3.5)):
        h, y, index = units(seed, K, n, span)
        stored = torch.tensor(WIDER[wider](h, np.random.default_rng(seed))).to(getattr(torch, precision))
        found = row(stored, y)
        assert found.value is not None
        assert found.estimate or found.value == pytest.approx(index, rel=OFF)
        if precision in ("float32", "float64"):
            assert found.value == pytest.approx(index, rel=1e-3)


def test_nothing_is_an_estimate_when_all_directions_are_resolved() -> None:
    for precision in ("float32", "float64"):
        h, y, index = units(0, 5, 200, 1.0)
        dead = torch.tensor(WIDER["dead"](h, np.random.default_rng(0))).to(getattr(torch, precision))
        found = row(dead, y)
        assert not found.estimate  # a unit that is exactly zero is no doubtful direction
        assert found.value == pytest.approx(index, rel=1e-5)


def test_many_samples_leave_nothing_in_doubt() -> None:
    h, y, index = units(0, 4, 8000, 1.0)
    found = row(torch.tensor(WIDER["mapped"](h, np.random.default_rng(0))).float(), y)
    assert found.value == pytest.approx(index, rel=1e-5)
    assert not found.estimate


def test_scatter_along_the_means_keeps_its_digits_far_below_the_rest() -> None:
    """Within-class scatter of 1e-12 of the total along the means, correlated with the rest, which foretells it."""
    rng = np.random.default_rng(0)
    K, n = 4, 400
    y = np.arange(n) % K
    rest, own = rng.standard_normal((2, n, 3))
    x = np.hstack([1e-6 * (own + rest), rest])
    x -= np.stack([x[y == c].mean(axis=0) for c in range(K)])[y]
    means = np.zeros((K, 6))
    means[:, :3] = rng.standard_normal((K, 3))
    gram = x.T @ x / n
    P, Q, R = 1e12 * gram[:3, :3], 1e6 * gram[:3, 3:], gram[3:, 3:]
    centred = (means - means.mean(axis=0))[:, :3] / np.sqrt(K)
    S = P - Q @ np.linalg.solve(R, Q.T)
    index = np.trace(np.linalg.solve(centred.T @ centred, S)) / 3 * 1e-12  # g/(1 + g) is g here
    assert row(torch.tensor(means[y] + x), y).value == pytest.approx(index, rel=1e-6)


def test_there_is_nothing_to_foretell_when_class_means_coincide() -> None:
    assert stats_of(np.ones((9, 4)), np.arange(9) % 3).unexplained is None
    assert stats_of(*random_layer(3, 40, 5)).unexplained is not None
