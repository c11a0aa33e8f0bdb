"""Files of strangers: opened without waiting, sized before they are read, their JSON within limits.

In: a path, or bytes. Out: bytes, or plain values. Everything that reads a file of unknown origin whole reads it here:
a pipe, a device or a folder in its place, a size that no memory holds and a text that unfolds end as one line.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ncscan.errors import NcscanError

FREE_CONTAINERS = 200_000
BYTES_PER_CONTAINER = 20
"""JSON beyond the free ones may open a list or an object every so many bytes: `[[],[],…` takes 30 times its size."""


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; a path that is too long is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def in_sight(folder: Path, note: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield every file below a folder that is not hidden, and in no hidden folder.

    `note` receives the folders that it cannot look into.
    """
    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


@contextmanager
def opened(path: Path, error: type[NcscanError]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading, and give it and its size.

    Raises: `error` when there is none, or a pipe, device or folder in its place, or it cannot be opened or read.
    """
    try:
        # Without waiting: a pipe has no end, and what is_file() saw can be another file by now.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise error(f"{path}: not a regular file")
        with open(handle, "rb") as file:  # noqa: PTH123 - of a descriptor
            yield file, status.st_size
    except FileNotFoundError as raised:
        raise error(f"{path}: there is no such file") from raised
    except (OSError, ValueError) as raised:
        reason = (raised.strerror if isinstance(raised, OSError) else None) or raised
        raise error(f"{path}: cannot be read ({reason})") from raised
    except MemoryError as raised:
        raise error(f"{path}: does not fit into memory") from raised


def read(path: Path, error: type[NcscanError], most: int | None = None) -> bytes:
    """Return all bytes of a regular file of at most `most` bytes.

    Raises: `error` as `opened` does, and when the file is larger than that, or than the memory.
    """
    with opened(path, error) as (file, size):
        return read_rest(path, file, size, error, most)


def read_rest(path: Path, file: BinaryIO, size: int, error: type[NcscanError], most: int | None = None) -> bytes:
    """Return all bytes of an open file, from its beginning; refused as by `read`."""
    if most is not None and size > most:
        raise error(f"{path}: {size:,} bytes; at most {most:,} are read")
    fits(size, path, error)
    file.seek(0)
    return file.read(size)


def fits(size: int, path: Path, error: type[NcscanError]) -> None:
    """Raise `error` where so many bytes of a path would not fit into memory."""
    if size > _memory():
        raise error(f"{path}: {size:,} bytes do not fit into memory")


def parse_json(data: bytes, *, finite: bool = False) -> Any:
    """Return the plain values that JSON bytes hold, within limits of memory.

    NaN and infinity are read as Python writes them, unless `finite` excludes them.

    Raises: ValueError when they are no UTF-8 or no JSON, are nested too deep, open more lists than their size
        explains, hold a key twice or an integer of thousands of digits.

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    containers = data.count(b"[") + data.count(b"{")
    if containers > FREE_CONTAINERS + len(data) // BYTES_PER_CONTAINER:
        raise ValueError(f"{containers:,} lists and objects in {len(data):,} bytes")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_none if finite else None, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except MemoryError as error:
        raise ValueError("it does not fit into memory") from error


def _none(token: str) -> NoReturn:
    raise ValueError(f"{token} is no number in JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        again = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {again!a:.60} comes twice")
    return found


def _memory() -> int:
    """Return the bytes of memory of this machine; without a limit where it is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**63
