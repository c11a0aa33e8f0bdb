"""Rank decisions: what storage resolves in four precisions, and what so few samples tell."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers import chunked, random_layer, simplex, stats_of

from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.layer_stats import centred_rank, rank_doubt, rank_sampling
from ncscan.statistics.precision import float_format

CASES = 60
CLEAR = 3.0  # a singular value within this factor of the tolerance can be decided either way


def case(rng: np.random.Generator, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """K means of some rank r, whose singular values fall to the edge of the precision, exact and as stored."""
    K = int(rng.integers(3, 30))
    d, r = int(rng.integers(K, 300)), int(rng.integers(1, K))
    left = np.linalg.qr(rng.standard_normal((K, r)))[0]
    right = np.linalg.qr(rng.standard_normal((d, r)))[0]
    decades = rng.uniform(0, 0.27 * float_format(precision).digits)
    s = 10 ** -np.r_[0.0, rng.uniform(0, decades, r - 1)]
    means = np.sqrt(d) * (left * s) @ right.T + rng.choice([0.0, 0.3, 3.0]) * rng.standard_normal(d)
    return means, torch.from_numpy(means).to(getattr(torch, precision)).double().numpy()


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32", "float64"])
def test_the_rank_is_right_where_it_can_be_in_all_precisions(precision: str) -> None:
    rng = np.random.default_rng(0)
    right = usual = resolvable = 0
    for _ in range(CASES):
        means, stored = case(rng, precision)
        K, d = means.shape
        stats = replace(stats_of(np.repeat(stored, 2, axis=0), np.repeat(np.arange(K), 2)), precision=precision)
        true = np.linalg.svd(means - means.mean(axis=0), compute_uv=False)[: K - 1]
        if ((true > stats.tolerance / CLEAR) & (true < CLEAR * stats.tolerance)).any():
            continue
        resolvable += 1
        expected = int((true > stats.tolerance).sum())
        right += centred_rank(stats, "class").value == expected
        s = np.linalg.svd(stored - stored.mean(axis=0), compute_uv=False)
        usual += int((s > np.finfo(np.float64).eps * max(d, K) * s[0]).sum()) == expected
    assert resolvable > CASES / 4
    assert right >= 0.97 * resolvable
    if precision != "float64":
        assert usual <= 0.25 * resolvable  # the usual tolerance knows nothing of storage


def test_rank_of_sampling_is_that_of_the_population_when_means_are_of_low_rank() -> None:
    rng = np.random.default_rng(0)
    K, d, n = 10, 60, 50
    means = 3.0 * simplex(4)[np.arange(K) % 4] @ rng.standard_normal((4, d)) / np.sqrt(d)  # four points: rank 3
    labels = np.repeat(np.arange(K), n)
    stats = stats_of(means[labels] + 0.5 * rng.standard_normal((K * n, d)), labels)
    assert centred_rank(stats, "class").value == K - 1
    assert rank_sampling(stats, "class") == 3
    assert "only 3 stand above what 50 samples" in rank_doubt(stats, "class")


def test_there_is_no_doubt_when_classes_are_far_apart_or_coincide() -> None:
    far = stats_of(*random_layer(5, 30, 200, noise=0.1))
    assert rank_sampling(far, "class") == rank_sampling(far, "sample") == 4
    assert rank_doubt(far, "class") == ""
    assert rank_doubt(stats_of(np.ones((6, 3)), np.arange(6) % 3), "class") == ""


def test_noise_is_the_norm_of_sigma_w_or_its_share_in_the_span() -> None:
    features, labels = random_layer(4, 9, 30)
    x = features - np.stack([features[labels == c].mean(axis=0) for c in range(4)])[labels]
    stats = stats_of(features, labels)
    assert np.linalg.norm(x.T @ x / len(x), 2) == pytest.approx(stats.noise, rel=1e-9)
    bare = layer_stats(partial(chunked, features), labels, 4, AccumulationOptions(spectrum=False))
    assert np.linalg.norm(bare.projected, 2) / len(x) == pytest.approx(bare.noise, rel=1e-9)
    assert bare.noise <= stats.noise
