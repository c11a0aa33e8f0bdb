"""Charts: each is one that Vega-Lite draws, fitted to its numbers, and deaf to what names say."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
import vl_convert

from ncscan.report.figures.charts import CHARTS, FRAME, PHASE, ROWS, drawn, fit, template
from ncscan.report.figures.palette import DEPTH_RAMP
from ncscan.report.figures.scales import scale_of

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</svg><b>", "]]>&lt;", "datum.x + 1")
AXES = {"x": {"title": "step"}, "y": scale_of([1e-3, 1.0]).to_vega()}
NAMED = {"x": {"scale": {"type": "point", "domain": ["a", "b"]}}, "y": scale_of([1e-3, 1.0]).to_vega()}
SQUARE = {"x": {"scale": {"domain": ["a", "b"]}}, "y": {"scale": {"domain": ["a", "b"]}}}


def rows(names: tuple[str, str], kind: str) -> list[dict[str, Any]]:
    """Four rows that any chart can draw."""
    one = {"line": names[0], "shade": 3, "dot": 1, "wide": 1, "low": 0.002, "high": 0.5, "base": 0.1, "layer": names[0]}
    by_kind: dict[str, list[tuple[Any, Any]]] = {
        "trajectory": [(0, 0.5), (10, 0.05)],
        "compare": [(0, 0.5), (10, 0.05)],
        "profile": [(names[0], 0.5), (names[1], 0.05)],
        "map": [(names[0], names[0]), (names[0], names[1]), (names[1], names[0]), (names[1], names[1])],
        "matrix": [(names[0], names[0]), (names[0], names[1]), (names[1], names[0]), (names[1], names[1])],
        "simplex": [(0.0, 1.0), (0.5, -0.5)],
    }
    items = ("class mean", "row of the classifier")
    more = [{"item": item, "size": 40, "opacity": 1, "x0": 0, "y0": 0, "class": names[0]} for item in items * 2]
    return [{**one, **extra, "x": x, "y": y} for extra, (x, y) in zip(more, by_kind[kind], strict=False)]


def svg(kind: str, names: tuple[str, str] = ("a", "b")) -> ET.Element:
    (chart,) = [chart for chart in CHARTS if chart.name == kind]
    axes = {"profile": NAMED, "map": SQUARE, "matrix": SQUARE}.get(kind, AXES)
    if kind in ("profile", "map", "matrix"):
        axes = {**axes, "x": {"scale": {**axes["x"].get("scale", {}), "domain": list(names)}}}
    if kind in ("map", "matrix"):
        axes = {**axes, "y": {"scale": {"domain": list(names)}}}
    spec = template(chart) if kind == "simplex" else fit(template(chart), axes)
    edges = [{"x": 0, "y": 1, "edge": "0"}, {"x": 1, "y": 0, "edge": "0"}]
    data = {ROWS: rows(names, kind), PHASE: [{"from": 5, "to": 10}], FRAME: edges}
    text = vl_convert.vegalite_to_svg(drawn(spec, data, width=300, height=200), allowed_base_urls=[])
    return ET.fromstring(text)  # noqa: S314 - our own


@pytest.mark.parametrize("kind", [chart.name for chart in CHARTS])
def test_every_chart_draws_its_rows(kind: str) -> None:
    paths = [
        e
        for e in svg(kind).iter()
        if e.tag.endswith(("path", "rect")) and e.get("d", "x") not in ("", "M0,0h300v200h-300Z")
    ]
    painted = {e.get("fill") or "" for e in paths} | {e.get("stroke") or "" for e in paths}
    assert any(colour.startswith("#") for colour in painted)


@pytest.mark.parametrize("kind", [chart.name for chart in CHARTS])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(kind: str, name: str) -> None:
    tags = {element.tag.rpartition("}")[2] for element in svg(kind, (name, "b")).iter()}
    assert tags <= {"svg", "g", "path", "line", "text", "rect", "defs", "clipPath", "title"}


def test_fit_changes_the_scale_of_every_layer_and_nothing_of_the_template() -> None:
    spec = template(CHARTS[0])
    before = str(spec)
    fitted = fit(spec, AXES)
    assert str(spec) == before
    scales = [layer["encoding"]["y"]["scale"] for layer in fitted["layer"] if "y" in layer["encoding"]]
    assert scales == [AXES["y"]["scale"]] * 2
    assert {layer["encoding"]["y"]["axis"]["values"][0] for layer in fitted["layer"] if "y" in layer["encoding"]} == {
        1e-3
    }


def test_terminal_phase_is_drawn_where_there_is_one() -> None:
    bare = [e.get("d") for e in svg("trajectory").iter() if e.get("fill") == "#e9e6e0"]
    assert len(bare) == 1


def test_a_gap_parts_a_line() -> None:
    spec = fit(template(CHARTS[0]), AXES)
    values = [0.5, 0.4, None, 0.2, 0.1]
    data = [{"x": i, "y": y, "line": "a", "shade": 0, "dot": 0} for i, y in enumerate(values)]
    text = vl_convert.vegalite_to_svg(drawn(spec, {ROWS: data, PHASE: []}, width=300, height=200), allowed_base_urls=[])
    root = ET.fromstring(text)  # noqa: S314 - our own
    (line,) = [e.attrib["d"] for e in root.iter() if e.get("stroke") == DEPTH_RAMP[0] and "L" in e.get("d", "")]
    assert line.count("M") == 2
