"""Whether each aspect of neural collapse is there at the last checkpoint, as a sentence with its numbers.

In: the rows of one run. Out: `Aspect`, one for NC1 to NC4 and one for the balance of the weights; rules.py decides.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncscan.layer_graph import joined
from ncscan.report.verdict.rules import ASPECTS, RULES, Judgement, Rule, judge, threshold_of
from ncscan.rows import leading
from ncscan.wording import listed, number, percent


@dataclass(frozen=True)
class RunNumber:
    """One number of a run, over its checkpoints."""

    metric: str
    quantity: str
    layer: str
    """The layer where it is read; a pair of linear maps is `a..b`."""
    first: float | None
    """The value at the first checkpoint that has one."""
    last: float | None
    """The value at the last checkpoint."""
    at_collapse: float | None
    values: tuple[float | None, ...]
    """The values at every checkpoint, in order."""
    reason: str
    """Why there is none at the last checkpoint; else empty."""


@dataclass(frozen=True)
class Aspect(RunNumber):
    """One aspect of collapse, judged at the last checkpoint."""

    aspect: str
    judgement: Judgement
    sentence: str
    threshold: float
    """A value under it counts as collapsed."""
    partly: float
    """A value under it counts as partly collapsed."""
    baseline: float | None
    """The value that is read where nothing carries information; a value that is not clearly below it is no collapse."""
    at_floor: bool | None
    """Whether rounding may have made it."""
    estimate: bool
    low: float | None
    high: float | None


def entries(
    layers: pd.DataFrame, maps: pd.DataFrame, checkpoints: Sequence[Mapping[str, Any]], reads: str, obstacle: str
) -> tuple[Aspect, ...]:
    """Return every aspect, judged at the last checkpoint.

    Args:
        layers: the rows of metrics.csv of one run on one split.
        maps: the rows of weights.csv of the same run.
        checkpoints: of the run, in order.
        reads: the layer that the classifier reads, or the last one before the outputs where there is no classifier.
        obstacle: why nothing can be compared with a classifier; empty where it can.
    """
    here = layers[layers["layer"] == reads]
    n_classes = checkpoints[-1].get("n_classes")
    return tuple(
        _entry(rule, maps if rule.aspect == "balance" else here, checkpoints, reads, obstacle, n_classes)
        for rule in RULES
    )


def over_checkpoints(rows: pd.DataFrame, checkpoints: Sequence[Mapping[str, Any]]) -> dict[str, "pd.Series[Any]"]:
    """Return each checkpoint's row: of several conventions the one that leads, of several layers the largest value."""
    found: dict[str, pd.Series[Any]] = {}
    place = ["map", "next_map"] if "map" in rows.columns else ["layer"]
    one_each = leading(rows, ["checkpoint", *place])
    for known in checkpoints:
        own = one_each[one_each["checkpoint"] == known["checkpoint"]]
        if len(own):
            found[str(known["checkpoint"])] = own.loc[
                own["value"].idxmax() if own["value"].notna().any() else own.index[0]
            ]
    return found


def number_over(
    metric: str,
    quantity: str,
    rows: Mapping[str, "pd.Series[Any]"],
    checkpoints: Sequence[Mapping[str, Any]],
    at_collapse: float | None,
    absent: str = "not measured",
) -> dict[str, Any]:
    """Return the fields of a Number."""
    values = tuple(
        _float(rows[name]["value"]) if (name := known["checkpoint"]) in rows else None for known in checkpoints
    )
    last = rows.get(checkpoints[-1]["checkpoint"])
    reason = "" if values[-1] is not None else absent if last is None else str(last["reason"])
    return {
        "metric": metric,
        "quantity": quantity,
        "layer": "" if last is None else _place(last),
        "first": next((value for value in values if value is not None), None),
        "last": values[-1],
        "at_collapse": at_collapse,
        "values": values,
        "reason": reason,
    }


