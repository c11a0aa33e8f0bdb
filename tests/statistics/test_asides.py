"""What the passes add up beside: sketches of layers too wide, a few numbers a sample, in whatever chunks."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import chunked, nearest_of, random_layer

from ncscan.statistics.accumulation import gram
from ncscan.statistics.accumulation.first_pass import FirstPass
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.accumulation.second_pass import SecondPass
from ncscan.statistics.layer_stats import LayerStats
from ncscan.statistics.mean_frame import frame
from ncscan.statistics.partial_sums import members
from ncscan.statistics.sketch import operator_ratio, stable_rank

ROUNDING = 1e-9


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a Gram matrix of more than 20 features were too wide."""
    monkeypatch.setattr(gram, "WIDEST_GRAM", 20)


def wide_layer(size: int = 16) -> tuple[np.ndarray, np.ndarray, LayerStats]:
    features, labels = random_layer(4, 90, 40, noise=0.1)
    return (
        features,
        labels,
        layer_stats(partial(chunked, features, size), labels, 4, AccumulationOptions(negative_part=True)),
    )


@pytest.mark.usefixtures("narrow")
def test_a_wide_layer_has_a_sketched_spectrum() -> None:
    features, _, stats = wide_layer()
    s = np.linalg.svd(features, compute_uv=False)
    assert stats.spectrum is not None
    assert stats.negative is not None
    whole, part = stats.spectrum.sketch, stats.negative.sketch
    assert whole is not None
    assert part is not None
    assert "exact up to" in stats.spectrum.reason
    assert s[0] == pytest.approx(np.sqrt(whole.values[0]), rel=1e-9)
    assert (s**2).sum() / s[0] ** 2 == pytest.approx(stable_rank(whole).value, rel=1e-9)
    assert whole.square == pytest.approx(stats.total_square)
    exact = np.linalg.norm(np.minimum(features, 0), 2) / s[0]
    ratio = operator_ratio(part, whole)
    assert ratio.high is not None
    assert ratio.low <= exact <= ratio.high
    assert exact == pytest.approx(ratio.value, rel=1e-6)


@pytest.mark.usefixtures("narrow")
def test_chunk_size_does_not_affect_a_sketch() -> None:
    one, other = (wide_layer(size)[2].spectrum for size in (3, 1000))
    assert one is not None
    assert other is not None
    assert one.sketch is not None
    assert other.sketch is not None
    assert one.sketch.values == pytest.approx(other.sketch.values, rel=ROUNDING)


@pytest.mark.usefixtures("narrow")
def test_shards_merge_when_a_layer_is_sketched_and_samples_are_kept() -> None:
    features, labels, whole = wide_layer()
    parts = [slice(0, 70), slice(70, 160)]
    cpu = torch.device("cpu")
    firsts = []
    for part in parts:
        first = FirstPass(labels, 4, 90, cpu, AccumulationOptions(spectrum=True, negative_part=True))
        first.add(part.start, features[part])
        firsts.append(first.sums())
    sums = firsts[0] + firsts[1]
    scatters = []
    for part in parts:
        second = SecondPass(
            members(labels, 4),
            sums,
            frame(sums),
            cpu,
            AccumulationOptions(negative_part=True, samples=True, permutations=2, seed=3),
        )
        second.add(part.start, features[part])
        scatters.append(second.scatter())
    both = scatters[0] + scatters[1]
    assert whole.spectrum is not None
    assert whole.spectrum.sketch is not None
    assert both.sketch is not None
    assert whole.spectrum.sketch.square == pytest.approx(both.sketch.square)
    assert both.samples is not None
    assert np.array_equal(labels, both.samples.labels)
    assert both.permuted is not None
    assert np.array_equal(np.sort(both.permuted.labels, axis=1), np.tile(np.sort(labels), (2, 1)))


def test_what_is_kept_of_samples_adds_up_to_the_sums() -> None:
    features, labels = random_layer(4, 9, (5, 8, 12, 7))
    W = np.random.default_rng(0).standard_normal((4, 9))
    decisions = np.roll(labels, 1)
    stats = layer_stats(
        partial(chunked, features, 5), labels, 4, AccumulationOptions(decisions=decisions, classifier=W, samples=True)
    )
    kept = stats.samples
    assert kept is not None
    assert np.bincount(labels, kept.squares) == pytest.approx(stats.within)
    assert kept.projections.T @ kept.projections == pytest.approx(stats.projected)
    table = np.zeros((4, 4), dtype=np.int64)
    np.add.at(table, (labels, kept.nearest), 1)
    assert np.array_equal(table, nearest_of(stats))
    assert kept.cosines is not None
    assert np.bincount(labels, kept.cosines) == pytest.approx(stats.cosines)
    assert kept.disagrees is not None
    assert stats.disagreements is not None
    assert np.array_equal(np.bincount(labels, kept.disagrees), stats.disagreements)


def test_nothing_is_kept_where_nobody_asks() -> None:
    stats = layer_stats(partial(chunked, *random_layer()[:1]), random_layer()[1], 4)
    assert stats.samples is None
    assert stats.permuted is None
