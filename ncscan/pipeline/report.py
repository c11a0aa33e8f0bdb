"""Dumps → report: every layer of every dump measured, the runs put in order, tables and page written.

In: paths. Out: the files of a report, and facts. Neither model nor data are needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.activations import ActivationSource, Provenance
from ncscan.compare import Field, Gate, Result, field_of
from ncscan.dumps import Dump, told_unfinished
from ncscan.errors import DumpError, NcscanError
from ncscan.files import claimed
from ncscan.layer_graph import parted
from ncscan.metrics import MEANS_OF_TRAINING
from ncscan.pipeline.events import Outcome, Skipped, Tell, writing
from ncscan.pipeline.fit import label, summed_up
from ncscan.pipeline.gating import gated, judged
from ncscan.pipeline.held_out import Beside, are_of_one_network, beside, without
from ncscan.pipeline.measure import Measured, Options, class_index, measure_source, violated
from ncscan.pipeline.pictures import NONE, Drawn, Pictures, draw, put_elsewhere
from ncscan.report import CONVENTION, NOTHING, Files, Verdicts, files_of, put, summary_text, verdicts
from ncscan.splits import OUTSIDE, TRAINING
from ncscan.statistics import LayerStats
from ncscan.tables import (
    CLASS_COLUMNS,
    GEOMETRY_COLUMNS,
    METRIC_COLUMNS,
    THEORY_COLUMNS,
    WEIGHT_COLUMNS,
    complete,
    require_parquet,
    rows_in_convention,
    source_of,
    tidy,
)
from ncscan.training_settings import with_notes
from ncscan.trajectory import Placed, integrity, place, trajectory_rows

PLAIN = Options()


@dataclass
class Reported(Outcome):
    """Describes what became of a report."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """The tidy tables by name."""
    violations: list[str] = field(default_factory=list)
    """Certificates that do not hold."""
    gates: list[Result] = field(default_factory=list)
    """What became of each gate."""

    troubles: list[NcscanError] = field(default_factory=list)
    """Pictures that could not be drawn; everything else is there."""

    @property
    def exit_code(self) -> int:
        """Return 1 where a certificate is violated, which can only be a bug or damaged data; then what gates ask
        for; then a trouble's; then as of any job.
        """
        if self.violations:
            return 1
        return gated(self.gates) or (self.troubles[0].exit_code if self.troubles else super().exit_code)

    warnings: list[str] = field(default_factory=list)
    """Describes what is doubtful about runs; what is doubtful about a checkpoint was reported with it."""
    doubtful: list[str] = field(default_factory=list)
    """Describes all that is doubtful, violations and checkpoints included, as report.json has it."""
    judged: Verdicts = NOTHING
    """The judgement of the runs."""
    files: list[Path] = field(default_factory=list)
    report_id: str = ""
    """The id of the report that the files belong to; empty where none were written."""


def report(
    dumps: Sequence[Path],
    out: Path,
    tell: Tell,
    options: Options = PLAIN,
    conventions: Sequence[str] = (),
    pictures: Pictures = NONE,
    formats: Sequence[str] = ("csv",),
    gates: Sequence[Gate] = (),
    unfinished: Sequence[Path] = (),
    *,
    allow_unfinished: bool = False,
    skipped: Sequence[Skipped] = (),
) -> Reported:
    """Measure every dump, judge the gates, and write the tables, the page and what is drawn beside it into `out`.

    Dumps that are unfinished beside them are named; where there are gates they fail one, unless they are allowed.

    Raises: UsageError when there is no such convention or figure, or no pyarrow for Parquet; RefusedPlan when `out`
        cannot be written.
    """
    if "parquet" in formats:
        require_parquet()
    for name in conventions:
        source_of(name)
    pictures.check()
    outcome = Reported()
    for each in skipped:
        outcome.skip(each, tell)
    with claimed(out):
        measured, contexts = measure(dumps, outcome, tell, options)
        if measured:
            outcome.warnings += told_unfinished(unfinished)
            judge = partial(judged, gates, unfinished=() if allow_unfinished else unfinished)
            made, drawn = _made(measured, contexts, out, outcome, options, conventions, pictures, formats, judge)
            with writing(out):
                outcome.files = put(out, {**made.contents, **drawn.files})
            outcome.files += put_elsewhere(drawn)
            outcome.report_id, outcome.troubles = made.id, drawn.troubles
    return outcome


def _made(
    measured: Sequence[Measured],
    contexts: Sequence[Mapping[str, Any]],
    out: Path,
    outcome: Reported,
    options: Options,
    conventions: Sequence[str],
    pictures: Pictures,
    formats: Sequence[str],
    judge: Callable[[Field], list[Result]],
) -> tuple[Files, Drawn]:
    """Return every file of a report, and what is drawn beside them; what is judged and doubtful goes into `outcome`."""
    names = [one.provenance.class_names for one in measured]
    outcome.warnings += [
        f"--classes: no run has a class {name!r}"
        for name in options.classes
        if not pictures.animation  # which says so itself
        if all(class_index(name, known) is None for known in names)
    ]
    outcome.gates = judge(field_of(outcome.tables))
    doubted: dict[str, list[str]] = {}
    for one in measured:
        for doubt in one.finished.doubts:
            doubted.setdefault(doubt, []).append(one.finished.label)
    doubts = [
        f"{labels[0]}{f' and {len(labels) - 1} more' if labels[1:] else ''}: {doubt}"
        for doubt, labels in doubted.items()
    ]
    outcome.doubtful = [
        *(f"a certificate is violated: {text}" for text in outcome.violations),
        *doubts,
        *outcome.warnings,
    ]
    checkpoints = list(_checkpoints(measured, contexts))
    # What is doubtful about a checkpoint is known of the checkpoint: here it would count twice.
    about_runs = [text for text in outcome.doubtful if text not in doubts]
    outcome.judged = verdicts(complete(outcome.tables), checkpoints, about_runs)
    made = files_of(
        outcome.tables,
        {f"{CONVENTION}{name}": rows_in_convention(name, outcome.tables["metrics"]) for name in conventions},
        checkpoints=checkpoints,
        skipped=[(skipped.label, skipped.reason) for skipped in outcome.skipped],
        warnings=outcome.doubtful,
        judged=outcome.judged,
        gates=outcome.gates,
        formats=formats,
    )
    drawn = draw(pictures, outcome.tables, out, made.id)
    outcome.warnings += drawn.left_out
    return made, drawn


def measure(
    dumps: Sequence[Path], outcome: Reported, tell: Tell, options: Options
) -> tuple[list[Measured], list[dict[str, Any]]]:
    """Measure every dump: the tables, and what is doubtful or violated, go into `outcome`.

    Returns: what was measured of each dump, run by run in the order of steps, and what the tables hold of its place.
    """
    measured = [
        one for splits in _by_checkpoint(dumps, outcome, tell) for one in _measure_all(splits, outcome, tell, options)
    ]
    if not measured:
        return [], []
    moments = list({label(one.provenance): one.moment for one in measured}.values())
    at = {f"{moment.run}/{moment.checkpoint}": placed for moment, placed in zip(moments, place(moments), strict=True)}
    measured.sort(key=lambda one: (one.provenance.run, at[label(one.provenance)].step, one.provenance.checkpoint))
    contexts = [_context(one.provenance, at[label(one.provenance)]) for one in measured]
    outcome.tables = _tables(measured, contexts)
    outcome.tables["trajectory"] = _trajectories(measured, outcome, tell)
    outcome.warnings = integrity(moments)
    outcome.violations = [f"{label(one.provenance)}: {said}" for one in measured for said in violated(one.claims)]
    return measured, contexts


def _trajectories(measured: Sequence[Measured], outcome: Reported, tell: Tell) -> pd.DataFrame:
    """Return what became of each run; one that fails unexpectedly is lost, and the others stay."""
    metrics, weights = outcome.tables["metrics"], outcome.tables["weights"]
    train = {one.provenance.run: with_notes(one.provenance.train, one.provenance.notes) for one in measured}
    depth = {one.provenance.run: one.stages for one in measured if one.stages}
    found = []
    for run in dict.fromkeys(metrics["run"]):
        with outcome.guarding(f"{run}: what became of it over steps and depth", tell):
            found.append(trajectory_rows(metrics[metrics["run"] == run], weights, train, depth))
    return pd.concat(found, ignore_index=True) if found else trajectory_rows(metrics[:0], weights[:0], {}, {})


def summary(outcome: Reported) -> str:
    """Return what became of a report, as the one JSON document of `ncscan report --json`."""
    return summary_text(
        outcome.judged,
        report_id=outcome.report_id,
        skipped=[(skipped.label, skipped.reason) for skipped in outcome.skipped],
        warnings=outcome.doubtful,
        violations=outcome.violations,
        gates=outcome.gates,
        troubles=[str(trouble) for trouble in outcome.troubles],
        files=outcome.files,
        exit_code=outcome.exit_code,
    )


def _by_checkpoint(dumps: Sequence[Path], outcome: Outcome, tell: Tell) -> list[dict[str, Path]]:
    """Return the dumps of each checkpoint by their split, that of the training set first."""
    found: dict[str, dict[str, Path]] = {}
    for path in dumps:
        with outcome.guarding(str(path), tell):
            with Dump(path) as dump:
                own = dump.provenance
            splits = found.setdefault(label(own), {})
            if own.split in splits:
                what = f"{label(own)} ({own.split}) is measured from {splits[own.split]}"
                raise DumpError(f"{path}: {what}; report the two apart")
            splits[own.split] = path
    return [dict(sorted(splits.items(), key=lambda item: item[0] != TRAINING)) for splits in found.values()]


def _measure_all(splits: Mapping[str, Path], outcome: Outcome, tell: Tell, options: Options) -> list[Measured]:
    """Return the measurements of every dump of one checkpoint; of other data against those of the training set."""
    found: list[Measured] = []
    stats: Mapping[str, LayerStats] = {}
    for split, path in splits.items():
        with outcome.counting(str(path), tell), Dump(path) as dump:
            if split == TRAINING:
                one = measure_source(dump, options, tell, with_stats=len(splits) > 1)
                stats, one = one.stats, replace(one, stats={})  # they are needed no longer than the other splits
            elif not found:
                raise DumpError(f"{path}: no dump of the training set beside it, whose class means it is measured by")
            else:
                with Dump(splits[TRAINING]) as train:
                    if not are_of_one_network(train, dump):
                        raise DumpError(f"{path}: not the network of {train.path}, whose name it has; extract it again")
                    both = beside(train, stats, dump)
                one, training = _measure_other(dump, both, tell, options), found[0]
                if not any(known.row.metric == "nearest_distance" for known in training.layers):
                    found[0] = replace(training, layers=(*training.layers, *both.train))
            tell(one.finished)
            for lost in one.lost:
                outcome.skip(lost, tell)
            found.append(one)
    return found


def _measure_other(source: ActivationSource, both: Beside, tell: Tell, options: Options) -> Measured:
    """Measure other data: a held-out split has all measures, what asks for class means by those of the training set."""
    rows = tuple(both.other)
    if source.provenance.split == OUTSIDE:
        one = Measured(summed_up(source, f"{len(source.layers)} layers"), source.provenance, rows)
    else:
        own = measure_source(source, options, tell)
        one = replace(own, layers=(*without(own.layers, MEANS_OF_TRAINING), *rows))
    return replace(one, finished=replace(one.finished, doubts=(*one.finished.doubts, *both.doubts)))


def _context(provenance: Provenance, at: Placed) -> dict[str, Any]:
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
        place = {"layer": tap.name, "depth": tap.depth, "kind": tap.kind, "reduction": reduction}
        trust = {"at_floor": at_floor, "low": low, "high": high, "baseline": baseline}
        yield {**context, **place, **trust}, row


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


def _checkpoints(measured: Sequence[Measured], contexts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the description in report.json and the page of each checkpoint, and of the data beside its training set."""
    beside: dict[str, dict[str, Any]] = {}
    for one in measured:
        own = one.provenance
        if own.split != TRAINING:
            known = {
                "dataset": own.dataset,
                "fingerprint": own.dataset_fingerprint,
                "n_samples": one.finished.n_samples,
            }
            beside.setdefault(label(own), {})[own.split] = known
    for one, context in zip(measured, contexts, strict=True):
        if one.provenance.split == TRAINING:
            yield _facts(one, context, beside.get(label(one.provenance), {}))


def _facts(one: Measured, context: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **context,
        "accuracy": one.finished.accuracy,
        "n_samples": one.finished.n_samples,
        "n_classes": one.n_classes,
        "class_names": list(one.provenance.class_names),
        "doubts": list(one.finished.doubts),
        "provenance": asdict(one.provenance) | ({"beside": beside} if beside else {}),
    }
