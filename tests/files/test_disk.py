"""Bytes through the page cache and past it."""

import errno
import os
from pathlib import Path

import pytest

from ncscan.files.disk import ALIGNMENT, Disk

WHOLE = 16 * ALIGNMENT


def opened(path: Path, size: int = WHOLE) -> Disk:
    path.write_bytes(bytes(size))
    return Disk(path)


def filled(disk: Disk, size: int) -> tuple[memoryview, bytes]:
    content = os.urandom(size)
    buffer = disk.buffer(size)
    buffer[:] = content
    return buffer, content


@pytest.mark.parametrize(
    ("offset", "size"), [(0, WHOLE), (ALIGNMENT, 2 * ALIGNMENT), (3, 100), (ALIGNMENT, 5000), (7, 0)]
)
def test_what_was_written_is_read_back(tmp_path: Path, offset: int, size: int) -> None:
    disk = opened(tmp_path / "a")
    buffer, content = filled(disk, size)
    disk.write(offset, buffer)
    assert content == (tmp_path / "a").read_bytes()[offset : offset + size]
    buffer[:] = bytes(size)
    disk.read(offset, buffer)
    disk.close()
    assert content == bytes(buffer)


def test_file_that_ends_too_soon_is_an_error(tmp_path: Path) -> None:
    disk = opened(tmp_path / "a", ALIGNMENT)
    with pytest.raises(OSError, match="ends within"):
        disk.read(0, disk.buffer(2 * ALIGNMENT))
    disk.close()


def test_disk_that_takes_parts_gets_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, offset: write(handle, content[:1000], offset))
    disk = opened(tmp_path / "a")
    buffer, content = filled(disk, WHOLE)
    disk.write(0, buffer)
    disk.close()
    assert content == (tmp_path / "a").read_bytes()


def test_disk_that_wants_another_alignment_gets_its_bytes_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    refused: list[int] = []

    def picky(handle: int, content: memoryview, offset: int) -> int:
        if not refused:
            refused.append(handle)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        assert handle not in refused
        return write(handle, content, offset)

    disk = opened(tmp_path / "a")
    monkeypatch.setattr(os, "pwrite", picky)
    buffer, content = filled(disk, WHOLE)
    for half in (0, WHOLE // 2):
        disk.write(half, buffer[half : half + WHOLE // 2])
    disk.close()
    assert len(refused) == 1
    assert content == (tmp_path / "a").read_bytes()
