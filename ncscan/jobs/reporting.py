"""Dumps → report: every layer of every dump measured, the runs put in order, tables and page written.

In: paths. Out: the files of a report, and facts. Neither model nor data are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ncscan import report as reports
from ncscan.accumulate import in_lanes, layer_stats
from ncscan.dump import Dump, Layer, Provenance
from ncscan.errors import DumpError
from ncscan.graph import Tap
from ncscan.jobs import Advanced, Finished, Outcome, Tell, writing
from ncscan.metrics import Classifier, LayerView, Row, logits_obstacle, measure, network_rows
from ncscan.report.tables import Entry, WeightEntry, metrics_frame, weights_frame
from ncscan.trajectory import Moment, Placed, accuracy_doubts, integrity, place
from ncscan.weights import WeightRow, measure_weights

DUMP_SUFFIX = ".h5"


@dataclass(frozen=True)
class Measured:
    """One dump in numbers."""

    finished: Finished
    provenance: Provenance
    layers: tuple[tuple[Tap, str, Row], ...]
    """A tap, how it became a vector, and one number of it."""
    weights: tuple[WeightRow, ...]

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
    measured: list[Measured] = []
    seen: dict[str, Path] = {}
    for path in dumps:
        with outcome.counting(str(path), tell), Dump(path) as dump:
            first = seen.setdefault(_label(dump.provenance), path)
            if first != path:
                raise DumpError(f"{path}: {_label(dump.provenance)} is measured from {first}; report the two apart")
            measured.append(measure_dump(dump, tell))
            tell(measured[-1].finished)
    if not measured:
        return outcome
    at = dict(zip(map(id, measured), place([one.moment for one in measured]), strict=True))
    measured.sort(key=lambda one: (one.provenance.run, at[id(one)].step, one.provenance.checkpoint))
    contexts = [_context(one.provenance, at[id(one)]) for one in measured]
    outcome.metrics = metrics_frame(_entries(measured, contexts))
    outcome.weights = weights_frame(_weight_entries(measured, contexts))
    outcome.warnings = integrity([one.moment for one in measured])
    doubts = [f"{one.finished.label}: {doubt}" for one in measured for doubt in one.finished.doubts]
    with writing(out):
        outcome.files = reports.write(
            out,
            {"metrics": outcome.metrics, "weights": outcome.weights},
            checkpoints=[_facts(one, context) for one, context in zip(measured, contexts, strict=True)],
            skipped=[(skipped.label, skipped.reason) for skipped in outcome.skipped],
            warnings=doubts + outcome.warnings,
        )
    return outcome


def measure_dump(dump: Dump, tell: Tell) -> Measured:
    """Every number of one dump: its layers, its network, its linear maps."""
    provenance, graph = dump.provenance, dump.graph
    classifier, undecided = _classifier(dump), logits_obstacle(dump.logits)
    decisions = None if undecided else dump.logits.argmax(axis=1)
    doubts = [undecided] if undecided else []
    if classifier is None:
        doubts.append("no linear map writes the logits, one row of weights per class: there is no nc3")

    def layer_rows(layer: Layer) -> tuple[str, list[Row]]:
        own = classifier if classifier is not None and layer.tap.name == graph.map(classifier.name).reads else None
        stats = layer_stats(
            partial(dump.chunks, layer),
            dump.labels,
            len(provenance.class_names),
            decisions=decisions,
            classifier=None if own is None or own.obstacle else own.weight,
            negative_part=layer.tap.is_preactivation,
            precision=layer.dtype,
        )
        return stats.obstacle, measure(LayerView(stats, classifier=own, decisions_obstacle=undecided))

    rows: list[tuple[Tap, str, Row]] = []
    # Layers side by side, each in one thread: threads that share a layer wait for each other at every step of it.
    with in_lanes(layer_rows, dump.layers) as measured:
        for done, (layer, (obstacle, numbers)) in enumerate(zip(dump.layers, measured, strict=True)):
            tell(Advanced(_label(provenance), done + 1, len(dump.layers)))
            rows += [(layer.tap, layer.reduction, row) for row in numbers]
            if obstacle:
                doubts.append(f"layer {layer.tap.name}: {obstacle}")
    rows += [(graph.output, "none", row) for row in network_rows(dump.logits, dump.labels)]
    weights = measure_weights(dump.weights, graph)
    return Measured(summed_up(dump, f"{len(dump.layers)} layers", doubts), provenance, tuple(rows), tuple(weights))


def _classifier(dump: Dump) -> Classifier | None:
    """The linear map whose outputs are the logits, as they are: of any other, W says nothing of the classes.

    A network may know more classes than the data has; their rows have no class mean to be compared with.
    """
    if not dump.graph.head:
        return None
    name = dump.graph.head[-1]
    W = np.asarray(dump.weights[name][0], np.float64)
    n_classes = len(dump.provenance.class_names)
    return Classifier(name, W[:n_classes]) if W.ndim == 2 and len(W) == dump.logits.shape[1] else None


def summed_up(dump: Dump, details: str, doubts: Sequence[str] = ()) -> Finished:
    """A dump in one line: the accuracy of the replay, and what is doubtful about it."""
    own = dump.provenance
    accuracy = float(np.mean(dump.logits.argmax(axis=1) == dump.labels))
    chance = float(np.bincount(dump.labels).max() / len(dump.labels))
    untrained = 0 in (own.step, own.epoch)
    doubts = (*accuracy_doubts(accuracy, chance, own.notes, untrained=untrained), *doubts)
    return Finished(_label(own), accuracy, len(dump.labels), details, doubts)


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


def _facts(one: Measured, context: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json and the page say of a checkpoint."""
    return {
        **context,
        "accuracy": one.finished.accuracy,
        "n_samples": one.finished.n_samples,
        "n_classes": len(one.provenance.class_names),
        "class_names": list(one.provenance.class_names),
        "doubts": list(one.finished.doubts),
        "provenance": asdict(one.provenance),
    }


DIGEST = ("error", "nc1_pinv", "nc2_etf", "nc3_distance", "nc4_mismatch", "balancedness", "head_condition")
"""The numbers that tell a checkpoint at a glance."""


def digest(reported: Reported) -> pd.DataFrame:
    """One row per checkpoint: run, step, and DIGEST.

    The error is the network's; nc1 to nc4 are those of the layer that the classifier reads; balancedness is the
    largest among the pairs of linear maps with nothing between them, in the operator norm.
    """
    metrics, weights = reported.metrics, reported.weights
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
