"""Condition number and negativity against a float64 SVD of the activations."""

import numpy as np
import pytest
import torch
from helpers import by_name, chunked, random_layer, rotation, view_of

from ncscan.metrics.evaluate import LayerView, measure
from ncscan.metrics.layers.spectrum import feature_condition, negativity
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.layer_stats import LayerStats

RESOLVED = 0.01  # what the spectrum promises of every singular value it counts


def layer_with(s: np.ndarray, N: int, noise_labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Activations with these singular values, in bases that have nothing to do with the axes."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.standard_normal((N, len(s))))[0]
    return left * s @ rotation(len(s), 1), np.arange(N) % noise_labels


def relu_layer(N: int = 3000, d: int = 64, dead: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """ReLU features around class means, some units never active."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, N)
    features = np.maximum(rng.standard_normal((10, d))[labels] + 0.05 * rng.standard_normal((N, d)), 0)
    features[:, rng.permutation(d)[:dead]] = 0
    return features.astype(np.float32), labels


def measured(features: np.ndarray, labels: np.ndarray, gram: torch.dtype | None = None) -> LayerStats:
    return layer_stats(lambda: chunked(features, 500), labels, int(labels.max()) + 1, AccumulationOptions(gram=gram))


@pytest.mark.parametrize("gram", [torch.float64, torch.float32])
def test_feature_condition_equals_an_svd_when_units_are_dead(gram: torch.dtype) -> None:
    features, labels = relu_layer()
    s = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    row = by_name(measure(LayerView(measured(features, labels, gram))))["feature_condition"]
    assert row.value == pytest.approx(s[0] / s[54], rel=RESOLVED)
    assert (row.rank, row.estimate, row.centred) == (55, False, False)


@pytest.mark.parametrize("gram", [torch.float64, torch.float32])
@pytest.mark.parametrize("smallest", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_singular_value_that_counts_is_right_to_1_percent(
    gram: torch.dtype, smallest: float, dtype: type
) -> None:
    features, labels = layer_with(np.geomspace(1, smallest, 40), 2000)
    stored: np.ndarray = features.astype(dtype)
    spectrum = measured(stored, labels, gram).spectrum
    assert spectrum is not None
    s = np.linalg.svd(stored.astype(np.float64), compute_uv=False)
    assert spectrum.values == pytest.approx(s[: spectrum.rank], rel=RESOLVED)
    # Nothing that storage keeps is left out silently.
    kept = int((s > spectrum.storage).sum())
    assert spectrum.rank == kept or not spectrum.complete


def test_the_float64_spectrum_reaches_down_to_2e_7_of_the_largest() -> None:
    features, labels = layer_with(np.geomspace(1, 2e-7, 40), 2000)
    spectrum = measured(features, labels).spectrum
    assert spectrum is not None
    assert (spectrum.rank, spectrum.complete) == (40, True)


def test_feature_condition_is_an_estimate_when_a_linear_layer_has_low_rank() -> None:
    rng = np.random.default_rng(0)
    hidden, W = rng.standard_normal((2000, 5)).astype(np.float32), rng.standard_normal((5, 30)).astype(np.float32)
    features = hidden @ W  # float32 rounding fills the other 25 directions
    row = by_name(measure(LayerView(measured(features, np.arange(2000) % 4))))["feature_condition"]
    s = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    assert (row.rank, row.estimate) == (5, True)
    assert row.value == pytest.approx(s[0] / s[4], rel=RESOLVED)


def test_the_rank_is_that_of_storage_when_a_low_rank_layer_is_kept_in_float16() -> None:
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((2000, 5)) @ rng.standard_normal((5, 30))).astype(np.float16)
    row = by_name(measure(LayerView(measured(features, np.arange(2000) % 4))))["feature_condition"]
    assert (row.rank, row.estimate) == (5, False)


def test_few_wide_samples_have_the_spectrum_of_their_svd() -> None:
    features, labels = random_layer(4, 5000, 10)
    features[:, 3000:] = 0.0
    stats = layer_stats(lambda: chunked(features), labels, 4, AccumulationOptions(negative_part=True))
    s = np.linalg.svd(features, compute_uv=False)
    assert stats.spectrum is not None
    assert stats.spectrum.values == pytest.approx(s, rel=1e-9)
    negative = np.linalg.norm(np.minimum(features, 0), 2)
    assert negativity(LayerView(stats)) == pytest.approx(
        {"op": negative / s[0], "fro": np.linalg.norm(np.minimum(features, 0)) / np.linalg.norm(features)}, rel=1e-9
    )


def test_a_spectrum_is_undefined_when_both_samples_and_features_are_too_many() -> None:
    features = np.zeros((4100, 4100), dtype=np.float16)
    features[:, 0] = np.arange(4100) % 3
    stats = layer_stats(
        lambda: chunked(features, 4100), np.arange(4100) % 3, 3, AccumulationOptions(negative_part=True)
    )
    rows = by_name(measure(LayerView(stats)))
    assert "up to min(N, d) = 4096" in rows["feature_condition"].reason
    assert rows["negativity.op"].value is None
    assert rows["negativity.fro"].value == 0.0


@pytest.mark.parametrize("gram", [torch.float64, torch.float32])
def test_negativity_equals_its_norms(gram: torch.dtype) -> None:
    features, labels = random_layer(4, 12, 50)
    stats = layer_stats(lambda: chunked(features), labels, 4, AccumulationOptions(negative_part=True, gram=gram))
    part = features - np.maximum(features, 0)
    expected = {
        "op": np.linalg.norm(part, 2) / np.linalg.norm(features, 2),
        "fro": np.linalg.norm(part) / np.linalg.norm(features),
    }
    assert negativity(LayerView(stats)) == pytest.approx(expected, rel=1e-12 if gram == torch.float64 else 1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_spectra_neither_underflow_nor_overflow_when_products_are_float32(scale: float) -> None:
    features, labels = random_layer(4, 12, 50)
    small = scale * features
    one = LayerView(
        layer_stats(lambda: chunked(features), labels, 4, AccumulationOptions(negative_part=True, gram=torch.float32))
    )
    other = LayerView(
        layer_stats(lambda: chunked(small), labels, 4, AccumulationOptions(negative_part=True, gram=torch.float32))
    )
    assert feature_condition(other) == pytest.approx(feature_condition(one), rel=1e-4)
    assert negativity(other) == pytest.approx(negativity(one), rel=1e-6)


def test_conditioning_is_undefined_when_all_activations_are_zero() -> None:
    rows = by_name(measure(view_of(np.zeros((6, 4)), np.arange(6) % 3)))
    assert rows["feature_condition"].reason == rows["negativity.op"].reason == "all activations are zero"
    assert rows["negativity.fro"].reason == "all activations are zero"
