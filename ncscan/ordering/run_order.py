"""Put the checkpoints of a run in order, or say that no order of them is known.

In: what each checkpoint records about itself, and its name. Out: the place of each. This is a decision over all files
of a run, made here alone; it never depends on the order in which they come.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ncscan.ordering.names import (
    AVERAGES,
    BESTS,
    ENDS,
    STARTS,
    NameNumber,
    natural,
    numbers_in,
    without_ending,
    words_of,
)
from ncscan.wording import listed_up_to

ORDER = "order"
"""The unit of steps that are places in an order, and of checkpoints without one."""

BESIDE = "beside"
"""The unit of checkpoints that stand beside the series of their run; they have no step."""

NOT_KNOWN = "the order of its checkpoints is not known"
"""The words by which a report knows this doubt among others."""

WAY_OUT = "--order name, mtime or FILE tells it"


@dataclass(frozen=True)
class CheckpointRecord:
    """What one checkpoint records about itself: its run, its step and its content."""

    run: str
    checkpoint: str
    """Its name within the run."""
    step: int | None
    """The iteration: by its notes, the trainer's state beside it, or its name."""
    epoch: int | None
    file_number: int | None
    """The number in its name, or in that of a folder it lies in, that a word names."""
    tensors_sha256: str
    """Equal for two checkpoints that hold the same tensors, whatever their format."""
    stored_dtype: str = ""
    """The type in which its tensors are stored, where that is known: `float32`, `bfloat16`, …"""
    noted: frozenset[str] = frozenset()
    """The units that the notes in the file itself tell, `iteration` and `epoch`."""
    order_by: str = ""
    """What gives the order by the user's word: `name`, `mtime` or `file`."""
    order: int | None = None
    """Its place by that: a time, or a line."""


@dataclass(frozen=True)
class PlaceInRun:
    """The place of a checkpoint in its run."""

    step: int | None
    """None where nothing tells it."""
    step_unit: str
    """`iteration`, `epoch`, `file` (a number in the name), `order` (the place in an order), or `beside` the others."""
    twin: str = ""
    """The checkpoint of the series with the same tensors, for which this one only is another name."""


@dataclass(frozen=True)
class RunOrder:
    """The places of the checkpoints of one run."""

    places: Mapping[str, PlaceInRun]
    """By the names of the checkpoints, in order: the series, then those beside it, then twins."""
    doubts: tuple[str, ...]
    """What is doubtful about the order, in words."""
    remarks: tuple[str, ...]
    """What is worth knowing about it and no reason for doubt."""


class _Unit(NamedTuple):
    """One way to tell the steps of a run."""

    unit: str
    values: Mapping[str, int]
    """The value of each checkpoint that has one."""
    by_name: bool


def order_run(records: Sequence[CheckpointRecord]) -> RunOrder:
    """Return the places of the checkpoints of one run.

    The series has one unit: the first of iteration, epoch and the numbers in names that tells all of it apart. What
    has no number there is left out where it holds the same tensors as one of the series (`model_best.pt`); it joins
    the series where its own notes tell a step that no other has, and else stands beside it. Averages of weights are
    no part of a series of weights. Where no unit tells most of the checkpoints apart, none has a step.

    >>> names = ("epoch_9.pt", "epoch_10.pt", "best.pt")
    >>> own = [CheckpointRecord("a", name, None, None, None, tensors) for name, tensors in zip(names, "xyx")]
    >>> [(name, place.step, place.twin) for name, place in order_run(own).places.items()]
    [('epoch_9.pt', 9, ''), ('epoch_10.pt', 10, ''), ('best.pt', None, 'epoch_9.pt')]
    """
    own = sorted(records, key=lambda record: _by_name(record.checkpoint))
    if any(record.order_by for record in own):
        return _given(own)
    units = _units(own)
    unit = _chosen(own, units)
    if unit is None:
        names = listed_up_to(2, [record.checkpoint for record in own])
        nothing = f"neither notes nor names tell it ({names})" if not units else f"their names tell several ({names})"
        return _unknown(own, " and ".join(dict.fromkeys(_why(own, units))) or nothing)
    return _placed(own, unit, _contradictions(own, units, unit))


