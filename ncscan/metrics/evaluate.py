"""The numbers of one layer, each with the conventions it was made under or the reason why there is none.

In: a LayerView. Out: one Row per number. A new metric is one function in a file of layers/, with its row
in the same file.
"""

import math
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int64

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.metrics.head_readers import head_classifiers, of_members, readers
from ncscan.metrics.layers.nearest_class_center import (
    NO_TARGETS,
    Answers,
    answers,
    logit_blocks,
    logits_obstacle,
)
from ncscan.metrics.layers.per_class import CLASS_METRICS, ClassRow, class_rows
from ncscan.metrics.layers.table import METRICS, NETWORK
from ncscan.metrics.view import Classifier, Definition, LayerView, Metric, Reader
from ncscan.statistics import Rank, Weighting

__all__ = [
    "CLASS_METRICS",
    "METRICS",
    "NETWORK",
    "ClassRow",
    "Classifier",
    "Definition",
    "Key",
    "LayerView",
    "Metric",
    "Reader",
    "Row",
    "class_rows",
    "head_classifiers",
    "key_of",
    "logits_obstacle",
    "measure",
    "network_rows",
    "of_members",
    "readers",
    "rows_of",
]


@dataclass(frozen=True)
class Row:
    """One number of one layer, and how it was made."""

    metric: str
    quantity: str
    """Which of a metric's numbers this is: `op`, `fro`, `samples`, …; empty where it has one."""
    value: float | None
    reason: str
    """Why there is no value, else empty."""
    weighting: str
    """`class` or `sample`; empty where the weighting of classes plays no part."""
    centred: bool | None
    rank: int | None
    estimate: bool
    classifier: str
    """Name of the linear map that the layer was compared with, else empty."""


Key = tuple[str, str, str, str]
"""Metric, quantity, weighting, classifier: these tell the rows of a layer apart."""


def key_of(row: Row) -> Key:
    """Return the key that identifies a row within its layer."""
    return (row.metric, row.quantity, row.weighting, row.classifier)


def measure(view: LayerView, only: Container[str] | None = None) -> list[Row]:
    """Return every metric of the table that this layer has, or those with some names alone, in the order of the table.

    Where classes are imbalanced, what depends on their weighting is given with both, `class` before `sample`. Where
    they are balanced the two are one number, and it is given once, as `class`.
    """
    asked = [metric for metric in METRICS if (only is None or metric.name in only) and _applies(metric, view)]
    return [row for metric in asked for one in _views(metric, view) for row in _rows(metric, one)]


def network_rows(
    logits: Float[np.ndarray, "N K"], labels: Int64[np.ndarray, "N"], *, one_logit: bool = False
) -> list[Row]:
    """Return training error and losses of the network, from its logits; `one_logit` where both stand for one."""
    return rows_of(answers(logit_blocks(logits), labels), one_logit=one_logit)


def rows_of(found: Answers, *, one_logit: bool = False) -> list[Row]:
    """Return the same rows from what a pass over the logits found."""

    def squares() -> float:
        if one_logit:
            raise Undefined(NO_TARGETS)
        return found.mean_squared_error()

    return [
        _network_row("error", "", found.error),
        _network_row("loss", "mse", squares),
        _network_row("loss", "cross_entropy", found.cross_entropy),
    ]


def _network_row(metric: str, quantity: str, number: Callable[[], float]) -> Row:
    value, reason = _value_and_reason(attempt(number))
    return Row(
        metric=metric,
        quantity=quantity,
        value=value,
        reason=reason,
        weighting="",
        centred=None,
        rank=None,
        estimate=False,
        classifier="",
    )


def _applies(metric: Metric, view: LayerView) -> bool:
    """Return whether the metric applies to the layer: one that is no pre-activation has no negativity to miss."""
    imbalanced = _imbalanced(view)
    return {
        "features": True,
        "decisions": view.stats.disagreements is not None or bool(view.decisions_obstacle),
        "spectrum": view.stats.spectrum is not None,
        "negative part": view.stats.negative is not None,
        "imbalance": imbalanced,
        "imbalance of the classifier": imbalanced and view.classifier is not None,
        "classifier": view.classifier is not None,
        "reader": bool(view.readers),
    }[metric.scope]


def _views(metric: Metric, view: LayerView) -> Iterator[LayerView]:
    """Yield the view once for every row of a quantity: by weighting, and by the linear map that reads the layer."""
    both = metric.weighted and _imbalanced(view)
    weightings: tuple[Weighting, ...] = ("class", "sample") if both else ("class",)
    if metric.only:
        weightings = (metric.only,)
    for weighting in weightings:
        if metric.scope != "reader":
            yield replace(view, weighting=weighting)
            continue
        for reader in view.readers:
            yield replace(view, weighting=weighting, readers=(reader,))


def _imbalanced(view: LayerView) -> bool:
    counts = view.stats.counts
    return bool(0 < counts.min() < counts.max())


def _rows(metric: Metric, view: LayerView) -> Iterator[Row]:
    """Yield one row per quantity; where the metric as a whole is undefined, each gives the reason."""
    obstacle = view.stats.obstacle
    found = Undefined(obstacle) if obstacle else attempt(lambda: metric.function(view))
    rank = None if obstacle or not metric.rank else attempt(partial(metric.rank, view))
    known = rank if isinstance(rank, Rank) else None
    for quantity in metric.quantities:
        weighted = metric.weighted and quantity not in metric.unweighted
        if not weighted and view.weighting == "sample":
            continue  # it has been said already
        value, reason = _value_and_reason(found[quantity] if isinstance(found, Mapping) else found)
        yield Row(
            metric=metric.name,
            quantity=quantity,
            value=value,
            reason=reason,
            weighting=view.weighting if weighted else "",
            centred=True if metric.centred_if_partial and view.is_partial else metric.centred,
            rank=known.value if known else None,
            estimate=known is not None and not known.certain,
            classifier=_compared_with(metric, view),
        )


def _compared_with(metric: Metric, view: LayerView) -> str:
    if metric.scope == "reader":
        return view.readers[0].name
    with_classifier = metric.scope in ("classifier", "imbalance of the classifier")
    return view.classifier.name if view.classifier and with_classifier else ""


def _value_and_reason(value: float | Undefined) -> tuple[float | None, str]:
    """Return value and reason, of which a row has one: here no NaN and no infinity gets past."""
    if isinstance(value, Undefined):
        return None, str(value)
    return (value, "") if math.isfinite(value) else (None, "not a finite number")
