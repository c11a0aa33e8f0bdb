"""Charts of every metric, over steps and over depth, as SVG.

In: the tidy frames. Out: one small chart per metric, run and axis; the charts of one metric share their y axis, so that
runs and axes can be compared by eye. What is undefined leaves a gap in its line.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import pandas as pd

from ncscan.report.svg import DEPTH_RAMP, INK, STEP_RAMP, render
from ncscan.report.tables import main_rows, number, visible

Axis = Literal["steps", "depth"]

WIDTH, HEIGHT = 360, {"steps": 210, "depth": 250}
MOST_LINES = {"steps": 40, "depth": 12}
"""Lines in a chart: layers over steps, steps over depth. Beyond, an even choice is drawn, first and last included."""
MOST_POINTS = {"steps": 100, "depth": 160}
"""Points along a line, likewise; with the lines this bounds a chart, so that a page stays in megabytes."""
MOST_DOTS = 60
"""Up to so many values each has a dot; beyond, the lines say it, and only a value between two gaps is a dot."""

LABEL = 20
"""Characters of a layer name on an axis; a longer one loses its middle."""


@dataclass(frozen=True)
class Chart:
    """One drawn chart."""

    metric: str
    axis: Axis
    panel: str
    """The run, and the split where a run has several."""
    svg: str
    first: str
    """What the first colour of its ramp stands for: a layer or a step."""
    last: str
    left_out: str
    """What was not drawn, in words; empty when all was."""


@dataclass(frozen=True)
class Scale:
    """How a quantity is laid along an axis."""

    type: Literal["linear", "log", "symlog"]
    domain: tuple[float, float]
    ticks: tuple[float, ...]
    """Empty: Vega chooses."""
    constant: float = 1.0
    """Where a symlog scale turns from linear to logarithmic."""


def metric_points(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows that are drawn: one per layer and metric, with its panel, place (the layer) and rank (the depth)."""
    points = main_rows(metrics, ["layer"])
    splits = points.groupby("run", sort=False)["split"].transform("nunique")
    panel = points["run"].where(splits < 2, points["run"] + " · " + points["split"])
    return points.assign(panel=panel, place=points["layer"], rank=points["depth"])


def weight_points(weights: pd.DataFrame) -> pd.DataFrame:
    """The same of the weights: a place is a map or a pair of maps, its rank the order of the rows."""
    points = main_rows(weights, ["map", "next_map"])
    place = points["map"].where(points["next_map"] == "", points["map"] + " → " + points["next_map"])
    order = {name: rank for rank, name in enumerate(dict.fromkeys(place))}
    return points.assign(panel=points["run"], place=place, rank=place.map(order), kind="")


def draw(points: pd.DataFrame, metric: str, *, signed: bool = False) -> list[Chart]:
    """The charts of one metric: per run one over steps, then per run one over depth, as far as there are two of either.

    A single layer at a single step is a dot over steps. A layer where the metric never has a value is not drawn, and
    nothing is when it has none anywhere. A metric that may be negative (`signed`) stays on a linear scale.
    """
    own = points[points["metric"] == metric]
    somewhere = own["value"].notna().groupby([own["panel"], own["place"]]).transform("any")
    own = own[somewhere]
    if own.empty:
        return []
    scale = scale_of(own["value"].dropna(), decades=math.inf if signed else 1.0)
    panels = [(str(panel), group) for panel, group in own.groupby("panel", sort=False)]
    over_depth = [_depth_chart(metric, p, g, scale) for p, g in panels if g["place"].nunique() > 1]
    drawn = {chart.panel for chart in over_depth}
    over_steps = [
        _step_chart(metric, p, g, scale) for p, g in panels if g["checkpoint"].nunique() > 1 or p not in drawn
    ]
    return over_steps + over_depth