def _given(own: Sequence[CheckpointRecord]) -> RunOrder:
    """Return the places in the order that the user gives."""
    by = {record.order_by for record in own}
    if len(by) > 1 or (by != {"name"} and any(record.order is None for record in own)):
        return _unknown(own, "--order was not the same for all of its dumps")
    if by == {"file"}:
        lines = {record.checkpoint: record.order or 0 for record in own}
        ordered = sorted(lines, key=lambda name: (lines[name], natural(name)))
        return RunOrder({name: PlaceInRun(rank, ORDER) for rank, name in enumerate(ordered)}, (), ())
    if by == {"mtime"}:
        unit = _Unit(ORDER, {record.checkpoint: record.order or 0 for record in own}, by_name=False)
        if _chosen(own, [unit]) is None:
            return _unknown(own, "several of them were changed at one time")
    else:
        ordered = sorted((record.checkpoint for record in _plain(own)), key=natural)
        unit = _Unit(ORDER, {name: rank for rank, name in enumerate(ordered)}, by_name=True)
    return _placed(own, unit, ())


def _placed(own: Sequence[CheckpointRecord], unit: _Unit, doubts: Iterable[str]) -> RunOrder:
    """Return the places by one unit."""
    run, series = own[0].run, _series(own, unit)
    ordered = sorted(series, key=lambda name: (series[name], _by_name(name)))
    places = {
        name: PlaceInRun(rank if unit.unit == ORDER else series[name], unit.unit) for rank, name in enumerate(ordered)
    }
    at = {record.checkpoint: record.tensors_sha256 for record in own}
    networks = {at[name]: name for name in reversed(ordered)}
    rest = [record.checkpoint for record in own if record.checkpoint not in series]
    twins = {name: networks[at[name]] for name in rest if at[name] in networks}
    beside = [name for name in rest if name not in twins]
    places |= {name: PlaceInRun(None, BESIDE) for name in beside}
    places |= {name: PlaceInRun(None, BESIDE, twin) for name, twin in twins.items()}
    doubts = [*_clashes(own, unit, beside), *_unplaced(own, unit, beside), *doubts]
    return RunOrder(places, tuple(f"{run}: {doubt}" for doubt in doubts), tuple(_remarks(twins, beside)))


def _unknown(own: Sequence[CheckpointRecord], why: str) -> RunOrder:
    """Return places without a step; what only stands for another checkpoint is left to it all the same."""
    networks: dict[str, str] = {}
    twins: dict[str, str] = {}
    for record in sorted(own, key=lambda record: (_stands_for_another(record), not words_of(record.checkpoint) & ENDS)):
        twin = networks.setdefault(record.tensors_sha256, record.checkpoint)
        if twin != record.checkpoint and _stands_for_another(record):
            twins[record.checkpoint] = twin
    rest = [record for record in own if record.checkpoint not in twins]
    left_out = {name: PlaceInRun(None, BESIDE, twin) for name, twin in twins.items()}
    if len(rest) == 1:
        return RunOrder({**order_run(rest).places, **left_out}, (), tuple(_remarks(twins, ())))
    places = {record.checkpoint: PlaceInRun(None, ORDER) for record in rest}
    doubt = f"{own[0].run}: {NOT_KNOWN}, {why}: none of them is the first or the last, and no trajectory is drawn"
    return RunOrder({**places, **left_out}, (f"{doubt}; {WAY_OUT}",), tuple(_remarks(twins, ())))


def _remarks(twins: Mapping[str, str], beside: Sequence[str]) -> Iterator[str]:
    for name, twin in twins.items():
        yield f"{name} holds the same tensors as {twin} and is left out"
    if beside:
        verb = "stands" if len(beside) == 1 else "stand"
        yield f"{listed_up_to(3, beside)} {verb} beside the run, outside of its trajectory"


def _by_name(name: str) -> tuple[int, list[tuple[int, str]], str]:
    """Return a sorting key: what begins a training first, what ends it last, and all else in natural order."""
    words = words_of(name)
    return (0 if words & STARTS else 2 if words & ENDS else 1), natural(without_ending(name)), name


def _is_average(record: CheckpointRecord) -> bool:
    return bool(words_of(record.checkpoint) & AVERAGES)


def _is_numbered(record: CheckpointRecord) -> bool:
    """Return whether its own name has a number that counts training."""
    return any(number.named or number.padded for number in numbers_in(record.checkpoint))


def _is_called_by_a_role(record: CheckpointRecord) -> bool:
    return bool(words_of(record.checkpoint) & (BESTS | ENDS | STARTS))


