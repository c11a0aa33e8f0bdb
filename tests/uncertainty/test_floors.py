"""Floors: against the formulas, and against what rounding really does to collapsed classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import naive_scatter, random_layer, simplex_layer, stats_of

from ncscan.metrics.evaluate import METRICS, LayerView, key_of, measure
from ncscan.statistics.layer_stats import LayerStats
from ncscan.statistics.mean_frame import Weighting
from ncscan.statistics.precision import ulp
from ncscan.uncertainty.rounding_floor import FLOORS, Floor, floors, is_at_floor, pooled, storage_noise

PRECISIONS = ["float16", "bfloat16", "float32", "float64"]
EXACT = 1e-9  # float64 sums against d×d matrices


def stored(values: np.ndarray, precision: str) -> np.ndarray:
    return np.asarray(torch.from_numpy(values).to(getattr(torch, precision)).double().numpy())


def layer(precision: str = "float16", seed: int = 0) -> tuple[np.ndarray, np.ndarray, LayerStats]:
    features, labels = random_layer(4, 9, (5, 8, 12, 7), seed=seed)
    features = stored(features, precision)
    return features, labels, replace(stats_of(features, labels), precision=precision)


def floor_of(metric: str, weighting: str, stats: LayerStats) -> Floor | None:
    return floors(LayerView(stats)).get((metric, "", weighting, ""))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("weighting", ["class", "sample"])
def test_floors_are_the_papers_formulas_with_sigma_w_of_rounding(precision: str, weighting: Weighting) -> None:
    features, labels, stats = layer(precision)
    _, between = naive_scatter(features, labels, weighting)
    _, by_sample = naive_scatter(features, labels, "sample")
    v = np.array([sum(u**2 / 12 for u in row) for row in ulp(stats.means, precision)])
    F = np.diag(sum(n * ulp(m, precision) ** 2 / 12 for n, m in zip(stats.counts, stats.means, strict=True))) / len(
        features
    )
    pairs = [
        (v[a] + v[b]) / (2 * np.sum((stats.means[a] - stats.means[b]) ** 2))
        for a in range(4)
        for b in range(4)
        if a != b
    ]
    expected = {
        "nc1_trace": np.trace(F) / np.trace(between),
        "nc1_pinv": np.trace(F @ np.linalg.pinv(between, rcond=1e-10)) / 4,
        "nc1_normalized": np.trace(F) / (np.trace(F) + np.trace(between)),
        "cdnv": np.mean(pairs),
        "vci": 1 - np.trace(np.linalg.pinv(F + by_sample) @ by_sample) / 3,
        "separation": np.trace(F @ np.linalg.pinv(by_sample, rcond=1e-10)),
    }
    said = {"cdnv": "", "vci": "sample", "separation": "sample"}
    for name, value in expected.items():
        found = floor_of(name, said.get(name, weighting), stats)
        assert found is not None, name
        # The oracle of vci subtracts from 1 the trace of an inverse, which has so many digits.
        absolute = 1e-15 / F.max() if name == "vci" else 0.0
        assert value == pytest.approx(found.value, rel=EXACT, abs=absolute), name


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 10.0])
def test_measured_scatter_is_the_true_one_and_the_floor_when_noise_is_near_it(precision: str, share: float) -> None:
    rng = np.random.default_rng(3)
    K, d, n = 5, 300, 40
    means = rng.standard_normal((K, d))
    labels = np.repeat(np.arange(K), n)
    F = float((ulp(means, precision) ** 2 / 12).sum() / K)
    noise = np.sqrt(share * F / d) * rng.standard_normal((K * n, d))
    stats = replace(stats_of(stored(means[labels] + noise, precision), labels), precision=precision)
    measured, floor = stats.within.sum() / len(labels), float(pooled(storage_noise(stats), stats).sum())
    assert F == pytest.approx(floor, rel=0.1)
    if share >= 10:
        assert share * F + floor == pytest.approx(measured, rel=0.1)
    else:
        assert 0 <= measured <= (share + 3) * floor
    trace = next(row.value for row in measure(LayerView(stats)) if row.metric == "nc1_trace")
    found = floor_of("nc1_trace", "class", stats)
    assert trace is not None
    assert found is not None
    assert (share < 8) == is_at_floor(trace, found)


def test_the_larger_of_storage_and_arithmetic_counts() -> None:
    _, _, stats = layer()
    storage = floors(LayerView(stats))
    F = pooled(storage_noise(stats), stats)
    assert floors(LayerView(stats), F / 100) == storage
    coarse = floors(LayerView(stats), 100 * F)
    for name in ("nc1_trace", "nc1_pinv"):
        key = (name, "", "class", "")
        assert 100 * storage[key].value == pytest.approx(coarse[key].value)
    assert {"storage"} == {f.source for f in storage.values()}
    assert {"arithmetic"} == {f.source for f in coarse.values()}


def test_vci_has_its_floor_when_features_are_dead() -> None:
    features, labels, _ = layer()
    with_dead = np.concatenate([features, np.zeros((len(features), 3))], axis=1)
    alive, dead = (replace(stats_of(x, labels), precision="float16") for x in (features, with_dead))
    one, other = (floor_of("vci", "sample", stats) for stats in (alive, dead))
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value)


def test_there_is_no_floor_when_there_is_no_value() -> None:
    labels = np.repeat(np.arange(3), 4)
    found = floors(LayerView(stats_of(np.ones((12, 5)), labels)))
    assert {key[0] for key in found} <= {"nc1_normalized"}  # 1 where class means coincide
    assert floor_of("nc2_etf", "class", layer()[2]) is None
    broken = random_layer()[0]
    broken[3] = np.nan
    assert floors(LayerView(stats_of(broken, random_layer()[1]))) == {}


def test_a_float64_layer_of_noise_is_far_from_its_floor() -> None:
    stats = stats_of(*simplex_layer(4, 7, 1.0, 0.2))
    rows = {key_of(row): row.value for row in measure(LayerView(stats))}
    for key, floor in floors(LayerView(stats)).items():
        value = rows[key]
        assert value is not None
        assert not is_at_floor(value, floor)


def test_every_floored_name_is_a_metric() -> None:
    assert {name for name, _, _ in FLOORS} <= {m.name for m in METRICS}
    assert is_at_floor(0.0, Floor(1e-12, "storage"))
