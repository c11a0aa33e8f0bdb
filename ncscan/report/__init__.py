"""Reports: the tables that other programs read, and the page that people read.

In: the tidy frames of the measures and what is known of each checkpoint. Out: files. Nothing here computes a measure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.report.columns import TABLES
from ncscan.report.gates import Result
from ncscan.report.machine import json_text
from ncscan.report.page import page_text
from ncscan.report.parquet import parquet_bytes
from ncscan.report.tables import complete, csv_text, metrics_frame, summary_frame, weights_frame
from ncscan.report.verdict import Verdicts, verdicts

__all__ = ["FORMATS", "metrics_frame", "page_text", "summary_frame", "weights_frame", "write", "write_whole"]

FORMATS: Mapping[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": lambda table: csv_text(table).encode(),
    "parquet": parquet_bytes,
}
"""How a table can be written; the name is the ending of its file."""


def write(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    extra: Mapping[str, pd.DataFrame] | None = None,
    *,
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    judged: Verdicts | None = None,
    gates: Sequence[Result] = (),
    formats: Sequence[str] = ("csv",),
) -> list[Path]:
    """Write every file of a report into a folder, which is made when it is missing; give their paths.

    The same arguments give the same bytes. A file is there whole or not at all: a reader, or an interruption, never
    meets half of one.

    Args:
        out: the folder.
        tables: by the names of `columns.TABLES`; what is missing becomes an empty table.
        extra: other tables, each written under its name, and nowhere else.
        checkpoints: what is known of each, in order.
        skipped: inputs that could not be used, with the reasons.
        warnings: what is doubtful, in words.
        judged: what the runs come to, where that is known already.
        gates: what became of each.
        formats: of the tables, names of FORMATS.
    """
    tables = complete(tables)
    judged = verdicts(tables, checkpoints, warnings) if judged is None else judged
    out.mkdir(parents=True, exist_ok=True)
    _remove_stale(out, formats)
    written = []
    files = dict(_tables(tables, extra or {}, formats))
    files["report.json"] = json_text(tables, checkpoints, skipped, warnings, judged, gates).encode()
    files["report.html"] = page_text(tables, checkpoints, skipped, warnings, judged, gates).encode()
    for name, content in files.items():
        write_whole(out / name, content)
        written.append(out / name)
    return written


def _tables(
    tables: Mapping[str, pd.DataFrame], extra: Mapping[str, pd.DataFrame], formats: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    all_of_them = {**tables, "summary": summary_frame(tables["metrics"], tables["weights"]), **extra}
    for form in dict.fromkeys(formats):
        for name, table in all_of_them.items():
            yield f"{name}.{form}", FORMATS[form](table)


def _remove_stale(out: Path, formats: Sequence[str]) -> None:
    """Remove the tables of an earlier report that this one does not write again: they would tell of other dumps."""
    for form in FORMATS:
        for stale in out.glob(f"convention-*.{form}"):
            stale.unlink()
        if form not in formats:
            for name in (*TABLES, "summary"):
                (out / f"{name}.{form}").unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