def _stands_for_another(record: CheckpointRecord) -> bool:
    """Return whether it is called the best, the last or the first of the others, without a number of its own."""
    return _is_called_by_a_role(record) and not _is_numbered(record)


def _plain(own: Sequence[CheckpointRecord]) -> list[CheckpointRecord]:
    """Return the checkpoints that a series can be of: without those that stand for others, where there are any."""
    weights = [record for record in own if not _is_average(record)] or list(own)
    return [record for record in weights if not _stands_for_another(record)] or weights


def _units(own: Sequence[CheckpointRecord]) -> list[_Unit]:
    """Return every unit that may tell the steps of a run, the best first."""
    found = [
        _Unit(
            "iteration", {record.checkpoint: record.step for record in own if record.step is not None}, by_name=False
        ),
        _Unit("epoch", {record.checkpoint: record.epoch for record in own if record.epoch is not None}, by_name=False),
        *_units_of_names([record.checkpoint for record in own]),
    ]
    if len(own) == 1:  # of a file that is named alone the folder above counts too
        found += [_Unit("file", {r.checkpoint: r.file_number}, by_name=True) for r in own if r.file_number is not None]
    found += [pair for by_name in (False, True) if (pair := _within_epochs(found, by_name=by_name))]
    return [unit for unit in found if unit.values and not _goes_back(unit, found)]


def _units_of_names(names: Sequence[str]) -> Iterator[_Unit]:
    """Yield the places in the names of a run at which words name numbers, the nearest to the ends of names first."""
    slots: dict[str, dict[str, NameNumber]] = {}
    for name in names:
        for number in reversed(numbers_in(name)):
            slots.setdefault(number.slot, {})[name] = number
    for kind, unit in (("step", "iteration"), ("epoch", "epoch"), ("number", "file")):
        for numbers in slots.values():
            # Without a word, leading zeros tell a counter: no model and no width is written like that.
            named = all(number.named for number in numbers.values()) or any(n.padded for n in numbers.values())
            if named and next(iter(numbers.values())).counts == kind:
                yield _Unit(unit, {name: number.value for name, number in numbers.items()}, by_name=True)


def _of(units: Sequence[_Unit], unit: str, *, by_name: bool) -> Mapping[str, int]:
    return next((each.values for each in units if each.unit == unit and each.by_name == by_name), {})


def _within_epochs(units: Sequence[_Unit], *, by_name: bool) -> _Unit | None:
    """Return the order by epoch and then by step, for steps that are counted within an epoch."""
    epochs, steps = _of(units, "epoch", by_name=by_name), _of(units, "iteration", by_name=by_name)
    pairs = {name: (epochs[name], steps[name]) for name in epochs if name in steps}
    ranks = {pair: rank for rank, pair in enumerate(sorted(set(pairs.values())))}
    return _Unit(ORDER, {name: ranks[pair] for name, pair in pairs.items()}, by_name) if len(ranks) > 1 else None


def _goes_back(unit: _Unit, units: Sequence[_Unit]) -> bool:
    """Return whether steps fall where epochs rise: then they are counted within an epoch."""
    if unit.unit != "iteration":
        return False
    epochs = _of(units, "epoch", by_name=unit.by_name)
    both = sorted((epochs[name], step) for name, step in unit.values.items() if name in epochs)
    return any(step < earlier and epoch > before for (before, earlier), (epoch, step) in pairwise(both))


def _chosen(own: Sequence[CheckpointRecord], units: Sequence[_Unit]) -> _Unit | None:
    """Return the unit that tells the most checkpoints apart, the best of several; None where none tells most of them.

    Two places in the names that tell as many apart, and tell other orders, tell none.
    """
    if len(own) == 1:
        return next(iter(units), _Unit(ORDER, {own[0].checkpoint: 0}, by_name=True))
    plain = _plain(own)
    fitting: list[tuple[int, _Unit, tuple[str, ...]]] = []
    for unit in units:
        series = _series(own, unit)
        inside = {record.tensors_sha256 for record in own if record.checkpoint in series}
        lacking = {record.tensors_sha256 for record in plain if record.checkpoint not in series} - inside
        if sum(record.checkpoint in series for record in plain) > len(lacking):
            fitting.append((len(lacking), unit, tuple(sorted(series, key=series.__getitem__))))
    least = min((lacking for lacking, _, _ in fitting), default=0)
    best = [(unit, order) for lacking, unit, order in fitting if lacking == least]
    orders = {order for unit, order in best if (unit.unit, unit.by_name) == (best[0][0].unit, best[0][0].by_name)}
    return best[0][0] if len(orders) == 1 else None


