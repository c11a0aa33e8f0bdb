"""Define what a metric is given, and how the table of metrics describes it.

In: LayerStats and the linear maps that read the layer. Out: `LayerView`, the one argument of every metric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

from ncscan.errors import Undefined
from ncscan.statistics import HOLDS_SQUARES, LayerStats, Rank, Weighting, strongest_directions, unit_exponent

Value = float | Mapping[str, float | Undefined]
"""One number, or a small named family of which each may be undefined on its own."""

Scope = Literal[
    "features",
    "decisions",
    "spectrum",
    "negative part",
    "imbalance",
    "classifier",
    "imbalance of the classifier",
    "reader",
]
"""What must have been accumulated for a metric to be asked at all: `features` always is."""


@dataclass(frozen=True)
class Classifier:
    """The linear map from this layer to the logits: the last one, or the product of a linear head from here on."""

    name: str
    weight: Float64[np.ndarray, "outputs d"]
    """W, one row per class that the network knows."""
    bias: Float64[np.ndarray, "outputs"] | None = None
    """b, for a product the whole of what it adds; None where no linear map has any."""
    precision: str = "float64"
    """The format that W was stored in, for a product the coarsest of its linear maps."""
    lost: str = ""
    """Why W, a product, is not what its linear maps make it in exact arithmetic, else empty."""

    @property
    def obstacle(self) -> str:
        """Return why nothing can be compared with these weights, else empty."""
        if self.lost:
            return self.lost
        if not np.isfinite(self.weight).all():
            return "the classifier's weights are not finite"
        sizes = np.abs(self.weight).max(axis=1, initial=0.0)
        sizes = sizes[sizes > 0]
        far = len(sizes) and sizes.min() <= sizes.max() / HOLDS_SQUARES
        return "the rows of the classifier differ in size by more than float64 can square" if far else ""

    @cached_property
    def exponent(self) -> int:
        """Return the exponent of the unit 2^exponent in which squares of W stay in float64; nearly always 0."""
        return 0 if self.obstacle else unit_exponent(float(np.abs(self.weight).max(initial=0.0)))

    @cached_property
    def scaled(self) -> Float64[np.ndarray, "outputs d"]:
        """Return W in that unit."""
        return np.ldexp(self.weight, -self.exponent) if self.exponent else self.weight


@dataclass(frozen=True)
class Reader:
    """A linear map that reads this layer, whatever it writes."""

    name: str
    weight: Float[np.ndarray, "m d"]
    """W as stored; its precision decides which of its singular values are rounding."""
    directions: int
    """How many of its strongest input directions are compared: those in which class means can differ."""
    obstacle: str = ""
    """Why its directions cannot be compared with those of the class means, else empty."""

    @cached_property
    def strongest(self) -> Float64[np.ndarray, "k d"]:
        """Return right singular vectors of W as rows, of its largest singular values; Undefined if all are rounding."""
        if self.obstacle:
            raise Undefined(self.obstacle)
        try:
            _, axes = strongest_directions(self.weight, self.directions)
        except Undefined as why:
            raise Undefined(f"{self.name} is {why}") from None
        if not len(axes):
            raise Undefined(f"{self.name} is zero")
        return axes


@dataclass(frozen=True)
class LayerView:
    """One layer as a metric sees it."""

    stats: LayerStats
    weighting: Weighting = "class"
    classifier: Classifier | None = None
    decisions_obstacle: str = ""
    """Why nothing can be compared with the network's decisions (logits that are not finite), else empty."""
    readers: tuple[Reader, ...] = ()
    """The linear maps that read this layer; a metric of one of them sees that one alone."""
    n_outputs: int | None = None
    """How many classes the network knows; None where there is no network, or its classifier determines it."""

    @property
    def outputs(self) -> int:
        """Return how many classes the network knows, with those that the data lacks; K where nothing determines it."""
        rows = 0 if self.classifier is None else len(self.classifier.weight)
        return max(self.n_outputs or 0, rows, self.stats.n_classes)

    @property
    def is_partial(self) -> bool:
        """Return whether the network knows classes that the data lacks."""
        return self.outputs > self.stats.n_classes

    @property
    def whole_weight(self) -> Float64[np.ndarray, "outputs d"]:
        """Return W in its unit, a row for every class that the network knows.

        Undefined where the network has none, or W is not finite.
        """
        W, most = self._finite_classifier.scaled, int(self.stats.classes.max())
        if len(W) <= most:
            raise Undefined(f"the network has {len(W)} outputs, and there are samples of class {most}")
        return W

    @property
    def rows(self) -> Float64[np.ndarray, "K d"]:
        """Return the rows of W, in its unit, of the classes that the data has; Undefined where W is.

        A network may know more classes than the data has; their rows have no class mean to be compared with.
        """
        return np.asarray(self.whole_weight[self.stats.classes])

    @property
    def frame_rows(self) -> Float64[np.ndarray, "K d"]:
        """Return the same rows as a frame to compare with M̃ or a simplex.

        They are taken minus their mean where they are not all rows of W.

        At collapse all rows of W sum to zero, and some of them do not, as M̃ does by its centring.
        """
        W = self.rows
        return W - W.mean(axis=0) if self.is_partial else W

    def require_free_rows(self) -> None:
        """Raise Undefined where the frame of rows is a simplex by construction: two rows minus their mean."""
        if self.is_partial and self.stats.n_classes == 2:
            raise Undefined(f"trivial: of {self.outputs} rows the data has the classes of 2, a simplex once centred")

    @property
    def row_exponent(self) -> int:
        """Return the exponent of the unit 2^exponent that the rows are in."""
        return self._finite_classifier.exponent

    @property
    def bias(self) -> Float64[np.ndarray, "K"]:
        """Return b of the same rows, zero where there is none; Undefined where it is not finite."""
        b = self._finite_classifier.bias
        own = np.zeros(self.stats.n_classes) if b is None else b[self.stats.classes]
        if not np.isfinite(own).all():
            raise Undefined("the classifier's bias is not finite")
        return own

    @property
    def _finite_classifier(self) -> Classifier:
        if self.classifier is None:
            raise Undefined("no classifier reads this layer")
        if self.classifier.obstacle:
            raise Undefined(self.classifier.obstacle)
        return self.classifier


