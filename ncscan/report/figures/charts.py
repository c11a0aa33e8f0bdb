"""The charts of a report: what each draws of its rows, once for the page and for figures on paper.

In: nothing. Out: CHARTS, each a Vega-Lite chart that Altair has checked, of rows that are not there yet. In a page the
reader's choices bring them; `drawn` puts them in for a figure. A chart is fitted to its numbers by `fit`, here and in
page.js alike: the scale of an axis, its ticks and its title.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt

from ncscan.report.figures.palette import BALANCE_RAMP, BLANK, DEPTH_RAMP, HEAT_RAMP, INK, SERIES, STEP_RAMP

Spec = dict[str, Any]
ChartRow = Mapping[str, Any]
Layered = alt.LayerChart | alt.FacetChart

ROWS, PHASE, FRAME = "rows", "phase", "frame"
"""Names of the data that charts are given: the numbers, the terminal phase, the edges of the simplex."""

WIDTH = 480
"""The width of a figure; in a page a chart is as wide as its place."""

REACH = 1.5
"""How far the picture of a simplex of radius 1 goes from its centre."""


@dataclass(frozen=True)
class Chart:
    """One kind of chart."""

    name: str
    shows: str
    """Describes the chart for those who do not see it; `{metric}` and the like stand for what is shown."""
    build: Callable[[], Layered]
    height: int


def fit(spec: Spec, axes: Mapping[str, Mapping[str, Any]]) -> Spec:
    """Return a chart with scale, ticks and title of each axis as the numbers ask: {"y": {"scale": …, "values": …}}."""
    fitted = deepcopy(spec)
    for layer in fitted["layer"]:
        for channel, wanted in axes.items():
            encoding = layer["encoding"].get(channel)
            if encoding is None or "field" not in encoding:
                continue
            for key in ("scale", "title"):
                if key in wanted:
                    encoding[key] = wanted[key]
            if encoding.get("axis") is not None and "values" in wanted:
                ticks = wanted["values"]
                # Vega drops every other tick until there are no more than it would have chosen itself.
                encoding["axis"] = {**encoding["axis"], "values": ticks, "tickCount": len(ticks) + 1}
    return fitted


def drawn(spec: Spec, datasets: Mapping[str, Sequence[ChartRow]], *, width: int, height: int) -> Spec:
    """Return a chart with its rows, ready to be rendered at a size."""
    sized = {"width": width, "height": height, "datasets": {name: list(rows) for name, rows in datasets.items()}}
    return {**spec, **sized}


@cache
def template(chart: Chart) -> Spec:
    """Return the chart as Vega-Lite's JSON, without rows; one and the same each time, so change a copy."""
    spec: Spec = chart.build().properties(width="container", height=chart.height).to_dict(validate=True)
    spec.pop("$schema", None)
    return {**spec, "config": CONFIG}


def _rows() -> alt.Chart:
    return alt.Chart(alt.NamedData(ROWS))


def _shade(field: str, ramp: Sequence[str], *, blank: bool = False) -> alt.Color:
    """Return a colour by its number in a ramp; −1 is blank."""
    domain, colours = list(range(len(ramp))), list(ramp)
    if blank:
        domain, colours = [-1, *domain], [BLANK, *colours]
    return alt.Color(f"{field}:O", legend=None, scale=alt.Scale(domain=domain, range=colours))


def _tooltip(*fields: str) -> list[alt.Tooltip]:
    """Return the entries of the tooltip: where a number comes from, whatever the chart."""
    return [alt.Tooltip(f"{name}:N") for name in fields]


def _width() -> alt.StrokeWidth:
    """Return the width of lines; thin ones stand back: the first and the last step, single runs of a group."""
    return alt.StrokeWidth("wide:O", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.8, 2.2]))


NUMBER = ("metric", "value", "layer", "step", "convention", "run", "note")
"""The entries of the tooltip of a number, as far as the row has it."""


def _value_axis(field: str = "y") -> alt.Y:
    return alt.Y(f"{field}:Q", title=None, axis=alt.Axis(tickCount=5, labelExpr=_READABLE))