def _series(own: Sequence[CheckpointRecord], unit: _Unit) -> dict[str, int]:
    """Return the checkpoints of the series, each with its value, which no other has.

    Of several with one value it is the one that has a number in its name and no other role; where these are different
    networks, which of them is meant is not known.
    """
    plain = [record for record in _plain(own) if record.checkpoint in unit.values]
    series: dict[str, int] = {}
    for value, claiming in _by_value(plain, unit).items():
        numbered = [record for record in claiming if _is_numbered(record)] or claiming
        exact = [record for record in numbered if not _is_called_by_a_role(record)] or numbered
        if len({record.tensors_sha256 for record in exact}) == 1:
            series[exact[0].checkpoint] = value
    taken = {record.tensors_sha256 for record in plain if record.checkpoint in series}
    claimed = {unit.values[record.checkpoint] for record in plain}
    # What stands for another is one of its own where it says a step that no other has.
    more = [
        record
        for record in own
        if record.checkpoint in unit.values
        and unit.values[record.checkpoint] not in claimed
        and (unit.unit in record.noted or record.order_by == "mtime")
        and record.tensors_sha256 not in taken
        and not _is_average(record)
    ]
    for value, claiming in _by_value(more, unit).items():
        if len({record.tensors_sha256 for record in claiming}) == 1:
            series[claiming[0].checkpoint] = value
    return series


def _by_value(records: Iterable[CheckpointRecord], unit: _Unit) -> dict[int, list[CheckpointRecord]]:
    at: dict[int, list[CheckpointRecord]] = {}
    for record in records:
        at.setdefault(unit.values[record.checkpoint], []).append(record)
    return at


def _clashes(own: Sequence[CheckpointRecord], unit: _Unit, beside: Sequence[str]) -> Iterator[str]:
    """Yield a line on each value that several checkpoints have, which therefore stand beside the run."""
    plain = [record for record in _plain(own) if record.checkpoint in unit.values]
    for value, claiming in _by_value(plain, unit).items():
        names = [record.checkpoint for record in claiming if record.checkpoint in beside]
        if len(names) > 1:
            yield f"{len(names)} checkpoints say {unit.unit} {value}: {', '.join(names)}"


def _unplaced(own: Sequence[CheckpointRecord], unit: _Unit, beside: Sequence[str]) -> Iterator[str]:
    """Yield a line on what may well be a part of the series, or its end, and has no place in it."""
    plain = {record.checkpoint for record in _plain(own)}
    names = [name for name in beside if (name not in unit.values if name in plain else words_of(name) & ENDS)]
    if names:
        yield f"nothing tells the place of {listed_up_to(3, names)} among its checkpoints; {WAY_OUT}"


def _contradictions(own: Sequence[CheckpointRecord], units: Sequence[_Unit], chosen: _Unit) -> Iterator[str]:
    """Yield a line on each checkpoint whose name has it later than its step does."""
    of_names = next((unit for unit in units if unit.by_name and len(_series(own, unit)) > 1), None)
    if of_names is None or of_names == chosen:
        return
    ranked = sorted(of_names.values, key=lambda name: (of_names.values[name], natural(name)))
    for earlier, later in pairwise(name for name in ranked if name in chosen.values):
        if chosen.values[later] < chosen.values[earlier]:
            yield f"{later} comes after {earlier} by name but before it by its own {chosen.unit}"


def _why(own: Sequence[CheckpointRecord], units: Sequence[_Unit]) -> Iterator[str]:
    """Yield why no unit tells the checkpoints apart."""
    plain = _plain(own)
    for unit in units:
        word = "number" if unit.unit == "file" else unit.unit
        at = _by_value([record for record in plain if record.checkpoint in unit.values], unit)
        value, most = max(at.items(), key=lambda item: len(item[1]), default=(0, []))
        if len(most) > 1 and unit.unit != ORDER:
            share = "all" if len(most) == len(plain) else str(len(most))
            yield f"{share} of them say {word} {value}"
        elif 0 < len(at) < len(plain):
            yield (
                f"{len(at)} of {len(own)} say a number"
                if word == "number"
                else f"{len(at)} of {len(own)} say an {word}"
            )
