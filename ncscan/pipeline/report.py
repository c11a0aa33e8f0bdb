"""Dumps → report: what was measured of them judged, tables and page written.

In: paths. Out: the files of a report, and facts. Neither model nor data are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.compare import Gate, GateResult, field_of
from ncscan.dumps import describe_unfinished
from ncscan.errors import NcscanError
from ncscan.files import claimed
from ncscan.pipeline.events import OnEvent, Outcome, Skipped, writing
from ncscan.pipeline.fit import label
from ncscan.pipeline.gating import gated, judged
from ncscan.pipeline.measure import Measured, Options, class_index
from ncscan.pipeline.measurements import measure
from ncscan.pipeline.pictures import NONE, Pictures, draw, put_elsewhere
from ncscan.report import CONVENTION, NOTHING, Verdicts, files_of, put, summary_text, verdicts
from ncscan.splits import TRAINING
from ncscan.tables import (
    complete,
    require_parquet,
    rows_in_convention,
    source_of,
)

PLAIN = Options()


@dataclass
class Reported(Outcome):
    """Describes what became of a report, once it is there."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """The tidy tables by name."""
    violations: Sequence[str] = ()
    """Certificates that do not hold."""
    gates: Sequence[GateResult] = ()
    """What became of each gate."""
    troubles: Sequence[NcscanError] = ()
    """Pictures that could not be drawn; everything else is there."""
    warnings: Sequence[str] = ()
    """Describes what is doubtful about runs; what is doubtful about a checkpoint was reported with it."""
    doubtful: Sequence[str] = ()
    """Describes all that is doubtful, violations and checkpoints included, as report.json has it."""
    judged: Verdicts = NOTHING
    """The judgement of the runs."""
    files: Sequence[Path] = ()
    report_id: str = ""
    """The id of the report that the files belong to; empty where none were written."""

    @property
    def exit_code(self) -> int:
        """Return 1 where a certificate is violated, which can only be a bug or damaged data; then what gates ask
        for; then a trouble's; then as of any job.
        """
        if self.violations:
            return 1
        return gated(self.gates) or (self.troubles[0].exit_code if self.troubles else super().exit_code)


def report(
    dumps: Sequence[Path],
    out: Path,
    on_event: OnEvent,
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
    """Measure every dump, judge the gates, and write the tables, the page and the figures into `out`.

    Unfinished dumps are named; where there are gates they fail one, unless they are allowed.

    Raises: UsageError when there is no such convention or figure, or no pyarrow for Parquet; RefusedPlan when `out`
        cannot be written.
    """
    if "parquet" in formats:
        require_parquet()
    for name in conventions:
        source_of(name)
    pictures.check()
    with claimed(out):
        found = measure(dumps, options, on_event, skipped)
        if not found.measured:
            return Reported(found.done, list(found.skipped))
        warnings = [*found.warnings, *describe_unfinished(unfinished)]
        if not pictures.animation:  # which says so itself
            warnings += _unknown(options.classes, found.measured)
        results = judged(gates, field_of(found.tables), unfinished=() if allow_unfinished else unfinished)
        violated = [f"a certificate is violated: {text}" for text in found.violations]
        doubts = _doubts(found.measured)
        checkpoints = list(_checkpoints(found.measured, found.contexts, found.twins))
        # What is doubtful about a checkpoint is known of the checkpoint: here it would count twice.
        about_runs = [text for text in (*violated, *warnings) if text not in doubts]
        verdict = verdicts(complete(found.tables), checkpoints, about_runs)
        doubtful = [*violated, *doubts, *warnings]
        made = files_of(
            found.tables,
            {f"{CONVENTION}{name}": rows_in_convention(name, found.tables["metrics"]) for name in conventions},
            checkpoints=checkpoints,
            skipped=[(each.label, each.reason) for each in found.skipped],
            warnings=doubtful,
            judged=verdict,
            gates=results,
            formats=formats,
        )
        drawn = draw(pictures, found.tables, out, made.id)
        with writing(out):
            files = put(out, {**made.contents, **drawn.files})
        return Reported(
            found.done,
            list(found.skipped),
            tables=found.tables,
            violations=found.violations,
            gates=results,
            troubles=drawn.troubles,
            warnings=[*warnings, *drawn.left_out],
            doubtful=doubtful,
            judged=verdict,
            files=[*files, *put_elsewhere(drawn)],
            report_id=made.id,
        )


def _unknown(classes: Sequence[str], measured: Sequence[Measured]) -> list[str]:
    """Return a line on each class that is to be pictured and that no run has."""
    names = [one.provenance.class_names for one in measured]
    return [
        f"--classes: no run has a class {name!r}"
        for name in classes
        if all(class_index(name, known) is None for known in names)
    ]


def _doubts(measured: Sequence[Measured]) -> list[str]:
    """Return what is doubtful about checkpoints, each once, at the first checkpoint that it concerns."""
    doubted: dict[str, list[str]] = {}
    for one in measured:
        for doubt in one.finished.doubts:
            doubted.setdefault(doubt, []).append(one.finished.label)
    return [
        f"{labels[0]}{f' and {len(labels) - 1} more' if labels[1:] else ''}: {doubt}"
        for doubt, labels in doubted.items()
    ]


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


def _checkpoints(
    measured: Sequence[Measured], contexts: Sequence[Mapping[str, Any]], twins: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the description in report.json and the page of each checkpoint, with that of data other than training.

    Where others are only other names of it, `twins` has them with its label.
    """
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
            names = [name for name, twin in twins.items() if twin == label(one.provenance)]
            also = {"same_tensors": names} if names else {}
            yield _facts(one, context, beside.get(label(one.provenance), {}), also)


def _facts(
    one: Measured, context: Mapping[str, Any], beside: Mapping[str, Any], also: dict[str, Any]
) -> dict[str, Any]:
    return {
        **context,
        "accuracy": one.finished.accuracy,
        "n_samples": one.finished.n_samples,
        "n_classes": one.n_classes,
        "class_names": list(one.provenance.class_names),
        "doubts": list(one.finished.doubts),
        "provenance": asdict(one.provenance) | ({"beside": beside} if beside else {}) | also,
    }
