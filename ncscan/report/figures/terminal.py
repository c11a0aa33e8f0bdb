"""Figures 2 to 7 of Papyan, Han and Donoho 2020: the classifier and what it reads, over the training.

In: the tables of a report. Out: rows of panels, in which the terminal phase is marked.
"""

from collections.abc import Iterator

import pandas as pd

from ncscan.report.figures import numbers
from ncscan.report.figures.jacot import NO_HEAD
from ncscan.report.figures.numbers import Head, Tables
from ncscan.report.figures.panels import Look, Panel, empty, lines
from ncscan.rows import of_training
from ncscan.splits import TRAINING
from ncscan.tables import onset_rows

PAPER = "papyan"
FEATURES, CLASSIFIER = "features", "classifier"


def figures_2_to_7(tables: Tables, look: Look) -> list[list[Panel]]:
    """Return panels of equal norms, equal angles, largest angles; self-duality, variability, nearest class centre."""
    head_of = {group: Head(head.reads[-1:], head.nonlinear) for group, head in numbers.heads(tables).items()}
    begun = onsets(tables)
    panels: list[Panel] = []
    for title, symbol, rows in _panels(tables, head_of):
        if not head_of:
            panels.append(empty(title, NO_HEAD))
            continue
        panels.append(
            lines(title, symbol, numbers.over_steps(rows), look, onsets=begun[begun["group"].isin(look.labels)])
        )
    return [panels[:3], panels[3:]]


def onsets(tables: Tables) -> pd.DataFrame:
    """Return `group` and `step` of the first checkpoint at which no run of a group errs on the training set."""
    rows = onset_rows(tables["trajectory"])
    group = rows["group"].where(rows["group"] != "", rows["run"])
    reached = rows["value"].notna().groupby(group).transform("all")
    rows = rows.assign(group=group)[reached.astype(bool)]
    return rows.groupby("group", sort=False)["value"].max().rename("step").reset_index()


def _panels(tables: Tables, head_of: dict[str, Head]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    def both(of: str) -> pd.DataFrame:
        return pd.concat(
            [
                _as(part, depth, numbers.of_head(numbers.named(tables, PAPER, f"{of}, {part}"), head_of))
                for depth, part in enumerate((CLASSIFIER, FEATURES))
            ]
        )

    def one(name: str) -> pd.DataFrame:
        return _as("", 0, numbers.of_head(numbers.named(tables, PAPER, name), head_of))

    yield "fig. 2: equinorm", "std/mean of norms", both("NC2 equinorm")
    yield "fig. 3: equiangular", "std of cosines", _as(FEATURES, 1, _spread_of_cosines(tables, head_of))
    yield "fig. 4: maximal angle", "mean |cos+1/(K−1)|", both("NC2 equiangular")
    yield "fig. 5: NC3", "‖Wᵀ/‖W‖−M/‖M‖‖²", one("NC3")
    yield "fig. 6: NC1", "tr(Σ_W Σ_B⁺) / K", one("NC1")
    yield "fig. 7: NC4", "share that differs", one("NC4")


def _as(place: str, depth: int, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(layer=place, depth=depth, kind="", classifier="", metric=place, quantity="", centred=False)


def _spread_of_cosines(tables: Tables, head_of: dict[str, Head]) -> pd.DataFrame:
    """Return std over pairs of cos(μ̃_c, μ̃_c') at the layer that the classifier reads.

    The table classes.csv has it up to 100 classes.
    """
    classes = tables["classes"]
    classes = classes.assign(group=classes["group"].where(classes["group"] != "", classes["run"]))
    pairs = of_training(classes[classes["metric"] == "pair_cosine"])
    own = numbers.of_head(pairs.assign(classifier=""), head_of)
    keys = ["run", "group", "checkpoint", "step", "step_unit", "layer"]
    spread = own.groupby(keys, sort=False, dropna=False)["value"].std().reset_index()
    return spread.assign(split=TRAINING, reduction="", weighting="", reason="")
