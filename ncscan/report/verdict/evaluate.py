"""Sum up a report in plain words: what collapsed, how deep, since when, what theory implies, what is doubtful.

In: the complete tables, what is known of each checkpoint, and the warnings. Out: `Verdicts`, plain strings and numbers,
for the page, the terminal and report.json alike. A pure function: nothing is measured here, and no verdict is a grade
of a network. rules.py holds the thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ncscan.report.verdict.caveats import Doubt
from ncscan.report.verdict.finding_sentences import Told
from ncscan.report.verdict.groups import Average, Group, GroupComparison, compare, comparison, groups
from ncscan.report.verdict.judging import Aspect, RunNumber
from ncscan.report.verdict.phrases import when
from ncscan.report.verdict.rules import ASPECTS, RULES, Judgement
from ncscan.report.verdict.run import RunVerdict, verdict
from ncscan.report.verdict.theory_claims import Certificate, Hypothesis
from ncscan.tables import plain

__all__ = [
    "ASPECTS",
    "NOTHING",
    "RULES",
    "Aspect",
    "Average",
    "Certificate",
    "Doubt",
    "Group",
    "GroupComparison",
    "Hypothesis",
    "Judgement",
    "RunNumber",
    "RunVerdict",
    "Told",
    "Verdicts",
    "as_plain",
    "verdict",
    "verdicts",
    "when",
]


@dataclass(frozen=True)
class Verdicts:
    """What all runs of a report come to."""

    runs: tuple[RunVerdict, ...]
    groups: tuple[Group, ...]
    compared: tuple[GroupComparison, ...]
    comparison: str
    """The groups against each other in one sentence; empty where there is one group."""


NOTHING = Verdicts((), (), (), "")
"""The verdict of a report in which nothing could be measured."""


def verdicts(
    tables: Mapping[str, pd.DataFrame], checkpoints: Sequence[Mapping[str, Any]], warnings: Sequence[str] = ()
) -> Verdicts:
    """Return the verdict on every run of a report, and on every group of runs.

    Args:
        tables: complete, by the names of `columns.TABLES`.
        checkpoints: what is known of each, in the order of runs and steps.
        warnings: all of the report; those that name a run are among its doubts.
    """
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for known in checkpoints:
        by_run.setdefault(str(known["run"]), []).append(known)
    parted = {name: dict(iter(table.groupby("run", sort=False))) for name, table in tables.items()}
    runs = tuple(
        verdict({name: parts.get(run, tables[name].iloc[:0]) for name, parts in parted.items()}, own, warnings)
        for run, own in by_run.items()
    )
    found = groups(runs)
    compared = compare(found)
    return Verdicts(runs, found, compared, comparison(compared))


def as_plain(found: Verdicts) -> dict[str, Any]:
    """Return the verdicts as plain values that JSON knows."""
    told: dict[str, Any] = plain(asdict(found))
    return told
