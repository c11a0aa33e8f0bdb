"""Write and read tables of a dump: rows that come batch by batch, with a checksum for each chunk.

In: rows in order. Out: the same rows, or a DumpError when a single bit of them is another.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from ncscan.dumps import hdf5
from ncscan.dumps.checksums import Checksum
from ncscan.errors import DumpError
from ncscan.files import Disk

SUMS = "checksums"
"""(blocks, chunks of a block): one row for each batch, one column for each chunk that a batch takes in any table."""
GATHERED = 2**25
"""Bytes of blocks that go to the disk together: every write wakes a thread up that competes with the passes."""
HANDS = 2
"""Threads that carry bytes to the disk, and as many that bring them back: a disk takes its time for each."""


@dataclass(frozen=True)
class Table:
    """One row per sample."""

    values: hdf5.Dataset
    column: int
    """The first column of the checksums that is this table's."""
    per_block: int
    """The number of chunks that a batch takes."""
    checksum: Checksum

    @property
    def is_compressed(self) -> bool:
        return hdf5.is_compressed(self.values)


def create(
    file: hdf5.File,
    shapes: Sequence[tuple[str, int, str, int]],
    n_rows: int,
    block: int,
    checksum: Checksum,
    *,
    gzip: bool,
) -> None:
    """Create empty tables, each of (name, features, stored as, rows of a chunk), and datasets for their checksums."""
    for name, features, stored_as, chunk_rows in shapes:
        hdf5.create_rows(file, name, (n_rows, features), stored_as, chunk_rows, gzip=gzip)
    columns = sum(block // chunk_rows for *_, chunk_rows in shapes)
    n_blocks = -(-n_rows // block)
    hdf5.create_rows(file, SUMS, (n_blocks, columns), checksum.stored_as, n_blocks, gzip=False)


def find(file: hdf5.File, names: Sequence[str], n_rows: int, block: int, checksum: Checksum) -> tuple[Table, ...]:
    """Return the tables of those names, in the order of their creation; DumpError when one is missing or odd."""
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
        tables.append(Table(values, column, block // values.chunks[0], checksum))
        column += tables[-1].per_block
    sums = hdf5.dataset(file, SUMS)
    if (sums.shape, sums.dtype) != ((-(-n_rows // block), column), np.dtype(checksum.stored_as)):
        raise DumpError(
            f"{file.filename}: there are {sums.shape} checksums of {sums.dtype} for {column} chunks a batch"
        )
    return tuple(tables)


def read(table: Table, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) in order, verified; up to a row, when it was the last one that was written."""
    columns = slice(table.column, table.column + table.per_block)
    expected = hdf5.read_array(table.values.file[SUMS])[:, columns].ravel()
    step = table.values.chunks[0]
    for start, rows in hdf5.read_rows(table.values, stop):
        for first in range(0, len(rows), step):
            if table.checksum.of(rows[first : first + step]) != expected[(start + first) // step]:
                raise DumpError(
                    f"{table.values.file.filename}: {table.values.name} is damaged in the {step} rows from "
                    f"{start + first} on: their checksum differs; extract this checkpoint again with --force"
                )
        yield start, rows


def are_sound(tables: Sequence[Table], stop: int) -> bool:
    """Return whether the rows up to one were all written and read back as they were computed."""
    with ThreadPoolExecutor(HANDS, "ncscan-verifier") as readers:
        return all(readers.map(lambda table: _is_sound(table, stop), tables))


def _is_sound(table: Table, stop: int) -> bool:
    # A kill in the middle of a flush can leave a compressed table's index with more chunks than were counted.
    if table.is_compressed and hdf5.chunks_written(table.values) != -(-stop // table.values.chunks[0]):
        return False
    try:
        return sum(len(rows) for _, rows in read(table, stop)) == stop
    except DumpError:
        return False


@dataclass(frozen=True)
class _Chunk:
    """One chunk as it was written."""

    offset: int
    n_bytes: int
    sum: int


class Writer:
    """Carries rows into the tables of one file, in blocks of a batch, however they come.

    Blocks are gathered, written side by side, counted, and read back while the next ones are computed.
    """

    def __init__(self, file: hdf5.File, tables: Sequence[Table], n_rows: int, block: int, start: int) -> None:
        self._file, self._tables = file, tables
        self._checksum = tables[0].checksum
        self._n_rows, self._block = n_rows, block
        self.received = start
        """Rows up to here were handed over; those of the last blocks are held back."""
        self._pieces: list[Sequence[np.ndarray]] = []
        """The pieces of the block that is not full yet."""
        self._blocks: list[tuple[int, Sequence[np.ndarray]]] = []
        """(first row, the rows of each table): full ones that wait for company."""
        self._disk = Disk(Path(file.filename))
        self._threads = ThreadPoolExecutor(HANDS, "ncscan-hand")
        self._verifiers = ThreadPoolExecutor(HANDS, "ncscan-verifier")
        self._verifying: list[Future[None]] = []
        self._offsets = [None if t.is_compressed else hdf5.chunk_offsets(t.values) for t in tables]

    def append(self, values: Sequence[np.ndarray]) -> None:
        """Append the next rows of every table; what was counted is safe from a kill of this process."""
        n, taken = len(values[0]), 0
        for table, rows in zip(self._tables, values, strict=True):
            if rows.shape != (expected := (n, table.values.shape[1])):
                raise DumpError(f"{self._file.filename}: {table.values.name} takes {expected}, not {rows.shape}")
        while taken < n:
            row = self.received + taken
            take = min(self._block - row % self._block, n - taken)
            self._pieces.append([rows[taken : taken + take] for rows in values])
            taken += take
            if (row + take) % self._block == 0 or row + take == self._n_rows:
                self._fill(row + take)
        self.received += n

    def _fill(self, stop: int) -> None:
        """Make a block of the pieces: they are a whole one, or the last part of one."""
        pieces, self._pieces = self._pieces, []
        # More than one piece only after memory ran out, or when the batches are not those of the file.
        block = pieces[0] if len(pieces) == 1 else [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        self._blocks.append((stop - len(block[0]), block))
        if stop == self._n_rows or sum(rows.nbytes for _, block in self._blocks for rows in block) >= GATHERED:
            self._write(stop)

    def _write(self, stop: int) -> None:
        """Write all blocks that were gathered, up to a row."""
        blocks, self._blocks = self._blocks, []
        first = blocks[0][0]
        sums = np.zeros((len(blocks), self._tables[-1].column + self._tables[-1].per_block), self._checksum.stored_as)
        parts = zip(*(block for _, block in blocks), strict=True)
        # `map` raises what one of the threads raised.
        carried = list(self._threads.map(partial(self._carry, first), self._tables, self._offsets, parts))
        for table, runs in zip(self._tables, carried, strict=True):
            for i, chunk in enumerate(chain.from_iterable(runs)):
                sums[i // table.per_block, table.column + i % table.per_block] = chunk.sum
        hdf5.write_part(self._file[SUMS], first // self._block, sums)
        hdf5.set_attribute(self._file, "rows_written", stop)
        hdf5.flush(self._file)
        self._wait_for_verifiers()
        plain = (runs for runs, offsets in zip(carried, self._offsets, strict=True) if offsets is not None)
        self._verifying = [self._verifiers.submit(self._verify, run) for runs in plain for run in runs]

    def _carry(
        self, first: int, table: Table, offsets: list[int] | None, parts: Sequence[np.ndarray]
    ) -> list[list[_Chunk]]:
        """Carry the rows of one table from `first` on to the disk, those that lie side by side in one go."""
        step = table.values.chunks[0]
        chunks = [part[i : i + step] for part in parts for i in range(0, len(part), step)]
        if offsets is None:
            for i, rows in enumerate(chunks):
                hdf5.write_part(table.values, first + i * step, rows)
            return [[_Chunk(0, rows.nbytes, self._checksum.of(rows)) for rows in chunks]]
        carried: list[list[_Chunk]] = []
        for run in _adjacent(offsets[first // step :], chunks):
            content, at = self._disk.buffer(sum(rows.nbytes for _, rows in run)), 0
            carried.append([])
            for offset, rows in run:
                piece = content[at : at + rows.nbytes]
                np.copyto(np.frombuffer(piece, rows.dtype).reshape(rows.shape), rows)
                carried[-1].append(_Chunk(offset, rows.nbytes, self._checksum.of(np.frombuffer(piece, np.uint8))))
                at += rows.nbytes
            self._disk.write(run[0][0], content)
        return carried

    def _verify(self, run: Sequence[_Chunk]) -> None:
        content, at = self._disk.buffer(sum(chunk.n_bytes for chunk in run)), 0
        self._disk.read(run[0].offset, content)
        for chunk in run:
            if self._checksum.of(np.frombuffer(content[at : at + chunk.n_bytes], np.uint8)) != chunk.sum:
                raise DumpError(f"{self._file.filename}: what was read back is not what was written: check the disk")
            at += chunk.n_bytes

    def _wait_for_verifiers(self) -> None:
        verifying, self._verifying = self._verifying, []
        for done in verifying:
            done.result()

    def close(self) -> None:
        """Write what was gathered, and read all back; compressed tables are left to `are_sound`."""
        try:
            if self._blocks:
                self._write(self._blocks[-1][0] + len(self._blocks[-1][1][0]))
            self._wait_for_verifiers()
        finally:
            self._threads.shutdown()
            self._verifiers.shutdown()
            self._disk.close()


def _adjacent(offsets: Sequence[int], chunks: Sequence[np.ndarray]) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield (offset, chunk) in runs that follow on one another in the file."""
    run: list[tuple[int, np.ndarray]] = []
    end = None
    for offset, chunk in zip(offsets, chunks, strict=False):
        if run and offset != end:
            yield run
            run = []
        run.append((offset, chunk))
        end = offset + chunk.nbytes
    if run:
        yield run
