"""The report as one HTML file that needs nothing else: no script, no network, no other file.

In: the tidy frames and what is known of each checkpoint. Out: the text of report.html. Every text in it passes
through Jinja's escaping; only charts, whose text Vega escaped, go in as they are.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from ncscan.gradient_table import GRADIENT_DEFINITIONS
from ncscan.held_out import HELD_OUT
from ncscan.metrics import METRICS, NETWORK, Definition
from ncscan.report.charts import Chart, draw, metric_points, weight_points
from ncscan.report.promises import findings, promises
from ncscan.report.summary import run_summary, when
from ncscan.report.svg import DEPTH_DARK, DEPTH_RAMP, STEP_DARK, STEP_RAMP
from ncscan.report.tables import number, plain, visible
from ncscan.weights import WEIGHT_METRICS

FAMILIES: tuple[tuple[str, str, str], ...] = (
    ("fit", "Fit", "Does the network fit its data? Collapse belongs to the phase after it does."),
    ("variability", "Variability", "Do the samples of a class gather at their class mean? (NC1)"),
    ("frame", "Frame", "Do the class means spread out evenly? (NC2)"),
    ("duality", "Duality", "Does the classifier point where the class means point? (NC3)"),
    ("classifier", "Classifier", "What frame do the classifier's own rows make, and what does its bias do?"),
    ("decision", "Decision", "Would the nearest class mean decide as the network does? (NC4)"),
    ("spectrum", "Spectrum", "Which directions do the features use, and how evenly?"),
    ("classes", "Imbalance", "How do the smallest classes fare against the largest?"),
    ("weights", "Weights", "Are neighbouring layers balanced, and how well conditioned are they?"),
    ("beside", "Other data", "Where do a held-out split and data of no class lie among the class means?"),
    (
        "gradients",
        "By gradients",
        "Is the network at rest, how sharp is that place, and what do maps look at?",
    ),
    ("other", "Other", "Measures that this version of ncscan has no definition of."),
)
"""Sections of the page. A metric belongs to the file of ncscan/metrics that computes it."""

MOST_RUNS = 8
"""Runs whose charts are drawn; the tables have all of them."""
MOST_ITEMS = 24
"""Items of a list that the provenance spells out."""

_NETWORK = {definition.name for definition in NETWORK}


@dataclass(frozen=True)
class Card:
    """One metric with its definition and charts."""

    name: str
    quantity: str
    definition: Definition | None
    rows: list[list[Chart]]
    """Over steps, then over depth; in each, one chart per run."""
    reasons: list[str]
    """Why there is no value, where there is none."""


@dataclass(frozen=True)
class Section:
    """One family of metrics."""

    key: str
    title: str
    question: str
    cards: list[Card]


@dataclass(frozen=True)
class Cell:
    """A number, a dash with the mark of its footnote, or nothing where nothing is measured."""

    text: str = ""
    reason: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Layers or maps against metrics, with the reasons of the dashes as footnotes."""

    corner: str
    columns: list[str]
    rows: list[tuple[str, str, list[Cell]]]
    """Name, its kind, cells."""
    notes: list[tuple[str, str]]


@dataclass(frozen=True)
class Moment:
    """One checkpoint with its tables."""

    name: str
    facts: list[str]
    tables: list[Table]


@dataclass(frozen=True)
class Origin:
    """Where the numbers of a run come from: what its checkpoints share, and what differs between them."""

    run: str
    shared: list[tuple[str, str]]
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def page(
    tables: Mapping[str, pd.DataFrame],
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
) -> str:
    """The whole report as HTML, from the complete tables."""
    layers, maps = metric_points(tables["metrics"]), weight_points(tables["weights"])
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for checkpoint in map(plain, checkpoints):
        by_run.setdefault(checkpoint["run"], []).append(checkpoint)
    drawn = list(by_run)[:MOST_RUNS]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ncscan.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {"breakable": _breakable, "prose": _prose, "number": number}
    return environment.get_template("page.html").render(
        n_runs=len(by_run),
        n_checkpoints=len(checkpoints),
        runs=[run_summary(own, _of(layers, run=run), _of(maps, run=run)) for run, own in by_run.items()],
        skipped=skipped,
        warnings=warnings,
        sections=list(_sections(layers[layers["run"].isin(drawn)], maps[maps["run"].isin(drawn)])),
        promises=promises(tables["theory"]),
        findings=findings(tables["trajectory"]),
        drawn=drawn,
        moments=[(run, [_moment(known, layers, maps) for known in own]) for run, own in by_run.items()],
        origins=[_origin(run, own) for run, own in by_run.items()],
        depth_ramp=DEPTH_RAMP,
        step_ramp=STEP_RAMP,
        depth_dark=DEPTH_DARK,
        step_dark=STEP_DARK,
    )


def definitions() -> dict[str, tuple[str, Definition]]:
    """Every metric's family and definition, by its name."""
    known = {definition.name: ("fit", definition) for definition in NETWORK}
    known |= {metric.name: (metric.function.__module__.rpartition(".")[2], metric) for metric in METRICS}
    known |= {definition.name: ("beside", definition) for definition in HELD_OUT}
    known |= {definition.name: ("gradients", definition) for definition in GRADIENT_DEFINITIONS}
    return known | {definition.name: ("weights", definition) for definition in WEIGHT_METRICS}


