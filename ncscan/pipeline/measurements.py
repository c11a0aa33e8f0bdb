"""Dumps → every number of all of them: each dump measured, the runs put in order, tables.

In: paths. Out: `Measurements`. Each dump is guarded: what cannot be used is skipped by name, and the others go on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.activations import ActivationSource, Provenance
from ncscan.dumps import Dump
from ncscan.errors import DumpError
from ncscan.layer_graph import parted
from ncscan.metrics import MEANS_OF_TRAINING
from ncscan.ordering import PlaceInRun
from ncscan.pipeline.events import Doubted, OnEvent, Outcome, Remarked, Skipped
from ncscan.pipeline.fit import label, still_doubted, summed_up
from ncscan.pipeline.held_out import SplitRows, are_of_one_network, measure_other_split, without
from ncscan.pipeline.measure import Measured, Options, measure_source
from ncscan.pipeline.run_orders import in_order
from ncscan.splits import OUTSIDE, TRAINING
from ncscan.statistics import LayerStats
from ncscan.tables import (
    CLASS_COLUMNS,
    GEOMETRY_COLUMNS,
    METRIC_COLUMNS,
    THEORY_COLUMNS,
    WEIGHT_COLUMNS,
    tidy,
)
from ncscan.theory import ALWAYS_TRUE
from ncscan.training_settings import with_notes
from ncscan.trajectory import trajectory_rows


@dataclass(frozen=True)
class Measurements:
    """What was measured of some dumps, run by run in the order of steps."""

    done: int
    """How many dumps were measured."""
    skipped: Sequence[Skipped]
    """What could not be used."""
    measured: Sequence[Measured] = ()
    contexts: Sequence[Mapping[str, Any]] = ()
    """What the tables hold of the place of each."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """The tidy tables by name; none where nothing was measured."""
    warnings: Sequence[str] = ()
    """Describes what is doubtful about runs; what is doubtful about a checkpoint was reported with it."""
    violations: Sequence[str] = ()
    """Certificates that do not hold."""
    twins: Mapping[str, str] = field(default_factory=dict)
    """Labels of checkpoints that are other names of one that was measured, and of which."""


def measure(
    dumps: Sequence[Path], options: Options, on_event: OnEvent, skipped: Sequence[Skipped] = ()
) -> Measurements:
    """Measure every dump; those in `skipped` count as inputs too."""
    inputs = Outcome()
    for each in skipped:
        inputs.skip(each, on_event)
    checkpoints = _by_checkpoint(dumps, inputs, on_event)
    order = in_order([each.provenance for each in checkpoints.values()], options.order)
    for run, remark in order.remarks:
        on_event(Remarked(run, remark))
    measured = [
        one
        for name, each in checkpoints.items()
        if name in order.places
        for one in _measure_checkpoint(each.by_split, inputs, on_event, options)
    ]
    if not measured:
        return Measurements(inputs.done, inputs.skipped)
    measured = _with_pending_doubts(measured, order.places, on_event)
    ranks = {name: rank for rank, name in enumerate(order.places)}
    measured.sort(key=lambda one: ranks[label(one.provenance)])
    contexts = [_context(one.provenance, order.places[label(one.provenance)]) for one in measured]
    tables = _tables(measured, contexts)
    trajectory = _trajectories(measured, tables, inputs, on_event)
    return Measurements(
        inputs.done,
        inputs.skipped,
        measured,
        contexts,
        {**tables, "trajectory": trajectory},
        order.doubts,
        violated(tables["theory"]),
        order.twins,
    )


def _with_pending_doubts(
    measured: Sequence[Measured], places: Mapping[str, PlaceInRun], on_event: OnEvent
) -> list[Measured]:
    """Return the same with the doubts that hold now that all checkpoints of each run are known."""
    doubted = still_doubted([(one.provenance, one.finished) for one in measured], places)
    for name, doubt in doubted.items():
        on_event(Doubted(name, doubt))
    return [
        one
        if one.provenance.split != TRAINING or one.finished.label not in doubted
        else replace(one, finished=replace(one.finished, doubts=(doubted[one.finished.label], *one.finished.doubts)))
        for one in measured
    ]


def violated(theory: pd.DataFrame) -> list[str]:
    """Return the claims that fail though they hold for every linear head: that can only be a bug or damaged data."""
    broken = theory[theory["claim"].isin(ALWAYS_TRUE) & (theory["holds"] == False).fillna(value=False)]  # noqa: E712 - a column
    return [
        f"{row['run']}/{row['checkpoint']}: {row['claim']} {row['quantity']} {row['layer']}: "
        f"{row['value']:.6g} against {row['target'] if pd.isna(row['bound']) else row['bound']:.6g}"
        for row in broken.to_dict("records")
    ]


def _trajectories(
    measured: Sequence[Measured], tables: Mapping[str, pd.DataFrame], inputs: Outcome, on_event: OnEvent
) -> pd.DataFrame:
    """Return what became of each run; one that fails unexpectedly is lost, and the others stay."""
    metrics, weights = tables["metrics"], tables["weights"]
    train = {one.provenance.run: with_notes(one.provenance.train, one.provenance.notes) for one in measured}
    depth = {one.provenance.run: one.stages for one in measured if one.stages}
    found = []
    for run in dict.fromkeys(metrics["run"]):
        with inputs.guarding(f"{run}: what became of it over steps and depth", on_event):
            found.append(trajectory_rows(metrics[metrics["run"] == run], weights, train, depth))
    return pd.concat(found, ignore_index=True) if found else trajectory_rows(metrics[:0], weights[:0], {}, {})


@dataclass(frozen=True)
class DumpsOfCheckpoint:
    """The dumps of one checkpoint."""

    provenance: Provenance
    """Where the first of them comes from."""
    by_split: Mapping[str, Path]
    """That of the training set first."""


def _by_checkpoint(dumps: Sequence[Path], inputs: Outcome, on_event: OnEvent) -> dict[str, DumpsOfCheckpoint]:
    """Return the dumps of each checkpoint, by its label."""
    found: dict[str, dict[str, Path]] = {}
    provenances: dict[str, Provenance] = {}
    for path in dumps:
        with inputs.guarding(str(path), on_event):
            with Dump(path) as dump:
                own = dump.provenance
            splits = found.setdefault(label(own), {})
            if own.split in splits:
                what = f"{label(own)} ({own.split}) is measured from {splits[own.split]}"
                raise DumpError(f"{path}: {what}; report the two apart")
            splits[own.split] = path
            provenances.setdefault(label(own), own)
    return {
        name: DumpsOfCheckpoint(provenances[name], dict(sorted(splits.items(), key=lambda item: item[0] != TRAINING)))
        for name, splits in found.items()
    }


def _measure_checkpoint(
    splits: Mapping[str, Path], inputs: Outcome, on_event: OnEvent, options: Options
) -> list[Measured]:
    """Return the measurements of every dump of one checkpoint; of other data against those of the training set."""
    found: list[Measured] = []
    stats: Mapping[str, LayerStats] = {}
    for split, path in splits.items():
        with inputs.counting(str(path), on_event), Dump(path) as dump:
            if split == TRAINING:
                one = measure_source(dump, options, on_event, with_stats=len(splits) > 1)
                stats, one = one.stats, replace(one, stats={})  # they are needed no longer than the other splits
            elif not found:
                raise DumpError(f"{path}: no dump of the training set beside it, whose class means it is measured by")
            else:
                with Dump(splits[TRAINING]) as train:
                    if not are_of_one_network(train, dump):
                        raise DumpError(f"{path}: not the network of {train.path}, whose name it has; extract it again")
                    both = measure_other_split(train, stats, dump)
                one, training = _measure_other(dump, both, on_event, options), found[0]
                if not any(known.row.metric == "nearest_distance" for known in training.layers):
                    found[0] = replace(training, layers=(*training.layers, *both.train))
            on_event(one.finished)
            for lost in one.lost:
                inputs.skip(lost, on_event)
            found.append(one)
    return found


def _measure_other(source: ActivationSource, both: SplitRows, on_event: OnEvent, options: Options) -> Measured:
    """Measure other data: a held-out split has all measures, what asks for class means by those of the training set."""
    rows = tuple(both.other)
    if source.provenance.split == OUTSIDE:
        one = Measured(summed_up(source, f"{len(source.layers)} layers"), source.provenance, rows)
    else:
        own = measure_source(source, options, on_event)
        one = replace(own, layers=(*without(own.layers, MEANS_OF_TRAINING), *rows))
    return replace(one, finished=replace(one.finished, doubts=(*one.finished.doubts, *both.doubts)))


def _context(provenance: Provenance, at: PlaceInRun) -> dict[str, Any]:
    """Return the cells of the tables that describe a checkpoint in each of its rows."""
    return {
        "run": provenance.run,
        "group": provenance.group,
        "checkpoint": provenance.checkpoint,
        "step": at.step,
        "step_unit": at.step_unit,
        "split": provenance.split,
    }


def _tables(measured: Sequence[Measured], contexts: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Return the tidy tables of what was measured of each checkpoint."""
    pairs = list(zip(measured, contexts, strict=True))
    return {
        "metrics": tidy(METRIC_COLUMNS, (entry for one, at in pairs for entry in _numbers(one, at))),
        "weights": tidy(WEIGHT_COLUMNS, (entry for one, at in pairs for entry in _of_maps(one, at))),
        "theory": tidy(THEORY_COLUMNS, ((at, claim) for one, at in pairs for claim in one.claims)),
        "classes": tidy(CLASS_COLUMNS, (entry for one, at in pairs for entry in _of_classes(one, at))),
        "geometry": tidy(GEOMETRY_COLUMNS, (entry for one, at in pairs for entry in _of_picture(one, at))),
    }


