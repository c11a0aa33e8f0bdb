"""The table of metrics, its rows and its page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import random_layer, view_of

from ncscan.catalogue_doc import document
from ncscan.metrics.evaluate import CLASS_METRICS, METRICS, NETWORK, LayerView, Reader, measure, network_rows
from ncscan.metrics.weights.table import WEIGHT_METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == document(), (
        "docs/metrics.md is stale; write it anew: python -c 'from ncscan.catalogue_doc import document; "
        "print(document(), end=str())' > docs/metrics.md"
    )


@pytest.mark.parametrize("definition", [*METRICS, *CLASS_METRICS, *NETWORK, *WEIGHT_METRICS], ids=lambda d: d.name)
def test_every_metric_says_what_it_is(definition: object) -> None:
    for name in ("name", "formula", "range", "at_collapse", "source", "reading", "undefined"):
        assert getattr(definition, name)


def full_view(per_class: tuple[int, ...] = (9, 9, 9, 9)) -> LayerView:
    features, labels = random_layer(4, 6, per_class)
    W = np.random.default_rng(0).standard_normal((4, 6))
    view = view_of(features, labels, W=W)
    known = replace(view.stats, disagreements=np.zeros(4, dtype=np.int64))
    return replace(view, stats=known, readers=(Reader("one", W, 3), Reader("two", W[:2], 3)))


def test_rows_follow_the_table_when_classes_are_balanced() -> None:
    rows = measure(full_view())
    assert [(r.metric, r.quantity) for r in rows] == [
        (m.name, q)
        for m in METRICS
        if not m.scope.startswith("imbalance")
        for _ in range(2 if m.scope == "reader" else 1)
        for q in m.quantities
    ]
    assert all((row.value is None) == bool(row.reason) for row in rows)
    assert {r.metric for r in network_rows(np.eye(3), np.arange(3))} == {d.name for d in NETWORK}
    for row in rows:
        metric = next(m for m in METRICS if m.name == row.metric)
        weighted = metric.weighted and row.quantity not in metric.unweighted
        assert row.weighting == (metric.only or "class" if weighted else "")


def test_both_weightings_are_given_where_they_differ() -> None:
    rows = measure(full_view((3, 8, 20, 5)))
    found = {(r.metric, r.quantity, r.weighting, r.classifier): r for r in rows}
    assert len(found) == len(rows)
    assert {m.name for m in METRICS} == {r.metric for r in rows}
    for metric in METRICS:
        for quantity in metric.quantities:
            given = [r for r in rows if (r.metric, r.quantity) == (metric.name, quantity)]
            weightings = list(dict.fromkeys(r.weighting for r in given))
            if not metric.weighted or quantity in metric.unweighted:
                assert weightings == [""]
            elif metric.only:
                assert weightings == [metric.only]
            else:
                assert weightings == ["class", "sample"]
                values = {r.weighting: r.value for r in given}
                same = metric.scope == "reader" or None in values.values()
                assert same or values["class"] != values["sample"], metric.name


def test_both_weightings_are_one_number_when_classes_are_balanced() -> None:
    view = full_view()
    for metric in METRICS:
        if metric.weighted and metric.scope != "reader":
            by_class, by_sample = (metric.function(replace(view, weighting=w)) for w in ("class", "sample"))
            assert by_sample == pytest.approx(by_class, rel=1e-12), metric.name


def test_every_row_says_why_when_activations_are_not_finite() -> None:
    features, labels = random_layer()
    features[5, 1], features[9, 0] = np.nan, np.inf
    rows = measure(view_of(features, labels, W=np.eye(4, 6)))
    assert len(rows) > 10
    assert {(row.value, row.rank) for row in rows} == {(None, None)}
    assert {row.reason for row in rows} == {"2 samples have non-finite activations, first in sample 5"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_row_has_a_value_that_is_not_finite(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(METRICS[0], name="one", function=lambda view: value)
    family = replace(METRICS[0], name="family", function=lambda view: {"a": value, "b": 2.0}, quantities=("a", "b"))
    monkeypatch.setattr("ncscan.metrics.evaluate.METRICS", (one, family))
    assert [(row.metric, row.value, row.reason) for row in measure(view_of(*random_layer()))] == [
        ("one", None, "not a finite number"),
        ("family", None, "not a finite number"),
        ("family", 2.0, ""),
    ]


@pytest.mark.parametrize("scale", [1e-100, 1e100, 1e149])
def test_no_value_depends_on_the_size_of_the_activations(scale: float) -> None:
    features, labels = random_layer()
    expected, scaled = (measure(view_of(z, labels, W=np.eye(4, 6))) for z in (features, scale * features))
    with_unit = ("norms", "bias_collapse", "bias_collapse_raw")
    assert [row.value for row in scaled if row.metric not in with_unit] == pytest.approx(
        [row.value for row in expected if row.metric not in with_unit], rel=1e-9
    )


def test_activations_have_their_reason_when_their_squares_overflow() -> None:
    features, labels = random_layer()
    features[3] *= 1e200
    (reason,) = {row.reason for row in measure(view_of(features, labels))}
    assert reason.startswith("squares of the activations of 1 samples exceed float64, first in sample 3; the largest")
