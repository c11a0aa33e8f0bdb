"""Storage formats, rank decisions, and that merged sums are sums."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import exact_layer, naive_means, random_layer, rotation, simplex, stats_of

from ncscan.errors import DataError
from ncscan.statistics.accumulation.first_pass import FirstPass
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.second_pass import SecondPass
from ncscan.statistics.layer_stats import LayerStats, between, centred_rank, layer_stats_from, mean_singular_values
from ncscan.statistics.mean_frame import frame
from ncscan.statistics.partial_sums import members
from ncscan.statistics.precision import float_format, storage_tolerance, ulp

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_ulp_is_numpys_spacing(name: str) -> None:
    x = np.array([0.75, 1.0, -3.5, 1e-4, 6e4, 1e-7 if name == "float16" else 1e-40]).astype(name)
    assert ulp(x.astype(np.float64), name).tolist() == np.abs(np.spacing(x)).astype(np.float64).tolist()


def test_ulp_of_bfloat16_has_eight_digits_and_that_of_0_is_0() -> None:
    assert ulp(np.array([1.0, 3.0, 0.0]), "bfloat16").tolist() == [2**-7, 2**-6, 0.0]


def test_float_format_names_the_known_ones_when_it_is_none() -> None:
    with pytest.raises(DataError, match=r"int8.*float16, bfloat16"):
        float_format("int8")


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("seed", range(5))
def test_a_direction_made_of_rounding_does_not_count(precision: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    K, d = 8, 50
    # Eight means in a plane, so rank 2; storing them fills the other directions with rounding.
    means = rng.standard_normal((K, 2)) @ rng.standard_normal((2, d)) + 0.5
    stored = torch.from_numpy(means).to(getattr(torch, precision)).double().numpy()
    stats = stats_of(np.repeat(stored, 3, axis=0), np.repeat(np.arange(K), 3))
    assert np.linalg.matrix_rank(naive_means(np.repeat(stored, 3, axis=0), np.repeat(np.arange(K), 3))) == K
    assert centred_rank(with_precision(stats, precision), "class").value == 2
    assert mean_singular_values(with_precision(stats, precision))[1] == 3


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32", "float64"])
def test_a_direction_ten_times_above_rounding_counts(precision: str) -> None:
    K, d = 6, 40
    digits = float_format(precision).digits
    s = np.ones(K - 1)
    s[-1] = 10 * (np.sqrt(d) + np.sqrt(K)) * 2.0**-digits if precision != "float64" else 1e-11
    axes = np.linalg.svd(simplex(K))[0][:, : K - 1]
    means = (axes * s) @ rotation(d)[: K - 1]
    stored = torch.from_numpy(means).to(getattr(torch, precision)).double().numpy()
    stats = with_precision(stats_of(np.repeat(stored, 3, axis=0), np.repeat(np.arange(K), 3)), precision)
    assert centred_rank(stats, "class").value == K - 1


def test_at_most_k_minus_1_centred_directions_count() -> None:
    stats = stats_of(*random_layer(5, 30))
    assert centred_rank(stats, "class").value == centred_rank(stats, "sample").value == 4
    assert mean_singular_values(stats)[1] == 5


def test_there_are_fewer_directions_when_there_are_fewer_features() -> None:
    stats = stats_of(*random_layer(12, 3))
    assert centred_rank(stats, "class").value == 3


@pytest.mark.parametrize("weighting", ["class", "sample"])
def test_between_is_the_decomposition_of_sigma_b(weighting: str) -> None:
    features, labels = random_layer(4, 6, (3, 8, 20, 5))
    stats = stats_of(features, labels)
    squares, axes = between(stats, "class" if weighting == "class" else "sample")
    M, w = naive_means(features, labels), stats.weights("class" if weighting == "class" else "sample")
    centred = M - w @ M
    sigma = (centred.T * w) @ centred
    found = (axes @ stats.basis).T * squares @ (axes @ stats.basis)
    assert found == pytest.approx(sigma, abs=1e-12)


def test_storage_tolerance_is_what_rounding_a_matrix_can_do() -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 80))
    stored = exact.astype(np.float32).astype(np.float64)
    s = np.linalg.svd(stored, compute_uv=False)
    assert s[3] < storage_tolerance(stored, "float32") < 5 * s[3]


def test_frame_is_refused_when_one_class_only_has_samples() -> None:
    with pytest.raises(DataError, match="one class only"):
        stats_of(np.ones((4, 3)), np.zeros(4, dtype=np.int64), K=3)


def merged(parts: list[slice], features: np.ndarray, labels: np.ndarray) -> LayerStats:
    K, d = int(labels.max()) + 1, features.shape[1]
    firsts, seconds = [], []
    for part in parts:
        first = FirstPass(labels, K, d, CPU)
        first.add(part.start, features[part])
        firsts.append(first.sums())
    sums = sum(firsts[1:], start=firsts[0])
    of = frame(sums)
    for part in parts:
        second = SecondPass(
            members(labels, K),
            sums,
            of,
            CPU,
            AccumulationOptions(decisions=labels, classifier=np.eye(K, d), negative_part=True),
        )
        second.add(part.start, features[part])
        seconds.append(second.scatter())
    return layer_stats_from(sums, sum(seconds[1:], start=seconds[0]), of, precision="float64")


@pytest.mark.parametrize("d", [6, 4100])
def test_partial_sums_merge_in_any_order(d: int) -> None:
    features, labels = random_layer(4, d)
    parts = [slice(0, 5), slice(5, 20), slice(20, 36)]
    whole, *others = (merged(p, features, labels) for p in ([slice(0, 36)], parts, parts[::-1]))
    for other in others:
        for name in ("counts", "nearest", "disagreements", "zero_samples", "swap_errors", "zeros"):
            assert np.array_equal(getattr(other, name), getattr(whole, name))
        for name in ("means", "within", "cosines"):
            assert getattr(other, name) == pytest.approx(getattr(whole, name), rel=1e-12)
        assert other.norms.count == whole.norms.count
        assert other.norms.mean == pytest.approx(whole.norms.mean, rel=1e-12)
        assert other.norms.spread == pytest.approx(whole.norms.spread, rel=1e-9)
        assert np.linalg.eigvalsh(other.projected) == pytest.approx(np.linalg.eigvalsh(whole.projected), rel=1e-9)
        assert whole.spectrum is not None
        assert other.spectrum is not None
        assert other.spectrum.values == pytest.approx(whole.spectrum.values, rel=1e-9)


@pytest.mark.parametrize("d", [3, 6, 30])
def test_what_is_unexplained_is_the_inverse_of_a_block_of_the_inverse(d: int) -> None:
    features, labels = random_layer(4, d, 40)
    stats = stats_of(features, labels)
    X = features - naive_means(features, labels)[labels]
    axes = between(stats, "sample")[1] @ stats.basis
    assert stats.unexplained is not None
    assert stats.unexplained.scatter == pytest.approx(np.linalg.inv(axes @ np.linalg.inv(X.T @ X) @ axes.T), rel=1e-9)
    assert not stats.unexplained.trivial


def test_nothing_is_unexplained_when_there_are_more_features_than_samples() -> None:
    stats = stats_of(*random_layer(4, 40, 9))
    assert stats.unexplained is not None
    assert stats.unexplained.trivial
    assert np.abs(stats.unexplained.scatter).max() < 1e-12 * stats.within.sum()


def test_a_nonfinite_sample_is_found_when_sums_are_merged() -> None:
    features, labels = random_layer()
    features[[7, 30], 2] = np.nan
    late, early = (FirstPass(labels, 4, 6, CPU) for _ in range(2))
    late.add(20, features[20:])
    early.add(0, features[:20])
    assert (late.sums() + early.sums()).obstacle == "2 samples have non-finite activations, first in sample 7"


def with_precision(stats: LayerStats, precision: str) -> LayerStats:
    """The same sums, said to come from activations stored so."""
    return replace(stats, precision=precision)


def test_exact_layers_are_exact() -> None:
    features, labels = exact_layer(np.eye(3, 5), 0.25)
    stats = stats_of(features, labels)
    assert stats.within / stats.counts == pytest.approx(5 * 0.25, rel=1e-12)
    assert stats.projected / stats.n_samples == pytest.approx(0.25 * np.eye(2), abs=1e-12)
