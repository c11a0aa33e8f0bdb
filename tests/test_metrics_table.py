"""The table of metrics, its rows and its page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import random_layer, view_of

from ncscan.metrics import METRICS, NETWORK, LayerView, measure, network_rows
from ncscan.metrics.document import document
from ncscan.weights import WEIGHT_METRICS

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == document(), (
        "docs/metrics.md is stale; write it anew: python -c 'from ncscan.metrics.document import document; "
        "print(document(), end=str())' > docs/metrics.md"
    )


@pytest.mark.parametrize("definition", [*METRICS, *NETWORK, *WEIGHT_METRICS], ids=lambda d: d.name)
def test_every_metric_says_what_it_is(definition: object) -> None:
    for name in ("name", "formula", "range", "at_collapse", "source", "reading", "undefined"):
        assert getattr(definition, name)


def full_view() -> LayerView:
    features, labels = random_layer()
    view = view_of(features, labels, W=np.eye(4, 6))
    return replace(view, stats=replace(view.stats, disagreements=np.zeros(4, dtype=np.int64)))


def test_rows_follow_the_table() -> None:
    rows = measure(full_view())
    assert [(r.metric, r.quantity) for r in rows] == [(m.name, q) for m in METRICS for q in m.quantities]
    assert all((row.value is None) == bool(row.reason) for row in rows)
    assert {r.metric for r in network_rows(np.eye(3), np.arange(3))} == {d.name for d in NETWORK}


@pytest.mark.parametrize("weighting", ["class", "sample"])
def test_rows_record_the_weighting_where_it_plays_a_part(weighting: str) -> None:
    features, labels = random_layer(4, 6, (3, 8, 20, 5))
    rows = {w: measure(view_of(features, labels, weighting=w)) for w in ("class", "sample")}
    differ = {a.metric for a, b in zip(rows["class"], rows["sample"], strict=True) if a.value != b.value}
    assert differ == {m.name for m in METRICS if m.weighted and m.scope != "classifier"}
    assert {r.metric for r in rows[weighting] if r.weighting == weighting} == differ


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
    monkeypatch.setattr("ncscan.metrics.METRICS", (one, family))
    assert [(row.metric, row.value, row.reason) for row in measure(view_of(*random_layer()))] == [
        ("one", None, "not a finite number"),
        ("family", None, "not a finite number"),
        ("family", 2.0, ""),
    ]


@pytest.mark.parametrize("scale", [1e-100, 1e100, 1e149])
def test_no_value_depends_on_the_size_of_the_activations(scale: float) -> None:
    features, labels = random_layer()
    expected, scaled = (measure(view_of(z, labels, W=np.eye(4, 6))) for z in (features, scale * features))
    assert [row.value for row in scaled] == pytest.approx([row.value for row in expected], rel=1e-9)


def test_activations_count_as_infinite_when_their_squares_overflow() -> None:
    features, labels = random_layer()
    features[3] *= 1e200
    assert {row.reason for row in measure(view_of(features, labels))} == {
        "1 samples have non-finite activations, first in sample 3"
    }