def _step_axis(field: str = "x") -> alt.X:
    axis = alt.Axis(grid=False, tickCount=6, tickMinStep=1, labelExpr="format(datum.value, '~s')")
    return alt.X(f"{field}:Q", title="step", axis=axis)


def _name_axis(*, angle: int = -45) -> alt.X:
    axis = alt.Axis(labelAngle=angle, labelOverlap=False, labelLimit=150, grid=False)
    return alt.X("x:N", title=None, sort=None, axis=axis, scale=alt.Scale(type="point", padding=0.3))


def _trajectory() -> Layered:
    """Draw lines of layers. Rows: x step, y value, line, shade, dot (1 where a value is seen as a dot)."""
    phase = alt.Chart(alt.NamedData(PHASE)).mark_rect(color=BLANK, opacity=0.7)
    onset = alt.Chart(alt.NamedData(PHASE)).mark_rule(color=INK, opacity=0.5, strokeDash=[3, 3])
    lines, dots = _rows().mark_line(), _rows().mark_point(filled=True, size=34)
    colour = _shade("shade", DEPTH_RAMP)
    return alt.layer(
        phase.encode(x=_step_axis("from"), x2="to:Q"),
        onset.encode(x=_step_axis("from")),
        lines.encode(x=_step_axis(), y=_value_axis(), color=colour, detail="line:N"),
        dots.encode(
            x=_step_axis(),
            y=_value_axis(),
            color=colour,
            opacity=alt.Opacity("dot:Q", scale=None, legend=None),
            tooltip=_tooltip(*NUMBER),
        ),
    )


def _profile() -> Layered:
    """Draw values over depth: chosen, first and last step. Rows: x layer, y, low, high, base, line, shade, wide."""
    colour = _shade("shade", STEP_RAMP)
    x = _name_axis()
    return alt.layer(
        _rows()
        .mark_tick(color=INK, opacity=0.45, thickness=1.5, size=14, orient="horizontal")
        .encode(x=x, y=_value_axis("base"), tooltip=_tooltip("baseline", "layer", "step")),
        _rows().mark_rule(opacity=0.5, clip=True).encode(x=x, y=_value_axis("low"), y2="high:Q", color=colour),
        _rows()
        .mark_line()
        .encode(
            x=x,
            y=_value_axis(),
            color=colour,
            detail="line:N",
            strokeWidth=_width(),
        ),
        _rows()
        .transform_filter("datum.dot")
        .mark_point(filled=True, size=34)
        .encode(x=x, y=_value_axis(), color=colour, tooltip=_tooltip(*NUMBER)),
    )


def _map() -> Layered:
    """Draw layer × step as a heat map. Rows: x step, y layer, shade."""
    x = alt.X("x:O", title="step", sort=None, axis=alt.Axis(labelAngle=-45, labelOverlap=True, grid=False))
    y = alt.Y("y:N", title=None, sort=None, axis=alt.Axis(grid=False, labelLimit=150, minExtent=90, labelOverlap=True))
    cells = (
        _rows().mark_rect().encode(x=x, y=y, color=_shade("shade", HEAT_RAMP, blank=True), tooltip=_tooltip(*NUMBER))
    )
    return alt.layer(cells)


def _compare() -> Layered:
    """Draw runs and groups: a line is a run or the mean of a group. Rows: x, y, low, high, line, shade, wide, dot."""
    colour = _shade("shade", SERIES)
    band = _rows().transform_filter("isValid(datum.low)").mark_area(opacity=0.16, clip=True)
    return alt.layer(
        band.encode(x=_step_axis(), y=_value_axis("low"), y2="high:Q", color=colour, detail="line:N"),
        _rows()
        .mark_line()
        .encode(
            x=_step_axis(),
            y=_value_axis(),
            color=colour,
            detail="line:N",
            strokeWidth=_width(),
        ),
        _rows()
        .mark_point(filled=True, size=34)
        .encode(
            x=_step_axis(),
            y=_value_axis(),
            color=colour,
            opacity=alt.Opacity("dot:Q", scale=None, legend=None),
            tooltip=_tooltip("metric", "value", "spread", "layer", "step", "run", "convention"),
        ),
    )


