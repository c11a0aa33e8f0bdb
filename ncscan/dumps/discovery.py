"""Find dumps in the folders that the user names, and the unfinished ones among them.

In: paths. Out: the dumps below them, those that are unfinished, and what could not be looked into.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ncscan.dumps.size_plan import partial_path
from ncscan.errors import DumpError
from ncscan.files import in_sight, is_folder

DUMP_SUFFIX = ".h5"


class FoundDumps(NamedTuple):
    """The dumps under some paths."""

    dumps: list[Path]
    troubles: list[tuple[Path, DumpError]]
    """Paths without a dump, and folders that cannot be read."""


def find_dumps(paths: Sequence[Path]) -> FoundDumps:
    """Return the dumps under the paths, but for hidden ones and those in hidden folders.

    Raises: DumpError, the first trouble that was met, when there is no dump at all.
    """
    found: dict[Path, None] = {}
    troubles: list[tuple[Path, DumpError]] = []

    def note(error: OSError) -> None:
        folder = Path(error.filename)
        troubles.append((folder, DumpError(f"{folder!s:.200}: cannot be read ({error.strerror})")))

    for path in paths:
        if not os.path.lexists(path):
            missing = f"{path!s:.200}: no such file or folder; `ncscan extract CKPTS` makes dumps"
            troubles.append((path, DumpError(missing)))
            continue
        inside = sorted(_ending(DUMP_SUFFIX, path, note)) if path.is_dir() else [path]
        if not inside:
            halves = "".join(f"; {told}" for told in describe_unfinished(find_unfinished([path])))
            empty = f"{path}: no dump in it (*{DUMP_SUFFIX}); `ncscan extract CKPTS` makes dumps{halves}"
            troubles.append((path, DumpError(empty)))
        found.update(dict.fromkeys(inside))
    if not found and troubles:
        raise troubles[0][1]
    return FoundDumps(list(found), troubles)


def find_unfinished(paths: Sequence[Path]) -> list[Path]:
    """Return the dumps in folders that are not whole, by paths below these.

    The extraction of such a dump was stopped, or goes on.
    """
    ending = partial_path(Path(DUMP_SUFFIX)).name
    folders = dict.fromkeys(path for path in paths if is_folder(path))
    return [found.relative_to(path) for path in folders for found in sorted(_ending(ending, path))]


def describe_unfinished(dumps: Sequence[Path]) -> list[str]:
    """Return a line on those dumps, if there are any."""
    if not dumps:
        return []
    names = ", ".join(map(str, dumps[:3])) + (", …" if len(dumps) > 3 else "")
    what = "1 dump is" if len(dumps) == 1 else f"{len(dumps)} dumps are"
    return [f"{what} unfinished and not measured: {names}; the same `ncscan extract` completes them"]


def _ending(ending: str, folder: Path, note: Callable[[OSError], object] = lambda _: None) -> Iterator[Path]:
    """Return the files below a folder whose names end like this."""
    return (path for path in in_sight(folder, note) if path.name.endswith(ending))
