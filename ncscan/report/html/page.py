"""The report as one HTML file that needs nothing else: charts that answer, no network, no other file.

In: the tidy frames and what is known of each checkpoint. Out: the text of report.html. Every text in it passes through
Jinja's escaping, or through JSON that no tag can end. A content security policy lets run what this file put in, by its
hash, and nothing else; it forbids every load.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup, escape

from ncscan.compare import GateResult
from ncscan.metrics import CLASS_METRICS, GRADIENT_DEFINITIONS, HELD_OUT, METRICS, NETWORK, WEIGHT_METRICS, Definition
from ncscan.report.etf_animation.simplex import TILT, vertices
from ncscan.report.figures.charts import CHARTS, template
from ncscan.report.figures.palette import RAMPS, SHADES, THEME
from ncscan.report.figures.scales import scale_of
from ncscan.report.html.classes import matrices, pictures, single_classes
from ncscan.report.html.packing import inline_json, inline_script, policy
from ncscan.report.html.provenance import origin
from ncscan.report.html.series import MOST_RUNS, PageNumber, carried
from ncscan.report.html.theory import claims, findings
from ncscan.report.verdict.evaluate import Verdicts, verdicts
from ncscan.report.verdict.rules import ASPECTS
from ncscan.tables import known_onsets, plain, points
from ncscan.theory import CLAIMS, DECAY_CLAIMS
from ncscan.wording import number, visible

FAMILIES: tuple[tuple[str, str], ...] = (
    ("fit", "Fit"),
    ("variability", "Variability (NC1)"),
    ("frame", "Frame of the means (NC2)"),
    ("duality", "Duality (NC3)"),
    ("classifier", "The classifier itself"),
    ("decision", "Decisions (NC4)"),
    ("spectrum", "Spectrum"),
    ("classes", "Imbalance"),
    ("weights", "Weights"),
    ("beside", "Other data"),
    ("gradients", "By gradients"),
    ("other", "Other"),
)
"""Groups of the list of numbers. A metric's own is its `family`."""

HEADLINES: tuple[tuple[str, str, str], ...] = (
    ("error", "", "training error"),
    ("nc1_pinv", "", "variability within classes"),
    ("nc2_etf", "", "distance from an even frame"),
    ("nc3_distance", "", "classifier–means distance"),
    ("nc4_mismatch", "", "decisions unlike the nearest mean's"),
    ("balancedness", "op_relative", "imbalance of the weights"),
)
"""Numbers that runs are compared by, of the layer that the classifier reads; of a pair of linear maps the worst."""

SCRIPTS = ("data.js", "shared.js", "tables.js", "charts.js", "choices.js", "sections.js", "picture.js", "page.js")
"""The page's own script, part after part; none of its names is seen outside."""

JUDGED = {"collapsed": "collapsed", "partly": "partly collapsed", "not": "not collapsed", "unknown": "unknown"}
"""The word for each judgement of a run."""

MOST_WARNINGS = 4
"""The number of warnings that stand open at the top; the others are folded."""

PRINTED_ROWS = 40
"""The rows of a table on paper; a page that is printed tells how many more there are."""

FIRST = ("nc1_pinv", "nc1_trace")
"""The numbers to show before anything was chosen: the first of them that there is."""


def page_text(
    tables: Mapping[str, pd.DataFrame],
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    judged: Verdicts | None = None,
    gates: Sequence[GateResult] = (),
    report_id: str = "",
) -> str:
    """Return the whole report as HTML, from the complete tables."""
    judged = verdicts(tables, checkpoints, warnings) if judged is None else judged
    known = definitions()
    # Provenance stands once a run, in the order of the table.
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for checkpoint in map(plain, checkpoints):
        by_run.setdefault(checkpoint["run"], []).append(checkpoint)
    frame = points(tables["metrics"], tables["weights"])
    # A metric that may be negative keeps a linear axis.
    numbers, runs, left_out = carried(
        frame, frozenset(name for name, (_, d) in known.items() if d.range.startswith("[−"))
    )
    data, left = _data(tables, numbers, runs)
    left_out = [*left_out, *dict.fromkeys(left)]
    own = "\n".join(_source(name) for name in SCRIPTS)
    scripts = [
        inline_script(libraries()),
        inline_script(f'(() => {{\n"use strict";\n{own}}})();'),
    ]
    # Every text passes through escaping, and through `_visible` before it.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ncscan.report.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {"breakable": _breakable, "prose": _prose, "number": number}
    return environment.get_template("page.html").render(
        policy=policy(scripts),
        report_id=report_id,
        n_runs=len(by_run),
        n_checkpoints=len(checkpoints),
        judged=judged,
        gates=gates,
        words=JUDGED,
        aspects=ASPECTS,
        most_runs=MOST_RUNS,
        most_warnings=MOST_WARNINGS,
        skipped=skipped,
        warnings=warnings,
        left_out=left_out,
        has={name: bool(data[name]) for name in ("runs", "matrices", "pictures")}
        | {"claims": len(tables["theory"]) > 0, "findings": len(tables["trajectory"]) > 0},
        choices=_choices(numbers, known),
        first=next((i for name in FIRST for i, n in enumerate(numbers) if n.metric == name), 0),
        glossary=[(title, _of_family(known, key)) for key, title in FAMILIES if _of_family(known, key)],
        statements=[*((c.name, c.statement) for c in CLAIMS), *((name, text) for name, _, text in DECAY_CLAIMS)],
        origins=[origin(run, own) for run, own in by_run.items()],
        ramps=RAMPS,
        printed=PRINTED_ROWS,
        data=inline_json(data),
        charts=inline_json({chart.name: _themed(template(chart)) | {"shows": chart.shows} for chart in CHARTS}),
        scripts=scripts,
    )


