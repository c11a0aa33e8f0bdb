"""Dumps → report: every layer of every dump measured, the runs put in order, tables and page written.

In: paths. Out: the files of a report, and facts. Neither model nor data are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ncscan import report as reports
from ncscan.accumulate import layer_stats
from ncscan.dataset import OUTSIDE, TRAINING
from ncscan.dump import Dump, Layer, Provenance
from ncscan.errors import DumpError, NcscanError
from ncscan.held_out import MEANS_OF_TRAINING
from ncscan.jobs import Advanced, Finished, Outcome, Tell, writing
from ncscan.jobs.beside import LayerRow, beside, without
from ncscan.lanes import in_lanes
from ncscan.metrics import LayerView, Row, head_classifiers, logits_obstacle, measure, network_rows, readers
from ncscan.report.tables import Entry, WeightEntry, metrics_frame, weights_frame
from ncscan.statistics import LayerStats
from ncscan.trajectory import Moment, Placed, accuracy_doubts, integrity, place, stages, trajectory_rows
from ncscan.weights import WeightRow, measure_weights

DUMP_SUFFIX = ".h5"


@dataclass(frozen=True)
class Measured:
    """One dump in numbers."""

    finished: Finished
    provenance: Provenance
    layers: list[LayerRow]
    weights: tuple[WeightRow, ...]
    stages: tuple[str, ...] = ()
    """The layers that depth is counted in."""

    @property
    def moment(self) -> Moment:
        """What the dump says of its place in its run."""
        own = self.provenance
        return Moment(own.run, own.checkpoint, own.step, own.epoch, own.file_number, own.tensors_sha256)


@dataclass
class Reported(Outcome):
    """What became of a report."""

    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    weights: pd.DataFrame = field(default_factory=pd.DataFrame)
    trajectory: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def find_dumps(paths: Sequence[Path]) -> list[Path]:
    """The dumps under the paths; DumpError when there is none."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise DumpError(f"{path}: no such file or folder; `ncscan extract CKPTS` makes dumps")
        inside = sorted(path.rglob(f"*{DUMP_SUFFIX}")) if path.is_dir() else [path]
        if not inside:
            raise DumpError(f"{path}: no dump in it (*{DUMP_SUFFIX}); `ncscan extract CKPTS` makes dumps")
        found.update(dict.fromkeys(inside))
    return list(found)


def report(dumps: Sequence[Path], out: Path, tell: Tell) -> Reported:
    """Measures every dump and writes the tables and the page into `out`."""
    with writing(out):
        outcome = Reported()
    measured = [one for splits in _by_checkpoint(dumps, outcome, tell) for one in _measure_all(splits, outcome, tell)]
    if not measured:
        return outcome
    moments = list({_label(one.provenance): one.moment for one in measured}.values())
    at = {f"{moment.run}/{moment.checkpoint}": placed for moment, placed in zip(moments, place(moments), strict=True)}
    measured.sort(key=lambda one: (one.provenance.run, at[_label(one.provenance)].step, one.provenance.checkpoint))
    contexts = [_context(one.provenance, at[_label(one.provenance)]) for one in measured]
    outcome.metrics = metrics_frame(_entries(measured, contexts))
    outcome.weights = weights_frame(_weight_entries(measured, contexts))
    outcome.trajectory = trajectory_rows(
        outcome.metrics,
        outcome.weights,
        {one.provenance.run: one.provenance.train for one in measured},
        {one.provenance.run: one.stages for one in measured if one.stages},
    )
    outcome.warnings = integrity(moments)
    doubts = [f"{one.finished.label}: {doubt}" for one in measured for doubt in one.finished.doubts]
    with writing(out):
        outcome.files = reports.write(
            out,
            {"metrics": outcome.metrics, "weights": outcome.weights, "trajectory": outcome.trajectory},
            checkpoints=list(_checkpoints(measured, contexts)),
            skipped=[(skipped.label, skipped.reason) for skipped in outcome.skipped],
            warnings=doubts + outcome.warnings,
        )
    return outcome


