"""Tables of a dump: rows that come batch by batch, each chunk of them with a checksum beside it.

In: rows in order. Out: the same rows, or a DumpError when a single bit of them is another. The only file that knows
what a checksum is.

HDF5's own (fletcher32) is not used here. It cannot tell 0x0000 from 0xFFFF, passes a chunk of zeros that never reached
the disk, makes every file a filtered one whose chunks cannot be laid out before they are written, and cost as much
again as the writing itself: the sums below are ten times faster.
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ncscan import hdf5
from ncscan.errors import DumpError

LANES = 1021
"""A prime, so that no two pages or sectors of a chunk fall on the same lanes: one in the other's place is noticed."""
CHECKSUMS = "checksums"
"""(blocks, chunks of a block): one row for each batch, one column for each chunk that a batch takes in any table."""
SYNC_EVERY = 2**26
"""Bytes after which the disk is asked to take them, while the next batches come: little is left at the end."""
HANDS = 2
"""Threads that carry bytes to the file and back: it is copying, and one core alone does not keep up with a pass."""


@dataclass(frozen=True)
class Table:
    """One row per sample."""

    values: hdf5.Dataset
    column: int
    """Of the checksums, the first that is this table's."""
    per_block: int
    """Chunks that a batch takes."""


def create(
    file: hdf5.File, shapes: Sequence[tuple[str, int, str, int]], n_rows: int, block: int, *, gzip: bool
) -> None:
    """Empty tables, each of (name, features, stored as, rows of a chunk), and the room for their checksums."""
    for name, features, stored_as, chunk_rows in shapes:
        hdf5.create_rows(file, name, (n_rows, features), stored_as, chunk_rows, gzip=gzip)
    columns = sum(block // chunk_rows for *_, chunk_rows in shapes)
    n_blocks = -(-n_rows // block)
    hdf5.create_rows(file, CHECKSUMS, (n_blocks, columns), "<u4", n_blocks, gzip=False)


def find(file: hdf5.File, names: Sequence[str], n_rows: int, block: int) -> tuple[Table, ...]:
    """The tables of those names, in the order in which they were created; DumpError when one is missing or odd."""
    tables, column = [], 0
    for name in names:
        values = hdf5.dataset(file, name)
        if values.ndim != 2 or values.chunks is None or values.chunks[1:] != values.shape[1:]:
            raise DumpError(f"{file.filename}: {name} is not in chunks of whole rows")
        if len(values) != n_rows or block % values.chunks[0]:
            raise DumpError(
                f"{file.filename}: {name} has {len(values)} rows in chunks of {values.chunks[0]}; "
                f"expected {n_rows} in batches of {block}"
            )
        tables.append(Table(values, column, block // values.chunks[0]))
        column += tables[-1].per_block
    checksums = hdf5.dataset(file, CHECKSUMS)
    if (checksums.shape, checksums.dtype) != ((-(-n_rows // block), column), np.uint32):
        raise DumpError(f"{file.filename}: there are {checksums.shape} checksums for {column} chunks a batch")
    return tuple(tables)


def read(table: Table, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) in order, verified; up to a row, when it was the last one that was written."""
    columns = slice(table.column, table.column + table.per_block)
    expected = hdf5.read_array(table.values.file[CHECKSUMS])[:, columns].ravel()
    step = table.values.chunks[0]
    for start, rows in hdf5.read_rows(table.values, stop):
        for first in range(0, len(rows), step):
            if checksum(rows[first : first + step]) != expected[(start + first) // step]:
                raise DumpError(
                    f"{table.values.file.filename}: {table.values.name} is damaged in the {step} rows from "
                    f"{start + first} on: their checksum differs; extract this checkpoint again with --force"
                )
        yield start, rows


def are_sound(tables: Sequence[Table], stop: int) -> bool:
    """Whether the rows up to one were all written and read back as they were computed."""
    with ThreadPoolExecutor(HANDS, "ncscan-verifier") as readers:
        return all(readers.map(lambda table: _is_sound(table, stop), tables))


def _is_sound(table: Table, stop: int) -> bool:
    # A kill in the middle of a flush can leave a compressed table's index with more chunks than were counted.
    if hdf5.is_compressed(table.values) and hdf5.chunks_written(table.values) != -(-stop // table.values.chunks[0]):
        return False
    try:
        return sum(len(rows) for _, rows in read(table, stop)) == stop
    except DumpError:
        return False


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
        self._held: list[list[np.ndarray]] = []
        self._unsynced = 0
        self._hands = ThreadPoolExecutor(HANDS, "ncscan-hand")
        self._syncer = ThreadPoolExecutor(1, "ncscan-disk")
        self._syncing = self._syncer.submit(hdf5.sync_data, file)
        self._offsets = [None if hdf5.is_compressed(t.values) else hdf5.chunk_offsets(t.values) for t in tables]

    def append(self, values: Sequence[np.ndarray]) -> None:
        """The next rows of every table; on return whole blocks are safe from a kill of this process."""
        n, taken = len(values[0]), 0
        for table, rows in zip(self._tables, values, strict=True):
            if rows.shape != (expected := (n, table.values.shape[1])):
                raise DumpError(f"{self._file.filename}: {table.values.name} takes {expected}, not {rows.shape}")
        while taken < n:
            row = self.received + taken
            take = min(self._block - row % self._block, n - taken)
            self._held.append([rows[taken : taken + take] for rows in values])
            taken += take
            if (row + take) % self._block == 0 or row + take == self._n_rows:
                self._write(row + take)
        self.received += n

    def _write(self, stop: int) -> None:
        """What is held, a whole block or the last part of one."""
        pieces, self._held = self._held, []
        # More than one piece only after memory ran out, or when the batches are not those of the file.
        values = pieces[0] if len(pieces) == 1 else [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        start = stop - len(values[0])
        sums = np.zeros((1, self._tables[-1].column + self._tables[-1].per_block), np.uint32)

        def carry(table: Table, offsets: list[int] | None, rows: np.ndarray) -> None:
            step = table.values.chunks[0]
            if offsets is None:
                hdf5.write_part(table.values, start, rows)
            for i, first in enumerate(range(0, len(rows), step)):
                chunk = rows[first : first + step]
                sums[0, table.column + i] = checksum(chunk)
                if offsets is not None:
                    hdf5.write_at(self._file, offsets[start // step + i], chunk)

        list(self._hands.map(carry, self._tables, self._offsets, values))  # which raises what one of them raised
        self._unsynced += sum(rows.nbytes for rows in values)
        hdf5.write_part(self._file[CHECKSUMS], start // self._block, sums)
        hdf5.set_attribute(self._file, "rows_written", stop)
        hdf5.flush(self._file)
        if self._unsynced > SYNC_EVERY and self._syncing.done():
            self._syncing.result()
            self._syncing = self._syncer.submit(hdf5.sync_data, self._file)
            self._unsynced = 0

    def close(self) -> None:
        """Waits for the disk as far as it is under way."""
        self._hands.shutdown()
        self._syncer.shutdown()
        self._syncing.result()
