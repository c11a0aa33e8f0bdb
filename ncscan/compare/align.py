"""Two reports → every number of both side by side, with the noise floor of each difference.

In: the tables of A and of B. Out: one row per number, aligned on run, step, layer, metric and conventions; what is on
one side alone has its row too. Nothing here reads or writes a file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ncscan.compare.gates import Field
from ncscan.compare.landmarks import landmarks
from ncscan.compare.noise_floor import noise_floors, with_spread
from ncscan.errors import UsageError
from ncscan.tables import FLAG, LEADS, NUMBER, SAME, TEXT, WHOLE, Columns, numbers
from ncscan.wording import listed, listed_up_to, visible

DIFF_COLUMNS: Columns = (
    ("table", TEXT),
    ("run_a", TEXT),
    ("run_b", TEXT),
    ("checkpoint_a", TEXT),
    ("checkpoint_b", TEXT),
    ("step_a", WHOLE),
    ("step_b", WHOLE),
    ("step_unit", TEXT),
    ("split", TEXT),
    ("layer", TEXT),
    ("depth", WHOLE),
    ("metric", TEXT),
    ("quantity", TEXT),
    ("weighting", TEXT),
    ("classifier", TEXT),
    ("a", NUMBER),
    ("b", NUMBER),
    ("difference", NUMBER),
    ("ratio", NUMBER),
    ("noise", NUMBER),
    ("noise_source", TEXT),
    ("beyond_noise", FLAG),
    ("reason", TEXT),
)
"""diff.csv: one row per number of A and B; the difference is b − a, the ratio b/a."""

ONLY = {"a": "only in A", "b": "only in B"}
_few = partial(listed_up_to, 5)
"""Steps or runs as a note lists them."""


@dataclass(frozen=True)
class ChangedClaim:
    """A claim of the theory that is judged otherwise in B than in A."""

    where: str
    claim: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.where}: {self.claim}: {self.before} → {self.after}"


@dataclass(frozen=True)
class Comparison:
    """All differences that two reports have."""

    frame: pd.DataFrame
    """Has the columns of DIFF_COLUMNS, and group_a, group_b and leads."""
    verdicts: list[ChangedClaim]
    notes: list[str]
    """Describes what is on one side alone as a whole, a run or a checkpoint, and was left out."""
    field: Field
    """Holds the rows, for gates."""


def compare(a: Mapping[str, pd.DataFrame], b: Mapping[str, pd.DataFrame]) -> Comparison:
    """Align two reports.

    Args:
        a, b: their complete tables.

    Returns: rows run by run and step by step in the order of A; within a checkpoint what only B has comes last.

    Raises: UsageError when no run, or no checkpoint of a run, is on both sides.
    """
    sides = numbers(a), numbers(b)
    places, notes = _paired(*sides)
    left, right = (_placed(with_spread(own), places, end) for own, end in zip(sides, "ab", strict=True))
    keys = ["pair", *SAME, "occurrence"]
    frame = left.merge(right, on=keys, how="outer", suffixes=("_a", "_b"), indicator=True)
    frame = frame.sort_values(["pair", "position_a", "position_b"], kind="stable", na_position="last")
    frame = frame.drop(columns=[name for name in places.columns if name in frame.columns and name != "pair"])
    frame = frame.merge(places, on="pair", how="left").rename(columns={"value_a": "a", "value_b": "b"})
    difference = frame["b"] - frame["a"]
    frame = frame.assign(
        difference=difference.replace([np.inf, -np.inf], np.nan),
        ratio=(frame["b"] / frame["a"]).replace([np.inf, -np.inf], np.nan),
        depth=frame["depth_a"].fillna(frame["depth_b"]),
        reason=_reasons(frame),
        leads=_leads(frame),
        **dict(noise_floors(frame)),
    )
    kept = dict((*DIFF_COLUMNS, *_BESIDE))
    frame = frame[list(kept)].astype(kept).reset_index(drop=True)
    field = Field(
        frame,
        (("_a", landmarks(a)), ("_b", landmarks(b))),
        {name: name for name in ("difference", "ratio", "a", "b")},
    )
    return Comparison(frame, list(_verdicts(a["theory"], b["theory"], places)), notes, field)


_BESIDE: Columns = (("group_a", TEXT), ("group_b", TEXT), LEADS)
_LED = ("pair", "split", "layer", "metric")
"""The columns that name a place in which one row leads."""
_CHECKPOINT = ("run", "group", "checkpoint", "step", "step_unit")


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the checkpoints that are compared, one row a pair, and what was left out."""
    left, right = (own[list(_CHECKPOINT)].drop_duplicates(["run", "checkpoint"]) for own in (a, b))
    runs, notes = _paired_runs(list(dict.fromkeys(left["run"])), list(dict.fromkeys(right["run"])))
    found = [_paired_checkpoints(left[left["run"] == one], right[right["run"] == other]) for one, other in runs]
    places = pd.concat([part for part, _ in found], ignore_index=True)
    notes = [*notes, *(note for _, own in found for note in own)]
    if places.empty:
        raise UsageError(f"nothing to compare: {'; '.join(notes)}")
    same_unit = places["step_unit_a"] == places["step_unit_b"]
    unit = places["step_unit_a"].where(same_unit, places["step_unit_a"] + " → " + places["step_unit_b"])
    return places.assign(step_unit=unit, pair=range(len(places))), notes


