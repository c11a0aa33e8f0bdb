"""What a metric is given, and what the table of metrics says of it.

In: LayerStats and the linear map that reads the layer. Out: `LayerView`, the one argument of every metric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.statistics import LayerStats, Rank, Weighting

Value = float | Mapping[str, float | Undefined]
"""One number, or a small named family of which each may be undefined on its own."""

Scope = Literal["features", "decisions", "spectrum", "negative part", "classifier"]
"""What must have been accumulated for a metric to be asked at all: `features` always is."""


_HUGE = 1e150
"""Weights beyond this are as good as infinite: their squares overflow."""


@dataclass(frozen=True)
class Classifier:
    """The last linear map, which reads this layer and writes the logits."""

    name: str
    weight: Float64[np.ndarray, "K d"]
    """W, one row per class."""

    @property
    def obstacle(self) -> str:
        """Why nothing can be compared with these weights, else empty."""
        return "" if (np.abs(self.weight) < _HUGE).all() else "the classifier's weights are not finite"


@dataclass(frozen=True)
class LayerView:
    """One layer as a metric sees it."""

    stats: LayerStats
    weighting: Weighting = "class"
    classifier: Classifier | None = None
    decisions_obstacle: str = ""
    """Why nothing can be compared with the network's decisions (logits that are not finite), else empty."""

    @property
    def rows(self) -> Float64[np.ndarray, "K d"]:
        """W, the rows of the classifier; Undefined where none reads this layer, or W is not finite."""
        if self.classifier is None:
            raise Undefined("no classifier reads this layer")
        if self.classifier.obstacle:
            raise Undefined(self.classifier.obstacle)
        return self.classifier.weight


@dataclass(frozen=True)
class Definition:
    """What the documentation says of a number."""

    name: str
    formula: str
    range: str
    at_collapse: str
    convention: str
    source: str
    reading: str
    """How to read it: what large and small mean."""
    undefined: str
    """When there is no value."""


@dataclass(frozen=True)
class Metric(Definition):
    """One row of the table of metrics."""

    function: Callable[[LayerView], Value]
    scope: Scope = "features"
    quantities: tuple[str, ...] = ("",)
    """Names of its numbers; one without a name where it has one."""
    weighted: bool = False
    """Whether the value depends on the weighting of the classes."""
    centred: bool | None = None
    """Whether a frame is M̃ (True) or M (False); None where no frame is meant."""
    rank: Callable[[LayerView], Rank] | None = None
    """The rank that the value rests on."""
