"""Bootstrap from summaries: against a bootstrap of the samples themselves, and against what is to be covered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dumping import dump_to
from helpers import random_layer, simplex, simplex_layer, stats_of, view_of

from ncscan.dumps.reader import Dump
from ncscan.errors import Undefined
from ncscan.metrics.evaluate import Key, LayerView, key_of, measure
from ncscan.pipeline.measure import Options, measure_source
from ncscan.statistics.layer_stats import LayerStats
from ncscan.statistics.mean_frame import Weighting
from ncscan.statistics.partial_sums import PerSample
from ncscan.uncertainty import bootstrap as uncertainty
from ncscan.uncertainty.bootstrap import bootstrap, many_classes, resamples, weights
from ncscan.uncertainty.evaluate import honest

SAME = 1e-9  # sums in another order


def summaries(features: np.ndarray, labels: np.ndarray, stats: LayerStats, W: np.ndarray | None = None) -> PerSample:
    """What the second pass keeps, the naive way."""
    x = features - stats.means[labels]
    distances = np.linalg.norm(features[:, None] - stats.means[None], axis=2)
    cosines = None
    if W is not None:
        own = W[labels]
        cosines = (features * own).sum(axis=1) / np.linalg.norm(features, axis=1) / np.linalg.norm(own, axis=1)
    return PerSample(labels, (x**2).sum(axis=1), x @ stats.basis.T, distances.argmin(axis=1), None, cosines)


def naive_resamples(features: np.ndarray, labels: np.ndarray, B: int, seed: int) -> list[np.ndarray]:
    """The same draws as indices of samples."""
    K = int(labels.max()) + 1
    members = [np.flatnonzero(labels == c) for c in range(K)]
    drawn = [weights(np.random.default_rng([seed, c]), len(members[c]), B).astype(int) for c in range(K)]
    return [np.concatenate([np.repeat(members[c], drawn[c][b]) for c in range(K)]) for b in range(B)]


def values(view: LayerView) -> dict[Key, float]:
    return {
        key_of(row): row.value for row in measure(view) if row.value is not None and row.metric in uncertainty.RESAMPLED
    }


@pytest.mark.parametrize("weighting", ["class", "sample"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_bootstrap_is_that_of_the_samples_when_features_lie_in_the_span(weighting: Weighting, offset: float) -> None:
    features, labels = random_layer(5, 4, (7, 12, 9, 20, 15), noise=0.2)
    W = np.random.default_rng(1).standard_normal((5, 6))
    # Four dimensions and a constant fifth and sixth: all that varies is in the span of the five means.
    features = np.hstack([features, np.full((len(labels), 2), offset)])
    view = view_of(features, labels, W, weighting)
    B, seed = 6, 3
    found = list(resamples(view, summaries(features, labels, view.stats, W), B, seed))
    for resample, chosen in zip(found, naive_resamples(features, labels, B, seed), strict=True):
        naive = values(view_of(features[chosen], labels[chosen], W, weighting))
        own = values(resample)
        assert len(naive) > 8
        for key, value in naive.items():
            if key[0] != "ncc_error":  # its decisions are those of the means that were not resampled
                assert value == pytest.approx(own[key], rel=SAME, abs=SAME), key


def test_decisions_are_resampled_with_their_samples() -> None:
    features, labels = random_layer(3, 5, 30, noise=1.5)
    view = view_of(features, labels)
    samples = summaries(features, labels, view.stats)
    wrong = samples.nearest != labels
    expected = [wrong[chosen].mean() for chosen in naive_resamples(features, labels, 8, 0)]
    found = [values(v)["ncc_error", "", "", ""] for v in resamples(view, samples, 8, 0)]
    assert expected == pytest.approx(found, rel=SAME)
    assert 0.05 < wrong.mean() < 0.8


def test_movement_outside_the_span_is_near_that_of_the_samples_when_the_layer_is_wide() -> None:
    features, labels = random_layer(4, 200, 40, noise=1.0)
    view = view_of(features, labels)
    B = 40
    found = [values(v) for v in resamples(view, summaries(features, labels, view.stats), B, 0)]
    naive = [values(view_of(features[i], labels[i])) for i in naive_resamples(features, labels, B, 0)]
    for key in (("nc1_trace", "", "class", ""), ("cdnv", "", "", ""), ("nc2_etf", "", "class", "")):
        own, true = np.array([f[key] for f in found]), np.array([n[key] for n in naive])
        assert true.mean() == pytest.approx(own.mean(), rel=0.01)
        assert np.corrcoef(own, true)[0, 1] > 0.9


def test_the_linearised_form_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = random_layer(6, 9, 50)
    view = view_of(features, labels)
    samples = summaries(features, labels, view.stats)
    exact = bootstrap(view, samples, 200)
    monkeypatch.setattr(uncertainty, "MOST_MOMENTS", 0)
    linear = bootstrap(view, samples, 200)
    key = ("nc1_pinv", "", "class", "")
    width = exact[key].high - exact[key].low
    assert exact[key].low == pytest.approx(linear[key].low, abs=0.1 * width)
    assert exact[key].high == pytest.approx(linear[key].high, abs=0.1 * width)
    assert exact["nc1_trace", "", "class", ""] == linear["nc1_trace", "", "class", ""]


def test_block_size_does_not_affect_the_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = random_layer(4, 6, 9)
    view = view_of(features, labels)
    samples = summaries(features, labels, view.stats)
    whole = bootstrap(view, samples, 20, seed=5)
    monkeypatch.setattr(uncertainty, "_BLOCK_NUMBERS", 90)
    for key, interval in bootstrap(view, samples, 20, seed=5).items():
        assert whole[key] == pytest.approx(interval, rel=SAME)


def test_intervals_cover_the_truth_nineteen_times_in_twenty_when_classes_are_gaussian(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    K, d, n, sigma, draws, B = 4, 6, 1500, 0.3, 60, 100
    means = simplex(K) @ np.eye(K, d)
    labels = np.repeat(np.arange(K), n)
    truth = {
        ("nc1_trace", "", "class", ""): d * sigma**2,
        ("nc1_pinv", "", "class", ""): sigma**2 * (K - 1) ** 2 / K,
        ("cdnv", "", "", ""): d * sigma**2 * (K - 1) / (2 * K),
    }
    monkeypatch.setattr(uncertainty, "RESAMPLED", [name for name, *_ in truth])  # the others take time
    covered = dict.fromkeys(truth, 0)
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        features = means[labels] + sigma * rng.standard_normal((K * n, d))
        view = LayerView(stats_of(features, labels))
        found = bootstrap(view, summaries(features, labels, view.stats), B)
        for key, value in truth.items():
            covered[key] += found[key].low <= value <= found[key].high
    for key, times in covered.items():
        assert 0.90 <= times / draws <= 0.99, (key, times / draws)


def test_nothing_moves_when_classes_have_one_sample_each() -> None:
    features = np.random.default_rng(0).standard_normal((4, 5))
    labels = np.arange(4)
    view = LayerView(stats_of(features, labels))
    for key, interval in bootstrap(view, summaries(features, labels, view.stats), 5).items():
        assert interval.low == interval.high == pytest.approx(values(view)[key])


def test_there_is_no_interval_when_there_is_no_value() -> None:
    features, labels = simplex_layer(2, 3, 1.0, 0.1)
    view = LayerView(stats_of(features, labels))
    found = bootstrap(view, summaries(features, labels, view.stats), 10)
    assert ("nc2_etf", "", "class", "") not in found
    assert ("nc1_trace", "", "class", "") in found
    broken = LayerView(replace(view.stats, obstacle="not finite"))
    assert bootstrap(broken, summaries(features, labels, view.stats), 10) == {}


def test_many_classes_have_no_resamples_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert many_classes(uncertainty.MOST_CLASSES) == ""
    assert many_classes(3000) == "intervals are made for up to 1,000 classes, and there are 3,000"
    features, labels = random_layer(5, 4, 6)
    view = view_of(features, labels)
    samples = summaries(features, labels, view.stats)
    monkeypatch.setattr(uncertainty, "MOST_CLASSES", 4)
    with pytest.raises(Undefined, match="up to 4 classes, and there are 5"):
        bootstrap(view, samples, 5)
    rows = honest(replace(view, stats=replace(view.stats, samples=samples)), resamples=5)
    assert any(each.row.value is not None for each in rows)
    assert all(each.low is None for each in rows)


def test_a_dump_of_many_classes_says_once_that_it_has_no_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump_to(tmp_path / "a.h5")
    found = {}
    for most in (3, 4):
        monkeypatch.setattr(uncertainty, "MOST_CLASSES", most)
        with Dump(tmp_path / "a.h5") as dump:
            measured = measure_source(dump, Options(bootstrap=20), lambda _event: None)
        found[most] = measured.finished.doubts, [row.low for row in measured.layers if row.low is not None]
    doubts, intervals = found[3]
    said = [doubt for doubt in doubts if "--bootstrap" in doubt]
    assert said == ["--bootstrap: intervals are made for up to 3 classes, and there are 4"]
    assert intervals == []
    doubts, intervals = found[4]
    assert not any("--bootstrap" in doubt for doubt in doubts)
    assert len(intervals) > 20
