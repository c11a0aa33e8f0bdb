"""Measures of arrays: the same numbers whatever they come in, clear errors when they do not fit."""

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import naive_nc1_trace, random_layer, simplex_layer
from scipy.sparse.linalg import svds

from ncscan.api import COLUMNS, measure
from ncscan.errors import DataError
from ncscan.metrics.layers import nearest_class_center


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
    assert values(measure(features, labels, W, b, logits)) == pytest.approx(found, nan_ok=True)


def test_logits_alone_give_the_networks_rows() -> None:
    features, labels = random_layer()
    found = values(measure(features, labels, logits=np.eye(4)[labels]))
    assert (found["error", ""], found["loss", "mse"]) == (0.0, 0.0)
    assert not [m for m, _ in found if m.startswith("nc3")]


def test_memory_maps_are_read(tmp_path: Any) -> None:
    features, labels = random_layer()
    np.save(tmp_path / "z.npy", features)
    pd.testing.assert_frame_equal(
        measure(np.load(tmp_path / "z.npy", mmap_mode="r"), labels), measure(features, labels)
    )


def test_a_network_may_know_more_classes_than_the_data_has() -> None:
    features, labels = random_layer(10, 16, 20)
    rng = np.random.default_rng(0)
    W, logits = rng.standard_normal((12, 16)), rng.standard_normal((200, 12))
    for table in (measure(features, labels, weight=W, logits=logits), measure(features, labels, logits=logits)):
        found, reasons = values(table), table.set_index("metric").reason
        assert reasons["nc1_trace"] == reasons["nc2_condition"] == ""
        assert (found["error", ""], reasons["error"]) == (np.mean(logits.argmax(1) != labels), "")
        assert reasons["ncc_error"] == reasons["nc4_mismatch"] == ""
        assert np.isfinite(found["ncc_error", ""] + found["nc4_mismatch", ""])
    features_alone = values(measure(features, labels))
    assert {key: value for key, value in found.items() if key in features_alone} == pytest.approx(
        features_alone, nan_ok=True
    )


Z, Y = random_layer()
W = np.eye(4, 6) + 0.1
NO_NUMBER = "36 samples have non-finite logits, first in sample 0"


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200], ids=["nan", "inf", "squares overflow"])
def test_a_classifier_that_is_not_finite_gives_no_number(bad: float) -> None:
    weight = W.copy()
    weight[2, 1] = bad
    table = measure(Z, Y, weight, logits=np.eye(4)[Y])
    of_the_classifier = table[table.metric.str.startswith("nc3")]
    if np.isfinite(bad):  # a map that reads the layer needs no squares of it
        assert of_the_classifier.value.isna().sum() == len(of_the_classifier) - 1
        assert set(of_the_classifier.reason) == {
            "the rows of the classifier differ in size by more than float64 can square",
            "",
        }
    else:
        assert set(of_the_classifier.reason) == {"the classifier's weights are not finite", "weight is not finite"}
        assert of_the_classifier.value.isna().all()
    assert table.set_index("metric").reason["nc4_mismatch"] == ""  # the logits that were given are


@pytest.mark.parametrize(
    "arguments",
    [
        (Z, Y, W * np.nan),
        (Z, Y, W * np.inf),
        (Z, Y, W, np.array([0.0, np.nan, 0.0, 0.0])),
        (Z, Y, None, None, np.eye(4)[Y] * np.nan),
    ],
)
def test_logits_that_are_not_finite_decide_nothing(arguments: tuple[Any, ...]) -> None:
    table = measure(*arguments).set_index("metric")
    assert set(table.reason[["nc4_mismatch", "error", "loss"]]) == {NO_NUMBER}
    assert table.value[["nc4_mismatch", "error", "loss"]].isna().all()
    assert table.reason["ncc_error"] == ""


@pytest.mark.parametrize("size", [0.0, 1e-200, 1e-100, 1e100, 1e149, 1e200, 1e307])
def test_a_row_has_a_finite_value_or_a_reason_at_any_size(size: float) -> None:
    for arguments in ((Z * size, Y, W), (Z, Y, W * size), (Z * size, Y, W * size), (Z, Y, W, None, Z[:, :4] * size)):
        table = measure(*arguments)
        assert (np.isfinite(table.value) == (table.reason == "")).all()


@pytest.mark.parametrize(
    "same",
    [
        Z[::-1].copy()[::-1],
        Z.astype(">f8"),
        np.asfortranarray(Z),
        np.rec.fromarrays([np.zeros(36, "i1"), Z], dtype=[("pad", "i1"), ("z", "f8", 6)])["z"],
        np.ma.masked_array(Z, mask=False),
        Z.astype(np.longdouble),
        Z.tolist(),
    ],
    ids=["negative strides", "big-endian", "by columns", "packed", "nothing masked", "long double", "lists"],
)
def test_the_layout_in_memory_plays_no_part(same: Any) -> None:
    expected = measure(Z, Y, W)
    pd.testing.assert_frame_equal(measure(same, Y, W), expected)
    pd.testing.assert_frame_equal(measure(same, Y.astype(">u2")[::-1][::-1], W.astype(">f8")), expected)


