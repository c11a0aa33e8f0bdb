"""Which files of a folder belong to a report, so that a later one takes their place.

In: a file below the folder of a report. Out: whether a report wrote it. Whatever else is there is somebody's own.
"""

from pathlib import Path, PurePosixPath

from ncscan.report.columns import TABLES
from ncscan.report.figures import PRESETS
from ncscan.report.rendering import FORMATS as PICTURES
from ncscan.report.stamp import MARK

TABLE_FORMATS = ("csv", "parquet")
"""Endings of the files of tables."""
CONVENTION = "convention-"
"""What the name of a paper's table begins with."""
FIGURES = "figures"
CHARTS = "charts"
"""The page's own charts among the names of figures, and the folder they go to, which is the report's alone."""

_TABLES = {f"{name}.{form}" for name in (*TABLES, "summary") for form in TABLE_FORMATS}
_ALWAYS = {"report.json", "report.html"}
_PRESETS = {f"{FIGURES}/{preset.name}.{form}" for preset in PRESETS for form in PICTURES}
_END = 100
"""Bytes at the end of a GIF that have its comment."""


def owns(folder: Path, name: PurePosixPath) -> bool:
    """Whether the file of that name below the folder is a report's."""
    ending = name.suffix.removeprefix(".")
    match name.parts:
        case (own,):
            return own in _TABLES | _ALWAYS or (own.startswith(CONVENTION) and ending in TABLE_FORMATS)
        case (start, other, *_) if start == FIGURES:
            is_chart = other == CHARTS and ending in PICTURES
            return is_chart or str(name) in _PRESETS or (ending == "gif" and _is_stamped(folder / name))
    return False


def _is_stamped(gif: Path) -> bool:
    """Whether a GIF, whose name its user chose, was made for a report."""
    if not gif.is_file():
        return False
    with gif.open("rb") as file:
        file.seek(max(0, gif.stat().st_size - _END))
        return MARK in file.read()
