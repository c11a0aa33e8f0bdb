"""Files that change as one: whatever ends the process, a folder holds its old set of files or its new one.

In: a folder and the bytes of its new files. Out: the folder, changed in one step where the file system can exchange two
folders, else by a journal. What is unfinished lies in hidden folders that live as long as their process: the lock on
each goes with it, and the next process removes what has none.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from ncscan.errors import NoRoom, RefusedPlan
from ncscan.files.disk import sync
from ncscan.files.reading import parse_json, read

STAGED = ".ncscan-"
"""The beginning of the names of folders that hold files which are written and not yet in their place."""

COMMIT = ".ncscan-commit"
"""The name from whose presence on files belong in their place, where a file system cannot exchange folders."""

_JOURNAL = "journal.json"
_MOST_JOURNAL = 2**24
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors for what is not allowed beside a folder but may be allowed in it."""
_MADE = r"[a-z0-9_]{8}"
"""The end that mkdtemp gives a name."""

Owns = Callable[[Path, PurePosixPath], bool]
"""Decides whether a file of a folder, named by its path below it, is one that the next set takes the place of."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Claim a folder: inside, it is there, whole, and this process alone writes its set of files.

    Raises: RefusedPlan when another process does, or the folder cannot be made.
    """
    try:
        handle = _claim(folder)
        try:
            remove_left(folder, STAGED)
            _complete(folder)
        except BaseException:
            os.close(handle)
            raise
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        os.close(handle)


def cannot_write(place: Path, error: OSError, instead: str = "--out") -> RefusedPlan:
    """Return the error for what a disk refuses, in one line: no permission, no room, a file there."""
    kind = NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else RefusedPlan
    return kind(f"{place}: cannot write there: {error.strerror or error}; choose another {instead}")


def replace_files(folder: Path, files: Mapping[str, bytes], owns: Owns) -> None:
    """Change the files of a folder as one: those that are given are new, others that it owns go, the rest stays.

    Args:
        folder: made when it is missing.
        files: contents by paths below it, with `/`.
        owns: decides for every other file whether it belongs to the set.

    Raises: OSError when they cannot be written; the old set is whole then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if not _exchanged(folder, files, owns):
        _replaced_by_journal(folder, files, owns)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whoever else writes it at the same time."""
    with scratch(path.parent, STAGED) as staged:
        _fill(staged, {path.name: content})
        (staged / path.name).replace(path)


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a hidden folder of this process alone, gone at the end; those that dead processes left go first."""
    remove_left(parent, prefix)
    while True:
        folder = Path(mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # another process took it for one that was left, before it had its lock
            handle = os.open(folder, os.O_RDONLY)
            if _lock(handle) is not False and _is_at(handle, folder):
                break
            os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_left(parent: Path, prefix: str) -> None:
    """Remove the hidden folders whose processes are dead; where the file system has no locks, nobody knows, and all
    stay."""
    name = re.compile(re.escape(prefix) + _MADE)
    for left in parent.iterdir():
        if name.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            with suppress(OSError):
                handle = os.open(left, os.O_RDONLY)
                try:
                    if _lock(handle):
                        shutil.rmtree(left, ignore_errors=True)
                finally:
                    os.close(handle)


def pending(path: Path) -> Path:
    """Return where a file of a set is to be read: in its place, or where a killed process left it to be moved from.

    A set is new from the moment its journal is there; its files that are still to be moved count, the others are in
    their place.
    """
    waiting = path.parent / COMMIT / path.name
    return waiting if waiting.is_file() else path


def _claim(folder: Path) -> int:
    """Return a locked handle on a folder; the lock goes with the process."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        if _lock(handle) is False:
            os.close(handle)
            raise RefusedPlan(f"{folder}: another ncscan writes there: wait for it, or choose another --out")
        if _is_at(handle, folder):
            return handle
        os.close(handle)  # the other one was done in between, and has put another folder in its place