def _sections(layers: pd.DataFrame, maps: pd.DataFrame) -> Iterator[Section]:
    known = definitions()
    sources = {name: points for points in (layers, maps) for name in dict.fromkeys(points["metric"])}
    order = [*(name for name in known if name in sources), *(name for name in sources if name not in known)]
    titles = {key for key, _, _ in FAMILIES}
    family = {name: known[name][0] if name in known and known[name][0] in titles else "other" for name in sources}
    for key, title, question in FAMILIES:
        cards = [
            _card(name, known[name][1] if name in known else None, sources[name])
            for name in order
            if family[name] == key
        ]
        if cards:
            yield Section(key, title, question, cards)


def _card(name: str, definition: Definition | None, points: pd.DataFrame) -> Card:
    charts = draw(points, name, signed=definition is not None and definition.range.startswith("[−"))
    own = _of(points, metric=name)
    return Card(
        name=name,
        quantity=str(own["quantity"].iloc[0]),
        definition=definition,
        rows=[row for axis in ("steps", "depth") if (row := [chart for chart in charts if chart.axis == axis])],
        reasons=list(dict.fromkeys(own["reason"][own["value"].isna()])),
    )


def _moment(checkpoint: Mapping[str, Any], layers: pd.DataFrame, maps: pd.DataFrame) -> Moment:
    where = {"run": checkpoint["run"], "checkpoint": checkpoint["checkpoint"]}
    layers, maps = _of(layers, **where), _of(maps, **where)
    network = layers["metric"].isin(_NETWORK)
    facts = [when(checkpoint)]
    facts += [
        f"{metric} {number(value)}"
        for metric, value in zip(layers["metric"][network], layers["value"][network], strict=True)
        if not math.isnan(value)
    ]
    several = layers["panel"].nunique() > 1
    tables = [
        _table(f"layer ({split})" if several else "layer", points)
        for split, points in layers[~network].groupby("split", sort=False)
    ]
    pairs = maps["next_map"] != ""
    tables += [_table("map", maps[~pairs]), _table("pair of maps", maps[pairs])]
    return Moment(checkpoint["checkpoint"], facts, [table for table in tables if table.rows])


def _table(corner: str, points: pd.DataFrame) -> Table:
    columns = list(dict.fromkeys(points["metric"]))
    marks: dict[str, str] = {}
    cells: dict[tuple[str, str], Cell] = {}
    places: dict[str, str] = {}
    for row in points.sort_values("rank", kind="stable").itertuples():
        places.setdefault(str(row.place), str(row.kind))
        if math.isnan(float(str(row.value))):
            mark = marks.setdefault(str(row.reason), _mark(len(marks)))
            cells[str(row.place), str(row.metric)] = Cell("–", str(row.reason), mark)
        else:
            cells[str(row.place), str(row.metric)] = Cell(number(float(str(row.value))))
    rows = [(place, kind, [cells.get((place, metric), Cell()) for metric in columns]) for place, kind in places.items()]
    return Table(corner, columns, rows, [(mark, reason) for reason, mark in marks.items()])


def _mark(n: int) -> str:
    """a, b, …, z, aa, ab, …"""
    return ("" if n < 26 else _mark(n // 26 - 1)) + chr(ord("a") + n % 26)


def _origin(run: str, checkpoints: Sequence[Mapping[str, Any]]) -> Origin:
    facts = {known["checkpoint"]: dict(_flat("", plain(_provenance(known)))) for known in checkpoints}
    keys = list(dict.fromkeys(key for own in facts.values() for key in own))
    first = next(iter(facts.values()))
    shared = [key for key in keys if all(own.get(key) == first.get(key) for own in facts.values())]
    differing = [key for key in keys if key not in shared]
    rows = [(name, [own.get(key, "") for key in differing]) for name, own in facts.items()]
    return Origin(run, [(key, first[key]) for key in shared], differing, rows if differing else [])


def _provenance(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of a checkpoint's origin; its place in the run stands elsewhere."""
    facts = {key: checkpoint[key] for key in ("accuracy", "n_samples", "n_classes", "class_names") if key in checkpoint}
    origin = {key: value for key, value in checkpoint.get("provenance", {}).items() if key not in checkpoint}
    return facts | origin


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flat(f"{name}.{key}" if name else key, inner)
        case list():
            items = [" → ".join(str(part) or "(none)" for part in i) if isinstance(i, list) else str(i) for i in value]
            more = [f"… and {len(items) - MOST_ITEMS} more"] if len(items) > MOST_ITEMS else []
            yield name, ", ".join(items[:MOST_ITEMS] + more) or "none"
        case float():
            yield name, f"{value:.6g}"
        case None | "":
            yield name, "none"
        case _:
            yield name, str(value)


def _of(points: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows in which each of these columns has this value."""
    for column, value in where.items():
        points = points[points[column] == value]
    return points


def _visible(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """A name that a narrow column may break after a `_`, `.` or `/`."""
    text = str(escape(visible(name)))
    return Markup(text.replace("_", "_<wbr>").replace(".", ".<wbr>").replace("/", "/<wbr>"))  # noqa: S704 - escaped


def _prose(text: str) -> Markup:
    """A definition as it should read: code between backticks, `_x` and `_{xy}` lowered, `^{xy}` raised elsewhere."""
    parts = str(escape(visible(text))).split("`")
    for i in range(0, len(parts), 2):
        lowered = re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", parts[i])
        lowered = re.sub(r"_(\w)(?![a-z]{2})", r"<sub>\1</sub>", lowered)  # W_ℓ and s_1, but not nc1_pinv
        parts[i] = re.sub(r"\^\{([^}]*)\}", r"<sup>\1</sup>", lowered)
    for i in range(1, len(parts), 2):
        parts[i] = f"<code>{parts[i]}</code>"
    return Markup("".join(parts))  # noqa: S704 - escaped above
