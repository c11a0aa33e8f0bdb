"""What is doubtful about a verdict, and why.

In: what is known of a run's checkpoints, its warnings, its rows, and what was judged. Out: `Doubt`, a kind and a
sentence.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from ncscan.ordering import NOT_KNOWN, ORDER
from ncscan.report.verdict.judging import Aspect, RunNumber
from ncscan.report.verdict.rules import CLEARLY_OF_FEW
from ncscan.trajectory import COLLAPSED, FEWEST
from ncscan.wording import alike, listed, number, percent

DoubtKind = Literal[
    "unfilled",
    "class order",
    "lacking classes",
    "integrity",
    "replay",
    "rank",
    "fit",
    "from the start",
    "floor",
    "estimate",
    "undefined",
    "two classes",
    "few classes",
    "imbalance",
    "few checkpoints",
    "steps",
]

_KINDS: tuple[tuple[str, DoubtKind], ...] = (
    ("the checkpoint does not fill", "unfilled"),
    ("numbers its classes otherwise", "class order"),
    ("of the network's", "lacking classes"),
    ("the class means differ in", "rank"),
)
"""The phrases by which the doubts of a checkpoint are recognised; others are about its replay."""

_FIRST: tuple[DoubtKind, ...] = ("unfilled", "class order", "lacking classes")
"""What comes before everything else: other networks or classes are compared than the numbers say."""

IMBALANCED = 2.0
"""From this ratio of the largest class to the smallest on, how classes are weighted decides what many numbers read."""

NAMED = 3
"""The number of checkpoints that a doubt names; of the others it gives the count."""


@dataclass(frozen=True)
class Doubt:
    """One reason to read the numbers with care."""

    kind: DoubtKind
    sentence: str


def doubts(
    run: str,
    checkpoints: Sequence[Mapping[str, Any]],
    series: Sequence[Mapping[str, Any]],
    layers: pd.DataFrame,
    judged: Sequence[Aspect],
    error: RunNumber | None,
    warnings: Sequence[str],
) -> tuple[Doubt, ...]:
    """Return everything that is doubtful about one run, what matters most first.

    Args:
        run: its name.
        checkpoints: all of the run.
        series: those that are judged as its steps, in order; one of them where their order is not known.
        layers: the rows of metrics.csv of these.
        judged: what was judged of them.
        error: the training error.
        warnings: as of `verdicts`.
    """
    of_checkpoints, of_run = tuple(_of_checkpoints(checkpoints)), tuple(_integrity(run, checkpoints, warnings))
    return (
        *(doubt for doubt in of_checkpoints if doubt.kind == _FIRST[0]),
        *(doubt for doubt in of_run if doubt.kind == "steps"),
        *(doubt for kind in _FIRST[1:] for doubt in of_checkpoints if doubt.kind == kind),
        *(doubt for doubt in of_run if doubt.kind != "steps"),
        *(doubt for doubt in of_checkpoints if doubt.kind not in _FIRST),
        *_fit(error),
        *_classes(series, layers),
        *_from_the_start(series, layers, judged),
        *_numbers(judged),
        *_undefined(series, layers, judged),
        *_few(series),
    )


def _integrity(run: str, checkpoints: Sequence[Mapping[str, Any]], warnings: Sequence[str]) -> Iterator[Doubt]:
    """Yield the warnings about this run; those that its checkpoints bring with them are given as theirs."""
    own = {f"{run}/{known['checkpoint']}: {doubt}" for known in checkpoints for doubt in known.get("doubts", ())}
    names = [f"{run}/{known['checkpoint']}" for known in checkpoints]
    for warning in warnings:
        about = warning.startswith(f"{run}: ") or any(
            re.search(rf"(?:^|[ ,:]){re.escape(name)}(?:$|[ ,:])", warning) for name in names
        )
        if about and warning not in own:
            yield Doubt("steps" if NOT_KNOWN in warning else "integrity", _sentence(warning))


def _of_checkpoints(checkpoints: Sequence[Mapping[str, Any]]) -> Iterator[Doubt]:
    """Yield the doubts of single checkpoints; those that differ in their numbers alone are given once."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for known in checkpoints:
        for doubt in known.get("doubts", ()):
            kinds.setdefault(alike(str(doubt)), []).append((str(known["checkpoint"]), str(doubt)))
    for found in kinds.values():
        names = [name for name, _ in found]
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        every = "at every checkpoint" if len(names) == len(checkpoints) > 1 else f"at {listed(names[:NAMED] + more)}"
        text = found[-1][1]
        kind: DoubtKind = next((kind for part, kind in _KINDS if part in text), "replay")
        like = ", or alike" if len({text for _, text in found}) > 1 else ""
        yield Doubt(kind, _sentence(f"{text} ({every}{like})"))


