"""Show a verdict in the terminal: sentences, a sparkline per metric, groups compared; nothing is printed here.

In: `Verdicts`. Out: rich renderables that fit into the width they are made for. Text of others is never markup, and
what cannot be seen in it is made visible; a colour stands for a judgement, none is a grade.
"""

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ncscan.report.verdict.evaluate import Verdicts
from ncscan.report.verdict.judging import Aspect, RunNumber
from ncscan.report.verdict.rules import ASPECTS
from ncscan.report.verdict.run import RunVerdict
from ncscan.wording import number, percent, visible

WIDTH = 100
"""The number of columns that are used at most."""
MOST_RUNS = 8
"""The number of runs that have a block of their own; of more, each has a line."""
MOST_GROUPS = 8
MOST_DOUBTS = 3
"""The number of doubts of a run; the page has all."""

BARS = "▁▂▃▄▅▆▇█"
GAP = " "

_STYLES = {"collapsed": "bold cyan", "partly": "blue", "not": "magenta", "unknown": "dim"}
_OVERALL = {
    "collapsed": "collapsed",
    "partly": "partly collapsed",
    "not": "not collapsed",
    "unknown": "not judged",
}
_SHARES = ("error", "nc4_mismatch")
_WARNED = ("integrity", "replay", "rank")
"""The kinds of doubts that stand on stderr already, one warning each."""


