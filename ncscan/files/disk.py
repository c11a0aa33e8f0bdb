"""Bytes to and from a file, past the kernel's page cache where the file system lets us.

In: an offset and bytes. Out: the same bytes on the disk, and back from it. A dump is written once and is larger than
what a machine should cache: to copy it into the page cache cost more than the pass that computed it, and reading it
back from there says nothing of the disk.
"""

import errno
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

ALIGNMENT = 4096
"""Offsets and lengths that every disk takes directly; other pieces, the last of a table, go through the cache."""


class Disk:
    """A file that is there already, for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._plain = os.open(path, os.O_RDWR)
        try:
            self._direct = os.open(path, os.O_RDWR | getattr(os, "O_DIRECT", 0))
        except OSError:  # a file system in memory or on a network: the cache it is
            self._direct = self._plain
        self._own = threading.local()

    def buffer(self, size: int) -> memoryview:
        """Return memory of this thread that the disk takes as it is, until the thread asks again."""
        memory = getattr(self._own, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._own.memory = mmap.mmap(-1, max(size, 1))
        return memoryview(memory)[:size]

    def write(self, offset: int, content: memoryview) -> None:
        """Write all of a buffer to where it belongs; OSError when the disk is full."""
        while content:  # a disk that fills up first takes a part
            done = self._through(os.pwrite, content, offset)
            content, offset = content[done:], offset + done

    def read(self, offset: int, into: memoryview) -> None:
        """Read a whole buffer's bytes; OSError when the file ends before."""
        while into:
            done = self._through(_read_into, into, offset)
            if not done:
                raise OSError("the file ends within a chunk")
            into, offset = into[done:], offset + done

    def _through(self, call: Callable[[int, memoryview, int], int], content: memoryview, offset: int) -> int:
        handle = self._plain if offset % ALIGNMENT or len(content) % ALIGNMENT else self._direct
        try:
            return call(handle, content, offset)
        except OSError as error:
            if error.errno != errno.EINVAL or handle == self._plain:
                raise
            self._direct = self._plain  # it was opened, but this disk wants another alignment
            return call(self._plain, content, offset)

    def close(self) -> None:
        for handle in {self._plain, self._direct}:
            os.close(handle)


def _read_into(handle: int, content: memoryview, offset: int) -> int:
    return os.preadv(handle, [content], offset)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