def bare(view: LayerView) -> LayerView:
    """Drop samples, permutations and spectra, so that resampled copies are small."""
    return replace(view, stats=replace(view.stats, samples=None, permuted=None, spectrum=None, negative=None))


@dataclass(frozen=True)
class Definition:
    """The documentation of a number."""

    name: str
    formula: str
    range: str
    at_collapse: str
    convention: str
    source: str
    reading: str
    """How to read it: what large and small mean."""
    undefined: str
    """The conditions under which there is no value."""


@dataclass(frozen=True)
class Metric(Definition):
    """One row of the table of metrics."""

    function: Callable[[LayerView], Value]
    family: str
    """Its group in lists of numbers: one of `FAMILIES` of the page."""
    scope: Scope = "features"
    quantities: tuple[str, ...] = ("",)
    """Names of its numbers; one without a name where it has one."""
    weighted: bool = False
    """Whether the value depends on the weighting of the classes."""
    unweighted: tuple[str, ...] = ()
    """Quantities of a weighted metric that do not depend on it."""
    only: Weighting | None = None
    """The one weighting that it is defined with, whatever the view has; None where both are."""
    centred: bool | None = None
    """Whether a frame is M̃ (True) or M (False); None where no frame is meant."""
    centred_if_partial: bool = False
    """Whether a frame of rows of W is taken minus their mean where the data lacks classes."""
    rank: Callable[[LayerView], Rank] | None = None
    """The rank that the value rests on."""