def _fit(error: RunNumber | None) -> Iterator[Doubt]:
    if error is None or error.last is None:
        yield Doubt("fit", "The training error is not known: whether the network fits its data cannot be told.")
    elif error.last > 0:
        said = f"The training error is still {percent(error.last)}: theory speaks of the phase after it has reached 0."
        yield Doubt("fit", said)


def _classes(checkpoints: Sequence[Mapping[str, Any]], layers: pd.DataFrame) -> Iterator[Doubt]:
    n_classes = int(checkpoints[-1].get("n_classes") or 0)
    if n_classes == 2:
        said = "With two classes the centred means are a simplex whatever the network does"
        yield Doubt("two classes", f"{said}: NC2 tells nothing, and NC3 only of one direction.")
    elif n_classes in CLEARLY_OF_FEW:
        share = f"{CLEARLY_OF_FEW[n_classes]:g}"
        said = f"With {n_classes} classes random directions often are nearly a simplex"
        yield Doubt("few classes", f"{said}: only a value under {share} of the chance level is clearly below it.")
    ratios = layers["value"][(layers["metric"] == "imbalance") & (layers["quantity"] == "ratio")].dropna()
    if len(ratios) and ratios.iloc[-1] >= IMBALANCED:
        said = f"The largest class has {number(ratios.iloc[-1])} times the samples of the smallest"
        yield Doubt("imbalance", f"{said}: classes count alike here; metrics.csv also has the rows where samples do.")


def _from_the_start(
    checkpoints: Sequence[Mapping[str, Any]], layers: pd.DataFrame, judged: Sequence[Aspect]
) -> Iterator[Doubt]:
    """Yield a doubt about what training need not have caused: it was in the data, or at the first checkpoint."""
    metric, threshold = COLLAPSED
    last = layers["checkpoint"] == checkpoints[-1]["checkpoint"]
    inputs = layers["value"][last & (layers["metric"] == metric) & (layers["kind"] == "input")]
    if (inputs < threshold).any():
        said = f"The classes are that far apart in the data already: {metric} of the input is {number(inputs.min())}"
        yield Doubt("from the start", f"{said}, under {threshold:g}.")
    early = [e.aspect for e in judged if len(checkpoints) > 1 and e.first is not None and e.first < e.threshold]
    if early:
        names = listed([f"the {aspect}" if aspect == "balance" else aspect for aspect in early])
        yield Doubt("from the start", f"At the first checkpoint {names} already read as at collapse.")


def _numbers(judged: Sequence[Aspect]) -> Iterator[Doubt]:
    floored = [entry.metric for entry in judged if entry.at_floor and entry.last is not None]
    if floored:
        verb = "stands" if len(floored) == 1 else "stand"
        yield Doubt(
            "floor",
            f"{listed(floored)} {verb} at the floor of what rounding leaves: the true value may well be 0.",
        )
    estimated = [entry.metric for entry in judged if entry.estimate and entry.last is not None]
    if estimated:
        verb = "is an estimate" if len(estimated) == 1 else "are estimates"
        yield Doubt("estimate", f"{listed(estimated)} {verb}: not every direction of the features could be resolved.")


def _undefined(
    checkpoints: Sequence[Mapping[str, Any]], layers: pd.DataFrame, judged: Sequence[Aspect]
) -> Iterator[Doubt]:
    for entry in judged:
        if entry.last is None and entry.aspect != "balance":
            yield Doubt("undefined", f"{entry.aspect} is not judged: {entry.reason}.")
    own = layers[layers["checkpoint"] == checkpoints[-1]["checkpoint"]]
    missing = own[own["value"].isna()]
    if len(missing):
        often = missing["reason"].value_counts(sort=False)
        reason = str(often.idxmax())
        said = f"{len(missing):,} of the {len(own):,} numbers of the layers have no value at the last checkpoint"
        yield Doubt("undefined", f"{said}; most often: {reason}.")


def _few(checkpoints: Sequence[Mapping[str, Any]]) -> Iterator[Doubt]:
    n = len(checkpoints)
    if checkpoints[-1].get("step") is None and checkpoints[-1].get("step_unit") == ORDER:
        return  # the first doubt of all says more
    if n == 1:
        yield Doubt(
            "few checkpoints", "There is one checkpoint: since when, how fast and whether at rest cannot be told."
        )
    elif n < FEWEST:
        yield Doubt("few checkpoints", f"There are {n} checkpoints: a rate needs {FEWEST} in the terminal phase.")
    if n > 1 and checkpoints[-1].get("step_unit") == ORDER:
        yield Doubt("steps", "Of the checkpoints only the order is known, not the steps: no rate can be told.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
