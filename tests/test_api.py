"""Measures of arrays: the same numbers whatever they come in, clear errors when they do not fit."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import naive_nc1_trace, random_layer, simplex_layer

from ncscan.api import COLUMNS, measure
from ncscan.errors import DataError


def values(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(m, q): v for m, q, v in zip(table.metric, table.quantity, table.value, strict=True)}


def test_known_answers_come_back_as_a_tidy_table() -> None:
    table = measure(*simplex_layer(4, 7, 1.0, 0.2))
    assert list(table.columns) == list(COLUMNS)
    found = values(table)
    assert found["nc1_trace", ""] == pytest.approx(1.4, rel=1e-9)
    assert found["nc1_pinv", ""] == pytest.approx(0.45, rel=1e-9)
    assert found["cdnv", ""] == pytest.approx(0.525, rel=1e-9)
    assert set(table.layer) == {"features"}
    assert (table.value.isna() == (table.reason != "")).all()


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, lambda z: torch.from_numpy(z).requires_grad_()])
def test_numpy_and_torch_give_the_same(make: Any) -> None:
    features, labels = random_layer()
    pd.testing.assert_frame_equal(measure(make(features), labels), measure(features, torch.from_numpy(labels)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_measured_as_stored(dtype: torch.dtype) -> None:
    features, labels = random_layer()
    stored = torch.from_numpy(features).to(dtype)
    assert values(measure(stored, labels))["nc1_trace", ""] == pytest.approx(
        naive_nc1_trace(stored.double().numpy(), labels), rel=1e-9
    )


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_features_too(dtype: str) -> None:
    features, labels = np.random.default_rng(0).integers(0, 2, (30, 5)), np.arange(30) % 3
    expected = values(measure(features.astype(float), labels))
    assert values(measure(features.astype(dtype), labels)) == pytest.approx(expected, nan_ok=True)
    assert values(measure(torch.from_numpy(features.astype(dtype)), labels)) == pytest.approx(expected, nan_ok=True)


def test_the_classifier_adds_its_rows_and_the_networks() -> None:
    features, labels = random_layer(4, 6, 30, noise=1.0)
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((4, 6)), rng.standard_normal(4)
    table = measure(features, labels, weight=W, bias=torch.from_numpy(b))
    logits = features @ W.T + b
    found = values(table)
    assert found["error", ""] == np.mean(logits.argmax(1) != labels)
    assert found["loss", "mse"] == pytest.approx(np.mean((logits - np.eye(4)[labels]) ** 2), rel=1e-12)
    assert set(table[table.metric.str.startswith("nc3")].classifier) == {"weight"}
    assert table[table.metric == "nc4_mismatch"].value.notna().all()
    assert values(measure(features, labels, weight=W, logits=logits)) == pytest.approx(found, nan_ok=True)


def test_logits_alone_give_the_networks_rows() -> None:
    features, labels = random_layer()
    found = values(measure(features, labels, logits=np.eye(4)[labels]))
    assert (found["error", ""], found["loss", "mse"]) == (0.0, 0.0)
    assert not [m for m, _ in found if m.startswith("nc3")]


def test_there_are_as_many_classes_as_the_classifier_has_rows() -> None:
    features, labels = random_layer()
    reasons = measure(features, labels, weight=np.eye(5, 6)).set_index("metric").reason
    assert reasons["nc1_pinv"] == "class 4 has no samples"


def test_memory_maps_are_read(tmp_path: Any) -> None:
    features, labels = random_layer()
    np.save(tmp_path / "z.npy", features)
    pd.testing.assert_frame_equal(
        measure(np.load(tmp_path / "z.npy", mmap_mode="r"), labels), measure(features, labels)
    )


Z, Y = random_layer()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z[0], Y), r"features have shape \(6,\)"),
        ((Z[:0], Y[:0]), "nothing to measure"),
        ((Z[:, :0], Y), "nothing to measure"),
        ((Z.astype(complex), Y), "complex"),
        ((torch.from_numpy(Z).to(torch.complex64), Y), "complex"),
        ((Z.astype(str), Y), "type <U"),
        ((Z, Y[:5]), "36 rows of features and 5 labels"),
        ((Z, Y.astype(float)), "labels have type float64"),
        ((Z, np.eye(4)[Y]), r"labels have shape \(36, 4\)"),
        ((Z, Y - 1), "label of sample .* is -1"),
        ((Z, Y * 0), "one class only"),
        ((Z, Y, np.ones((4, 5))), r"weight has shape \(4, 5\); here it must be \(K, 6\)"),
        ((Z, Y, np.ones((3, 6))), "is 3, but there are 3 classes"),
        ((Z, Y, np.ones((4, 6)), np.ones(3)), r"bias has shape \(1, 3\)"),
        ((Z, Y, None, np.ones(4)), "bias without a weight"),
        ((Z, Y, np.ones((4, 6)), None, np.ones((36, 3))), r"logits has shape \(36, 3\); here it must be \(36, 4\)"),
        ((Z, Y, None, None, np.ones(36)), r"logits has shape \(36,\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        measure(*arguments)
    assert "\n" not in str(caught.value)