def _matrix() -> Layered:
    """Draw class × class. Rows: x, y classes, shade by how far from what a simplex has."""
    axis = alt.Axis(grid=False, labelLimit=80, labelOverlap=True)
    x = alt.X("x:N", title=None, sort=None, axis=axis)
    y = alt.Y("y:N", title=None, sort=None, axis=axis)
    tooltip = _tooltip("metric", "value", "simplex", "classes", "layer", "step", "run")
    return alt.layer(
        _rows().mark_rect().encode(x=x, y=y, color=_shade("shade", BALANCE_RAMP, blank=True), tooltip=tooltip)
    )


def _simplex() -> Layered:
    """Draw the picture of class means. Rows: x, y, item, shade, size, opacity, from (0, 0); of FRAME: x, y, edge."""
    scale = alt.Scale(domain=[-REACH, REACH], nice=False, zero=False)
    x, y = alt.X("x:Q", axis=None, scale=scale), alt.Y("y:Q", axis=None, scale=scale)
    colour = _shade("shade", SERIES)
    opacity = alt.Opacity("opacity:Q", scale=None, legend=None)
    size = alt.Size("size:Q", scale=None, legend=None)
    tooltip = _tooltip("item", "class", "step", "run")
    frame = alt.Chart(alt.NamedData(FRAME)).mark_line(color=INK, strokeDash=[4, 4], strokeWidth=1, opacity=0.5)
    samples = _rows().transform_filter("datum.item === 'sample'").mark_circle(clip=True)
    means = _rows().transform_filter("datum.item === 'class mean'").mark_circle(stroke=INK, strokeWidth=1)
    row = "datum.item === 'row of the classifier'"
    rays = _rows().transform_filter(row).mark_rule(strokeWidth=1.5)
    tips = _rows().transform_filter(row).mark_point(shape="diamond", filled=True, stroke=INK, strokeWidth=0.8)
    return alt.layer(
        frame.encode(x=x, y=y, detail="edge:N"),
        samples.encode(x=x, y=y, color=colour, opacity=opacity, size=size, tooltip=tooltip),
        rays.encode(x=x, y=y, x2="x0:Q", y2="y0:Q", color=colour, opacity=opacity),
        tips.encode(x=x, y=y, color=colour, opacity=opacity, size=size, tooltip=tooltip),
        means.encode(x=x, y=y, color=colour, opacity=opacity, size=size, tooltip=tooltip),
    )


CHARTS: tuple[Chart, ...] = (
    Chart("trajectory", "{metric} over steps, a line per layer; {run}", _trajectory, 300),
    Chart("profile", "{metric} over depth at {step}, with the first and the last step; {run}", _profile, 300),
    Chart("map", "{metric} by layer and step; {run}", _map, 320),
    Chart("compare", "{metric} over steps, a line per run or group", _compare, 200),
    Chart("matrix", "{metric} at {step}, class by class; {run}", _matrix, 300),
    Chart("simplex", "class means, rows of the classifier and samples of {classes} at {step}; {run}", _simplex, 420),
)
"""Every kind of chart, by the name that page.js has for it."""

_READABLE = (
    "format(datum.value, abs(datum.value) >= 1e4 || 0 < abs(datum.value) && abs(datum.value) < 1e-3 ? '~e' : '~g')"
)
"""A tick of a value axis, in Vega's own language: an exponent only for what is large or small."""

CONFIG: Spec = {
    "aria": False,  # the place of a chart says what it shows, once, and its table has the numbers
    "background": "transparent",
    "padding": {"left": 2, "top": 4, "right": 6, "bottom": 4},
    "font": "sans-serif",
    "view": {"stroke": None},
    "line": {"strokeWidth": 1.6, "strokeJoin": "round", "strokeCap": "round"},
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
