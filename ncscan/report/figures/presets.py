"""Figures for papers: panels laid out as published ones are, with mean ± std over the runs of a group.

In: the tables of a report. Out: the bytes of a figure. What is drawn stands in the tables; no measure is made here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ncscan.errors import UsageError
from ncscan.report.figures import depth, jacot, terminal
from ncscan.report.figures.numbers import Tables, runs
from ncscan.report.figures.panels import CONFIG, Look, Panel, look
from ncscan.report.figures.rendering import as_file
from ncscan.rows import in_series

__all__ = ["PRESETS", "Preset", "figure", "preset"]


class Preset(NamedTuple):
    """A published figure that can be drawn from a report."""

    name: str
    source: str
    shows: str
    panels: Callable[[Tables, Look], list[list[Panel]]]


PRESETS: tuple[Preset, ...] = (
    Preset(
        "jacot-1",
        "Jacot, Súkeník, Wang, Mondelli 2024, figure 1",
        "the linear head over the training: NC1, NC2, balancedness, negativity; cosines of its class means",
        jacot.figure_1,
    ),
    Preset(
        "jacot-2",
        "Jacot, Súkeník, Wang, Mondelli 2024, figure 2",
        "the end of training against the number of linear layers: NC1, NC2, NC3",
        jacot.figure_2,
    ),
    Preset(
        "jacot-3",
        "Jacot, Súkeník, Wang, Mondelli 2024, figure 3",
        "the end of training against the number of non-linear layers: negativity, balancedness",
        jacot.figure_3,
    ),
    Preset(
        "rangamani-1",
        "Rangamani, Lindegaard, Galanti, Poggio 2023, figure 1",
        "the end of training from layer to layer: NC1, NC3, NC4",
        depth.figure_1,
    ),
    Preset(
        "papyan",
        "Papyan, Han, Donoho 2020, figures 2 to 7",
        "classifier and features over the training: norms, angles, NC3, NC1, NC4, and the terminal phase",
        terminal.figures_2_to_7,
    ),
)
"""The figures of papers, by the names that `--figure` takes."""


def preset(name: str) -> Preset:
    """Return the preset of that name; UsageError when there is none."""
    known = {one.name: one for one in PRESETS}
    if name not in known:
        raise UsageError(f"no figure {name!r}; there are {', '.join(known)}")
    return known[name]


def figure(name: str, tables: Tables, form: str) -> bytes:
    """Draw a preset from the tables of a report, as a file: `svg`, `pdf` or `png`.

    The same tables give the same bytes. A panel that cannot be drawn shows the reason.

    Raises: UsageError when there is no such preset.
    """
    wanted = preset(name)
    tables = {each: in_series(table) for each, table in tables.items()}
    datasets: dict[str, Any] = {}
    rows = []
    for row in wanted.panels(tables, look(runs(tables))):
        panels = [panel.to_dict(validate=False) for panel in row]
        for panel in panels:
            datasets |= panel.pop("datasets")
        rows.append({"hconcat": [_within(panel) for panel in panels], "resolve": _resolved(fill="shared")})
    spec = {"config": CONFIG, "vconcat": rows, "resolve": _resolved(), "datasets": datasets}
    return as_file(spec, form, f"{wanted.source}: {wanted.shows}")


def _within(panel: dict[str, Any]) -> dict[str, Any]:
    """Return a panel as a part of a figure.

    Altair would copy all of a panel several times to put it there, for seconds.
    """
    return {key: value for key, value in panel.items() if key not in ("$schema", "config")}


def _resolved(*, fill: str = "independent") -> dict[str, Any]:
    """Return how scales are shared: colours mean the same in all panels, dashes and shapes other layers in each."""
    return {"scale": {"color": "shared", "fill": fill, "strokeDash": "independent", "shape": "independent"}}