def test_float32_of_another_byte_order_is_measured_as_float32() -> None:
    stored = Z.astype(np.float32)
    pd.testing.assert_frame_equal(measure(stored.astype(">f4"), Y), measure(stored, Y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z[0], Y), r"features of shape \(6,\)"),
        ((Z[:0], Y[:0]), "nothing to measure"),
        ((Z[:, :0], Y), "nothing to measure"),
        ((Z.astype(complex), Y), "complex"),
        ((torch.from_numpy(Z).to(torch.complex64), Y), "complex"),
        ((Z.astype(str), Y), "features of type <U"),
        ((Z, Y[:5]), "36 rows of features and 5 labels"),
        ((Z, Y.astype(float)), "labels of type float64"),
        ((Z, np.eye(4)[Y]), r"labels of shape \(36, 4\)"),
        ((Z, Y - 1), rf"labels must be 0 or more; that of sample {Y.argmin()} is -1$"),
        (
            (Z, Y * 10**12),
            rf"labels must be under 100000; that of sample {np.flatnonzero(Y)[0]} is {Y[Y > 0][0]}0{{12}}$",
        ),
        ((Z, [2**70] * 36), "labels of type object"),
        ((Z, Y * 0), "one class only"),
        ((Z, Y, np.ones((4, 5))), r"weight of shape \(4, 5\): here it must be \(K, 6\)"),
        ((Z, Y, np.ones((3, 6))), "is 3, but there are 3 classes"),
        ((Z, Y, W, np.ones(3)), r"bias of shape \(3,\): here it must be \(4,\)"),
        ((Z, Y, W, np.ones(3), np.eye(4)[Y]), r"bias of shape \(3,\): here it must be \(4,\)"),
        ((Z, Y, W.astype(str)), "weight of type <U"),
        ((Z, Y, W.astype(complex)), "weight of type complex128"),
        ((Z, Y, torch.from_numpy(W).to(torch.complex64)), "weight of type complex64"),
        ((Z, Y, None, None, np.ones((36, 100_001))), "there are 100001 classes"),
        (([[1.0, 2.0], [3.0]], Y[:2]), "features cannot be read as an array"),
        (([torch.ones(6, requires_grad=True)] * 36, Y), "features cannot be read as an array"),
        ((torch.from_numpy(Z).to_sparse(), Y), "features in a tensor that is sparse"),
        ((torch.from_numpy(Z).to("meta"), Y), "features in a tensor that is without data"),
        ((torch.from_numpy(Z).to(torch.float8_e4m3fn), Y), "features of type float8_e4m3fn"),
        ((np.ma.masked_array(Z, Z > 1), Y), "features in a masked array"),
        ((None, Y), "features of type object"),
        ((Z, Y, None, np.ones(4)), "bias without a weight"),
        ((Z, Y, np.ones((4, 6)), None, np.ones((36, 3))), r"logits of shape \(36, 3\): here it must be \(36, 4\)"),
        ((Z, Y, None, None, np.ones(36)), r"logits of shape \(36,\): here it must be \(36, K\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        measure(*arguments)
    assert "\n" not in str(caught.value)


def test_layer_too_wide_for_a_gram_matrix_has_estimates() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((4200, 4200), dtype=np.float32), np.arange(4200) % 3
    features[:, 0] += 100 * labels
    table = measure(features, labels).set_index("metric")
    largest = svds(features, k=1, return_singular_vectors=False, random_state=0)[0]
    exact = np.linalg.norm(features) ** 2 / largest**2
    assert table.estimate["stable_rank"]
    assert table.value["stable_rank"] == pytest.approx(exact, rel=1e-3)
    assert table.reason["feature_condition"] == "tail not resolved"


def test_logits_of_many_outputs_are_never_whole() -> None:
    """16,000 × 3,000 numbers would be 384 MB: they are made and left some samples at a time."""
    rng = np.random.default_rng(0)
    N, outputs = 16_000, 3_000
    features, labels = rng.standard_normal((N, 4)), np.arange(N) % 5
    W, b = rng.standard_normal((outputs, 4)), rng.standard_normal(outputs)
    tracemalloc.start()
    found = measure(features, labels, W, b).set_index(["metric", "quantity"]).value
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 8 * nearest_class_center._BLOCK_NUMBERS < 0.5 * 8 * N * outputs
    given = measure(features, labels, W, b, logits=features @ W.T + b).set_index(["metric", "quantity"]).value
    for name in (("error", ""), ("loss", "mse"), ("loss", "cross_entropy"), ("nc4_mismatch", "")):
        assert found[name] == pytest.approx(given[name], rel=1e-12)
