"""Find checkpoints in a folder, in the order of the numbers in their names.

In: a path from anybody. Out: the checkpoints at it, what could not be looked into, and what was seen and not used. A
checkpoint is a file, told by its first bytes; or what leads to one of several files: the index of its shards, the
folder of torch.distributed.checkpoint.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ncscan.checkpoints.file_kinds import CLAIMS, INDEX, kind_of_file, unused_words
from ncscan.checkpoints.parts import (
    DCP_METADATA,
    DCP_PART,
    SHARD,
    as_part,
    is_distributed,
    read_index,
    target_within,
)
from ncscan.errors import CheckpointError
from ncscan.files import in_sight
from ncscan.ordering import natural

OPTIMIZER_FOLDER = re.compile(r"(optimizer|optim)(_\d+)?")
"""Folders of torch.distributed.checkpoint in which accelerate and Lightning keep the optimizer."""
LIGHTNINGS = "meta.pt"
"""What Lightning keeps beside the parts of a distributed checkpoint: loops, hyper-parameters, callbacks."""


class Listing(NamedTuple):
    """The checkpoints at a path."""

    files: list[Path]
    """The checkpoints in numeric order: files, and folders that are one checkpoint."""
    unreadable: list[CheckpointError]
    """Folders below the path that cannot be read, links that lead to nothing or out of it, parts without the whole."""
    unused: list[tuple[str, Path]]
    """What was seen and is no checkpoint, each with its kind in words."""


def find(path: Path, known: Collection[str] = ()) -> Listing:
    """Return the checkpoints at a path: the file itself, or those of a folder and its folders.

    A file that is named is taken for one whatever it is. In a folder hidden and `.partial` files are passed over. Links
    that lead out of the folder are not followed.

    Args:
        path: the file or the folder.
        known: names of files that serve other purposes, and are not worth a word.

    Raises: CheckpointError when there is nothing at the path, or no checkpoint in the folder.
    """
    try:
        if path.is_file():
            return Listing([path.parent if path.name == DCP_METADATA and is_distributed(path.parent) else path], [], [])
        if not path.is_dir():
            what = "not a regular file" if path.exists() else "there is no such file or folder"
            raise CheckpointError(f"{path}: {what}")
        return _Search(path, known).listing()
    except (OSError, ValueError) as error:  # a name that is too long, or that no file can have
        raise CheckpointError(f"{path!s:.200}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


class _Search:
    """Looks through a folder and its folders once."""

    def __init__(self, path: Path, known: Collection[str]) -> None:
        self.path = path
        self.known = known
        self.found: dict[Path, Path] = {}
        """Checkpoints by where links lead, so that one under two names counts once."""
        self.unreadable: list[CheckpointError] = []
        self.unused: list[tuple[str, Path]] = []
        self.seen = self.outside = 0

    def listing(self) -> Listing:
        """Return what the folder holds; the file system may raise OSError."""
        for folder, files in self._folders():
            self._look_into(folder, files)
        if not self.found and self.unreadable and not self.outside:
            raise self.unreadable[0]
        if not self.found:
            links = f" ({self.outside} links lead out of it and are not followed: name their targets)"
            what = f"no checkpoint among the {self.seen} files of this folder{links if self.outside else ''}"
            saw = f": {unused_words(self.unused, self.path)}" if self.unused else ""
            raise CheckpointError(f"{self.path}: {what + saw if self.seen else 'this folder is empty'}")
        files = sorted(self.found.values(), key=lambda file: natural(file.relative_to(self.path).as_posix()))
        return Listing(files, self.unreadable, self.unused)

    def _folders(self) -> Iterator[tuple[Path, list[Path]]]:
        """Yield every folder with the files in it."""
        folder, files = self.path, list[Path]()
        for file in in_sight(self.path, self._note):
            if file.parent != folder:
                yield folder, files
                folder, files = file.parent, []
            files.append(file)
        yield folder, files

    def _look_into(self, folder: Path, files: list[Path]) -> None:
        distributed = is_distributed(folder)
        if distributed and OPTIMIZER_FOLDER.fullmatch(folder.name):
            self._leave("states of a trainer", folder)
        elif distributed:
            self.found[folder.resolve()] = folder
        tried = {}
        for file in files:
            self.seen += not file.name.endswith(".partial")
            if file.name not in self.known and not file.name.endswith(".partial"):
                if distributed and (DCP_PART.fullmatch(file.name) or file.name == LIGHTNINGS):
                    continue
                if (target := self._target(file)) is not None:
                    tried[file] = target
        shards = self._shards(tried)
        parts: dict[str, list[Path]] = {}
        for file, target in tried.items():
            if file.name in shards:
                continue
            if part := as_part(file):
                parts.setdefault(f"{part.whole}\0{part.why}", []).append(file)
            elif target not in self.found or self.found[target].is_symlink():
                self.found[target] = file
        for key, (first, *more) in parts.items():
            others = f" (and {len(more)} more files of the same)" if more else ""
            self.unreadable.append(CheckpointError(f"{first}{others}: {key.partition(chr(0))[2]}"))

    def _target(self, file: Path) -> Path | None:
        """Return where a file lies that could be a checkpoint; what is none, or out of reach, is noted."""
        try:
            if not file.is_file():
                if file.exists():
                    self._leave("no regular files", file)
                else:
                    self.unreadable.append(CheckpointError(f"{file}: a link to a file that is not there"))
                return None
            target = target_within(file, self.path)
            if target is None and (CLAIMS.fullmatch(file.name) or INDEX.fullmatch(file.name)):
                # A stranger's folder must not reach files outside of it.
                self.outside += 1
                said = f"{file}: a link out of the folder, not followed; name its target"
                self.unreadable.append(CheckpointError(said))
                return None
            kind = "links out of the folder" if target is None else kind_of_file(file)
            if kind:
                self._leave(kind, file)
            return None if kind else target
        except CheckpointError as error:
            self.unreadable.append(error)
        except OSError as error:
            self._note(error)
        return None

    def _shards(self, tried: dict[Path, Path]) -> set[str]:
        """Return the names that the indexes among some files give to shards; what is no index is taken out of these."""
        names: set[str] = set()
        for file in [file for file in tried if INDEX.fullmatch(file.name)]:
            try:
                index = read_index(file)
            except CheckpointError:  # reading it as a checkpoint says so again, and its shards say no more
                stem = file.name.partition(".")[0]
                names |= {each.name for each in tried if SHARD.fullmatch(each.name) and each.name.startswith(stem)}
                continue
            if index is None:
                del tried[file]
                self._leave("settings", file)
            else:
                names |= set(index.values())
        return names

    def _leave(self, kind: str, path: Path) -> None:
        self.unused.append((kind, path))

    def _note(self, error: OSError) -> None:
        self.unreadable.append(CheckpointError(f"{error.filename!s:.200}: cannot be read ({error.strerror})"))


def looks_like_one(path: Path) -> bool:
    """Return whether a file could be a checkpoint, by its first bytes, or a folder has one; it may raise OSError."""
    try:
        return bool(find(path).files) if path.is_dir() else not kind_of_file(path)
    except CheckpointError:
        return not path.is_dir()  # said again, with the reason, by who reads it
