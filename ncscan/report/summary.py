"""What the page shows of a verdict at its top: a few sentences, and first and last numbers.

In: the verdict of a run. Out: one `Run`.
"""

import math
from dataclasses import dataclass

from ncscan.report.verdict import Number, Verdict

_WORDS = {
    "error": "training error",
    "nc1_pinv": "variability within classes",
    "nc2_etf": "distance from an even frame",
    "nc3_distance": "classifier–means distance",
    "nc4_mismatch": "decisions unlike the nearest mean",
    "balancedness": "imbalance of the weights",
}


@dataclass(frozen=True)
class Headline:
    """One number of a run at its first and last checkpoint."""

    metric: str
    words: str
    first: float
    last: float
    goal: str


@dataclass(frozen=True)
class Run:
    """A run in the summary."""

    name: str
    sentences: list[str]
    reads: str
    """The layer that the classifier reads; empty when there is no classifier."""
    several: bool
    """Whether there is a first and a last checkpoint to compare."""
    headlines: list[Headline]


def run_summary(verdict: Verdict) -> Run:
    """The summary of one run."""
    numbers: list[Number] = [*([verdict.error] if verdict.error else []), *verdict.entries]
    return Run(
        name=verdict.run,
        sentences=verdict.sentences(),
        reads=verdict.reads if verdict.has_classifier else "",
        several=len(verdict.steps) > 1,
        headlines=[
            Headline(each.metric, _WORDS[each.metric], each.first, math.nan if each.last is None else each.last, "0")
            for each in numbers
            if each.first is not None and each.last is not None
        ],
    )
