"""Draw the panels of a figure for a paper: lines with bands, points with bars, matrices, and empty ones with a reason.

In: numbers of a panel. Out: Altair charts of one size, which a figure lays out. A colour is a group of runs, a dash is
a layer: groups are distinct without colour vision, and dashes in print.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from ncscan.report.figures.numbers import PanelNumbers
from ncscan.report.figures.scales import Scale, scale_of, short_names, spread_out
from ncscan.wording import visible

Panel = alt.LayerChart

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision; without yellow, which paper does not show."""
DASHES = ((1, 0), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (9, 3))
"""The dashes of the last line, of that before it, and so on."""
DIVERGING = ("#5e3c99", "#b2abd2", "#ffffff", "#fdb863", "#e66101")
"""The colours of cosines from −1 to 1."""
MOST_CLASSES = 40
"""The number of classes along a matrix; beyond, an even choice."""
WIDTH, HEIGHT = 112, 104
"""The size of a panel: four and their axes are 7 inches wide, two are one column, at 96 points to the inch."""


@dataclass(frozen=True)
class Look:
    """The settings that all panels of a figure share."""

    labels: Mapping[str, str]
    """The label in the legend of each group that is drawn, in order."""

    def colour(self) -> alt.Color:
        """Return the colour of a group; its legend stands once, above the figure."""
        told = alt.Legend(
            title="mean ± std over the runs of a group",
            orient="top",
            symbolType="stroke",
            symbolStrokeWidth=2,
            symbolOpacity=1,
        )
        return alt.Color(
            "group:N",
            scale=alt.Scale(domain=list(self.labels.values()), range=list(PALETTE[: len(self.labels)])),
            legend=told,
        )


def look(runs: Mapping[str, int]) -> Look:
    """Return the groups of a figure, at most as many as there are colours, with how many runs each has."""
    shown = spread_out(list(runs), len(PALETTE))
    named = zip(shown, short_names(shown), strict=True)
    return Look({group: f"{name} ({runs[group]} run{'s' * (runs[group] != 1)})" for group, name in named})


def lines(
    title: str,
    symbol: str,
    numbers: PanelNumbers,
    look: Look,
    *,
    x: alt.X | None = None,
    onsets: pd.DataFrame | None = None,
) -> Panel:
    """Draw a line per group and layer, with a band of one standard deviation where a group has several runs.

    Args:
        title: the paper's own name.
        symbol: what stands along the y axis.
        numbers: over steps; or, with an `x` of one's own, with a column `x`.
        look: of the figure.
        x: the x axis, where it is not the steps.
        onsets: `group` and `step` from which on the training error is 0.
    """
    rows = numbers.rows[numbers.rows["group"].isin(list(look.labels))]
    if rows.empty:
        return empty(title, numbers.reason or "no group of this figure has it")
    places = list(dict.fromkeys(rows.sort_values("depth", kind="stable")["place"]))
    # Dashes tell layers apart, and there are only so many: the last layers, nearest to the classifier, are kept.
    shown = places[-len(DASHES) :][::-1] if x is None or "line" not in rows else list(dict.fromkeys(rows["line"]))
    line_of = rows["place"] if "line" not in rows else rows["line"]
    rows = rows.assign(line=line_of)[line_of.isin(shown)]
    scale = _value_scale(rows)
    names = dict(zip(shown, short_names(shown), strict=True))
    data = pd.DataFrame(
        {
            "x": rows["step"].astype("float64") if x is None else rows["x"],
            "y": rows["mean"],
            "low": (rows["mean"] - rows["std"]).clip(lower=scale.domain[0]),
            "high": rows["mean"] + rows["std"],
            "group": rows["group"].map(look.labels),
            "line": rows["line"].map(names),
        }
    )
    along = x if x is not None else step_axis(rows)
    y = alt.Y("y:Q", title=symbol, scale=vega_scale(scale), axis=_value_axis(scale))
    dash = alt.StrokeDash(
        "line:N",
        scale=alt.Scale(domain=list(names.values()), range=[list(dash) for dash in DASHES[: len(names)]]),
        legend=_below(names.values(), symbolSize=220),
    )
    base = {"x": along, "color": look.colour()}
    drawn: list[alt.Chart] = []
    if onsets is not None and len(onsets):
        rules = onsets.assign(group=onsets["group"].map(look.labels), x=onsets["step"].astype("float64"))
        drawn.append(
            inline(rules[["group", "x"]].dropna())
            .mark_rule(strokeDash=[2, 2], opacity=0.8)
            .encode(x=along, color=look.colour())
        )
    # A group of one run has no standard deviation, and so no band.
    banded = data.dropna(subset=["low", "high"])
    if len(banded):
        drawn.append(
            inline(banded)
            .mark_area(opacity=0.2)
            .encode(**base, y=alt.Y("low:Q", title=symbol, scale=vega_scale(scale)), y2="high:Q", detail="line:N")
        )
    drawn.append(inline(data).mark_line(strokeWidth=1.4).encode(**base, y=y, strokeDash=dash))
    drawn.append(inline(data).mark_circle(size=9, opacity=1).encode(**base, y=y, detail="line:N"))
    return _sized(alt.layer(*drawn), title)