def scale_of(values: Iterable[float], *, decades: float = 1.0) -> Scale:
    """Logarithmic for positive values that span more than `decades`, linear near zero where zeros are among them.

    >>> [scale_of(values).type for values in ([1e-3, 1.0], [0.0, 1e-3, 1.0], [2.0, 3.0], [-1.0, 9.0])]
    ['log', 'symlog', 'linear', 'linear']
    """
    present = sorted(set(values))
    low, high = present[0], present[-1]
    positive = [value for value in present if value > 0]
    spread = math.log10(high) - math.log10(positive[0]) if low >= 0 and positive else 0.0
    if spread > decades and low > 0:
        return Scale("log", (low / 1.15, high * 1.15), _round_ticks(low, high))
    if spread > decades:
        return Scale("symlog", (0.0, high * 1.15), (0.0, *_round_ticks(positive[0], high)), constant=positive[0])
    if low >= 0 and (low <= high / 2 or low == high):
        return Scale("linear", (0.0, high * 1.05 if high > 0 else 1.0), ())
    margin = (high - low or abs(high)) * 0.05
    return Scale("linear", (low - margin, high + margin), ())


def spread_out(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly chosen, first and last included.

    >>> spread_out(range(10), 4), spread_out("abc", 4)
    ([0, 3, 6, 9], ['a', 'b', 'c'])
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _step_chart(metric: str, panel: str, group: pd.DataFrame, scale: Scale) -> Chart:
    order = group.sort_values("rank", kind="stable")
    places = list(dict.fromkeys(order["place"]))
    steps = sorted(set(group["step"].dropna()))
    lines = spread_out(places, MOST_LINES["steps"])
    along = spread_out(steps, MOST_POINTS["steps"])
    shown = group[group["place"].isin(lines) & group["step"].isin(along)].sort_values("step", kind="stable")
    data = pd.DataFrame(
        {
            "x": shown["step"].astype("float64"),
            "y": shown["value"],
            "line": shown["place"].map(visible),
            "shade": shown["place"].map(_shades(places, DEPTH_RAMP)),
        }
    )
    x_scale = scale_of([float(step) for step in steps], decades=2.0)
    units = [unit for unit in dict.fromkeys(group["step_unit"]) if unit]
    x = alt.X(
        "x:Q",
        title=visible(", ".join(units)) or "step",
        scale=_vega_scale(x_scale),
        axis=alt.Axis(grid=False, tickCount=6, tickMinStep=1, labelExpr="format(datum.value, '~s')", **_ticks(x_scale)),
    )
    left_out = [
        _left_out(len(lines), len(places), "layers or maps"),
        _left_out(len(along), len(steps), "steps"),
    ]
    svg = _render(data, x, scale, DEPTH_RAMP, "steps", f"{metric} over steps, {panel}")
    return Chart(metric, "steps", panel, svg, places[0], places[-1], ", ".join(filter(None, left_out)))


def _depth_chart(metric: str, panel: str, group: pd.DataFrame, scale: Scale) -> Chart:
    order = group.sort_values("rank", kind="stable")
    places = list(dict.fromkeys(order["place"]))
    moments = group.drop_duplicates("checkpoint").sort_values("step", kind="stable")
    names = dict(zip(moments["checkpoint"], moment_names(moments), strict=True))
    lines = spread_out(list(names), MOST_LINES["depth"])
    along = spread_out(places, MOST_POINTS["depth"])
    shown = order[order["checkpoint"].isin(lines) & order["place"].isin(along)]
    labels = _labels(along)
    data = pd.DataFrame(
        {
            "x": shown["place"].map(dict(zip(along, labels, strict=True))),
            "y": shown["value"],
            "line": shown["checkpoint"].map(names),
            "shade": shown["checkpoint"].map(_shades(list(names), STEP_RAMP)),
        }
    )
    x = alt.X(
        "x:N",
        title=None,
        scale=alt.Scale(type="point", domain=labels, padding=0.3),
        axis=alt.Axis(
            labelAngle=-45, labelOverlap=False, labelLimit=150, grid=False, values=labels[:: -(-len(labels) // 24)]
        ),
    )
    left_out = [
        _left_out(len(lines), len(names), "checkpoints"),
        _left_out(len(along), len(places), "layers or maps"),
    ]
    svg = _render(data, x, scale, STEP_RAMP, "depth", f"{metric} over depth, {panel}")
    first, *_, last = [*names.values(), *names.values()]
    return Chart(metric, "depth", panel, svg, first, last, ", ".join(filter(None, left_out)))


def _render(data: pd.DataFrame, x: alt.X, scale: Scale, ramp: Sequence[str], axis: Axis, label: str) -> str:
    encoded: dict[str, Any] = {
        "x": x,
        "y": alt.Y(
            "y:Q",
            title=None,
            scale=_vega_scale(scale),
            axis=alt.Axis(tickCount=5, labelExpr=_READABLE, **_ticks(scale)),
        ),
        "color": alt.Color("shade:O", legend=None, scale=alt.Scale(domain=list(range(len(ramp))), range=list(ramp))),
        "detail": "line:N",
    }
    line = _chart(data).mark_line().encode(**encoded, description="line:N")
    defined = data["y"].notna()
    dots = data[defined if defined.sum() <= MOST_DOTS else defined & _between_gaps(data)]
    dots = dots.assign(line=[f"{name}: {number(y)}" for name, y in zip(dots["line"], dots["y"], strict=True)])
    layers = [line, _chart(dots).mark_circle(size=14).encode(**encoded, description="line:N")] if len(dots) else [line]
    size = {"width": WIDTH, "height": HEIGHT[axis], "autosize": alt.AutoSizeParams(type="fit", contains="padding")}
    return render(alt.layer(*layers).properties(**size, config=_CONFIG), visible(label))


def _chart(data: pd.DataFrame) -> alt.Chart:
    columns = [[None if pd.isna(cell) else cell for cell in data[name].tolist()] for name in data.columns]
    rows = [dict(zip(data.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    return alt.Chart(alt.InlineData(values=rows))


def _between_gaps(data: pd.DataFrame) -> pd.Series:
    """Which values have no neighbour on their line, so that no line shows them."""
    defined = data["y"].notna()
    by_line = defined.groupby(data["line"], sort=False)
    before = by_line.shift(1, fill_value=False)
    after = by_line.shift(-1, fill_value=False)
    return defined & ~before & ~after


def _vega_scale(scale: Scale) -> alt.Scale:
    constant = scale.constant if scale.type == "symlog" else alt.Undefined
    return alt.Scale(type=scale.type, domain=list(scale.domain), nice=False, zero=False, constant=constant)


def _ticks(scale: Scale) -> dict[str, Any]:
    return {"values": list(scale.ticks)} if scale.ticks else {}


def _round_ticks(low: float, high: float) -> tuple[float, ...]:
    """At most six powers of ten between two positive numbers; their multiples too where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [float(f"1e{power}") for power in powers]
    inside: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [ten * step for ten in tens for step in steps]
        inside = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.15]
        if len(inside) >= 3:
            break
    every = math.ceil(len(inside) / 6)
    return tuple(inside[::-1][::every][::-1])


def _shades(names: Sequence[str], ramp: Sequence[str]) -> dict[Hashable, int]:
    """Which colour of the ramp each name has, by its place among all of them."""
    last = max(len(names) - 1, 1)
    return {name: round(i * (len(ramp) - 1) / last) for i, name in enumerate(names)}


def _labels(places: Sequence[str]) -> list[str]:
    """Names short enough for an axis, and still different from each other."""
    short = [_middle_out(visible(place)) for place in places]
    return [f"{label} #{i}" if short.count(label) > 1 else label for i, label in enumerate(short)]


def _middle_out(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL // 2 - 1]}…{name[-LABEL // 2 :]}"


def moment_names(moments: pd.DataFrame) -> list[str]:
    """What a checkpoint is called in a legend: its unit and step, or its name where it has no step."""
    return [
        visible(str(checkpoint)) if pd.isna(step) else f"{unit} {step:,}".strip()
        for checkpoint, step, unit in zip(moments["checkpoint"], moments["step"], moments["step_unit"], strict=True)
    ]


def _left_out(drawn: int, there: int, what: str) -> str:
    return "" if drawn == there else f"{drawn} of {there} {what}"


_READABLE = (
    "format(datum.value, abs(datum.value) >= 1e4 || 0 < abs(datum.value) && abs(datum.value) < 1e-3 ? '~e' : '~g')"
)
"""A tick of a value axis, in Vega's own language: an exponent only for what is large or small."""

_CONFIG = {
    "background": "transparent",
    "padding": {"left": 2, "top": 2, "right": 2, "bottom": 8},
    "font": "sans-serif",
    "view": {"stroke": None},
    "line": {"strokeWidth": 1.6, "strokeJoin": "round", "strokeCap": "round"},
    "circle": {"opacity": 1},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.12,
        "domainOpacity": 0.4,
        "tickOpacity": 0.4,
        "tickSize": 4,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "axisY": {"minExtent": 42, "domain": False, "ticks": False, "labelPadding": 7},
}