@cache
def libraries() -> str:
    """Return Vega-Embed and all it needs, as a page's script; bundling takes seconds, and gives the same each time."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def definitions() -> dict[str, tuple[str, Definition]]:
    """Return every metric's family and definition, by its name."""
    known: dict[str, tuple[str, Definition]] = {definition.name: ("fit", definition) for definition in NETWORK}
    known |= {metric.name: (metric.family, metric) for metric in METRICS}
    known |= {definition.name: ("beside", definition) for definition in HELD_OUT}
    known |= {definition.name: ("gradients", definition) for definition in GRADIENT_DEFINITIONS}
    return known | {definition.name: ("weights", definition) for definition in WEIGHT_METRICS}


def _data(
    tables: Mapping[str, pd.DataFrame], numbers: Sequence[PageNumber], runs: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Return what the page's scripts read, and what was left out of it."""
    names = [str(name) for name in dict.fromkeys(tables["metrics"]["run"])]
    first = sum(run["seeds"] > 0 for run in runs)
    at = {name: first + i for i, name in enumerate(names[: len(runs) - first])}
    began = known_onsets(tables["trajectory"])
    for name, i in at.items():
        runs[i]["onset"] = began.get(name)
    parts = {
        "classes": single_classes(tables["classes"], at),
        "matrices": matrices(tables["classes"], at),
        "pictures": pictures(tables["geometry"], at),
        "claims": claims(tables["theory"], at),
    }
    data = {
        "runs": runs,
        "axis": scale_of([float(x) for run in runs for x in run["steps"] if x is not None], decades=2.0).to_vega(),
        "unit": ", ".join(dict.fromkeys(run["unit"] for run in runs)),
        "numbers": [n.to_plain() for n in numbers],
        "headlines": [
            {"number": i, "words": words}
            for metric, quantity, words in HEADLINES
            if (i := _number_of(numbers, metric, quantity)) is not None
        ],
        **{name: parts[name][0] for name in ("classes", "matrices", "pictures")},
        "shades": SHADES,
        "tilt": TILT,
        "corners": {str(k): vertices(k).tolist() for k in (3, 4)},
        "claims": parts["claims"][0],
        "findings": findings(tables["trajectory"], at),
    }
    return data, [line for _, left in parts.values() for line in left]


def _number_of(numbers: Sequence[PageNumber], metric: str, quantity: str) -> int | None:
    """Return the index of a number in the list: of that quantity, else the first of its metric."""
    own = [i for i, n in enumerate(numbers) if n.metric == metric]
    return next((i for i in own if numbers[i].quantity == quantity), next(iter(own), None))


def _choices(
    numbers: Sequence[PageNumber], known: Mapping[str, tuple[str, Definition]]
) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return the list of numbers, in its groups."""
    keys = {key for key, _ in FAMILIES}
    of = [known[n.metric][0] if n.metric in known and known[n.metric][0] in keys else "other" for n in numbers]
    groups = [(title, [(i, n.label) for i, n in enumerate(numbers) if of[i] == key]) for key, title in FAMILIES]
    return [(title, choices) for title, choices in groups if choices]


def _of_family(known: Mapping[str, tuple[str, Definition]], key: str) -> list[Definition]:
    found = [definition for family, definition in known.values() if family == key]
    if key == "classes":
        found += [metric for metric in CLASS_METRICS if metric.name not in known]
    return found


def _themed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a chart in the colours of the page, which follow light and dark."""

    def walk(value: Any) -> Any:
        match value:
            case str():
                return THEME.get(value, value)
            case list():
                return [walk(each) for each in value]
            case dict():
                return {key: walk(each) for key, each in value.items()}
        return value

    return dict(walk(spec))


def _source(name: str) -> str:
    text = jinja2.PackageLoader("ncscan.report.html").get_source(jinja2.Environment(autoescape=True), name)[0]
    return str(text)


def _visible(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """Return a name that a narrow column may break after a `_`, `.` or `/`."""
    text = str(escape(visible(name)))
    return Markup(text.replace("_", "_<wbr>").replace(".", ".<wbr>").replace("/", "/<wbr>"))  # noqa: S704 - escaped


def _prose(text: str) -> Markup:
    """Return a definition to read: code between backticks, `_x` and `_{xy}` lowered, `^{xy}` raised elsewhere."""
    parts = str(escape(visible(text))).split("`")
    for i in range(0, len(parts), 2):
        lowered = re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", parts[i])
        lowered = re.sub(r"_(\w)(?![a-z]{2})", r"<sub>\1</sub>", lowered)  # W_ℓ and s_1, but not nc1_pinv
        parts[i] = re.sub(r"\^\{([^}]*)\}", r"<sup>\1</sup>", lowered)
    for i in range(1, len(parts), 2):
        parts[i] = f"<code>{parts[i]}</code>"
    return Markup("".join(parts))  # noqa: S704 - escaped above
