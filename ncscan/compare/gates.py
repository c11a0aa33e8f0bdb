"""Gates: conditions on single numbers of a report or a diff, under which a run has failed.

In: gates as they were parsed, and every number in one frame. Out: what became of each gate, with the rows that decided
it. A gate must mean one row or say `all` or `any`, and what it means must be there: a gate that judges nothing would
pass for ever.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ncscan.compare.gate_parser import Gate, Pattern
from ncscan.compare.landmarks import LAYER_WORDS, STEP_WORDS, Landmarks, landmarks
from ncscan.errors import Undefined, UsageError
from ncscan.ordering import NOT_KNOWN
from ncscan.rows import is_leading, leading, of_training
from ncscan.splits import IMPLIED
from ncscan.tables import numbers
from ncscan.wording import listed_up_to, visible

MOST_ROWS = 5
"""The number of rows that a result names; of more it gives the count."""
_few = partial(listed_up_to, 8)
"""Names that a message lists."""

MOST_COMPARED = 100
"""Characters of a name for which similar ones are looked for: the search takes their square."""

_OF_A_SIDE = ("run", "group", "checkpoint", "step")
"""The keys that a diff has for both of its sides: a row is meant when either fits."""
_ORDER = ("table", "run", "group", "checkpoint", "split", "layer", "classifier", "quantity", "weighting", "step")


@dataclass(frozen=True)
class Field:
    """Holds the numbers that gates are judged on."""

    frame: pd.DataFrame
    """Has one row per number: those of a report as `numbers` gives them, or the rows of a diff."""
    sides: tuple[tuple[str, Landmarks], ...]
    """The suffix of the columns of each side, and where its words point: one side of a report, two of a diff."""
    values: Mapping[str, str]
    """What may be judged → its column; the first is taken when a gate does not name one."""


def field_of(tables: Mapping[str, pd.DataFrame]) -> Field:
    """Return the numbers of one report."""
    return Field(numbers(tables), (("", landmarks(tables)),), {"value": "value"})


@dataclass(frozen=True)
class Judged:
    """One row that a gate looked at."""

    where: str
    """Names run, checkpoint, step, layer, metric and conventions, in words."""
    value: float | None
    reason: str
    """Why there is no value, else empty."""

    def __str__(self) -> str:
        return f"{self.where}: {f'no value, {visible(self.reason)}' if self.value is None else f'{self.value:.6g}'}"


@dataclass(frozen=True)
class GateResult:
    """What became of one gate."""

    gate: str
    """The gate in its plain form."""
    passed: bool
    matched: int = 0
    """The number of rows that it means."""
    broken: int = 0
    """The number of rows in which its condition holds, or that have no value."""
    rows: tuple[Judged, ...] = field(default=())
    """The worst of them, or where it passed the row that is nearest to failing."""
    problem: str = ""
    """Why it cannot be judged; then it has not passed."""


def judge_all(gates: Sequence[Gate], on: Field) -> list[GateResult]:
    """Return the result of every gate; one that cannot be judged gives its reason, and the others are judged."""
    results = []
    for gate in gates:
        try:
            results.append(judge(gate, on))
        except UsageError as error:
            results.append(GateResult(visible(str(gate)), passed=False, problem=str(error)))
    return results


def judge(gate: Gate, on: Field) -> GateResult:
    """Return what becomes of one gate: it passes where its condition does not hold and every value is there.

    With `all` its condition has to hold for every row to fail, with `any` for one; a row without a value always fails.

    Raises: UsageError when it means no row, or several without saying `all` or `any`.
    """
    rows = _chosen(gate, on)
    if gate.over == "one" and len(rows) > 1:
        raise UsageError(_too_many(gate, rows, on))
    of = gate.get("of")
    column = on.values[of.text if of else next(iter(on.values))]
    values = rows[column].where(rows["_reason"] == "")
    missing = values.isna()
    holds = values.map(gate.holds, na_action="ignore").astype("boolean").fillna(value=False).astype(bool)
    broken = holds | missing
    failed = bool(missing.any() or (holds.all() if gate.over == "all" else holds.any()))
    shown = rows[broken] if failed else rows
    severity = _severity(gate, values).mask(missing, float("inf"))[shown.index]
    worst = severity.sort_values(ascending=False, kind="stable").index[: MOST_ROWS if failed else 1]
    return GateResult(
        gate=visible(str(gate)),
        passed=not failed,
        matched=len(rows),
        broken=int(broken.sum()),
        rows=tuple(_judged(rows.loc[i], values[i], column, on) for i in worst),
    )


def _severity(gate: Gate, values: "pd.Series[float]") -> "pd.Series[float]":
    """Return how far each value is on the wrong side."""
    off = values - gate.threshold
    match gate.operator[0]:
        case ">":
            return off
        case "<":
            return -off
        case "=":
            return -off.abs()
    return off.abs()


def _chosen(gate: Gate, on: Field) -> pd.DataFrame:
    """Return the rows that a gate means, with `_reason` where a word points nowhere."""
    rows = on.frame.assign(_reason="")
    fits = gate.metric.fits()
    known = list(dict.fromkeys(rows["metric"]))
    rows = rows[rows["metric"].isin([name for name in known if fits(name)])]
    if rows.empty:
        raise UsageError(f"{gate.source} {gate}: no metric {gate.metric}; {_there_are(gate.metric.text, known)}")
    for key in _ORDER:
        pattern = gate.get(key)
        if pattern is None:
            if key == "split" and len(own := of_training(rows)):
                rows = own
            continue
        found = _fitting(rows, key, pattern, on, gate)
        if found.empty:
            raise UsageError(_no_such(gate, key, pattern, rows, on))
        rows = found
    return _leading_of(rows, gate, on)


def _leading_of(rows: pd.DataFrame, gate: Gate, on: Field) -> pd.DataFrame:
    """Return the rows that are meant where a gate leaves open quantity and weighting: of the quantity that leads.

    Raises: UsageError when there are several quantities and none of them is the one that leads. With `any` and `all`
        too: which of them a verdict is of must not be guessed, nor widened to all.
    """
    place = [name for key in ("table", "run", "checkpoint", "step") for name in _columns(key, on)]
    place += ["split", "layer", "metric"]
    apart = [*place, "classifier", *(["weighting"] if gate.get("weighting") else [])]
    rows = leading(rows, [*apart, "quantity"])
    if gate.get("quantity"):
        return rows
    # What leads is looked up among all rows: those that lead may not fit the weighting that the gate asks for.
    known = on.frame[on.frame["metric"].isin(rows["metric"].unique())]
    leads = known[is_leading(known)].drop_duplicates(place)[[*place, "quantity"]]
    main = rows[place].merge(leads, on=place, how="left")["quantity"]
    of_main = pd.Series((rows["quantity"].to_numpy() == main.to_numpy()), index=rows.index)
    led = of_main.groupby([rows[name] for name in apart], dropna=False, sort=False).transform("any")
    rows = rows[of_main | ~led]
    several = rows.duplicated(apart, keep=False)
    if several.any():
        raise UsageError(_which_quantity(gate, rows[several]))
    return rows


def _which_quantity(gate: Gate, rows: pd.DataFrame) -> str:
    """Return that a gate does not say which quantity it means, and which there are."""
    metric = rows["metric"].iloc[0]
    there = list(dict.fromkeys(rows["quantity"][rows["metric"] == metric]))
    return (
        f"{gate.source} {gate}: {visible(str(metric))} has several quantities here and none of them leads; "
        f"say quantity=, one of {_few(there)}, or quantity=* for all"
    )


def _columns(key: str, on: Field) -> list[str]:
    return [f"{key}{end}" for end, _ in on.sides] if key in _OF_A_SIDE else [key]


def _fitting(rows: pd.DataFrame, key: str, pattern: Pattern, on: Field, gate: Gate) -> pd.DataFrame:
    if key == "step" and not pattern.literal and pattern.text in STEP_WORDS:
        return _onset(rows, on) if pattern.text == "onset" else _at_end(rows, pattern.text, on)
    if key == "layer" and not pattern.literal and pattern.text in LAYER_WORDS:
        return rows[_at_layer(rows, pattern.text, on, gate)]
    test = pattern.fits()
    mask = pd.Series(data=False, index=rows.index)
    for column in _columns(key, on):
        texts = rows[column].astype("string").fillna("")
        fitting = {text for text in texts.unique() if test(text)}
        mask |= texts.isin(fitting).astype(bool)
    return rows[mask]


def _at_end(rows: pd.DataFrame, word: str, on: Field) -> pd.DataFrame:
    """Return the rows at the first or the last step of each run, of all that was measured and not only of these rows.

    A diff compares what is on both sides: where it is not the end of a side, the number that is meant is not there.
    Where the order of a run is not known, nothing is its end: then it is one checkpoint, without a value.
    """
    runs = [f"run{end}" for end, _ in on.sides]
    parts = []
    for names, own in rows.groupby(runs, sort=False):
        compared = on.frame[(on.frame[runs] == list(names)).all(axis=1)]
        steps = compared[[f"step{end}" for end, _ in on.sides]].agg("min" if word == "first" else "max")
        if steps.isna().any():
            one = own[[f"checkpoint{end}" for end, _ in on.sides]]
            parts.append(own[(one == one.iloc[-1]).all(axis=1)].assign(_reason=f"{NOT_KNOWN}, so none is the {word}"))
            continue
        reasons = []
        for side, (end, marks), run in zip("AB", on.sides, names, strict=False):
            ends = marks.ends.get(str(run))
            if ends is not None and len(on.sides) > 1 and ends[word == "last"] != steps[f"step{end}"]:
                reasons.append(f"the {word} step of {side}, {ends[word == 'last']:,}, is not on the other side")
        at_end = [(own[f"step{end}"] == steps[f"step{end}"]).fillna(value=False).astype(bool) for end, _ in on.sides]
        parts.append(own[np.logical_or.reduce(at_end)].assign(_reason="; ".join(reasons)))
    return pd.concat(parts)


def _at_layer(rows: pd.DataFrame, word: str, on: Field, gate: Gate) -> "pd.Series[bool]":
    """Return which rows are at the layer that a word means at the checkpoint of each row.

    Raises: UsageError when it means two layers in the two sides of a diff.
    """
    meant = []
    for end, marks in on.sides:
        places = zip(rows[f"run{end}"], rows[f"checkpoint{end}"], strict=True)
        meant.append([marks.layers.get(word, {}).get((str(run), str(name))) for run, name in places])
    for pair in set(zip(*meant, strict=True)):
        if len(set(pair)) > 1 and None not in pair:
            named = " and ".join(f"{visible(str(layer))} in {side}" for layer, side in zip(pair, "AB", strict=True))
            raise UsageError(f"{gate.source} {gate}: layer={word} is {named}: name the layer, in quotes")
    mask = pd.Series(data=False, index=rows.index)
    for layers in meant:
        mask |= rows["layer"] == pd.Series(layers, index=rows.index, dtype=object)
    return mask


def _onset(rows: pd.DataFrame, on: Field) -> pd.DataFrame:
    """Return the rows at the onset of the terminal phase.

    For a run that has none they are those of its last step, without a value.
    """
    end, marks = on.sides[-1]
    parts = []
    for run, own in rows.groupby(f"run{end}", sort=False):
        onset = marks.onsets.get(str(run), Undefined("nothing says when its terminal phase begins"))
        if isinstance(onset, Undefined):
            parts.append(_at_end(own, "last", on).assign(_reason=f"there is no onset: {onset}"))
        else:
            parts.append(own[(own[f"step{end}"] == onset).fillna(value=False)])
    return pd.concat(parts)


def _judged(row: "pd.Series[Any]", value: float, column: str, on: Field) -> Judged:
    if not math.isnan(value):
        return Judged(_where(row, on), float(value), "")
    reason = str(row["_reason"] or row["reason"])
    if not reason and column == "ratio":
        reason = "the value in A is 0"
    return Judged(_where(row, on), None, reason or "nothing was measured there")


def _where(row: "pd.Series[Any]", on: Field) -> str:
    """Describe a row in words."""

    names = dict.fromkeys(f"{row[f'run{end}']}/{row[f'checkpoint{end}']}" for end, _ in on.sides)
    steps = dict.fromkeys(_cell(row[name]) for name in _columns("step", on))
    at = f" ({row['step_unit']} {' → '.join(steps)})" if any(steps) else ""
    facts = [" → ".join(names) + at]
    facts += [f"layer {row['layer']}"] if row["layer"] else []
    facts += [" ".join(part for part in (row["metric"], row["quantity"]) if part)]
    facts += [f"{key} {row[key]}" for key in ("weighting", "classifier") if row[key]]
    facts += [f"split {row['split']}"] if row["split"] not in IMPLIED else []
    return visible(", ".join(facts))


def _cell(value: object) -> str:
    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload] # a cell is a text or a number


def _no_such(gate: Gate, key: str, pattern: Pattern, rows: pd.DataFrame, on: Field) -> str:
    """Return why no row is left, and what there is."""
    asked = f"{gate.source} {gate}: "
    there = [name for column in _columns(key, on) for name in dict.fromkeys(map(_cell, rows[column])) if name]
    if key == "layer" and not pattern.literal and pattern.text in LAYER_WORDS:
        known = any(marks.layers.get(pattern.text) for _, marks in on.sides)
        if not known:
            return f"{asked}nothing tells which layer is the {pattern.text} here; {_there_are('', there)}"
        return f"{asked}{gate.metric} is not measured at the {pattern.text}; {_there_are('', there)}"
    if key == "step" and not pattern.literal and pattern.text in STEP_WORDS:
        steps = dict.fromkeys(str(onset) for onset in on.sides[-1][1].onsets.values() if isinstance(onset, int))
        told = f", step {_few(list(steps))}" if pattern.text == "onset" and steps else ""
        return f"{asked}{gate.metric} is not measured at the {pattern.text}{told}; {_there_are('', there)}"
    words = {"layer": LAYER_WORDS, "step": STEP_WORDS}.get(key, ())
    return f"{asked}{gate.metric} has no {key} {pattern}; {_there_are(pattern.text, there, words)}"


def _there_are(asked: str, known: Sequence[str], words: Sequence[str] = ()) -> str:
    """Return what there is; only close names, where there are any."""
    names = list(dict.fromkeys(known))
    close = get_close_matches(asked, [*names, *words], n=3) if len(asked) <= MOST_COMPARED else []
    if close:
        return f"did you mean {_few(close)}?"
    return f"there {'is' if len(names) == 1 else 'are'} {_few(names)}" if names else "there is none"


def _too_many(gate: Gate, rows: pd.DataFrame, on: Field) -> str:
    """Return how many rows there are, by what they differ, and what would choose among them."""
    differing = list(_differing(rows, on))
    counts = ", ".join(f"{count} {plural}" for _, plural, count, _ in differing)
    say = ", ".join(choice for _, _, _, choice in differing)
    return (
        f"{gate.source} {gate}: matches {len(rows)} rows ({counts}): say {say}, "
        f"or all({gate.metric}[…]) or any({gate.metric}[…])"
    )


def _differing(rows: pd.DataFrame, on: Field) -> Iterator[tuple[str, str, int, str]]:
    """Yield key, its plural, how many there are, and a choice to offer."""
    several = {}
    for key in ("run", "step", "checkpoint", "split", "layer", "classifier", "quantity", "weighting", "table"):
        values = rows[_columns(key, on)].drop_duplicates()
        if len(values) > 1:
            several[key] = (len(values), _cell(values.iloc[0, -1]))
    if "step" in several or "run" in several:
        counted = rows[[*_columns("run", on), *_columns("step", on)]].drop_duplicates()
        if len(counted) == len(rows[[*_columns("run", on), *_columns("checkpoint", on)]].drop_duplicates()):
            several.pop("checkpoint", None)  # it only says again what run and step say
    if (metrics := rows["metric"].nunique()) > 1:
        yield "metric", "metrics", metrics, "one metric"
        for key in ("split", "classifier", "quantity", "weighting", "table"):
            several.pop(key, None)  # metrics differ in what they have of these
    for key, (count, first) in several.items():
        choice = {"step": "step=last", "layer": "layer=head"}.get(key, f"{key}={Pattern(first, literal=True)}")
        yield key, {"quantity": "quantities"}.get(key, f"{key}s"), count, visible(choice)
