"""What counts as collapsed, partly collapsed and not, and why at these numbers.

In: a value, what chance reads, the number of classes. Out: a judgement. The only file that decides it, for the page,
the terminal and report.json alike; what exists in trajectory/findings.py is taken from there.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ncscan.trajectory import COLLAPSED, THRESHOLDS

Judgement = Literal["collapsed", "partly", "not", "unknown"]


class Rule(NamedTuple):
    """The rule by which one aspect of collapse is judged."""

    aspect: str
    metric: str
    quantity: str
    partly: float
    """A value under it, and not under the threshold of collapse, makes the aspect count as partly there."""
    why: str
    """The reason for that number."""
    yes: str
    no: str
    """Describes what is so at collapse, and what is not, as sentences; `partly` stands before the verb of the first."""
    half: str


RULES: tuple[Rule, ...] = (
    Rule(
        "NC1",
        "nc1_pinv",
        "",
        1.0,
        "at 1 the samples of a class scatter about as far as its mean is from the others, where means differ at all",
        "The samples of each class have drawn together",
        "The samples of each class have not drawn together",
        "The samples of each class have partly drawn together",
    ),
    Rule(
        "NC2",
        "nc2_etf",
        "",
        0.5,
        "the distance of two matrices of norm 1, 0.5 where their cosine is 0.875; 0.1 is a cosine of 0.995",
        "The class means stand evenly apart, as the corners of a simplex",
        "The class means do not stand evenly apart",
        "The class means stand partly evenly apart",
    ),
    Rule(
        "NC3",
        "nc3_distance",
        "",
        0.5,
        "as NC2: a distance of two matrices of norm 1",
        "The classifier points where the class means do",
        "The classifier does not point where the class means do",
        "The classifier points partly where the class means do",
    ),
    Rule(
        "NC4",
        "nc4_mismatch",
        "",
        0.1,
        "one sample in ten",
        "The network decides as the nearest class mean does",
        "The network does not decide as the nearest class mean does",
        "The network decides mostly as the nearest class mean does",
    ),
    Rule(
        "balance",
        "balancedness",
        "op_relative",
        0.5,
        "half of the smaller of the two maps' sizes",
        "Neighbouring linear maps are balanced",
        "Neighbouring linear maps are not balanced",
        "Neighbouring linear maps are partly balanced",
    ),
)
"""The rules as they are printed. Collapsed is under the first threshold of THRESHOLDS and COLLAPSED."""

ASPECTS = tuple(rule.aspect for rule in RULES[:4])
"""The four aspects of neural collapse itself."""

CLEARLY = 0.5
"""A value under this share of its chance level is clearly below it: of 2,000 draws of random directions, at 4 to
2,048 features, fewer than 2 % read so little with 5 classes, and fewer than 0.5 % with more."""
CLEARLY_OF_FEW: Mapping[int, float] = {3: 0.15, 4: 0.4}
"""The same share for few classes, whose frames vary more by chance: about 2 % of draws lie under these."""


def threshold_of(rule: Rule) -> float:
    """Return the threshold under which an aspect counts as collapsed.

    >>> [threshold_of(rule) for rule in RULES]
    [0.1, 0.1, 0.1, 0.01, 0.1]
    """
    if rule.metric == COLLAPSED[0]:
        return COLLAPSED[1]
    return next(
        given[0] for metric, quantity, given in THRESHOLDS if (metric, quantity) == (rule.metric, rule.quantity)
    )


def judge(
    rule: Rule, value: float | None, baseline: float | None, n_classes: int | None
) -> tuple[Judgement, bool | None]:
    """Return the judgement of a value, and whether it is clearly below chance (None where no chance level is known).

    >>> judge(RULES[1], 0.09, 0.139, 10)  # a wide layer is near a simplex by chance
    ('not', False)
    >>> judge(RULES[1], 0.04, 0.139, 10)
    ('collapsed', True)
    """
    if value is None:
        return "unknown", None
    clear = None if baseline is None else value < CLEARLY_OF_FEW.get(n_classes or 0, CLEARLY) * baseline
    if clear is False or value >= rule.partly:
        return "not", clear
    return ("collapsed" if value < threshold_of(rule) else "partly"), clear


def overall(judgements: Mapping[str, Judgement]) -> Judgement:
    """Return the judgement of NC1 to NC4 together, as far as each is known.

    Collapsed is all of them, not is none, even partly.
    """
    known = {judgement for aspect, judgement in judgements.items() if aspect in ASPECTS} - {"unknown"}
    if not known:
        return "unknown"
    if known == {"collapsed"}:
        return "collapsed"
    return "not" if known == {"not"} else "partly"
