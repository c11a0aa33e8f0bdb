"""Runs that differ by their seed alone, as one sentence; and what sets one group apart from another.

In: the verdicts of runs. Out: `Group` and `GroupComparison`.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ncscan.report.verdict.judging import RunNumber
from ncscan.report.verdict.phrases import times
from ncscan.report.verdict.rules import RULES
from ncscan.report.verdict.run import RunVerdict
from ncscan.wording import listed, number, percent

SHARES = ("error", "nc4_mismatch")
"""The metrics that are written as percentages."""

APART = 2.0
"""Groups differ beyond their seeds where their means are further apart than so many times both spreads together."""


@dataclass(frozen=True)
class Average:
    """One number at the last checkpoints of a group's runs."""

    metric: str
    quantity: str
    runs: int
    """The number of runs that have a value."""
    mean: float | None
    std: float | None
    """Standard deviation with ddof 1; None for a single run."""


@dataclass(frozen=True)
class Group:
    """What the runs of one group come to."""

    group: str
    runs: tuple[str, ...]
    averages: tuple[Average, ...]
    sentence: str


@dataclass(frozen=True)
class GroupComparison:
    """One number of all groups."""

    metric: str
    quantity: str
    lowest: str
    highest: str
    low: float
    high: float
    apart: bool | None
    """Whether they differ beyond the spread of their seeds; None where a group has one run."""
    sentence: str


NUMBERS = (("error", ""), *((rule.metric, rule.quantity) for rule in RULES))
"""The numbers by which groups are compared: the error, and what each aspect is judged by."""


def groups(verdicts: Sequence[RunVerdict]) -> tuple[Group, ...]:
    """Return one entry for each group that has a name, in the order of the runs."""
    by: dict[str, list[RunVerdict]] = {}
    for verdict in verdicts:
        if verdict.group:
            by.setdefault(verdict.group, []).append(verdict)
    return tuple(_group(name, own) for name, own in by.items())


def compare(found: Sequence[Group]) -> tuple[GroupComparison, ...]:
    """Return what sets the groups apart, number by number; nothing where there is one group."""
    if len(found) < 2:
        return ()
    return tuple(each for i in range(len(NUMBERS)) if (each := _compared([(g.group, g.averages[i]) for g in found])))


def comparison(compared: Sequence[GroupComparison]) -> str:
    """Return the comparison in one sentence; empty where there is nothing to compare."""
    if not compared:
        return ""
    return f"At their last checkpoints {'; '.join(each.sentence for each in compared)}."


def _group(name: str, own: Sequence[RunVerdict]) -> Group:
    averages = tuple(_average(metric, quantity, own) for metric, quantity in NUMBERS)
    said = [f"{_named(average)} {_with_spread(average)}" for average in averages if average.mean is not None]
    apart = ", at different last steps" if len({each.step for each in own}) > 1 else ""
    count = f"{len(own)} run{'s' if len(own) > 1 else ''}{apart}"
    came: Mapping[str, str] = {
        "collapsed": "collapsed",
        "partly": "partly collapsed",
        "not": "not collapsed",
        "unknown": "not judged",
    }
    told = [f"{n} {words}" for key, words in came.items() if (n := sum(each.judgement == key for each in own))]
    outcome = told[0].split(" ", 1)[1] if len(told) == 1 else listed(told)
    spread = ", mean ± standard deviation" if len(own) > 1 else ""
    numbers = f": {', '.join(said)}" if said else ""
    return Group(name, tuple(each.run for each in own), averages, f"{name} ({count}{spread}), {outcome}{numbers}.")


def _average(metric: str, quantity: str, own: Sequence[RunVerdict]) -> Average:
    numbers: list[RunNumber | None] = [
        each.error if metric == "error" else next((e for e in each.entries if e.metric == metric), None) for each in own
    ]
    # A run whose order is not known has no last checkpoint to speak of.
    known = [found for found, each in zip(numbers, own, strict=True) if found is not None and each.step is not None]
    values = [found.last for found in known if found.last is not None]
    mean = statistics.fmean(values) if values else None
    return Average(metric, quantity, len(values), mean, statistics.stdev(values) if len(values) > 1 else None)


def _named(average: Average | GroupComparison) -> str:
    if average.metric == "error":
        return "training error"
    return f"relative {average.metric}" if average.quantity.endswith("relative") else average.metric


def _with_spread(average: Average) -> str:
    said = percent if average.metric in SHARES else number
    mean = said(average.mean or 0.0)
    return mean if not average.std else f"{mean} ± {said(average.std)}"


def _compared(of: Sequence[tuple[str, Average]]) -> GroupComparison | None:
    known = sorted(
        ((average.mean, name, average) for name, average in of if average.mean is not None), key=lambda e: e[0]
    )
    if len(known) < 2:
        return None
    (low, lowest, under), (high, highest, over) = known[0], known[-1]
    said = percent if under.metric in SHARES else number
    if low == high:
        sentence = f"{_named(under)} is {said(low)} in all groups"
        return GroupComparison(under.metric, under.quantity, lowest, highest, low, high, apart=False, sentence=sentence)
    apart = None if under.std is None or over.std is None else high - low > APART * (under.std + over.std)
    ratio = f", {times(high / low)} times" if low > 0 else ""
    beyond = {True: "", False: ", within the spread of their seeds", None: ""}[apart]
    sentence = f"{_named(under)} is {said(low)} in {lowest} and {said(high)} in {highest}{ratio}{beyond}"
    return GroupComparison(under.metric, under.quantity, lowest, highest, low, high, apart, sentence)
