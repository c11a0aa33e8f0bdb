"""Find which files of a folder belong to a report, so that a later one replaces them.

In: a file below the folder of a report. Out: whether a report wrote it. Whatever else is there is somebody's own.
"""

from pathlib import Path, PurePosixPath

from ncscan.report.figures.rendering import FORMATS as PICTURES
from ncscan.report.stamp import MARK
from ncscan.tables import CONVENTIONS, TABLES

TABLE_FORMATS = ("csv", "parquet")
"""The endings of the files of tables."""
CONVENTION = "convention-"
"""The beginning of the name of a paper's table."""
FIGURES = "figures"
CHARTS = "charts"
"""The page's own charts among the names of figures, and the folder they go to, which is the report's alone."""

_TABLES = {*TABLES, "summary", *(f"{CONVENTION}{known.name}" for known in CONVENTIONS)}
_FILES = {"report.json", "report.html", *(f"{name}.{form}" for name in _TABLES for form in TABLE_FORMATS)}
_START, _END = 4096, 1024
"""The bytes of a picture that have its id: after the title, after the header, in the trailer, before the end."""


def owns(folder: Path, name: PurePosixPath) -> bool:
    """Return whether the file of that name below the folder is a report's."""
    match name.parts:
        case (own,):
            return own in _FILES
        case (start, _, *_) if start == FIGURES:
            return name.suffix.removeprefix(".") in (*PICTURES, "gif") and _is_stamped(folder / name)
    return False


def _is_stamped(picture: Path) -> bool:
    """Return whether a picture, whose name may be its user's choice, was made for a report."""
    if not picture.is_file() or picture.is_symlink():
        return False
    with picture.open("rb") as file:
        start = file.read(_START)
        file.seek(max(0, picture.stat().st_size - _END))
        return MARK in start or MARK in file.read()
