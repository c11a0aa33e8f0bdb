"""What one run comes to at its last checkpoint, part by part.

In: the complete tables, what is known of the run's checkpoints, and warnings. Out: `RunVerdict`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncscan.ordering import BESIDE
from ncscan.report.verdict.caveats import Doubt, doubts
from ncscan.report.verdict.finding_sentences import Told, depth, motion, since, weight_decay
from ncscan.report.verdict.judging import Aspect, RunNumber, entries, headline, number_over, over_checkpoints
from ncscan.report.verdict.phrases import when
from ncscan.report.verdict.rules import Judgement, overall
from ncscan.report.verdict.theory_claims import Certificate, Hypothesis, certificates, hypotheses, theorem
from ncscan.rows import in_series, of_main_split
from ncscan.tables import read_layer
from ncscan.wording import percent


@dataclass(frozen=True)
class RunVerdict:
    """What one run comes to."""

    run: str
    group: str
    checkpoint: str
    """The last one, which is judged."""
    step: int | None
    step_unit: str
    steps: tuple[int | None, ...]
    """The steps of every checkpoint, in order."""
    reads: str
    """The layer that is judged: what the classifier reads, else the last before the outputs; may be empty."""
    has_classifier: bool
    judgement: Judgement
    """The judgement of NC1 to NC4 together, as far as each is known."""
    scope: str
    """Describes what was looked at, as a sentence."""
    headline: str
    """All judgements in one sentence."""
    error: RunNumber | None
    """The training error."""
    head_condition: RunNumber | None
    entries: tuple[Aspect, ...]
    """NC1, NC2, NC3, NC4 and the balance of the weights, in that order."""
    depth: tuple[Told, ...]
    since: tuple[Told, ...]
    motion: tuple[Told, ...]
    theorem: str
    """The statement of theorem 3.1, as a sentence; empty where nothing is known."""
    hypotheses: tuple[Hypothesis, ...]
    certificates: tuple[Certificate, ...]
    weight_decay: tuple[Told, ...]
    doubts: tuple[Doubt, ...]


def verdict(
    tables: Mapping[str, pd.DataFrame], checkpoints: Sequence[Mapping[str, Any]], warnings: Sequence[str] = ()
) -> RunVerdict:
    """Return the verdict on one run at its last checkpoint.

    Args:
        tables: complete; the rows of other runs are left aside.
        checkpoints: what is known of this run's, in order, at least one.
        warnings: as of `verdicts`.
    """
    run = str(checkpoints[0]["run"])
    # What stands beside the run is none of its steps; where none has a step, the one at hand is judged as if alone.
    series = [known for known in checkpoints if known.get("step_unit") != BESIDE] or list(checkpoints)
    ordered = len(series) == 1 or series[-1].get("step") is not None
    last = series[-1]
    seen = series if ordered else [last]
    # Only this run, and of the theory only its last checkpoint.
    layers, maps, theory, findings = (
        table[table["run"] == run]
        for table in (tables[name] for name in ("metrics", "weights", "theory", "trajectory"))
    )
    layers, maps = of_main_split(in_series(layers)), in_series(maps)
    theory = theory[theory["checkpoint"] == last["checkpoint"]]
    # Everything is judged at the layer that the classifier reads, or at the last one where there is none.
    reads, has_classifier = _judged_at(layers)
    obstacle = "" if has_classifier else "no linear map writes the logits, so there is no classifier to compare with"
    judged = entries(layers, maps, seen, reads, obstacle)
    error, unit = _error(layers, seen), str(last.get("step_unit", ""))
    assumed = hypotheses(theory)
    step = last.get("step")
    return RunVerdict(
        run=run,
        group=str(last.get("group", "")),
        checkpoint=str(last["checkpoint"]),
        step=step,
        step_unit=unit,
        steps=tuple(known.get("step") for known in seen),
        reads=reads,
        has_classifier=has_classifier,
        judgement=overall({entry.aspect: entry.judgement for entry in judged}),
        scope=_scope(checkpoints, series, error, ordered=ordered),
        headline=f"{_at(last, ordered=ordered)}: {headline(judged)}.",
        error=error,
        head_condition=_head_condition(maps, seen),
        entries=judged,
        depth=depth(findings, str(last["checkpoint"])),
        since=since(findings, judged, unit) if ordered else (),
        motion=motion(findings, judged, unit, step) if ordered else (),
        theorem=theorem(theory, assumed),
        hypotheses=assumed,
        certificates=certificates(theory, reads),
        weight_decay=weight_decay(findings, unit, _length(series)) if ordered else (),
        doubts=doubts(run, checkpoints, seen, layers, judged, error, warnings),
    )


def _judged_at(layers: pd.DataFrame) -> tuple[str, bool]:
    """Return the deepest layer compared with a classifier, else the deepest before the outputs; and which it is."""
    ordered = layers.sort_values("depth", kind="stable")
    if (read := read_layer(layers)) is not None:
        return read, True
    outputs = set(layers["layer"][layers["metric"].isin(["error", "loss"])])
    inner = ordered[~ordered["layer"].isin(outputs)]
    rest = inner if len(inner) else ordered
    return (str(rest["layer"].iloc[-1]), False) if len(rest) else ("", False)


def _error(layers: pd.DataFrame, checkpoints: Sequence[Mapping[str, Any]]) -> RunNumber | None:
    """Return the error that was measured, else the one that follows from the replay's accuracy."""
    rows = over_checkpoints(layers[layers["metric"] == "error"], checkpoints)
    found = number_over("error", "", rows, checkpoints, 0.0)
    accuracies = [known.get("accuracy") for known in checkpoints]
    values = tuple(
        1 - accuracy if value is None and accuracy is not None else value
        for value, accuracy in zip(found["values"], accuracies, strict=True)
    )
    if all(value is None for value in values):
        return None
    first = next(value for value in values if value is not None)
    return RunNumber(
        **found
        | {
            "values": values,
            "first": first,
            "last": values[-1],
            "reason": "" if values[-1] is not None else found["reason"],
        }
    )


