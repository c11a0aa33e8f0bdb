"""Some measures of a layer, again and again: of resamples, of permuted labels, of rounding alone.

In: a LayerView and the names of measures. Out: their rows as the report has them, and what tells rows apart.
"""

from collections.abc import Container
from dataclasses import replace

from ncscan.metrics import METRICS, LayerView, Row, _asked, _rows, _views

Key = tuple[str, str, str, str]
"""Metric, quantity, weighting, classifier: what tells the rows of a layer apart."""


def key_of(row: Row) -> Key:
    """Of a row."""
    return (row.metric, row.quantity, row.weighting, row.classifier)


def measure_some(view: LayerView, names: Container[str]) -> list[Row]:
    """What `measure` gives, of the metrics with these names alone."""
    asked = [metric for metric in METRICS if metric.name in names and _asked(metric, view)]
    return [row for metric in asked for one in _views(metric, view) for row in _rows(metric, one)]


def bare(view: LayerView) -> LayerView:
    """Without what only the report of the layer itself needs, so that copies of it are cheap."""
    return replace(view, stats=replace(view.stats, samples=None, permuted=None, spectrum=None, negative=None))
