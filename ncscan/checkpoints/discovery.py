"""Find checkpoint files, in the order of the numbers in their names.

In: a path from anybody. Out: the files at it, and what could not be looked into.
"""

import re
from pathlib import Path
from typing import NamedTuple

from ncscan.errors import CheckpointError
from ncscan.files import in_sight

ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""A folder is searched for files of these endings; a file that is named directly may have any ending."""
NO_MODEL = re.compile(r"(optimizer|optim|scheduler|scaler|rng_state.*|training_args)\.(pt|pth|bin)")
"""The names of what trainers leave beside the model, under the same endings."""


class Listing(NamedTuple):
    """The checkpoint files at a path."""

    files: list[Path]
    """The files in numeric order."""
    unreadable: list[CheckpointError]
    """Folders below the path that cannot be read, and links that lead to nothing or out of it."""


def find(path: Path) -> Listing:
    """Return the checkpoint files at a path: the file itself, or those of a folder and its folders.

    Hidden and `.partial` files are passed over. Links that lead out of the folder are not followed.

    Raises: CheckpointError when there is nothing at the path, or no checkpoint in the folder.
    """
    try:
        return _listing(path)
    except (OSError, ValueError) as error:  # a name that is too long, or that no file can have
        raise CheckpointError(f"{path!s:.200}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _listing(path: Path) -> Listing:
    """Return what `find` does; the file system may raise OSError."""
    if path.is_file():
        return Listing([path], [])
    if not path.is_dir():
        what = "not a regular file" if path.exists() else "there is no such file or folder"
        raise CheckpointError(f"{path}: {what}")
    # Files are told apart by where links lead, so that one checkpoint under two names counts once.
    root = path.resolve()
    found: dict[Path, Path] = {}
    unreadable: list[CheckpointError] = []
    seen = outside = 0

    def note(error: OSError) -> None:
        unreadable.append(CheckpointError(f"{error.filename!s:.200}: cannot be read ({error.strerror})"))

    for file in in_sight(path, note):
        seen += not file.name.endswith(".partial")
        if not file.name.endswith(ENDINGS) or NO_MODEL.fullmatch(file.name):
            continue
        try:
            if not file.is_file():
                if not file.exists():
                    unreadable.append(CheckpointError(f"{file}: a link to a file that is not there"))
                continue
            target = file.resolve()
        except OSError as error:
            note(error)
            continue
        # A stranger's folder must not reach files outside of it.
        if not target.is_relative_to(root):
            outside += 1
            unreadable.append(CheckpointError(f"{file}: a link out of the folder, not followed; name its target"))
        elif target not in found or found[target].is_symlink():
            found[target] = file
    if not found and unreadable and not outside:
        raise unreadable[0]
    if not found:
        links = f" ({outside} links lead out of it and are not followed: name their targets)" if outside else ""
        what = f"no checkpoint among the {seen} files of this folder{links}" if seen else "this folder is empty"
        raise CheckpointError(f"{path}: {what}; looked for files ending in {', '.join(ENDINGS)}")
    return Listing(sorted(found.values(), key=lambda file: natural(file.relative_to(path).as_posix())), unreadable)


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sorting key that puts 9 before 10.

    >>> sorted(["step_10.pt", "step_9.pt"], key=natural)
    ['step_9.pt', 'step_10.pt']
    """
    parts = re.split(r"([0-9]+)", text)
    # The text itself comes last, so that 07 and 7 have one order too.
    return [(int(p[-18:]), "") if i % 2 else (-1, p) for i, p in enumerate(parts)] + [(-1, text)]
