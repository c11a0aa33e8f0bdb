"""The moments of a linear head against every sample replayed, and what is refused."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from helpers import chunked

from ncscan.errors import DataError, Undefined
from ncscan.theory.linear_head import HeadStats, head_stats

ROUNDING = 1e-10
"""float64 sums in another order."""

Maps = Sequence[tuple[np.ndarray, np.ndarray | None]]


def random_head(
    widths: Sequence[int], K: int = 4, N: int = 60, bias: bool = True, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Maps]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(K), rng.integers(0, K, N - K)]))
    Z = 3 + rng.standard_normal((K, widths[0]))[labels] + 0.3 * rng.standard_normal((N, widths[0]))
    sizes = [*widths, K]
    maps = [
        (rng.standard_normal((m, n)) / np.sqrt(n), rng.standard_normal(m) if bias else None) for n, m in pairwise(sizes)
    ]
    return Z, labels, maps


def stats_of(Z: np.ndarray, labels: np.ndarray, maps: Maps, size: int = 13) -> HeadStats:
    return head_stats(lambda: chunked(Z, size), labels, len(maps[-1][0]), maps)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(9,), (9, 7), (100, 8, 6, 5)])
def test_moments_equal_every_sample_replayed(widths: Sequence[int], bias: bool) -> None:
    Z, y, maps = random_head(widths, bias=bias)
    stats = stats_of(Z, y, maps)
    N, K = len(y), len(maps[-1][0])
    zs = [Z]
    for W, b in maps:
        zs.append(np.stack([W @ h + (0 if b is None else b) for h in zs[-1]]))
    for layer, z in zip(stats.layers, zs, strict=True):
        means = np.stack([z[y == c].mean(axis=0) for c in range(K)])
        mean = z.mean(axis=0)
        within = sum(np.outer(h - means[c], h - means[c]) for h, c in zip(z, y, strict=True)) / N
        between = sum(np.outer(means[c] - mean, means[c] - mean) for c in y) / N
        np.testing.assert_allclose(layer.means, means.T, atol=ROUNDING)
        np.testing.assert_allclose(layer.noise @ layer.noise.T, within, atol=ROUNDING)
        np.testing.assert_allclose(layer.signal @ layer.signal.T, between, atol=ROUNDING)
        assert np.trace(within) == pytest.approx(layer.within, rel=ROUNDING)
        assert np.trace(within) / np.trace(between) == pytest.approx(layer.nc1_trace, rel=ROUNDING)
        assert np.linalg.norm(z, 2) == pytest.approx(stats.operator_norm(layer), rel=ROUNDING)
        centred = np.linalg.svd(z - means[y], compute_uv=False)
        noise = np.linalg.svd(layer.noise, compute_uv=False)
        shorter = min(len(centred), len(noise))
        np.testing.assert_allclose(np.sqrt(N) * noise[:shorter], centred[:shorter], atol=1e-7)  # roots of a Gram matrix


@pytest.mark.parametrize("bias", [True, False])
def test_sums_over_samples_equal_loops(bias: bool) -> None:
    Z, y, maps = random_head((9, 7), bias=bias)
    stats = stats_of(Z, y, maps)
    N, K = len(y), len(maps[-1][0])
    (W1, b1), (W, b) = maps
    zero = np.zeros(K)
    features = [W1 @ h + (0 if b1 is None else b1) for h in Z]
    outputs = [W @ h + (zero if b is None else b) for h in features]
    one_hot = np.eye(K)[y]
    last_bias = zero if b is None else b
    errors = [t - f for t, f in zip(one_hot, outputs, strict=True)]
    squares = [e @ e for e in errors]
    assert np.sqrt(sum(squares)) == pytest.approx(stats.residual, rel=ROUNDING)
    assert np.sqrt(sum(np.sum((e + last_bias) ** 2) for e in errors)) == pytest.approx(
        stats.residual_without_bias, rel=ROUNDING
    )
    assert sum(squares) / (2 * N) == pytest.approx(stats.loss, rel=ROUNDING)
    assert sum(t @ e for t, e in zip(one_hot, errors, strict=True)) / (2 * N) == pytest.approx(
        stats.error_on_target, rel=ROUNDING
    )
    assert sum(e @ (f - last_bias) for e, f in zip(errors, outputs, strict=True)) / N == pytest.approx(
        stats.radial, rel=ROUNDING
    )
    assert np.mean([abs(f.sum()) for f in outputs]) == pytest.approx(stats.row_sum, rel=ROUNDING)
    assert stats.cosines is not None
    for c in range(K):
        own = [h for h, label in zip(features, y, strict=True) if label == c]
        mean = sum(own) / len(own)
        cosines = [h @ W[c] / np.sqrt(h @ h) / np.sqrt(W[c] @ W[c]) for h in own]
        assert np.mean(cosines) == pytest.approx(stats.cosines[c], rel=ROUNDING)
        assert np.mean([np.sum((h - mean) ** 2) for h in own]) == pytest.approx(stats.class_within[c], rel=ROUNDING)
        missed = [e for e, label in zip(errors, y, strict=True) if label == c]
        np.testing.assert_allclose(stats.mean_errors[:, c], sum(missed) / len(own), atol=ROUNDING)
    means = np.stack(features) - np.stack([np.mean([features[j] for j in np.flatnonzero(y == c)], axis=0) for c in y])
    assert np.linalg.norm(W @ means.T @ means / N) == pytest.approx(stats.classifier_noise, rel=ROUNDING)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_chunk_size_does_not_affect_the_result(size: int) -> None:
    Z, y, maps = random_head((9, 7))
    one, other = stats_of(Z, y, maps, 60), stats_of(Z, y, maps, size)
    assert one.features.within == pytest.approx(other.features.within, rel=ROUNDING)
    assert one.loss == pytest.approx(other.loss, rel=ROUNDING)


def test_a_large_offset_costs_no_digits() -> None:
    Z, y, maps = random_head((9, 7))
    near, far = stats_of(Z, y, maps), stats_of(Z + 1e6, y, maps)
    assert near.features.nc1_trace == pytest.approx(far.features.nc1_trace, rel=1e-7)  # 1e6 costs six of sixteen


def test_a_zero_sample_has_no_cosine() -> None:
    Z, y, maps = random_head((9, 7), bias=False)
    Z[5] = 0
    assert stats_of(Z, y, maps).cosines is None


def test_what_cannot_be_measured_says_why() -> None:
    Z, y, maps = random_head((9, 7))
    with pytest.raises(Undefined, match="4 outputs for 5 classes"):
        head_stats(lambda: chunked(Z), y, 5, maps)
    for some in (y % 3, y % 3 + 1):  # alike, wherever those classes lie
        with pytest.raises(Undefined, match="the data has 3 of the network's 4 classes: it is said of all of them"):
            head_stats(lambda: chunked(Z), some, int(some.max()) + 1, maps)
    with pytest.raises(Undefined, match="the data has 4 of the network's 7 classes"):
        head_stats(lambda: chunked(Z), y, 4, maps[:1])
    with pytest.raises(Undefined, match="not finite"):
        stats_of(np.where(np.arange(9) == 3, np.inf, Z), y, maps)
    with pytest.raises(Undefined, match="Z1 has non-finite weights"):
        stats_of(Z, y, [(maps[0][0] * np.nan, None), maps[1]])
    with pytest.raises(Undefined, match="Z1 is no matrix"):
        stats_of(Z, y, [(np.ones((7, 9, 1)), None), maps[1]])
    with pytest.raises(Undefined, match="the head reads 9 numbers"):
        stats_of(Z[:, :8], y, maps)
    with pytest.raises(Undefined, match="5000 features"):
        stats_of(Z, y, [(np.ones((4, 5000)), None)])


def test_a_source_that_shuffles_is_an_error() -> None:
    Z, y, maps = random_head((9, 7))
    passes = iter([Z, Z[::-1]])
    with pytest.raises(DataError, match="fixed order"):
        head_stats(lambda: chunked(next(passes)), y, 4, maps)
    with pytest.raises(DataError, match="59 rows of activations for 60 labels"):
        head_stats(lambda: chunked(Z[1:]), y, 4, maps)
