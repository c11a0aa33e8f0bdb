"""Figure 1 of Rangamani, Lindegaard, Galanti and Poggio 2023: collapse from layer to layer.

In: the tables of a report. Out: rows of panels.
"""

import pandas as pd

from ncscan.report.figures import numbers
from ncscan.report.figures.numbers import PanelNumbers, Tables
from ncscan.report.figures.panels import Look, Panel, layer_axis, lines
from ncscan.report.figures.scales import short_names

PAPER = "rangamani"
PANELS = (
    ("NC1", "tr Σ_W / tr(Σ_W+Σ_B)"),
    ("NC3", "subspaces, aligned"),
    ("NC4", "share that differs"),
)
END, START = "last checkpoint", "first checkpoint"


def figure_1(tables: Tables, look: Look) -> list[list[Panel]]:
    """Return panels of every metric against the layers that linear maps read, at the first and the last checkpoint."""
    read = numbers.named(tables, PAPER, "NC3")
    places = dict.fromkeys(read.sort_values("depth", kind="stable")["layer"])
    names = dict(zip(places, short_names(list(places)), strict=True))
    axis = layer_axis(list(names.values()))
    row: list[Panel] = []
    for name, symbol in PANELS:
        rows = numbers.named(tables, PAPER, name)
        rows = rows[rows["layer"].isin(list(places))]
        row.append(lines(name, symbol, _profile(rows, names), look, x=axis))
    return [row]


def _profile(rows: pd.DataFrame, names: dict[str, str]) -> PanelNumbers:
    """Return the last checkpoint of each run, and the first where it is another one."""
    last = numbers.at_end(rows)
    parts = [last.rows.assign(line=END)]
    if rows["step"].nunique() > 1:
        parts.append(numbers.at_start(rows).rows.assign(line=START))
    drawn = pd.concat(parts, ignore_index=True).sort_values("depth", kind="stable")
    return PanelNumbers(drawn.assign(x=drawn["place"].map(names)), last.reason)