def _by_checkpoint(dumps: Sequence[Path], outcome: Outcome, tell: Tell) -> list[dict[str, Path]]:
    """The dumps of each checkpoint by their split, that of the training set first."""
    found: dict[str, dict[str, Path]] = {}
    for path in dumps:
        try:
            with Dump(path) as dump:
                own = dump.provenance
            splits = found.setdefault(_label(own), {})
            if own.split in splits:
                what = f"{_label(own)} ({own.split}) is measured from {splits[own.split]}"
                raise DumpError(f"{path}: {what}; report the two apart")
            splits[own.split] = path
        except NcscanError as error:
            outcome.skip(str(path), str(error), tell)
    return [dict(sorted(splits.items(), key=lambda item: item[0] != TRAINING)) for splits in found.values()]


def _measure_all(splits: Mapping[str, Path], outcome: Outcome, tell: Tell) -> Iterator[Measured]:
    """Every dump of one checkpoint; those of other data against that of the training set."""
    stats: dict[str, LayerStats] = {}
    compared: Measured | None = None
    for split, path in splits.items():
        with outcome.counting(str(path), tell), Dump(path) as dump:
            if split == TRAINING:
                compared = one = measure_dump(dump, tell, keep=stats if len(splits) > 1 else None)
            elif compared is None:
                raise DumpError(f"{path}: no dump of the training set beside it, whose class means it is measured by")
            else:
                with Dump(splits[TRAINING]) as train:
                    found = beside(train, stats, dump)
                one = _measure_other(dump, found.other, tell)
                if not any(row.metric == "nearest_distance" for _, _, row in compared.layers):
                    compared.layers.extend(found.train)
            tell(one.finished)
            yield one


def _measure_other(dump: Dump, rows: list[LayerRow], tell: Tell) -> Measured:
    """Other data: a held-out split has all measures, what asks for class means by those of the training set."""
    if dump.provenance.split == OUTSIDE:
        return Measured(summed_up(dump, f"{len(dump.layers)} layers"), dump.provenance, rows, ())
    own = measure_dump(dump, tell)
    return replace(own, layers=without(own.layers, MEANS_OF_TRAINING) + rows, weights=())


def measure_dump(dump: Dump, tell: Tell, *, keep: dict[str, LayerStats] | None = None) -> Measured:
    """Every number of one dump: its layers, its network, its linear maps.

    What is known of each layer stays in `keep`, where one is given.
    """
    provenance, graph = dump.provenance, dump.graph
    undecided = logits_obstacle(dump.logits)
    classifiers = head_classifiers(graph, dump.weights)
    reading = readers(graph, dump.weights, len(provenance.class_names))
    decisions = None if undecided else dump.logits.argmax(axis=1)
    doubts = [undecided] if undecided else []
    if not classifiers:
        doubts.append("no linear map writes the logits, one row of weights per class: there is no nc3")

    def layer_rows(layer: Layer) -> tuple[str, list[Row]]:
        own = classifiers.get(layer.tap.name)
        stats = layer_stats(
            partial(dump.chunks, layer),
            dump.labels,
            len(provenance.class_names),
            decisions=decisions,
            classifier=None if own is None or own.obstacle else own.weight,
            negative_part=layer.tap.is_preactivation,
            precision=layer.dtype,
        )
        if keep is not None:
            keep[layer.tap.name] = stats
        view = LayerView(stats, classifier=own, decisions_obstacle=undecided, readers=reading.get(layer.tap.name, ()))
        return stats.obstacle, measure(view)

    rows: list[LayerRow] = []
    # Layers side by side, each in one thread: threads that share a layer wait for each other at every step of it.
    with in_lanes(layer_rows, dump.layers) as measured:
        for done, (layer, (obstacle, numbers)) in enumerate(zip(dump.layers, measured, strict=True)):
            tell(Advanced(_label(provenance), done + 1, len(dump.layers)))
            rows += [(layer.tap, layer.reduction, row) for row in numbers]
            if obstacle:
                doubts.append(f"layer {layer.tap.name}: {obstacle}")
    rows += [(graph.output, "none", row) for row in network_rows(dump.logits, dump.labels)]
    weights = measure_weights(dump.weights, graph)
    return Measured(
        summed_up(dump, f"{len(dump.layers)} layers", doubts), provenance, rows, tuple(weights), stages(graph)
    )


