"""Tables of a dump: rows that come batch by batch, each chunk of them with a checksum beside it.

In: rows in order. Out: the same rows, or a DumpError when a single bit of them is another. The only file that knows
what a checksum is.

HDF5's own (fletcher32) is not used here. It cannot tell 0x0000 from 0xFFFF, passes a chunk of zeros that never reached
the disk, makes every file a filtered one whose chunks cannot be laid out before they are written, and cost as much
again as the writing itself: the sums below are ten times faster.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncscan import hdf5
from ncscan.errors import DumpError

LANES = 1021
"""A prime, so that no two pages or sectors of a chunk fall on the same lanes: one in the other's place is noticed."""


@dataclass(frozen=True)
class Table:
    """One row per sample."""

    values: hdf5.Dataset
    checksums: hdf5.Dataset
    """One per chunk of the values."""


def create(
    group: hdf5.Group, name: str, shape: tuple[int, int], stored_as: str, chunk_rows: int, *, gzip: bool
) -> Table:
    """An empty table; all its room is laid out at once unless it is compressed."""
    values = hdf5.create_rows(group, name, shape, stored_as, chunk_rows, gzip=gzip)
    n_chunks = -(-shape[0] // chunk_rows)
    return Table(values, hdf5.create_rows(group, f"{name}.checksums", (n_chunks,), "<u4", n_chunks, gzip=False))


def find(group: hdf5.Group, name: str) -> Table:
    """The table of that name; DumpError when it is missing or not one of ours."""
    table = Table(hdf5.dataset(group, name), hdf5.dataset(group, f"{name}.checksums"))
    values, checksums = table.values, table.checksums
    if values.ndim != 2 or values.chunks is None or values.chunks[1:] != values.shape[1:]:
        raise DumpError(f"{group.file.filename}: {name} is not in chunks of whole rows")
    if (checksums.shape, checksums.dtype) != ((-(-len(values) // values.chunks[0]),), np.uint32):
        raise DumpError(f"{group.file.filename}: {name} has {len(values)} rows, and checksums of {checksums.shape}")
    return table


def read(table: Table, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) in order, verified; up to a row, when it was the last one that was written."""
    expected = hdf5.read_array(table.checksums)
    step = table.values.chunks[0]
    for start, rows in hdf5.read_rows(table.values, stop):
        for first in range(0, len(rows), step):
            if checksum(rows[first : first + step]) != expected[(start + first) // step]:
                raise DumpError(
                    f"{table.values.file.filename}: {table.values.name} is damaged in the {step} rows from "
                    f"{start + first} on: their checksum differs; extract this checkpoint again with --force"
                )
        yield start, rows


def checksum(rows: np.ndarray) -> int:
    """Their 64-bit words are dealt to 1,021 lanes in turn and added up in each; the crc32 of the sums.

    Damage within 8 kB always changes a sum, since each of its words falls on another lane, and a crc32 misses one
    change in 4 billion. Bytes that are left over go into the crc32 as they are. This runs at the speed of memory,
    where a crc32 of everything takes seven times as long.

    >>> checksum(np.zeros((3, 4), np.float32)) == checksum(np.zeros((4, 3), np.float64))
    False
    """
    content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
    dealt = len(content) // (8 * LANES) * 8 * LANES
    sums = content[:dealt].view("<u8").reshape(-1, LANES).sum(axis=0, dtype=np.uint64)
    return zlib.crc32(content[dealt:].data, zlib.crc32(sums.astype("<u8", copy=False).data))


class Writer:
    """Rows on their way into the tables of one file, in blocks of a batch, however they come."""

    def __init__(self, file: hdf5.File, tables: Sequence[Table], n_rows: int, block: int, start: int) -> None:
        self._file, self._tables = file, tables
        self._n_rows, self._block = n_rows, block
        self.received = start
        """Rows up to here were handed over; those that do not fill a block yet are held back."""
        self._offsets = [
            [] if hdf5.is_compressed(table.values) else hdf5.chunk_offsets(table.values) for table in tables
        ]
        self._held = [np.empty((0, table.values.shape[1]), table.values.dtype) for table in tables]

    def append(self, values: Sequence[np.ndarray]) -> None:
        """The next rows of every table; on return whole blocks are safe from a kill of this process."""
        n, taken = len(values[0]), 0
        for table, rows in zip(self._tables, values, strict=True):
            if rows.shape != (n, table.values.shape[1]):
                expected = (n, table.values.shape[1])
                raise DumpError(f"{self._file.filename}: {table.values.name} takes {expected}, not {rows.shape}")
        while taken < n:
            row = self.received + taken
            take = min(self._block - row % self._block, n - taken)
            pieces = [rows[taken : taken + take] for rows in values]
            if len(self._held[0]):  # only after memory ran out, or with other batches than the file's
                pieces = [np.concatenate(pair) for pair in zip(self._held, pieces, strict=True)]
            taken += take
            if (row + take) % self._block and row + take != self._n_rows:
                self._held = [piece.copy() for piece in pieces]
                continue
            for table, offsets, piece in zip(self._tables, self._offsets, pieces, strict=True):
                self._write(table, offsets, row + take - len(piece), piece)
            self._held = [piece[:0] for piece in pieces]
            hdf5.set_attribute(self._file, "rows_written", row + take)
            hdf5.flush(self._file)
        self.received += n

    def _write(self, table: Table, offsets: list[int], start: int, rows: np.ndarray) -> None:
        step = table.values.chunks[0]
        chunks = [rows[first : first + step] for first in range(0, len(rows), step)]
        if offsets:
            for i, chunk in enumerate(chunks, start // step):
                hdf5.write_at(self._file, offsets[i], chunk)
        else:
            hdf5.write_part(table.values, start, rows)
        sums = np.array([checksum(chunk) for chunk in chunks], np.uint32)
        hdf5.write_part(table.checksums, start // step, sums)


def is_sound(table: Table, stop: int) -> bool:
    """Whether the rows up to one were all written, and no more than those."""
    if hdf5.is_compressed(table.values):
        # A kill in the middle of a flush can leave an index that knows of more chunks than were counted.
        exact = hdf5.chunks_written(table.values) == -(-stop // table.values.chunks[0])
    else:
        exact = True
    try:
        return exact and sum(len(rows) for _, rows in read(table, stop)) == stop
    except DumpError:
        return False


def verify(path: Path, tables: Sequence[Table]) -> None:
    """Read everything back, as any reader would."""
    for table in tables:
        if not is_sound(table, len(table.values)):
            raise DumpError(f"{path}: {table.values.name} did not read back as it was written")
