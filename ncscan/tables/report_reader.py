"""report.json → the tables that it was made of.

In: a file that may come from a stranger. Out: the complete tables, every cell of the type that its column declares;
or one line on what is wrong with the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from sys import float_info
from typing import Annotated, Any

import msgspec
import pandas as pd
from msgspec import Meta

from ncscan import files
from ncscan.errors import ReportError
from ncscan.rows import with_leads
from ncscan.tables.columns import (
    FLAG,
    LEADS,
    NUMBER,
    OLDEST_READ,
    REPORT,
    REPORT_VERSION,
    TABLES,
    TEXT,
    WHOLE,
    Columns,
)
from ncscan.tables.frames import complete, conform

REPORT_NAME = "report.json"

NEEDED = ("metrics", "weights", "theory", "trajectory")
"""The tables that every report has; the others are empty where a report was made before there were any."""

LEADS_SINCE = 5
"""The schema version since which tables have the column `leads`."""

MOST_BYTES = 2**31
"""A file beyond this is no report: a hundred checkpoints of two hundred layers take a quarter of it."""

MOST_TEXT = 20_000
"""The characters of a cell: a name that a dump may have, and words around it."""

HEAD = 4096
"""The first bytes, in which a report names its schema, so that a file of another kind is not read to its end."""


def read_report(path: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of a report.json, complete and typed; columns and keys unknown to this version are left out.

    Raises: ReportError when the file is not there, is none of ours, is of another version, is cut off or damaged.
    """
    with files.opened(path, ReportError) as (file, size):
        if f'"{REPORT}"'.encode() not in file.read(HEAD):
            raise ReportError(f"{path}: not a report of ncscan: nothing in it says {REPORT}")
        if size > MOST_BYTES:
            raise ReportError(f"{path}: {size / 1e9:,.1f} GB, more than any report takes; it is not read")
        data = files.read_rest(path, file, size, ReportError)
    try:
        plain = files.parse_json(data, finite=True)
    except ValueError as error:
        raise ReportError(f"{path}: damaged or cut off, not JSON: {str(error).splitlines()[0]:.200}") from error
    if not isinstance(plain, dict) or plain.get("schema") != REPORT:
        raise ReportError(f"{path}: not a report of ncscan: its schema is not {REPORT}")
    version = plain.get("schema_version")
    if type(version) is not int or not OLDEST_READ <= version <= REPORT_VERSION:
        raise ReportError(
            f"{path}: a report of schema version {json.dumps(version)[:60]}, and this ncscan reads versions "
            f"{OLDEST_READ} to {REPORT_VERSION}; make it again with `ncscan report`"
        )
    there = {name: plain.get(name) for name in TABLES if name in plain or name in NEEDED}
    return complete({name: _of_version(version, table, name, f"{path}: table {name}") for name, table in there.items()})


def _of_version(version: int, plain: Any, name: str, where: str) -> pd.DataFrame:
    """Return one table of a report; before version 5 it had no column `leads`, but its rows were in their order."""
    columns = TABLES[name]
    if version >= LEADS_SINCE or LEADS not in columns:
        return _table(plain, columns, where)
    return with_leads(_table(plain, tuple(column for column in columns if column != LEADS), where))


def _table(plain: Any, columns: Columns, where: str) -> pd.DataFrame:
    """Return one table from its column names and rows."""
    if not isinstance(plain, dict) or not isinstance(plain.get("rows"), list):
        raise ReportError(f"{where} is missing, or no table")
    there, rows = plain.get("columns"), plain["rows"]
    if not isinstance(there, list) or len({name for name in there if isinstance(name, str)}) != len(there):
        raise ReportError(f"{where}: its columns are not a list of different names")
    if missing := [name for name, _ in columns if name not in there]:
        raise ReportError(f"{where}: no column {', '.join(missing)}")
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(there):
            raise ReportError(f"{where}, row {i}: not a list of {len(there)} cells")
    by_name = dict(zip(there, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(there, ())
    for name, kind in columns:
        try:
            msgspec.convert(by_name[name], _CELLS[kind])
        except msgspec.ValidationError as error:
            what, _, place = str(error).partition(" - at ")  # `$[17]`
            raise ReportError(f"{where}, row {place[3:].partition(']')[0]}: {name}: {what}") from None
    return conform(pd.DataFrame({name: pd.Series(by_name[name], dtype=object) for name, _ in columns}), columns)


_CELLS: Mapping[str, Any] = {
    TEXT: tuple[Annotated[str, Meta(max_length=MOST_TEXT)] | None, ...],
    WHOLE: tuple[Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None, ...],
    # A whole number beyond 2⁵³ would come back as another one. JSON knows no infinity, but 1e999 is read as one.
    NUMBER: tuple[
        Annotated[float, Meta(ge=-float_info.max, le=float_info.max)]
        | Annotated[int, Meta(ge=-(2**53), le=2**53)]
        | None,
        ...,
    ],
    FLAG: tuple[bool | None, ...],
}
"""What the kind of a column allows in its cells; True is a whole number to Python, and to nobody else."""
