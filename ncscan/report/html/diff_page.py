"""Write a comparison as one HTML page that needs nothing else: no network, no other file, and one script of its own.

In: a `Comparison` of two reports. Out: the text of diff.html. Every text of a stranger passes through Jinja's
escaping; the content security policy lets the one script run whose hash it names, and nothing else.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from ncscan.compare import (
    KINDS,
    LOST,
    NO_VALUE,
    Comparison,
    GateResult,
    counts,
    missing,
    most_changed,
    run_and_step,
    to_show,
)
from ncscan.report.figures.palette import RAMPS
from ncscan.report.html.packing import inline_script, policy
from ncscan.report.html.page import PRINTED_ROWS
from ncscan.splits import IMPLIED
from ncscan.wording import number, visible

MOST_ROWS = 1000
"""The number of rows that the page has; diff.csv has all."""
MOST_GONE = 40
"""The number of lines on what one side lacks."""
MOST_VERDICTS = 200
"""The number of changed verdicts that are spelled out."""

SCRIPTS = ("tables.js", "diff.js")
"""The page's own script, part after part; the first is that of the report's page, whose tables sort alike."""

NUMBERS = ("a", "b", "difference", "ratio", "noise")


@dataclass(frozen=True)
class Heading:
    """The heading of one column."""

    name: str
    number: bool


@dataclass(frozen=True)
class Cell:
    """A number as it is shown, and all its digits; both empty where there is none."""

    text: str = ""
    exact: str = ""


@dataclass(frozen=True)
class Line:
    """One number of A and B."""

    layer: str
    metric: str
    convention: str
    """Quantity, weighting, classifier and split, where they tell it apart."""
    checkpoint: str
    cells: list[Cell]
    kind: str
    detail: str
    """Where the noise floor comes from, or why there is no value."""


def diff_page(comparison: Comparison, names: tuple[str, str], gates: Sequence[GateResult] = (), table: str = "") -> str:
    """Return the whole page.

    `table` is the text of the diff.csv in the same folder, which the page names by its checksum.
    """
    frame = comparison.frame
    moved = most_changed(frame)
    # A column of checkpoints is needed only where several pairs are compared.
    pairs = frame[["run_a", "run_b", "checkpoint_a", "checkpoint_b"]].drop_duplicates()
    several = len(pairs) > 1
    texts = ["layer", "metric", *(["checkpoint"] if several else [])]
    headings = [*(Heading(name, number=False) for name in texts)]
    headings += [Heading(name, number=True) for name in ("A", "B", "B − A", "B / A", "noise")]
    # Every text passes through escaping, and through `_visible` before it.
    loader = jinja2.PackageLoader("ncscan.report.html")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    # The one script in a scope of its own, so that the policy can name it by its hash.
    own = "\n".join(loader.get_source(environment, name)[0] for name in SCRIPTS)
    script = inline_script(f'(() => {{\n"use strict";\n{own}}})();')
    return environment.get_template("diff.html").render(
        names=names,
        checksum=hashlib.sha256(table.encode()).hexdigest() if table else "",
        total=len(frame),
        pairs=len(pairs),
        several=several,
        notes=comparison.notes,
        verdicts=comparison.verdicts[:MOST_VERDICTS],
        n_verdicts=len(comparison.verdicts),
        counts=[(kind, count, KINDS[kind]) for kind, count in counts(frame).items()],
        headings=[*headings, Heading("what", number=False)],
        columns={name: texts.index(name) for name in ("layer", "metric")},
        rows=[_line(row) for row in to_show(moved, MOST_ROWS).to_dict("records")],
        gone=missing(moved)[:MOST_GONE],
        gates=gates,
        script=script,
        policy=policy([script]),
        ramps=RAMPS,
        printed=PRINTED_ROWS,
    )


def _line(row: Mapping[Any, Any]) -> Line:
    split = "" if row["split"] in IMPLIED else row["split"]
    against = f"against {row['classifier']}" if row["classifier"] else ""
    convention = ", ".join(part for part in (row["quantity"], row["weighting"], against, split) if part)
    source = f"({row['noise_source']})" if row["noise_source"] else ""
    return Line(
        layer=str(row["layer"]) or "network",
        metric=str(row["metric"]),
        convention=convention,
        checkpoint=", ".join(run_and_step(row)),
        cells=[_cell(row[name]) for name in NUMBERS],
        kind=str(row["kind"]),
        detail=(str(row["reason"]) if row["kind"] in (NO_VALUE, LOST) else _side(row)) or source,
    )


def _side(row: Mapping[Any, Any]) -> str:
    """Return which side alone has a number."""
    return str(row["reason"]) if str(row["reason"]).startswith("only in") else ""


def _cell(value: float) -> Cell:
    return Cell() if math.isnan(value) else Cell(number(value), repr(value))


def _visible(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