def _head_condition(maps: pd.DataFrame, checkpoints: Sequence[Mapping[str, Any]]) -> RunNumber | None:
    own = maps[(maps["metric"] == "head_condition") & (maps["quantity"] == "condition")]
    if not len(own):
        return None
    return RunNumber(
        **number_over("head_condition", "condition", over_checkpoints(own, checkpoints), checkpoints, None)
    )


def _length(checkpoints: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the length from the first checkpoint to the last, in steps."""
    first, last = checkpoints[0].get("step"), checkpoints[-1].get("step")
    return None if first is None or last is None else last - first


def _at(last: Mapping[str, Any], *, ordered: bool) -> str:
    return f"At the last checkpoint, {when(last)}" if ordered else f"At {when(last)}, which need not be the last"


def _scope(
    checkpoints: Sequence[Mapping[str, Any]],
    series: Sequence[Mapping[str, Any]],
    error: RunNumber | None,
    *,
    ordered: bool,
) -> str:
    first, last = series[0], series[-1]
    if not ordered:
        what = f"{len(series)} checkpoints, in an order that is not known"
    elif len(series) > 1:
        what = f"{len(series)} checkpoints, {when(first)} to {when(last)}"
    else:
        what = f"One checkpoint, {when(last)}"
    if beside := len(checkpoints) - len(series):
        what += f", and {beside} beside {'it' if len(series) == 1 else 'them'}"
    if last.get("n_samples") is not None and last.get("n_classes") is not None:
        what += f", on {last['n_samples']:,} samples of {last['n_classes']} classes"
    if error is None or error.last is None:
        return f"{what}."
    if not ordered:
        return f"{what}."
    return f"{what}. The training error {'ends at' if len(series) > 1 else 'is'} {percent(error.last)}."
