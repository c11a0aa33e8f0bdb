"""One number over a run: from tidy rows to series in the order of steps, and exponential laws fitted to them.

In: the tidy tables of one run. Out: `Series`, and `Fit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from ncscan.errors import Undefined
from ncscan.layer_graph import joined
from ncscan.rows import leading

NO_STEP = -1
"""The step of a checkpoint that has none: steps count from 0."""


@dataclass(frozen=True)
class Series:
    """One number of one layer or pair of linear maps over the checkpoints of a run, in the order of their steps."""

    layer: str
    """The layer; a pair or a product of linear maps is `a..b`."""
    metric: str
    quantity: str
    checkpoints: tuple[str, ...]
    steps: Int64[np.ndarray, "n"]
    """NO_STEP where a checkpoint has none."""
    values: Float64[np.ndarray, "n"]
    """The values; NaN where there is none."""
    reasons: tuple[str, ...]
    """Why there is no value, else empty."""

    def at(self, checkpoint: str) -> float | Undefined:
        """Return the value at a checkpoint, or why there is none."""
        if checkpoint not in self.checkpoints:
            return Undefined("not measured at this checkpoint")
        i = self.checkpoints.index(checkpoint)
        return Undefined(self.reasons[i]) if np.isnan(self.values[i]) else float(self.values[i])

    def part(self, mask: Bool[np.ndarray, "n"]) -> "Series":
        """Return the same series at some of its checkpoints."""
        kept = np.flatnonzero(mask)
        return Series(
            self.layer,
            self.metric,
            self.quantity,
            tuple(self.checkpoints[i] for i in kept),
            self.steps[kept],
            self.values[kept],
            tuple(self.reasons[i] for i in kept),
        )


Numbers = Mapping[tuple[str, str, str], Series]
"""Layer, metric and quantity → its series, in the order of the tables."""


def series_of(metrics: pd.DataFrame, weights: pd.DataFrame) -> Numbers:
    """Return the series of one run. For a number under several conventions the one that leads is taken."""
    of_weights = weights.assign(layer=[joined(*pair) for pair in zip(weights["map"], weights["next_map"], strict=True)])
    columns = ["layer", "metric", "quantity", "checkpoint", "step", "value", "reason"]
    parts = [metrics, of_weights.assign(weighting="", classifier="")] if len(weights) else [metrics]
    rows = pd.concat([part[[*columns, "weighting", "classifier", "leads"]] for part in parts])
    rows = leading(rows, columns[:4]).sort_values("step", kind="stable", na_position="last")
    found = {}
    for key, own in rows.groupby(columns[:3], sort=False):
        layer, metric, quantity = map(str, key)
        found[layer, metric, quantity] = Series(
            layer,
            metric,
            quantity,
            tuple(own["checkpoint"]),
            own["step"].fillna(NO_STEP).to_numpy(np.int64),
            own["value"].to_numpy(np.float64),
            tuple(own["reason"]),
        )
    return found


@dataclass(frozen=True)
class Fit:
    """The fit log value = intercept + slope·x, by least squares."""

    intercept: float
    slope: float
    r2: float | Undefined
    """r²; Undefined where the value does not change: there is nothing to explain."""
    points: int


FEWEST = 3
"""A fit needs so many points: two lie on a line whatever the law is."""


def log_linear(x: Float64[np.ndarray, "n"], values: Float64[np.ndarray, "n"]) -> Fit:
    """Return the exponential law through the points with a value: log value = intercept + slope·x by least squares.

    Args:
        x: (n,) steps or stages.
        values: (n,) above 0, or NaN where there is none.

    Returns: the slope per unit of x, negative where the value decays; r² in [0, 1], 1 where the law is exact.

    Raises: Undefined with fewer than 3 points, with a value that is not above 0, or where all x are one.

    >>> log_linear(np.arange(4.0), 5 * np.exp(-0.5 * np.arange(4.0))).slope
    -0.5
    """
    known = ~np.isnan(values)
    x, values = x[known], values[known]
    if len(values) < FEWEST:
        raise Undefined(f"{len(values)} points with a value, a fit needs {FEWEST}")
    if (values <= 0).any():
        raise Undefined(f"{int((values <= 0).sum())} of {len(values)} values are not above 0: they have no logarithm")
    y = np.log(values)
    from_mean, off = x - x.mean(), y - y.mean()
    spread = float(from_mean @ from_mean)
    if spread == 0:
        raise Undefined("all points are at one place")
    slope = float(from_mean @ off) / spread
    total, left = float(off @ off), float(((off - slope * from_mean) ** 2).sum())
    # Rounding of the logarithms alone is no change that a law could explain.
    flat = total <= len(y) * (4 * np.finfo(np.float64).eps * max(1.0, float(np.abs(y).max()))) ** 2
    r2 = Undefined("the value does not change") if flat else 1 - left / total
    return Fit(float(y.mean() - slope * x.mean()), slope, r2, len(y))