def _entry(
    rule: Rule,
    rows: pd.DataFrame,
    checkpoints: Sequence[Mapping[str, Any]],
    reads: str,
    obstacle: str,
    n_classes: int | None,
) -> Aspect:
    own = over_checkpoints(rows[(rows["metric"] == rule.metric) & (rows["quantity"] == rule.quantity)], checkpoints)
    absent = "no two linear maps with nothing between them" if rule.aspect == "balance" else "not measured"
    facts = number_over(
        rule.metric, rule.quantity, own, checkpoints, 0.0, obstacle if rule.aspect == "NC3" and obstacle else absent
    )
    facts["layer"] = facts["layer"] or ("" if rule.aspect == "balance" else reads)
    row = own.get(str(checkpoints[-1]["checkpoint"]))
    known: dict[str, Any] = {} if row is None else dict(row)
    baseline = _float(known.get("baseline"))
    floor, estimate = known.get("at_floor"), known.get("estimate")
    judgement, clear = judge(rule, facts["last"], baseline, n_classes)
    at_floor = None if floor is None or pd.isna(floor) else bool(floor)
    return Aspect(
        **facts,
        aspect=rule.aspect,
        judgement=judgement,
        sentence=_sentence(rule, judgement, facts, baseline, clear=clear, at_floor=at_floor),
        threshold=threshold_of(rule),
        partly=rule.partly,
        baseline=baseline,
        at_floor=at_floor,
        estimate=estimate is not None and not pd.isna(estimate) and bool(estimate),
        low=_float(known.get("low")),
        high=_float(known.get("high")),
    )


def _sentence(
    rule: Rule,
    judgement: Judgement,
    facts: Mapping[str, Any],
    baseline: float | None,
    *,
    clear: bool | None,
    at_floor: bool | None,
) -> str:
    name = f" ({rule.aspect})" if rule.aspect in ASPECTS else ""
    metric = " ".join(part for part in (rule.metric, rule.quantity) if part)
    if facts["last"] is None:
        return f"Nothing can be said of {_topic(rule)}{name}: {facts['reason']}."
    start = {"collapsed": rule.yes, "partly": rule.half, "not": rule.no}[judgement]
    said = percent if rule.metric == "nc4_mismatch" else number
    where = f"of maps {facts['layer']}" if rule.aspect == "balance" else f"at layer {facts['layer']}"
    reads = f"{metric} is {said(facts['last'])} {where}"
    limit = rule.partly if judgement == "not" else threshold_of(rule)
    if clear is False:
        parts = [
            f"{reads}, and chance reads {said(baseline or 0.0)} there, which is {_against(facts['last'], baseline)}"
        ]
    else:
        parts = [f"{reads}, {'under' if facts['last'] < limit else 'not under'} {_limit(rule, limit)}"]
        parts += [] if baseline is None else [f"chance reads {said(baseline)}"]
    if facts["first"] != facts["last"]:
        parts.append(f"at first it was {said(facts['first'])}")
    if at_floor:
        parts.append("rounding alone may have made it, so it may well be 0")
    return f"{start}{name}: {'; '.join(parts)}."


def _limit(rule: Rule, limit: float) -> str:
    return percent(limit) if rule.metric == "nc4_mismatch" else f"{limit:g}"


def _against(value: float, baseline: float | None) -> str:
    return "no more" if baseline is not None and value >= baseline else "not clearly more"


def _topic(rule: Rule) -> str:
    return {
        "NC1": "how the samples of a class scatter",
        "NC2": "how evenly the class means stand apart",
        "NC3": "whether the classifier points where the class means do",
        "NC4": "whether the nearest class mean decides as the network does",
        "balance": "the balance of the weights",
    }[rule.aspect]


def headline(found: Sequence[Aspect]) -> str:
    """Return all judgements in one sentence, without numbers."""
    by: dict[str, list[str]] = {}
    for entry in found:
        if entry.aspect in ASPECTS:
            by.setdefault(entry.judgement, []).append(entry.aspect)
    if set(by) <= {"unknown"}:
        said = ["nothing that was measured tells of collapse"]
    elif set(by) <= {"collapsed"}:
        said = ["all of NC1 to NC4 have collapsed"]
    elif set(by) <= {"not"}:
        said = ["nothing has collapsed, of NC1 to NC4"]
    else:
        forms = (("collapsed", "collapsed"), ("partly", "partly"), ("not", "not"), ("unknown", "cannot be told"))
        said = [f"{listed(by[judgement])} {words}" for judgement, words in forms if judgement in by]
    balance = next((entry.judgement for entry in found if entry.aspect == "balance"), "unknown")
    if balance != "unknown":
        said.append(
            {
                "collapsed": "the weights balanced",
                "partly": "the weights partly balanced",
                "not": "the weights not balanced",
            }[balance]
        )
    return ", ".join(said)


def _place(row: "pd.Series[Any]") -> str:
    return joined(str(row["map"]), str(row["next_map"])) if "map" in row else str(row["layer"])


def _float(value: Any) -> float | None:
    return None if value is None or pd.isna(value) or math.isinf(value) else float(value)
