"""Read the order that a user gives the checkpoints of a run: by name, by time, or by the lines of a file.

In: a word or a file. Out: `GivenOrder`, which knows the line of each checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ncscan import files
from ncscan.errors import UsageError
from ncscan.wording import listed_up_to

BY = ("name", "mtime", "file")
"""Natural order of names, time of the last change, lines of a file."""
MAX_BYTES = 2**22
"""Bytes of a file of names; 10,000 long ones take a quarter of it."""


@dataclass(frozen=True)
class GivenOrder:
    """The order of the checkpoints of runs, by the user's word."""

    by: str
    """One of BY."""
    where: str
    """Where it was given, for messages."""
    lines: tuple[str, ...] = ()
    """The checkpoints that a file names, one a line."""

    def lines_of(self, run: str, checkpoints: Sequence[str]) -> dict[str, int]:
        """Return the line of each checkpoint of a run.

        A line is the path of a checkpoint, however much of it, down from the folder of the run at least; or that of a
        folder with one checkpoint in it.

        Raises: UsageError when one has no line, or two, or a line means several.

        >>> order = GivenOrder("file", "order.txt", ("ckpts/b.pt", "a.pt"))
        >>> order.lines_of("ckpts", ["a.pt", "b.pt"])
        {'b.pt': 0, 'a.pt': 1}
        """
        meant: dict[str, list[str]] = {}
        for checkpoint in checkpoints:
            path = PurePosixPath(checkpoint)
            for part in (path, *path.parents[:-1]):
                meant.setdefault(part.as_posix(), []).append(checkpoint)
        found: dict[str, int] = {}
        for number, line in enumerate(self.lines):
            # What follows the name of the run in a longer path, where it has one.
            below = (line[match.end() :] for match in re.finditer(f"(?:^|(?<=/)){re.escape(run)}/", line))
            names = next((meant[part] for part in (line, *below) if part in meant), [])
            if len(names) > 1:
                raise UsageError(f"{self.where}: {line} means {listed_up_to(2, names)}: name the files")
            for name in names:
                if name in found:
                    raise UsageError(f"{self.where}: {run}/{name} is named twice")
                found[name] = number
        if missing := [f"{run}/{name}" for name in checkpoints if name not in found]:
            said = f"{self.where}: {listed_up_to(3, missing)} {'has' if len(missing) == 1 else 'have'} no line"
            raise UsageError(f"{said}; every checkpoint of a run needs one")
        return found


def parse_order(text: str | None, base: Path, where: str) -> GivenOrder | None:
    """Return the order that a word or a file gives; None where nothing is asked for.

    Raises: UsageError when it is neither a word nor a file that can be read.
    """
    if text is None:
        return None
    if text in ("name", "mtime"):
        return GivenOrder(text, where)
    path = base / text
    if not path.is_file():
        raise UsageError(f"{where}: must be name, mtime or a file with a checkpoint a line, not {text!r:.80}")
    content = files.read(path, UsageError, MAX_BYTES).decode("utf-8-sig", errors="replace")
    lines = (PurePosixPath(line.strip()).as_posix() for line in content.splitlines())
    return GivenOrder("file", f"{where} {text:.80}", tuple(line for line in lines if line != "." and line[:1] != "#"))
