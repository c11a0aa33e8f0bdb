"""Two sides, each a report, dumps or checkpoints → what differs between them: a table, a page, and facts.

In: two paths. Out: the files of a diff. What is no report yet is measured first, with the same code as ever; what is no
dump yet is extracted first, into a hidden folder that goes once it is measured: nobody must take it for one of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from ncscan.checkpoints import looks_like_one
from ncscan.compare import DIFF_COLUMNS, Comparison, Gate, compare
from ncscan.dumps import DUMP_SUFFIX, describe_unfinished, find_dumps, find_unfinished
from ncscan.errors import DumpError, ReportError, UsageError
from ncscan.files import claimed, in_sight, pending, remove_left, replace_files, scratch
from ncscan.pipeline.events import Doubted, Event, Finished, OnEvent, Skipped, passed_over, writing
from ncscan.pipeline.extract import dump_of, extract
from ncscan.pipeline.gating import judged
from ncscan.pipeline.load import Flags, find_targets
from ncscan.pipeline.measure import Options
from ncscan.pipeline.measurements import measure, violated
from ncscan.pipeline.report import Reported
from ncscan.report import diff_page
from ncscan.tables import REPORT_NAME, complete, csv_text, read_report

SideKind = Literal["report", "dumps", "checkpoints"]

SIDES = ("A", "B")
HIDDEN = ".dumps-"
"""The beginning of the name of the folder of dumps that a diff makes for itself."""


@dataclass
class Compared(Reported):
    """Describes what became of a diff."""

    comparison: Comparison | None = None
    names: tuple[str, str] = ("", "")
    """The names of A and B: the shortest ends of their paths that differ."""
    kinds: Sequence[SideKind] = ()
    """The kinds of input that A and B were taken for."""

    @property
    def exit_code(self) -> int:
        """Return the exit code as for a report; 4 where a run or a checkpoint is on one side alone, and so left out."""
        left_out = self.comparison is not None and self.comparison.notes
        return super().exit_code or (4 if left_out else 0)


def diff(
    a: Path,
    b: Path,
    out: Path,
    on_event: OnEvent,
    flags: Flags,
    options: Options,
    gates: Sequence[Gate] = (),
    *,
    allow_unfinished: bool = False,
) -> Compared:
    """Compare two sides, judge the gates, and write the table and the page into `out`.

    Raises: UsageError when nothing of the two can be compared, RefusedPlan when `out` cannot be written; whatever
    a report, a dump or a checkpoint raises that cannot be read, when it is all that a side has.
    """
    kinds = [kind_of(a), kind_of(b)]
    if set(kinds) == {"report"} and options.bootstrap:
        raise UsageError("both sides are reports, so nothing is measured here: give --bootstrap to `ncscan report`")
    if set(kinds) == {"report"} and options.order:
        raise UsageError("both sides are reports, so nothing is put in order here: give --order to `ncscan report`")
    names = _names(a, b)
    with claimed(out):
        remove_left(out, HIDDEN)
        sides = [
            _side(path, kind, side, out, on_event, flags, options)
            for path, kind, side in zip((a, b), kinds, SIDES, strict=True)
        ]
        first, second = sides
        found = compare(first.tables, second.tables)
        unfinished = [] if allow_unfinished else [path for side in sides for path in side.unfinished]
        results = judged(gates, found.field, unfinished)
        table = csv_text(found.frame[[name for name, _ in DIFF_COLUMNS]])
        files = {"diff.csv": table.encode(), "diff.html": diff_page(found, names, results, table).encode()}
        with writing(out):
            replace_files(out, files, lambda _folder, _name: False)
    return Compared(
        sum(side.done for side in sides),
        [each for side in sides for each in side.skipped],
        violations=[text for side in sides for text in side.violations],
        gates=results,
        warnings=[text for side in sides for text in side.warnings],
        files=[out / name for name in files],
        comparison=found,
        names=names,
        kinds=kinds,
    )


def kind_of(path: Path) -> SideKind:
    """Return what a path stands for: a report where there is one, else dumps, else checkpoints.

    Raises: ReportError when there is nothing.
    """
    if not path.exists():
        raise ReportError(f"{path}: there is no such file or folder; a diff takes reports, dumps or checkpoints")
    if _report_at(path) is not None:
        return "report"
    # What cannot be looked into is told by those who look for more than a kind.
    names = [path.name] if path.is_file() else [inside.name for inside in in_sight(path, lambda _: None)]
    if any(name.endswith(DUMP_SUFFIX) for name in names):
        return "dumps"
    if not looks_like_one(path):
        if path.is_dir():
            raise ReportError(f"{path}: there is neither a report nor a dump nor a checkpoint in it")
        raise ReportError(f"{path}: a diff takes a report ({REPORT_NAME}), a dump (*{DUMP_SUFFIX}) or a checkpoint")
    return "checkpoints"


def _report_at(path: Path) -> Path | None:
    """Return the report.json that a path means: itself, one in the folder, or in the folder `report` of an --out."""
    if path.is_file():
        return path if path.suffix == ".json" else None
    places = (path / REPORT_NAME, path / "report" / REPORT_NAME)
    return next((place for place in map(pending, places) if place.is_file()), None)


@dataclass(frozen=True)
class _Side:
    """One side, ready to be compared."""

    tables: dict[str, pd.DataFrame]
    """The complete tables."""
    done: int
    skipped: Sequence[Skipped] = ()
    warnings: Sequence[str] = ()
    violations: Sequence[str] = ()
    unfinished: Sequence[Path] = ()
    """Dumps that are not whole."""


def _side(path: Path, kind: SideKind, side: str, out: Path, on_event: OnEvent, flags: Flags, options: Options) -> _Side:
    """Return one side: a report as it is read, anything else as it is measured."""
    report = _report_at(path)
    if report is not None:
        tables = read_report(report)
        return _Side(tables, 1, violations=[f"{side}: {text}" for text in violated(tables["theory"])])
    halves: Sequence[Path] = ()
    skipped: Sequence[Skipped] = ()
    if kind == "dumps":
        dumps, troubles = find_dumps([path])
        found = measure(dumps, options, _of_side(side, on_event), passed_over(troubles))
        halves = find_unfinished([path])
    else:
        with scratch(out, HIDDEN) as folder:
            dumps, skipped = _extracted(path, side, folder, on_event, flags)
            found = measure(dumps, options, _of_side(side, on_event))
    if not found.measured:
        raise DumpError(f"{path}: nothing of it could be measured, so there is nothing to compare")
    return _Side(
        complete(found.tables),
        found.done,
        [*skipped, *found.skipped],
        [f"{side}: {text}" for text in (*found.warnings, *describe_unfinished(halves))],
        [f"{side}: {text}" for text in found.violations],
        halves,
    )


def _of_side(side: str, on_event: OnEvent) -> OnEvent:
    """Return a handler of events that names the side an event is of: both may have runs and checkpoints of one name."""
    return lambda event: on_event(replace(event, label=f"{side}: {event.label}"))


def _extracted(
    path: Path, side: str, folder: Path, on_event: OnEvent, flags: Flags
) -> tuple[list[Path], list[Skipped]]:
    """Extract the checkpoints of one side; return their dumps, and what was skipped."""
    targets, without, _ = find_targets([path], flags)
    skipped = [replace(each, label=f"{side}: {each.label}") for each in without]
    for each in skipped:
        on_event(each)
    done = set()

    def note_finished(event: Event) -> None:
        if isinstance(event, Finished):  # reported once it is measured
            done.add(event.label)
        elif not isinstance(event, Doubted):
            _of_side(side, on_event)(event)

    made = extract(targets, flags, folder, note_finished)
    if not made.done:
        kind = UsageError if made.exit_code == UsageError.exit_code else DumpError
        raise kind(f"{path}: no checkpoint of it could be replayed, so there is nothing to compare")
    return [dump_of(target, folder) for target in targets if target.label in done], [*skipped, *made.skipped]


def _names(a: Path, b: Path) -> tuple[str, str]:
    """Return the shortest ends of two paths that tell them apart.

    >>> _names(Path("/x/old/report"), Path("/x/new/report"))
    ('old/report', 'new/report')
    """
    first, second = (path.absolute().parts[1:] for path in (a, b))
    longest = max(len(first), len(second), 1)
    n = next((n for n in range(1, longest) if first[-n:] != second[-n:]), 1)
    return "/".join(first[-n:]), "/".join(second[-n:])