def render_verdict(judged: Verdicts, width: int = WIDTH) -> Iterator[RenderableType]:
    """Yield a block for every run, or a line for each where there are many; then the groups.

    Args:
        judged: what a report comes to.
        width: columns that there are; more than WIDTH are not used.
    """
    width = min(width, WIDTH)
    if len(judged.runs) > MOST_RUNS:
        yield _lines(judged.runs)
    else:
        for verdict in judged.runs:
            yield from _run(verdict, width)
    yield from _groups(judged)


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Return values as bars, one each, or the last of each of `width` parts if there are more; a gap where none is.

    The scale is logarithmic where all values are positive and span more than a decade.

    >>> sparkline([0.0, 1.0, None, 2.0], 8), sparkline([1000.0, 100.0, 10.0, 1.0], 8), sparkline([5.0, 5.0], 8)
    ('▁▅ █', '█▆▃▁', '▄▄')
    """
    n = len(values)
    shown = values if n <= width else [values[(i + 1) * n // width - 1] for i in range(width)]
    known = [value for value in shown if value is not None]
    if not known:
        return GAP * len(shown)
    if min(known) > 0 and max(known) > 10 * min(known):
        scaled = [None if value is None else math.log(value) for value in shown]
        known = [math.log(value) for value in known]
    else:
        scaled = list(shown)
    low, high = min(known), max(known)
    return "".join(GAP if value is None else _bar(value, low, high) for value in scaled)


def _bar(value: float, low: float, high: float) -> str:
    if low == high:
        return BARS[0] if value == 0 else BARS[3]
    return BARS[min(len(BARS) - 1, int((value - low) / (high - low) * len(BARS)))]


def _run(verdict: RunVerdict, width: int) -> Iterator[RenderableType]:
    yield Text.assemble((visible(verdict.run), "bold"), "  ", (_OVERALL[verdict.judgement], _STYLES[verdict.judgement]))
    for line in _sentences(verdict):
        yield _indented(line)
    doubts = [doubt.sentence for doubt in verdict.doubts if doubt.kind not in _WARNED]
    for doubt in doubts[:MOST_DOUBTS]:
        yield _indented(f"doubtful: {doubt}", "yellow")
    if more := len(verdict.doubts) - len(doubts[:MOST_DOUBTS]):
        yield _indented(f"doubtful: {more} more, on the page.", "yellow")
    yield _numbers(verdict, width)


def _sentences(verdict: RunVerdict) -> Iterator[str]:
    """Yield the verdict in a few lines."""
    where = ""
    if verdict.reads:
        role = "which the classifier reads" if verdict.has_classifier else "the last before the outputs"
        where = f" Judged at layer {verdict.reads}, {role}."
    yield verdict.scope
    yield verdict.headline + where
    deep = [each.sentence for each in verdict.depth if each.finding == "first_collapsed"]
    begun = [each.sentence for each in verdict.since if each.finding == "terminal_phase"]
    moving = [each.sentence for each in verdict.motion[:1]]
    balance = [each.sentence for each in verdict.weight_decay[:1]]
    for part in (deep, [*begun, *moving], balance, [verdict.theorem]):
        if line := " ".join(part):
            yield line


def _numbers(verdict: RunVerdict, width: int) -> Table:
    """Return a row for every number, over the steps."""
    wide = width >= WIDTH
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("  metric", no_wrap=True, overflow="ellipsis")
    several = len(verdict.steps) > 1
    if several:
        table.add_column("over the steps", no_wrap=True, overflow="ellipsis")
    table.add_column("first → last" if several else "value", no_wrap=True, overflow="ellipsis")
    table.add_column("at collapse", justify="right", no_wrap=True)
    if wide:
        table.add_column("chance", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    numbers: list[RunNumber | None] = [verdict.error, *verdict.entries, verdict.head_condition]
    for each in numbers:
        if each is None or (each.first is None and not isinstance(each, Aspect)):
            continue
        cells = [_text(f"  {_name(each)}")]
        if several:
            cells.append(_text(sparkline(each.values, 24 if wide else 14), "cyan"))
        cells.append(_text(_first_to_last(each, several=several)))
        cells.append(_text("" if each.at_collapse is None else _value_text(each, each.at_collapse)))
        if wide:
            baseline = each.baseline if isinstance(each, Aspect) else None
            cells.append(_text("" if baseline is None else _value_text(each, baseline)))
        judgement = each.judgement if isinstance(each, Aspect) else ""
        balanced = isinstance(each, Aspect) and judgement == "collapsed" and each.aspect not in ASPECTS
        word = "balanced" if balanced else judgement
        table.add_row(*cells, _text(word, _STYLES.get(judgement, "")))
    return table


def _first_to_last(each: RunNumber, *, several: bool) -> str:
    if each.last is None:
        return "no value" if each.first is None else f"{_value_text(each, each.first)} → no value"
    last = _value_text(each, each.last)
    return f"{_value_text(each, each.first)} → {last}" if several and each.first is not None else last


def _name(each: RunNumber) -> str:
    if isinstance(each, Aspect) and each.aspect != "balance":
        return f"{each.aspect} {each.metric}"
    return {"error": "training error", "balancedness": "balancedness", "head_condition": "κ of the head"}[each.metric]


def _value_text(each: RunNumber, value: float) -> str:
    return percent(value) if each.metric in _SHARES else number(value)


def _lines(runs: Sequence[RunVerdict]) -> Table:
    """Return a line for every run: its judgement, and what each aspect is judged by."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=34)
    table.add_column("NC1 to NC4", no_wrap=True, overflow="ellipsis")
    for heading in ("error", "NC1", "NC2", "NC3", "NC4", "balance"):
        table.add_column(heading, justify="right", no_wrap=True, overflow="ellipsis")
    for verdict in runs:
        numbers = [verdict.error, *verdict.entries]
        cells = ["–" if each is None or each.last is None else _value_text(each, each.last) for each in numbers]
        name, judgement = _text(verdict.run), _text(_OVERALL[verdict.judgement], _STYLES[verdict.judgement])
        table.add_row(name, judgement, *map(_text, cells))
    return table


def _groups(judged: Verdicts) -> Iterator[RenderableType]:
    if not judged.groups or len(judged.runs) < 2:
        return
    yield Text("groups", "bold")
    for group in judged.groups[:MOST_GROUPS]:
        yield _indented(group.sentence)
    if more := judged.groups[MOST_GROUPS:]:
        yield _indented(f"… and {len(more)} more groups, on the page.")
    if judged.comparison:
        yield _indented(judged.comparison)


def _indented(said: str, style: str = "") -> Padding:
    return Padding(_text(said, style), (0, 0, 0, 2), expand=False)


def _text(said: str, style: str = "") -> Text:
    """Return a stranger's text as text: no markup is read in it, nothing in it moves the cursor."""
    return Text(visible(said), style)
