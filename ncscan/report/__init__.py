"""Reports: the tables that other programs read, and the page that people read.

In: the tidy frames of the measures and what is known of each checkpoint. Out: files. Nothing here computes a measure.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.report.page import page_text
from ncscan.report.tables import complete, csv_text, json_text, metrics_frame, summary_frame, weights_frame

__all__ = ["metrics_frame", "page_text", "summary_frame", "weights_frame", "write"]


def write(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    extra: Mapping[str, pd.DataFrame] | None = None,
    *,
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
) -> list[Path]:
    """Write every file of a report into a folder, which is made when it is missing; give their paths.

    The same arguments give the same bytes. A file is there whole or not at all: a reader, or an interruption, never
    meets half of one.

    Args:
        out: the folder.
        tables: by the names of `columns.TABLES`; what is missing becomes an empty table.
        extra: other tables, each written as CSV under its name, and nowhere else.
        checkpoints: what is known of each, in order.
        skipped: inputs that could not be used, with the reasons.
        warnings: what is doubtful, in words.
    """
    tables = complete(tables)
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("convention-*.csv"):  # of an earlier report; what is asked for now comes again
        stale.unlink()
    written = []
    files = dict(_files(tables, checkpoints, skipped, warnings))
    files |= {f"{name}.csv": csv_text(table) for name, table in (extra or {}).items()}
    for name, text in files.items():
        _write_whole(out / name, text)
        written.append(out / name)
    return written


def _files(
    tables: Mapping[str, pd.DataFrame],
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
) -> Iterator[tuple[str, str]]:
    for name, table in tables.items():
        yield f"{name}.csv", csv_text(table)
    yield "summary.csv", csv_text(summary_frame(tables["metrics"], tables["weights"]))
    yield "report.json", json_text(tables, checkpoints, skipped, warnings)
    yield "report.html", page_text(tables, checkpoints, skipped, warnings)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(text.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
