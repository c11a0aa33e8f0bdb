"""Put the findings of trajectory.csv into sentences: how deep a run has collapsed, since when, and how fast it changes.

In: the findings of one run, and what was judged of it. Out: `Told`, one finding in words.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ncscan.errors import Undefined
from ncscan.report.verdict.judging import Aspect
from ncscan.report.verdict.phrases import at_step, span, times
from ncscan.report.verdict.rules import RULES, threshold_of
from ncscan.tables import onset_rows, onsets
from ncscan.trajectory import COLLAPSED, DECAYING
from ncscan.wording import percent

MOVES = 0.1
"""A change of the fitted law over the terminal phase by less than this share is no motion: with a handful of
checkpoints the noise of training alone gives as much."""

POOR_FIT = 0.5
"""Under this r² the law explains less than half of what happens, and its half-life is only a direction."""


@dataclass(frozen=True)
class Told:
    """One finding in words."""

    finding: str
    """Its name in trajectory.csv."""
    metric: str
    layer: str
    value: float | None
    """The stage, the step, the half-life; None where there is none."""
    sentence: str


def depth(findings: pd.DataFrame, checkpoint: str) -> tuple[Told, ...]:
    """Return from which layer on the last checkpoint has collapsed, decides, and changes no more."""
    own = findings[findings["checkpoint"] == checkpoint]
    return tuple(
        told
        for told in (_collapsed(own), _decides(own), _tunnel(own, "ncc_error"), _tunnel(own, "numerical_rank"))
        if told is not None
    )


def since(findings: pd.DataFrame, judged: Sequence[Aspect], unit: str) -> tuple[Told, ...]:
    """Return when the terminal phase began, and since when each aspect is under its threshold."""
    own = findings[findings["checkpoint"] == ""]
    return (*_phase(own, unit), *_first_under(own, judged, unit))


def motion(findings: pd.DataFrame, judged: Sequence[Aspect], unit: str, last_step: int | None) -> tuple[Told, ...]:
    """Return whether each aspect still falls in the terminal phase, or has come to rest."""
    own = findings[findings["checkpoint"] == ""]
    begun = next(iter(onsets(own).values()), None)
    if begun is None or isinstance(begun, Undefined) or last_step is None:
        return ()
    return tuple(
        told
        for entry in judged
        if entry.metric in DECAYING and (told := _motion(own, entry, unit, last_step - begun)) is not None
    )


def weight_decay(findings: pd.DataFrame, unit: str, length: float | int | None) -> tuple[Told, ...]:
    """Return how fast neighbouring linear maps balance, against the rate that weight decay predicts.

    `length` is that of the run in steps.
    """
    own = findings[(findings["checkpoint"] == "") & (findings["finding"] == "balance_decay")]
    # Of a pair whose first linear map has a bias, the form with the bias is what gradients conserve.
    pairs = own[own["metric"].isin(["balancedness", "balancedness_bias"])]
    with_bias = set(pairs["layer"][pairs["metric"] == "balancedness_bias"])
    leading = pairs[(pairs["metric"] == "balancedness_bias") | ~pairs["layer"].isin(with_bias)]
    return tuple(_balance(str(layer), rows, unit, length) for layer, rows in leading.groupby("layer", sort=False))


def _row(
    own: pd.DataFrame, finding: str, metric: str, quantity: str, layer: str | None = None
) -> "pd.Series[Any] | None":
    found = own[(own["finding"] == finding) & (own["metric"] == metric) & (own["quantity"] == quantity)]
    if layer is not None:
        found = found[found["layer"] == layer]
    return found.iloc[0] if len(found) else None


def _value(own: pd.DataFrame, finding: str, metric: str, quantity: str, layer: str | None = None) -> float | None:
    row = _row(own, finding, metric, quantity, layer)
    return None if row is None or pd.isna(row["value"]) else float(row["value"])


def _stage(row: "pd.Series[Any]") -> str:
    return f"layer {row['layer']} (stage {row['value']:g}, where 0 is the input)"


def _collapsed(own: pd.DataFrame) -> Told | None:
    metric, threshold = COLLAPSED
    row = _row(own, "first_collapsed", metric, "stage")
    if row is None:
        return None
    if pd.isna(row["value"]):
        said = f"At no layer does {metric} fall under {threshold:g} and stay there: {row['reason']}."
        return Told("first_collapsed", metric, "", None, said)
    said = f"From {_stage(row)} on {metric} stays under {threshold:g}, down to the outputs."
    return Told("first_collapsed", metric, str(row["layer"]), float(row["value"]), said)


def _decides(own: pd.DataFrame) -> Told | None:
    row = _row(own, "effective_depth", "ncc_error", "stage")
    if row is None:
        return None
    if pd.isna(row["value"]):
        said = f"At no layer do the class means decide as well as the whole network: {row['reason']}."
        return Told("effective_depth", "ncc_error", "", None, said)
    said = f"At {_stage(row)} the nearest class mean already errs at most 1 % more than the whole network."
    return Told("effective_depth", "ncc_error", str(row["layer"]), float(row["value"]), said)


def _tunnel(own: pd.DataFrame, metric: str) -> Told | None:
    row = _row(own, "tunnel_start", metric, "stage")
    if row is None:
        return None
    words = {"ncc_error": "the error of the nearest class mean", "numerical_rank": "the rank of the features"}[metric]
    if pd.isna(row["value"]):
        return Told("tunnel_start", metric, "", None, f"By {words} there is no tunnel to tell: {_why(row)}.")
    said = f"From {_stage(row)} on {words} hardly changes any more: the tunnel."
    return Told("tunnel_start", metric, str(row["layer"]), float(row["value"]), said)


def _why(row: "pd.Series[Any]") -> str:
    return str(row["reason"]).removeprefix("no tunnel: ")


def _phase(own: pd.DataFrame, unit: str) -> Iterator[Told]:
    rows = onset_rows(own)
    if rows.empty:
        return
    row = rows.iloc[0]
    if pd.isna(row["value"]):
        yield Told("terminal_phase", "error", "", None, f"There is no terminal phase: {row['reason']}.")
        return
    relapses = int(_value(own, "terminal_phase", "error", "relapses") or 0)
    said = f"The training error is 0 since {at_step(row['value'], unit)}, {_relapsed(relapses)}."
    yield Told("terminal_phase", "error", str(row["layer"]), float(row["value"]), said)


def _relapsed(relapses: int) -> str:
    if not relapses:
        return "and has stayed 0"
    return "though a later checkpoint errs again" if relapses == 1 else f"though {relapses} later checkpoints err again"


def _first_under(own: pd.DataFrame, judged: Sequence[Aspect], unit: str) -> Iterator[Told]:
    for rule, entry in zip(RULES, judged, strict=True):
        limit = threshold_of(rule)
        row = _row(own, "first_under", rule.metric, f"{rule.quantity} < {limit:g}".strip(), entry.layer)
        if row is None or entry.last is None:
            continue
        where = f"{rule.metric} of {entry.layer}"
        if pd.isna(row["value"]):
            yield Told("first_under", rule.metric, entry.layer, None, f"{where} never was under {limit:g}.")
            continue
        still = "" if entry.last < limit else ", and is no longer"
        said = f"{where} was under {limit:g} first at {at_step(row['value'], unit)}{still}."
        yield Told("first_under", rule.metric, entry.layer, float(row["value"]), said)


def _motion(own: pd.DataFrame, entry: Aspect, unit: str, phase: int) -> Told | None:
    rate = _value(own, "decay", entry.metric, "rate", entry.layer)
    where = f"{entry.metric} of {entry.layer}"
    if rate is None:
        row = _row(own, "decay", entry.metric, "rate", entry.layer)
        if row is None:
            return None
        said = f"Whether {where} is still moving cannot be told: {row['reason']}."
        return Told("decay", entry.metric, entry.layer, None, said)
    r2, points = (_value(own, "decay", entry.metric, quantity, entry.layer) for quantity in ("r2", "points"))
    fit = f"r² {r2:.2f}, {points:g} points" if r2 is not None else f"{points or 0:g} points"
    change = math.expm1(-rate * phase)  # by the fitted law, from the onset to the end
    if -MOVES < change < MOVES:
        rest = "has come to rest" if entry.judgement == "collapsed" else "no longer moves, without having collapsed"
        said = f"{where} {rest}: over the terminal phase it changes by {percent(abs(change))} ({fit})."
        return Told("decay", entry.metric, entry.layer, None, said)
    if change > 0:
        return Told("decay", entry.metric, entry.layer, None, f"{where} rises again in the terminal phase ({fit}).")
    half_life = math.log(2) / rate
    doubt = "; the law fits poorly" if r2 is not None and r2 < POOR_FIT else ""
    said = f"{where} still falls: it halves every {span(half_life, unit)} ({fit}{doubt})."
    return Told("decay", entry.metric, entry.layer, half_life, said)


def _balance(layer: str, rows: pd.DataFrame, unit: str, length: float | int | None) -> Told:
    metric = str(rows["metric"].iloc[0])
    values = {str(q): None if pd.isna(v) else float(v) for q, v in zip(rows["quantity"], rows["value"], strict=True)}
    reasons = dict(zip(rows["quantity"], rows["reason"], strict=True))
    rate, half_life, r2, ratio = (values.get(quantity) for quantity in ("rate", "half_life", "r2", "ratio"))

    def told(sentence: str) -> Told:
        return Told("balance_decay", metric, layer, ratio, sentence)

    if rate is None:
        return told(f"How fast maps {layer} balance cannot be told: {reasons.get('rate', 'it was not measured')}.")
    fit = f"{values['points'] or 0:g} points" if r2 is None else f"r² {r2:.3f}, {values['points'] or 0:g} points"
    if ratio is not None and half_life is not None:
        by = f"{times(ratio)} times the rate that weight decay predicts"
        return told(f"Maps {layer} balance at {by}: what they differ by halves every {span(half_life, unit)} ({fit}).")
    if ratio is not None:
        return told(f"Maps {layer} do not balance, though weight decay predicts that they do ({fit}).")
    why = f"no rate is predicted: {reasons.get('ratio', 'not compared with theory')}"
    if length is not None and abs(math.expm1(-rate * length)) < MOVES:
        change = abs(math.expm1(-rate * length))
        return told(f"What maps {layer} differ by is the same over the whole run, to {percent(change)} ({fit}); {why}.")
    if half_life is None:
        return told(f"What maps {layer} differ by grows ({fit}); {why}.")
    return told(f"What maps {layer} differ by halves every {span(half_life, unit)} ({fit}); {why}.")
