"""A chart as a file of its own: SVG, PDF, PNG.

In: Vega-Lite's JSON of a chart. Out: the same bytes for the same chart, in any process. The only file that runs Vega
(vl-convert, in this process, with the network forbidden).
"""

import re
import xml.etree.ElementTree as ET
from typing import Any

import vl_convert

from ncscan.report.figures.pdf import canonical

FORMATS = ("svg", "pdf", "png")
"""The formats that a chart can have as a file."""
PNG_SCALE = 3.0
"""Pixels of a PNG per point of the layout: 288 to the inch where 96 points are one."""

_SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_NOISE = ("aria-label", "aria-hidden", "aria-roledescription", "role", "class", "pointer-events")
_MEASURES = ("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height")


def as_file(spec: dict[str, Any], form: str, label: str) -> bytes:
    """Return the chart as a file, in one of FORMATS.

    `label` is the title of an SVG, which a screen reader reads out.
    """
    if form == "svg":
        return _standing(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]), label)
    if form == "pdf":
        return canonical(vl_convert.vegalite_to_pdf(spec, allowed_base_urls=[]))
    return pixels(spec, PNG_SCALE)


def pixels(spec: dict[str, Any], scale: float) -> bytes:
    """Return the chart as a PNG with so many pixels for each point of its layout."""
    return bytes(vl_convert.vegalite_to_png(spec, scale=scale, allowed_base_urls=[]))


def _standing(svg: str, label: str) -> bytes:
    """Return an SVG without roles and numbered names: Vega counts clip paths and gradients over the whole process."""
    root = ET.fromstring(svg)  # noqa: S314 - Vega wrote it a moment ago
    names: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        for noise in _NOISE:
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
