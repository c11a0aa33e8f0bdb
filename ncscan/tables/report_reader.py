"""report.json → the tables that it was made of.

In: a file that may come from a stranger. Out: the complete tables, every cell of the type that its column promises;
or one line that says what is wrong with the file.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

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
            f"{path}: a report of schema version {_short(version)}, and this ncscan reads versions {OLDEST_READ} to "
            f"{REPORT_VERSION}; make it again with `ncscan report`"
        )
    there = {name: plain.get(name) for name in TABLES if name in plain or name in NEEDED}
    return complete({name: _of_version(version, table, name, f"{path}: table {name}") for name, table in there.items()})


def _of_version(version: int, plain: Any, name: str, where: str) -> pd.DataFrame:
    """Return one table of a report; before version 5 it did not say what leads, but its rows were in their order."""
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
        fits = _FITS[kind]
        for i, cell in enumerate(by_name[name]):
            if not fits(cell):
                raise ReportError(f"{where}, row {i}: {name} cannot be {_short(cell)}")
    return conform(pd.DataFrame({name: pd.Series(by_name[name], dtype=object) for name, _ in columns}), columns)


def _is_whole(cell: Any) -> bool:
    return cell is None or (type(cell) is int and -(2**63) <= cell < 2**63)


def _is_number(cell: Any) -> bool:
    # A whole number beyond 2⁵³ would come back as another one, and beyond 1e308 not at all.
    return cell is None or (type(cell) is float and math.isfinite(cell)) or (type(cell) is int and abs(cell) <= 2**53)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    TEXT: lambda cell: cell is None or (isinstance(cell, str) and len(cell) <= MOST_TEXT),
    WHOLE: _is_whole,
    NUMBER: _is_number,
    FLAG: lambda cell: cell is None or isinstance(cell, bool),
}
"""Tells whether a cell is what the kind of its column allows; True is a whole number to Python, and to nobody else."""


def _short(value: Any) -> str:
    """Return a value to show in a message, whatever it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return "a whole number of more than 40 digits"
    return json.dumps(value)[:60]