def points(title: str, symbol: str, numbers: PanelNumbers, look: Look, x_title: str) -> Panel:
    """Draw a point per group at whole numbers `x`, with a bar of one standard deviation; filled at the first layer."""
    rows = numbers.rows[numbers.rows["group"].isin(list(look.labels))]
    if rows.empty:
        return empty(title, numbers.reason or "no group of this figure has it")
    scale = _value_scale(rows)
    places = list(dict.fromkeys(rows.sort_values("depth", kind="stable")["place"]))
    names = dict(zip(places, short_names(places), strict=True))
    data = pd.DataFrame(
        {
            "x": rows["x"].astype("float64"),
            "y": rows["mean"],
            "low": (rows["mean"] - rows["std"]).clip(lower=scale.domain[0]),
            "high": rows["mean"] + rows["std"],
            "group": rows["group"].map(look.labels),
            "place": rows["place"].map(names),
        }
    )
    # Whole numbers get a tick each, with half a step of margin on both sides.
    counts = sorted(set(data["x"]))
    low, high = counts[0] - 0.5, counts[-1] + 0.5
    x = alt.X(
        "x:Q",
        title=x_title,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(values=list(range(int(counts[0]), int(counts[-1]) + 1)), format="d", grid=False),
    )
    y = alt.Y("y:Q", title=symbol, scale=vega_scale(scale), axis=_value_axis(scale))
    shape = alt.Shape(
        "place:N",
        scale=alt.Scale(
            domain=list(names.values()), range=["circle", "diamond", "square", "triangle-up"][: len(names)]
        ),
        legend=_below(names.values()),
    )
    base = {"x": x, "color": look.colour()}
    drawn: list[alt.Chart] = []
    # A group of one run has no standard deviation, and so no bar.
    barred = data.dropna(subset=["low", "high"])
    if len(barred):
        drawn.append(
            inline(barred)
            .mark_rule(strokeWidth=1.4)
            .encode(**base, y=alt.Y("low:Q", title=symbol, scale=vega_scale(scale)), y2="high:Q")
        )
    drawn.append(inline(data).mark_point(size=32, strokeWidth=1.6, opacity=1).encode(**base, y=y, shape=shape))
    return _sized(alt.layer(*drawn), title)


def matrix(title: str, cosines: pd.DataFrame) -> Panel:
    """Draw a square of cosines, with `one`, `other` (class names in order) and `value`."""
    names = list(dict.fromkeys(cosines["one"]))
    shown = spread_out(names, MOST_CLASSES)
    labels = dict(zip(shown, short_names(shown), strict=True))
    own = cosines[cosines["one"].isin(shown) & cosines["other"].isin(shown)]
    data = pd.DataFrame({"x": own["other"].map(labels), "y": own["one"].map(labels), "value": own["value"]})
    few = len(shown) <= 12 and max(map(len, labels.values())) <= 6
    axis = alt.Axis(labels=few, ticks=False, domain=False, labelAngle=0, labelPadding=3, labelOverlap=False, grid=False)
    order = list(labels.values())
    chart = (
        inline(data)
        .mark_rect()
        .encode(
            x=alt.X("x:N", title=None, scale=alt.Scale(domain=order, padding=0), axis=axis),
            y=alt.Y("y:N", title=None, scale=alt.Scale(domain=order, padding=0), axis=axis),
            fill=alt.Fill(
                "value:Q",
                scale=alt.Scale(domain=[-1, -0.5, 0, 0.5, 1], range=list(DIVERGING), interpolate="rgb"),
                legend=alt.Legend(title="cosine", orient="right", gradientLength=HEIGHT - 20, values=[-1, 0, 1]),
            ),
        )
    )
    what = title if len(shown) == len(names) else f"{title}, {len(shown)} of {len(names)} classes"
    return _framed(_sized(chart, what, height=WIDTH), alt.ViewConfig(stroke=None))


def empty(title: str, reason: str) -> Panel:
    """Return a panel that gives the reason why it cannot be drawn."""
    words = textwrap.wrap(visible(reason), 20, max_lines=6, placeholder=" …") or [""]
    data = pd.DataFrame({"x": [0.0], "y": [0.0]})
    nowhere = alt.Scale(domain=[-1, 1])
    text = (
        inline(data)
        .mark_text(text=words, fontSize=10, color="#555", lineHeight=13, baseline="middle", dy=-6.5 * (len(words) - 1))
        .encode(x=alt.X("x:Q", axis=None, scale=nowhere), y=alt.Y("y:Q", axis=None, scale=nowhere))
    )
    return _framed(_sized(text, title), alt.ViewConfig(stroke="#bbb", strokeDash=[3, 3]))