def _lock(handle: int) -> bool | None:
    """Return whether the lock is ours now; None where the file system has none, as some networks' have not."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, down to the disk itself."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        sync(path)
    for made in {(folder / name).parent for name in files}:
        sync(made)


def _exchanged(folder: Path, files: Mapping[str, bytes], owns: Owns) -> bool:
    """Return whether the folder was exchanged for one that holds the new set, and the strangers' files that it had."""
    if folder.stat().st_dev != folder.parent.stat().st_dev:
        return False
    try:
        with scratch(folder.parent, STAGED) as staged:
            shutil.copystat(folder, staged)
            with suppress(OSError):
                os.chown(staged, -1, folder.stat().st_gid)
            _fill(staged, files)
            if not _linked(folder, staged, files, owns) or not _exchange(staged, folder):
                return False
            sync(folder.parent)
            _rescue(staged, folder, files, owns)
            return True
    except OSError as error:
        if error.errno in _FORBIDDEN:
            return False
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return whether the system and the file system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _linked(folder: Path, staged: Path, files: Mapping[str, bytes], owns: Owns) -> bool:
    """Return whether all that strangers keep in a folder is in the new one too: the same files, under a second name."""
    for name in _foreign_files(folder, files, owns):
        target = staged / name
        if target.is_dir():
            continue  # an empty folder of theirs, in which there is something of ours now
        for above in reversed(PurePosixPath(name).parents[:-1]):
            if not (staged / above).is_dir():
                (staged / above).mkdir()
                shutil.copystat(folder / above, staged / above)
        try:
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                if not os.access(folder / name, os.R_OK | os.X_OK):
                    return False
                target.mkdir()
            else:
                os.link(folder / name, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links, another one mounted below, somebody else's file
            return False
    return True


def _rescue(old: Path, new: Path, files: Mapping[str, bytes], owns: Owns) -> None:
    """Move what a stranger wrote in the instant between the links and the exchange."""
    for name in _foreign_files(old, files, owns):
        there = new / name
        if not (os.path.lexists(there) and (there.is_dir() or os.path.samestat(there.lstat(), (old / name).lstat()))):
            there.parent.mkdir(parents=True, exist_ok=True)
            (old / name).replace(there)


def _foreign_files(folder: Path, files: Mapping[str, bytes], owns: Owns) -> Iterator[str]:
    """Yield the files below a folder that belong to no set, and empty folders, by their paths below it."""
    for path in _below(folder):
        name = PurePosixPath(path.relative_to(folder))
        if str(name) not in files and not owns(folder, name):
            yield str(name)


def _below(folder: Path) -> Iterator[Path]:
    """Yield files, links, and folders that are empty or nobody may look into."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            yield path
        elif os.access(path, os.R_OK | os.X_OK) and any(path.iterdir()):
            yield from _below(path)
        else:
            yield path


def _replaced_by_journal(folder: Path, files: Mapping[str, bytes], owns: Owns) -> None:
    """Put a set in its place with a journal in the folder itself.

    From its rename on the set is the new one, and whoever comes next completes it.
    """
    gone = [
        str(name)
        for path in _below(folder)
        if str(name := PurePosixPath(path.relative_to(folder))) not in files and not path.is_dir()
        if owns(folder, name)
    ]
    journal = {"files": list(files), "gone": gone}
    with scratch(folder, STAGED) as staged:
        _fill(staged, {**files, _JOURNAL: json.dumps(journal).encode()})
        staged.rename(folder / COMMIT)
    sync(folder)
    _complete(folder)


def _complete(folder: Path) -> None:
    """Do what a journal demands, if there is one: as often as it takes, by whoever it is."""
    waiting = folder / COMMIT
    if (journal := _journal(folder)) is None:
        shutil.rmtree(waiting, ignore_errors=True)  # all was moved, and the journal itself removed
        return
    new, gone = journal
    for name in gone:
        (folder / name).unlink(missing_ok=True)
        for above in PurePosixPath(name).parents[:-1]:
            with suppress(OSError):  # the last file of a folder takes it along
                (folder / above).rmdir()
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # moved before
            (waiting / name).replace(folder / name)
    sync(folder)
    shutil.rmtree(waiting)


def _journal(folder: Path) -> tuple[list[str], list[str]] | None:
    """Return which files are new and which go.

    The folder may come from a stranger: nothing outside of it is touched.
    """
    waiting = folder / COMMIT
    if not os.path.lexists(waiting / _JOURNAL):
        return None
    try:
        plain = parse_json(read(waiting / _JOURNAL, RefusedPlan, _MOST_JOURNAL))
        new, gone = plain["files"], plain["gone"]
        places = [place / name for name in (*new, *gone) for place in (folder, waiting)]
        inside = all(path.parent.resolve().is_relative_to(folder.resolve()) for path in places)
    except (ValueError, TypeError, KeyError):
        inside = False
    if not inside:
        raise RefusedPlan(f"{waiting}: no journal of ncscan; remove it, or choose another --out")
    return new, gone