def _paired_runs(a: Sequence[str], b: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the runs that are compared, and what was left out."""
    if len(a) == len(b) == 1:
        return [(a[0], b[0])], []
    both = [name for name in a if name in b]
    if not both:
        raise UsageError(
            f"nothing to compare: no run has one name on both sides; A has {_few(a) or 'none'}, "
            f"B has {_few(b) or 'none'}"
        )
    alone = {side: [name for name in own if name not in both] for side, own in (("A", a), ("B", b))}
    notes = [
        f"only in {side}: {'run' if len(names) == 1 else f'{len(names)} runs'} {_few(names)}"
        for side, names in alone.items()
        if names
    ]
    return [(name, name) for name in both], notes


def _paired_checkpoints(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the checkpoints of one run that are compared, and what was left out.

    Compared are those of one step, or the only one of each side. Those that have no step, beside the run or in no
    order that is known, are paired by their names.
    """
    a, b = a.add_suffix("_a"), b.add_suffix("_b")
    if len(a) == len(b) == 1:
        return a.merge(b, how="cross"), []
    run = visible(str(a["run_a"].iloc[0]))
    units = [set(own[f"step_unit_{end}"][own[f"step_{end}"].notna()]) for own, end in ((a, "a"), (b, "b"))]
    if units[0] != units[1]:
        said = [listed(sorted(map(visible, each))) or "nothing" for each in units]
        return a.merge(b, how="cross").iloc[:0], [f"run {run}: steps count {said[0]} in A and {said[1]} in B"]
    for own, end in ((a, "a"), (b, "b")):
        own["at"] = own[f"step_{end}"].astype("string").fillna(own[f"checkpoint_{end}"].radd("named "))
        own["time"] = own.groupby("at").cumcount()
    found = a.merge(b, on=["at", "time"], how="inner").drop(columns=["at", "time"])
    notes = []
    for side, own, end in (("A", a, "a"), ("B", b, "b")):
        alone = own[~own[f"checkpoint_{end}"].isin(found[f"checkpoint_{end}"])]
        if len(alone):
            notes += [f"run {run}: only in {side}: {words}" for words in _left(alone, end)]
    return found, notes


def _left(alone: pd.DataFrame, end: str) -> Iterator[str]:
    """Yield in words the steps of checkpoints that are on one side alone, and the names of those without a step."""
    known = alone[f"step_{end}"].notna()
    steps = [f"{step:,}" for step in alone[f"step_{end}"][known]]
    names = [visible(str(name)) for name in alone[f"checkpoint_{end}"][~known]]
    for what, words in (("step", steps), ("checkpoint", names)):
        if words:
            yield f"{what if len(words) == 1 else f'{len(words)} {what}s'} {_few(words)}"


def _placed(own: pd.DataFrame, places: pd.DataFrame, end: str) -> pd.DataFrame:
    """Return the rows of the compared checkpoints, with the number of their pair and their position in the order."""
    own = own.assign(position=range(len(own)))
    pairs = places[["pair", f"run_{end}", f"checkpoint_{end}"]].set_axis(["pair", "run", "checkpoint"], axis=1)
    own = own.merge(pairs, on=["run", "checkpoint"], how="inner").drop(columns=list(_CHECKPOINT))
    # Rows that nothing tells apart are paired in their order.
    return own.assign(occurrence=own.groupby(["pair", *SAME], sort=False).cumcount())


def _leads(frame: pd.DataFrame) -> pd.Series:
    """Return which rows lead: those of A, and of B where no row of A leads in the same place."""
    of_a, of_b = (frame[f"leads_{end}"].fillna(value=False).astype(bool) for end in "ab")
    led = of_a.groupby([frame[name] for name in _LED], dropna=False, sort=False).transform("any")
    return of_a | (of_b & ~led)


def _reasons(frame: pd.DataFrame) -> pd.Series:
    """Return why there is no difference, else empty."""
    a, b = frame["reason_a"].fillna(""), frame["reason_b"].fillna("")
    no_a, no_b = frame["a"].isna(), frame["b"].isna()
    of_a, of_b = "A: " + a, "B: " + b
    reasons = of_a.where(no_a, "").mask(no_b, of_b)
    reasons = reasons.mask(no_a & no_b, of_a + "; " + of_b).mask(no_a & no_b & (a == b), "in both: " + a)
    return reasons.mask(frame["_merge"] == "left_only", ONLY["a"]).mask(frame["_merge"] == "right_only", ONLY["b"])


def _verdicts(a: pd.DataFrame, b: pd.DataFrame, places: pd.DataFrame) -> Iterator[ChangedClaim]:
    """Yield the claims on both sides whose verdict differs."""
    keys = ["claim", "layer", "quantity"]
    sides = []
    for own, end in ((a, "a"), (b, "b")):
        pairs = places[["pair", f"run_{end}", f"checkpoint_{end}"]].set_axis(["pair", "run", "checkpoint"], axis=1)
        judged = own.merge(pairs, on=["run", "checkpoint"], how="inner")
        sides.append(judged.assign(occurrence=judged.groupby(["pair", *keys], sort=False).cumcount()))
    both = sides[0].merge(sides[1], on=["pair", *keys, "occurrence"], suffixes=("_a", "_b"))
    for row in both.to_dict("records"):
        before, after = (_verdict(row[f"holds_{end}"]) for end in "ab")
        if before != after:
            named = " ".join(part for part in (row["claim"], row["quantity"], row["layer"]) if part)
            yield ChangedClaim(visible(_run_and_checkpoint(row)), visible(named), before, after)


def _verdict(holds: Any) -> str:
    return "not judged" if pd.isna(holds) else "holds" if holds else "does not hold"


def _run_and_checkpoint(row: Mapping[Any, Any]) -> str:
    """Return run and checkpoint of a row of two sides, in words."""
    names = [f"{row[f'run_{end}']}/{row[f'checkpoint_{end}']}" for end in "ab"]
    return " → ".join(dict.fromkeys(names))
