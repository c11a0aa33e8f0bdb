"""The figures of Jacot, Súkeník, Wang and Mondelli 2024: a linear head over the training, and against depth.

In: the tables of a report. Out: rows of panels.
"""

import pandas as pd

from ncscan.errors import Undefined
from ncscan.ordering import NOT_KNOWN
from ncscan.report.figures import numbers
from ncscan.report.figures.numbers import Head, PanelNumbers, Tables
from ncscan.report.figures.panels import Look, Panel, empty, lines, matrix, points, short
from ncscan.rows import of_training

PAPER = "jacot"
NO_HEAD = "no layer was compared with a map that gives the outputs: there is no linear head"
MOST_MATRICES = 4
"""The number of matrices along a row; beyond, the last layers."""
MOST_ROWS = 3
"""The number of groups whose matrices are drawn."""

Panels = list[list[Panel]]


def figure_1(tables: Tables, look: Look) -> Panels:
    """Return panels: above NC1, NC2, balancedness and negativity over the training, below cosines of class means."""
    head_of = numbers.heads(tables)
    over = [
        ("NC1", "tr Σ_W / tr Σ_B"),
        ("NC2", "κ(M)"),
    ]
    top: list[Panel] = []
    for name, symbol in over:
        if head_of:
            found = numbers.over_steps(numbers.of_head(numbers.named(tables, PAPER, name), head_of))
            top.append(lines(name, symbol, found, look))
        else:
            top.append(empty(name, NO_HEAD))
    balance = numbers.of_maps(tables, "balancedness", "op")
    pairs = numbers.over_steps(balance[balance["value"].notna()])
    if pairs.rows.empty and not pairs.reason.startswith("one step"):
        pairs = PanelNumbers(pairs.rows, "no two linear maps follow each other with nothing between them")
    top.append(lines("balancedness", "‖W₂ᵀW₂ − W₁W₁ᵀ‖", pairs, look))
    below_zero = numbers.named(tables, PAPER, "negativity")
    top.append(lines("negativity", "‖Z − σ(Z)‖ / ‖Z‖", numbers.over_steps(below_zero), look))
    return [top, *_matrices(tables, look, head_of)]


def figure_2(tables: Tables, look: Look) -> Panels:
    """Return the panels of the last checkpoint against the number of linear layers in the head."""
    head_of = numbers.heads(tables)
    count = {group: len(head.reads) for group, head in head_of.items()}
    last = {group: Head(head.reads[-1:], head.nonlinear) for group, head in head_of.items()}
    row: list[Panel] = []
    for name, symbol in (("NC1", "tr Σ_W / tr Σ_B"), ("NC2", "κ(M)"), ("NC3", "mean cos(h, w)")):
        rows = numbers.of_head(numbers.named(tables, PAPER, name), last)
        found = _against(numbers.at_end(_one_place(rows)), count) if head_of else _none(rows)
        row.append(points(name, symbol, found, look, "linear layers"))
    return [row]


def figure_3(tables: Tables, look: Look) -> Panels:
    """Return panels of the last checkpoint against the number of layers before the linear head.

    They show mean and least over the layers.
    """
    count = {group: head.nonlinear for group, head in numbers.heads(tables).items()}
    row: list[Panel] = []
    parts = (
        ("negativity", "‖Z − σ(Z)‖ / ‖Z‖", numbers.named(tables, PAPER, "negativity")),
        ("balancedness, ReLU", "diagonal, relative", numbers.of_maps(tables, "balancedness_diagonal", "op_relative")),
        ("balancedness, head", "relative", numbers.of_maps(tables, "balancedness", "op_relative")),
    )
    for name, symbol, rows in parts:
        known = rows[rows["value"].notna()]
        if not count:
            found = _none(rows)
        elif known.empty:
            found = numbers.at_end(rows)
        else:
            found = _against(numbers.at_end(numbers.summarised(known, {"mean": "mean", "least": "min"})), count)
        row.append(points(name, symbol, found, look, "non-linear layers"))
    return [row]


def _none(rows: pd.DataFrame) -> PanelNumbers:
    return PanelNumbers(numbers.at_end(rows.iloc[:0]).rows, NO_HEAD)


def _one_place(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with one name for the layer that the classifier reads, which each network names otherwise."""
    return rows.assign(layer="", depth=0, kind="", classifier="")


def _against(found: PanelNumbers, count: dict[str, int]) -> PanelNumbers:
    rows = found.rows[found.rows["group"].isin(list(count))]
    return PanelNumbers(rows.assign(x=rows["group"].map(count)), found.reason)


def _matrices(tables: Tables, look: Look, head_of: dict[str, Head]) -> Panels:
    rows: Panels = []
    for group in [group for group in look.labels if group in head_of][:MOST_ROWS]:
        row: list[Panel] = []
        for layer in head_of[group].reads[-MOST_MATRICES:]:
            title = f"{short(group)}: {short(layer)}"
            try:
                row.append(matrix(title, _cosines(tables, group, layer)))
            except Undefined as why:
                row.append(empty(title, str(why)))
        rows.append(row)
    return rows


def _cosines(tables: Tables, group: str, layer: str) -> pd.DataFrame:
    """Return cos(μ̃_c, μ̃_c') at the last checkpoint of each run, averaged over the runs of a group."""
    classes = tables["classes"]
    owner = classes["group"].where(classes["group"] != "", classes["run"])
    rows = classes[(owner == group) & (classes["layer"] == layer) & (classes["metric"] == "pair_cosine")]
    rows = of_training(rows)
    if len(rows) and rows["step"].isna().all():
        raise Undefined(NOT_KNOWN)
    rows = rows[rows["step"].notna()]
    rows = rows[rows["step"] == rows.groupby("run")["step"].transform("max")]
    known = rows[rows["value"].notna()]
    if known.empty:
        reasons = [reason for reason in rows["reason"] if reason]
        raise Undefined(reasons[0] if reasons else "cosines of class means are not measured at this layer")
    both: dict[tuple[int, int], list[float]] = {}
    for a, b, value in zip(known["class_index"], known["other_index"], known["value"], strict=True):
        both.setdefault((a, b), []).append(value)
        both.setdefault((b, a), []).append(value)
    names = dict(zip(known["class_index"], known["class_name"], strict=True))
    names |= dict(zip(known["other_index"], known["other_name"], strict=True))
    order = sorted(names)
    told = {c: names[c] if list(names.values()).count(names[c]) == 1 else f"{names[c]} #{c}" for c in order}
    means = {pair: sum(values) / len(values) for pair, values in both.items()} | {(c, c): 1.0 for c in order}
    return pd.DataFrame([{"one": told[a], "other": told[b], "value": means.get((a, b))} for a in order for b in order])