def layer_axis(names: Sequence[str]) -> alt.X:
    """Return the x axis of layers, in their order."""
    every = max(-(-len(names) // 12), 1)
    axis = alt.Axis(labelAngle=-50, labelOverlap=False, labelLimit=90, grid=False, values=list(names)[::-1][::every])
    return alt.X("x:N", title="layer", scale=alt.Scale(type="point", domain=list(names), padding=0.3), axis=axis)


def step_axis(rows: pd.DataFrame) -> alt.X:
    """Return the x axis of steps: linear, or logarithmic from the first one on where they span over two decades."""
    scale = scale_of([float(step) for step in sorted(set(rows["step"].dropna()))], decades=2.0)
    units = [unit for unit in dict.fromkeys(rows["step_unit"]) if unit]
    ticks = _ticks(spread_out(list(scale.ticks), 4)) if scale.ticks else {"tickCount": 4, "tickMinStep": 1}
    axis = alt.Axis(grid=False, labelExpr="format(datum.value, '~s')", labelOverlap=True, **ticks)
    return alt.X("x:Q", title=short(", ".join(units)) or "step", scale=vega_scale(scale), axis=axis)


def vega_scale(scale: Scale) -> alt.Scale:
    """Return the scale as Altair has it."""
    return alt.Scale(**scale.to_vega()["scale"])


def inline(data: pd.DataFrame) -> alt.Chart:
    """Return a chart of these rows; what is not a number is no value."""
    columns = [[None if pd.isna(cell) else cell for cell in data[name].tolist()] for name in data.columns]
    return alt.Chart(
        alt.InlineData(values=[dict(zip(data.columns, row, strict=True)) for row in zip(*columns, strict=True)])
    )


def short(name: str) -> str:
    """Return a name short enough for a title."""
    return short_names([name])[0]


def _value_scale(rows: pd.DataFrame) -> Scale:
    """Return the scale of the means and the bands' upper ends.

    A lower end near zero must not stretch a logarithmic axis.
    """
    ends = (rows["mean"] + rows["std"]).dropna()
    return scale_of([*rows["mean"], *ends])


def _value_axis(scale: Scale) -> alt.Axis:
    ticks = _ticks(scale.ticks) if scale.ticks else {"tickCount": 4}
    exponent = (
        "format(datum.value, abs(datum.value) >= 1e4 || 0 < abs(datum.value) && abs(datum.value) < 1e-3 ? '~e' : '~g')"
    )
    return alt.Axis(labelExpr=exponent, **ticks)


def _below(names: Iterable[str], **more: Any) -> alt.Legend | None:
    """Return the legend of the lines or points of a panel, under it; nothing where there is one."""
    words = list(names)
    columns = 2 if max(map(len, words)) <= 7 else 1  # of a panel's width
    return None if len(words) < 2 else alt.Legend(title=None, orient="bottom", columns=columns, offset=5, **more)


def _ticks(values: Sequence[float]) -> dict[str, Any]:
    """Return settings for exactly these ticks.

    Vega drops every other one until there are no more than it would have chosen itself.
    """
    return {"values": list(values), "tickCount": len(values) + 1}


def _sized(chart: Any, title: str, *, height: int = HEIGHT) -> Panel:
    """Return the panel under its title, a text at a fixed position: Vega's titles depend on where the axes end."""
    head = (
        inline(pd.DataFrame({"title": [visible(title)]}))
        .mark_text(fontSize=11, fontWeight="bold", baseline="bottom")
        .encode(x=alt.value(WIDTH / 2), y=alt.value(-8), text=alt.Text("title:N"))
    )
    both: Any = alt.layer(chart, head)
    panel: Panel = both.properties(width=WIDTH, height=height)
    return panel


def _framed(panel: Panel, view: alt.ViewConfig) -> Panel:
    framed: Panel = panel.properties(view=view)
    return framed


CONFIG: dict[str, Any] = {
    "background": "white",
    "padding": 4,
    "font": "sans-serif",
    "view": {"stroke": "#888"},
    "axis": {
        "labelFontSize": 10,
        "titleFont": "DejaVu Sans, Liberation Sans, Arial, sans-serif",
        "titleFontSize": 9.5,
        "titleFontWeight": "normal",
        "gridColor": "#e6e6e6",
        "domainColor": "#888",
        "tickColor": "#888",
        "tickSize": 3,
        "labelColor": "#222",
        "titleColor": "#222",
    },
    "axisY": {"titlePadding": 4, "minExtent": 24},
    "legend": {
        "labelFontSize": 10,
        "titleFontSize": 10,
        "titleFontWeight": "normal",
        "labelLimit": 150,
        "rowPadding": 1,
    },
    "concat": {"spacing": 12},
}