Entry = tuple[Mapping[str, Any], object]


def _numbers(one: Measured, context: Mapping[str, Any]) -> Iterator[Entry]:
    for tap, reduction, row, at_floor, low, high, baseline in one.layers:
        where = {"layer": tap.name, "depth": tap.depth, "kind": tap.kind, "reduction": reduction}
        trust = {"at_floor": at_floor, "low": low, "high": high, "baseline": baseline}
        yield {**context, **where, **trust}, row


def _of_maps(one: Measured, context: Mapping[str, Any]) -> Iterator[Entry]:
    for row in one.weights:
        yield context, row
    for found in one.gradients:
        first, following = parted(found.layer_or_map)
        yield {**context, "map": first, "next_map": following}, found


def _of_classes(one: Measured, context: Mapping[str, Any]) -> Iterator[Entry]:
    names = one.provenance.class_names
    for tap, row in one.classes:
        other = "" if row.other_index is None else names[row.other_index]
        yield {**context, "layer": tap.name, "class_name": names[row.class_index], "other_name": other}, row


def _of_picture(one: Measured, context: Mapping[str, Any]) -> Iterator[Entry]:
    names = one.provenance.class_names
    for tap, at in one.picture:
        coordinates = {f"x{i}": x for i, x in enumerate(at.coordinates, start=1)}
        yield {**context, "layer": tap.name, "class_name": names[at.class_index], **coordinates}, at