def summed_up(dump: Dump, details: str, doubts: Sequence[str] = ()) -> Finished:
    """A dump in one line: the accuracy of the replay, and what is doubtful about it."""
    own = dump.provenance
    label = _label(own) + ("" if own.split == TRAINING else f" ({own.split})")
    if own.split == OUTSIDE:
        return Finished(label, None, len(dump.labels), details, tuple(doubts))
    accuracy = float(np.mean(dump.logits.argmax(axis=1) == dump.labels))
    chance = float(np.bincount(dump.labels).max() / len(dump.labels))
    untrained = 0 in (own.step, own.epoch)
    if own.split == TRAINING:
        doubts = (*accuracy_doubts(accuracy, chance, own.notes, untrained=untrained), *doubts)
    return Finished(label, accuracy, len(dump.labels), details, tuple(doubts))


def _label(provenance: Provenance) -> str:
    return f"{provenance.run}/{provenance.checkpoint}"


def _context(provenance: Provenance, at: Placed) -> dict[str, Any]:
    """What the tables say of a checkpoint in each of its rows."""
    return {
        "run": provenance.run,
        "group": provenance.group,
        "checkpoint": provenance.checkpoint,
        "step": at.step,
        "step_unit": at.step_unit,
        "split": provenance.split,
    }


def _entries(measured: Sequence[Measured], contexts: Sequence[Mapping[str, Any]]) -> Iterator[Entry]:
    for one, context in zip(measured, contexts, strict=True):
        for tap, reduction, row in one.layers:
            yield context, {"layer": tap.name, "depth": tap.depth, "kind": tap.kind, "reduction": reduction}, row


def _weight_entries(measured: Sequence[Measured], contexts: Sequence[Mapping[str, Any]]) -> Iterator[WeightEntry]:
    for one, context in zip(measured, contexts, strict=True):
        for row in one.weights:
            yield context, row


def _checkpoints(measured: Sequence[Measured], contexts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What report.json and the page say of each checkpoint, and of the data beside its training set."""
    beside: dict[str, dict[str, Any]] = {}
    for one in measured:
        own = one.provenance
        if own.split != TRAINING:
            known = {
                "dataset": own.dataset,
                "fingerprint": own.dataset_fingerprint,
                "n_samples": one.finished.n_samples,
            }
            beside.setdefault(_label(own), {})[own.split] = known
    for one, context in zip(measured, contexts, strict=True):
        if one.provenance.split == TRAINING:
            yield _facts(one, context, beside.get(_label(one.provenance), {}))


def _facts(one: Measured, context: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **context,
        "accuracy": one.finished.accuracy,
        "n_samples": one.finished.n_samples,
        "n_classes": len(one.provenance.class_names),
        "class_names": list(one.provenance.class_names),
        "doubts": list(one.finished.doubts),
        "provenance": asdict(one.provenance) | ({"beside": beside} if beside else {}),
    }


DIGEST = ("error", "nc1_pinv", "nc2_etf", "nc3_distance", "nc4_mismatch", "balancedness", "head_condition")
"""The numbers that tell a checkpoint at a glance."""


def digest(reported: Reported) -> pd.DataFrame:
    """One row per checkpoint: run, step, and DIGEST.

    The error is the network's; nc1 to nc4 are those of the layer that the classifier reads; balancedness is the
    largest among the pairs of linear maps with nothing between them, in the operator norm.
    """
    metrics, weights = reported.metrics[reported.metrics["split"] == TRAINING], reported.weights
    keys = ["run", "checkpoint", "step"]
    read = metrics.loc[metrics["metric"] == "nc3_distance", ["run", "checkpoint", "layer"]]
    at_classifier = metrics.merge(read, on=["run", "checkpoint", "layer"])
    numbers = pd.concat(
        [
            metrics[metrics["metric"] == "error"],
            at_classifier[at_classifier["metric"].isin(DIGEST[1:5])],
            weights[(weights["metric"] == "balancedness") & (weights["quantity"] == "op")],
            weights[(weights["metric"] == "head_condition") & (weights["quantity"] == "condition")],
        ]
    )
    table = numbers.groupby([*keys, "metric"], sort=False)["value"].max().unstack("metric")
    checkpoints = metrics[keys].drop_duplicates()
    return checkpoints.merge(table.reindex(columns=list(DIGEST)).reset_index(), on=keys, how="left")
