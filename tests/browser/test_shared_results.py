"""What Python and the page's script both compute: one file of questions and answers, which both sides are held to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from ncscan.report.etf_animation.simplex import TILT, positions, seen, vertices
from ncscan.report.figures.palette import SHADES
from ncscan.report.figures.scales import Scale, shade_of, shade_of_deviation, shade_of_share, spread_out
from ncscan.tables import csv_text
from ncscan.wording import number

RESULTS: dict[str, list[tuple[list[Any], Any]]] = json.loads(
    (Path(__file__).parent.parent / "golden" / "shared_results.json").read_text("utf-8")
)
TEMPLATES = Path(__file__).parents[2] / "ncscan" / "report" / "html" / "templates"


def csv_cell(text: str) -> str:
    return csv_text(pd.DataFrame({"cells": ["first", text]})).removeprefix("cells\nfirst\n").removesuffix("\n")


def placed(means: list[Any], samples: list[Any], rows: list[Any] | None) -> dict[str, Any]:
    found = positions(
        np.array(means), np.array(samples).reshape(-1, len(means[0])), None if rows is None else np.array(rows)
    )
    return {name: None if (value := getattr(found, name)) is None else value.tolist() for name in vars(found)}


PYTHON: dict[str, tuple[Callable[..., Any], str]] = {
    "number": (number, "number"),
    "share": (
        lambda about, value: Scale(about["type"], tuple(about["domain"]), (), about["constant"]).share(value),
        "share",
    ),
    "shade_of": (shade_of, "shadeOf"),
    "shade_of_share": (shade_of_share, "shadeOfShare"),
    "shade_of_deviation": (shade_of_deviation, "shadeOfDeviation"),
    "spread_out": (spread_out, "spreadOut"),
    "csv_cell": (csv_cell, "quoted"),
    "positions": (placed, "positions"),
    "seen": (lambda at, angle: seen(np.array([at]), angle)[0].tolist(), "seen"),
}
"""Each function by the name that the file has for it: in Python, and its name in shared.js."""


def near(found: Any, wanted: Any) -> bool:
    """Return whether two results are one, but for the rounding of float64."""
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(near(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(near, found, wanted))
    return bool(found == (pytest.approx(wanted, rel=1e-12, abs=1e-12) if isinstance(wanted, float) else wanted))


def test_every_shared_function_has_results() -> None:
    assert list(RESULTS) == list(PYTHON)
    assert all(len(results) > 5 for results in RESULTS.values())


@pytest.mark.parametrize("name", PYTHON)
def test_python_gives_the_shared_results(name: str) -> None:
    ours = PYTHON[name][0]
    found = [(given, ours(*given), wanted) for given, wanted in RESULTS[name]]
    assert [each for each in found if not near(*each[1:])] == []


@pytest.fixture(scope="module")
def script(browser: Browser) -> Page:
    """A page with nothing but the shared script and the constants that a report sends with its data."""
    page = browser.new_page()
    constants = {"corners": {str(k): vertices(k).tolist() for k in (3, 4)}, "shades": SHADES, "tilt": TILT}
    page.add_script_tag(content=f"const data = {json.dumps(constants)};")
    page.add_script_tag(path=TEMPLATES / "shared.js")
    return page


@pytest.mark.parametrize("name", PYTHON)
def test_the_page_gives_the_shared_results(script: Page, name: str) -> None:
    results = RESULTS[name]
    given = [given for given, _ in results]
    found = script.evaluate(f"all => all.map((given) => {PYTHON[name][1]}(...given))", given)
    both = zip(given, found, (wanted for _, wanted in results), strict=True)
    assert [each for each in both if not near(*each[1:])] == []


def test_the_scripts_count_no_colours_of_their_own() -> None:
    """A length of a ramp or an angle in a script would be a second owner of it."""
    for name in ("sections.js", "picture.js", "charts.js", "choices.js"):
        text = (TEMPLATES / name).read_text("utf-8")
        assert "tilt" not in text
        assert all(f"shadeOf{kind}(" not in text or "data.shades." in text for kind in ("", "Share", "Deviation"))
