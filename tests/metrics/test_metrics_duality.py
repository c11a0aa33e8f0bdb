"""NC3 against the papers' formulas and known answers."""

import numpy as np
import pytest
from helpers import (
    by_name,
    exact_layer,
    naive_centred,
    naive_etf,
    naive_means,
    random_layer,
    simplex_layer,
    stats_of,
    view_of,
)

from ncscan.errors import Undefined
from ncscan.metrics.evaluate import Classifier, LayerView, measure
from ncscan.metrics.layers.self_duality import nc3_cosine, nc3_distance, nc3_etf
from ncscan.statistics.mean_frame import Weighting

ROUNDING = 1e-9


def test_nc3_is_at_collapse_when_the_classifier_is_the_centred_means() -> None:
    features, labels = simplex_layer(4, 7, 2.0, 0.0)
    view = view_of(features, labels, W=3 * naive_means(features, labels))
    assert nc3_distance(view) == pytest.approx(0, abs=1e-12)
    assert nc3_etf(view) == pytest.approx(0, abs=1e-12)
    assert nc3_cosine(view) == pytest.approx({"samples": 1.0, "means": 1.0}, rel=1e-12)


@pytest.mark.parametrize("weighting", ["class", "sample"])
@pytest.mark.parametrize("d", [3, 6])
def test_nc3_equals_the_formula(weighting: Weighting, d: int) -> None:
    features, labels = random_layer(4, d, (3, 8, 20, 5))
    W = np.random.default_rng(1).standard_normal((4, d))
    view, M = view_of(features, labels, W, weighting), naive_centred(features, labels, weighting)
    distance = np.linalg.norm(W / np.linalg.norm(W, "fro") - M / np.linalg.norm(M, "fro"), "fro")
    assert nc3_distance(view) == pytest.approx(distance, rel=ROUNDING)
    assert nc3_etf(view) == pytest.approx(naive_etf(W @ M.T), rel=ROUNDING)


def test_nc3_cosine_equals_the_formula_over_samples_and_over_means() -> None:
    features, labels = random_layer(4, 6, (3, 8, 20, 5))
    W = np.random.default_rng(1).standard_normal((4, 6))

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    samples = np.mean([cosine(h, W[c]) for h, c in zip(features, labels, strict=True)])
    means = np.mean([cosine(m, w) for m, w in zip(naive_means(features, labels), W, strict=True)])
    assert nc3_cosine(view_of(features, labels, W)) == pytest.approx({"samples": samples, "means": means}, rel=ROUNDING)


def test_nc3_rows_name_their_classifier_and_conventions() -> None:
    features, labels = random_layer()
    rows = by_name(measure(view_of(features, labels, W=np.eye(4, 6))))
    assert rows["nc3_distance"].classifier == "head"
    assert (rows["nc3_distance"].weighting, rows["nc3_distance"].centred) == ("class", True)
    assert (rows["nc3_cosine.samples"].weighting, rows["nc3_cosine.samples"].centred) == ("", False)


def test_nc3_has_no_rows_when_no_classifier_reads_the_layer() -> None:
    assert not [row for row in measure(view_of(*random_layer())) if row.metric.startswith("nc3")]


def test_nc3_cosine_is_undefined_for_samples_alone_when_one_is_all_zero() -> None:
    features, labels = random_layer()
    features[3] = 0.0
    values = nc3_cosine(view_of(features, labels, W=np.eye(4, 6)))
    assert isinstance(values, dict)
    assert "1 samples" in str(values["samples"])
    assert isinstance(values["means"], float)


def test_nc3_cosine_is_undefined_when_a_row_of_the_classifier_is_zero() -> None:
    W = np.eye(4, 6)
    W[2] = 0.0
    with pytest.raises(Undefined, match="row 2"):
        nc3_cosine(view_of(*random_layer(), W=W))


def test_nc3_is_undefined_when_the_classifier_is_zero_or_blind() -> None:
    features, labels = exact_layer(np.eye(3, 5), 0.1)
    for metric in (nc3_distance, nc3_etf):
        with pytest.raises(Undefined, match="classifier is zero"):
            metric(view_of(features, labels, W=np.zeros((3, 5))))
    blind = np.zeros((3, 5))
    blind[:, 4] = 1.0  # a direction in which the class means do not differ
    with pytest.raises(Undefined, match="sees nothing"):
        nc3_etf(view_of(features, labels, W=blind))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_nc3_is_undefined_when_the_classifier_is_not_finite(bad: float) -> None:
    W = np.eye(4, 6)
    W[3, 2] = bad
    view = LayerView(stats_of(*random_layer()), classifier=Classifier("head", W))
    rows = [row for row in measure(view) if row.classifier == "head"]
    assert len(rows) == 13
    why = "not finite" if not np.isfinite(bad) else "differ in size"
    assert all(row.value is None and why in row.reason for row in rows)


def test_nc3_distance_is_undefined_when_the_class_means_coincide() -> None:
    view = view_of(*exact_layer(np.ones((3, 4)), 0.5), W=np.eye(3, 4))
    with pytest.raises(Undefined, match="coincide"):
        nc3_distance(view)
