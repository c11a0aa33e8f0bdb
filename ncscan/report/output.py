"""Reports: the tables that other programs read, and the page that people read.

In: the tidy frames of the measures and what is known of each checkpoint. Out: files. Nothing here computes a measure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.compare import GateResult
from ncscan.files import replace_files
from ncscan.report.html.page import page_text
from ncscan.report.json_report import id_of, json_text
from ncscan.report.own_files import TABLE_FORMATS, owns
from ncscan.report.verdict.evaluate import Verdicts, verdicts
from ncscan.tables import complete, csv_text, parquet_bytes, summary_frame

__all__ = [
    "FORMATS",
    "Files",
    "files_of",
    "page_text",
    "put",
    "summary_frame",
]

FORMATS: Mapping[str, Callable[[pd.DataFrame], bytes]] = dict(
    zip(TABLE_FORMATS, (lambda table: csv_text(table).encode(), parquet_bytes), strict=True)
)
"""The formats in which a table can be written; the name is the ending of its file."""


@dataclass(frozen=True)
class Files:
    """The files of a report."""

    id: str
    """Tells the files of one report from those of another: alike for alike inputs, settings and version."""
    contents: Mapping[str, bytes]
    """The contents by names, in the order in which they are printed."""


def put(out: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Change the files of a report in a folder, which is made when it is missing, as one; give their paths.

    A reader, or an interruption, meets all of the report that was there or all of the new one. Files of no report stay.
    """
    replace_files(out, contents, owns)
    return [out / name for name in contents]


def files_of(
    tables: Mapping[str, pd.DataFrame],
    extra: Mapping[str, pd.DataFrame] | None = None,
    *,
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    judged: Verdicts | None = None,
    gates: Sequence[GateResult] = (),
    formats: Sequence[str] = ("csv",),
) -> Files:
    """Return every file of a report. The same arguments give the same bytes.

    Args:
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
    files = dict(_tables(tables, extra or {}, formats))
    text = json_text(tables, checkpoints, skipped, warnings, judged, gates, files)
    files["report.json"] = text.encode()
    page = page_text(tables, checkpoints, skipped, warnings, judged, gates, id_of(text))
    return Files(id_of(text), {**files, "report.html": page.encode()})


def _tables(
    tables: Mapping[str, pd.DataFrame], extra: Mapping[str, pd.DataFrame], formats: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    all_of_them = {**tables, "summary": summary_frame(tables["metrics"], tables["weights"]), **extra}
    for form in dict.fromkeys(formats):
        for name, table in all_of_them.items():
            yield f"{name}.{form}", FORMATS[form](table)
