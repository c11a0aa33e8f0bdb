"""A chart as a small piece of SVG to put into a page, or as a file of its own: SVG, PDF, PNG.

In: an Altair chart. Out: the same bytes for the same chart; in a page it is coloured by the page's own variables, so
that it follows light and dark. The only file that runs Vega (vl-convert, in this process, with the network forbidden).
"""

import re
import xml.etree.ElementTree as ET
from typing import Any

import altair as alt
import vl_convert

from ncscan.report.pdf import canonical

DEPTH_RAMP = (
    *("#361d85", "#2c2f91", "#193f9b", "#025096", "#015e91", "#066b90"),
    *("#067691", "#068293", "#028e94", "#099a93", "#08a690", "#0cb288"),
)
"""First to last in the network: cool colours, even steps in lightness (OKLCH 0.34–0.68)."""
DEPTH_DARK = (
    *("#6353c5", "#5765d2", "#4676dc", "#2c87e3", "#0898e2", "#04a7dd"),
    *("#03b6db", "#01c3d9", "#09d1d6", "#0adfd1", "#44ebc9", "#6ff5c0"),
)
"""The same on a dark page (0.52–0.88)."""

STEP_RAMP = (
    *("#62155f", "#721b5e", "#81225b", "#8f2957", "#9d3253", "#aa3b4d"),
    *("#b64646", "#c0523d", "#c95f34", "#d16c29", "#d67b1d", "#da8a11"),
)
"""First to last in training: warm colours, so that the two kinds of chart are told apart at a glance."""
STEP_DARK = (
    *("#973787", "#a93f81", "#ba497b", "#c95475", "#d6606d", "#e26e66"),
    *("#ec7d60", "#f38c5b", "#f99d58", "#fcae5a", "#fec060", "#fed16b"),
)

INK = "#222426"
"""Text, ticks and grid; the page replaces it by its own text colour."""

THEME = {colour: f"var(--depth{i})" for i, colour in enumerate(DEPTH_RAMP)} | {
    **{colour: f"var(--step{i})" for i, colour in enumerate(STEP_RAMP)},
    INK: "currentColor",
}
"""What a colour of a chart is called in the page."""

_SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_NOISE = ("role", "class", "pointer-events", "font-family", "stroke-miterlimit", "aria-hidden", "aria-roledescription")
_MEASURES = ("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height")
_DEFAULTS = {"opacity": "1", "stroke-width": "1", "transform": "translate(0,0)"}
_INHERITED = ("stroke", "fill", "stroke-width", "font-size", "text-anchor", "stroke-opacity", "fill-opacity")


def render(chart: alt.TopLevelMixin, label: str) -> str:
    """The chart as an `<svg>` element; `label` is what a screen reader says of it."""
    spec = chart.to_dict(validate=False)  # Altair checked every part as it was made; the page draws a hundred of them
    root = ET.fromstring(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))  # noqa: S314 - Vega wrote it a moment ago
    for part in root:
        _tidy(part)
    root.tag, root.attrib = "svg", {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


FORMATS = ("svg", "pdf", "png")
"""What a chart can be as a file."""
PNG_SCALE = 3.0
"""Pixels of a PNG per point of the layout: 288 to the inch where 96 points are one."""


def as_file(chart: alt.TopLevelMixin, form: str, label: str) -> bytes:
    """The chart as a file of its own, in one of FORMATS; `label` is the title of an SVG, which a screen reader says."""
    spec = chart.to_dict(validate=False)
    if form == "svg":
        return _standing(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]), label)
    if form == "pdf":
        return canonical(vl_convert.vegalite_to_pdf(spec, allowed_base_urls=[]))
    return pixels(spec, PNG_SCALE)


def pixels(spec: dict[str, Any], scale: float) -> bytes:
    """What Altair made of a chart, as a PNG with so many pixels for each point of its layout."""
    return bytes(vl_convert.vegalite_to_png(spec, scale=scale, allowed_base_urls=[]))


def _standing(svg: str, label: str) -> bytes:
    """An SVG without roles and numbered names: Vega counts clip paths and gradients over the whole process."""
    root = ET.fromstring(svg)  # noqa: S314 - Vega wrote it a moment ago
    names: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        for noise in ("aria-label", "aria-hidden", "aria-roledescription", "role", "class", "pointer-events"):
            element.attrib.pop(noise, None)
        if "id" in element.attrib:
            names[element.attrib["id"]] = element.attrib["id"] = f"n{len(names)}"
        for key, value in element.attrib.items():
            if key in _MEASURES:
                element.attrib[key] = _NUMBER.sub(lambda number: f"{float(number.group()):.2f}", value)
    for element in root.iter():
        for key, value in element.attrib.items():
            if value.startswith("url(#"):
                element.attrib[key] = f"url(#{names[value[5:-1]]})"
    title = ET.Element("title")
    title.text = label
    root.insert(0, title)
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "role": "img"}
    return f"{ET.tostring(root, encoding='unicode')}\n".encode()


def _tidy(element: ET.Element) -> None:
    """Drop what draws nothing, give lines their name as a title, round to a tenth of a pixel, hoist what is shared."""
    element.tag = element.tag.removeprefix(_SVG)  # a page knows what an <svg> is without its namespace
    name = element.attrib.pop("aria-label", "")
    if name and element.tag == "path":
        ET.SubElement(element, "title").text = name
    for noise in _NOISE:
        element.attrib.pop(noise, None)
    for key, value in list(element.attrib.items()):
        shorter = THEME.get(value) or _NUMBER.sub(_rounded, value)
        if _DEFAULTS.get(key) == shorter:
            del element.attrib[key]
        else:
            element.attrib[key] = shorter
    if element.tag == "g":
        kept: list[ET.Element] = []
        for child in element:
            if not _draws_nothing(child):
                _tidy(child)
                kept += list(child) if child.tag == "g" and not child.attrib else [child]
        element[:] = kept
        _hoist(element)


def _draws_nothing(element: ET.Element) -> bool:
    """Whether it is one of the frames that Vega puts behind and before every group, without paint of its own."""
    frame = element.get("class") in ("background", "foreground")
    return frame and not {"fill", "stroke"} & element.attrib.keys()


def _hoist(group: ET.Element) -> None:
    """Say once, on the group, what all its children say alike."""
    children = list(group)
    for key in _INHERITED if len(children) > 1 else ():
        first = children[0].get(key)
        if first is not None and all(child.get(key) == first for child in children):
            group.attrib[key] = first
            for child in children:
                del child.attrib[key]


def _rounded(number: re.Match[str]) -> str:
    text = f"{float(number.group()):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
