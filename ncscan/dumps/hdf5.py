"""HDF5 files, written plainly and opened safely. The only file that imports h5py.

In: a path. Out: for writing, an h5py file in a layout that survives a kill; for reading, one in which every object was
looked at before a byte of its data is read. A file from a stranger can point outside itself, claim sizes it does not
have or unpack to many times its size: all of that ends here, as a DumpError.
"""

import itertools
import math
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import Dataset as Dataset
from h5py import File as File
from h5py import Group as Group

from ncscan import files
from ncscan.errors import DumpError
from ncscan.files import ALIGNMENT

MAX_CHUNK = 2**28
"""The bytes of a chunk. It is what one read unpacks, so it bounds the memory that a file can ask for."""
MAX_OBJECTS = 20_000
"""Groups and datasets of a file: a BERT with every tap kept has about a thousand."""
MAX_LINKS = 100_000
"""Names of objects; one object can have many."""
MAX_DEPTH = 16
MAX_ATTRIBUTE = 2**16
"""Bytes of an attribute; the format's own limit for compact ones."""
MAX_INFLATED = 2**30
"""Bytes that a compressed array may come to when it is read whole."""
ALIGNED_FROM = 2**16
"""Bytes of a chunk; smaller ones stay close together."""
READ_AT_ONCE = 2**21
"""Bytes that small chunks are gathered to before they are handed on."""

_CHECKSUM = h5py.h5z.FILTER_FLETCHER32
_SAFE_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, _CHECKSUM}
"""The filters that may unpack data; others are refused: HDF5_PLUGIN_PATH would decide where their code comes from."""
_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    zlib.error,
)
"""The errors that h5py, zlib and the reading of a description raise for damaged files."""


@contextmanager
def explained(path: Path, doing: str) -> Generator[None]:
    """Turn what h5py raises inside into one line that names the file."""
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DumpError(f"{path}: {doing} failed: {reason}") from error


def create(path: Path) -> File:
    """Create a new file, in the place of an old one.

    The 1.8 format: the later ones mark a file as open for writing, and after a kill no reader takes it. There is no
    chunk cache, since chunks are written whole; HDF5's own would be 8 MiB for each layer. Large chunks begin where a
    disk can take them without a copy.
    """
    where = {"alignment_threshold": ALIGNED_FROM, "alignment_interval": ALIGNMENT}
    return File(path, "w", libver=("v108", "v108"), locking=False, rdcc_nbytes=0, **where)


def reopen(path: Path) -> File:
    """Open an existing file of ours, to go on writing; checked like any other first."""
    open_safely(path, unfinished=True).close()
    with explained(path, "reopening"):
        return File(path, "r+", libver=("v108", "v108"), locking=False, rdcc_nbytes=0)


def create_rows(group: Group, name: str, shape: tuple[int, ...], dtype: str, chunk_rows: int, *, gzip: bool) -> Dataset:
    """Create a dataset for rows that come by batch, in chunks of whole rows, never filled before they are written.

    Its chunks are laid out at once: from then on the file's structure does not change, so no kill can break it, and
    what is written does not depend on how often it was interrupted. Compressed ones find their place when they come.
    """
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((chunk_rows, *shape[1:]))
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    if gzip:
        plan.set_shuffle()
        plan.set_deflate(1)
    else:
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    return Dataset(h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=plan))


def write_array(group: Group, name: str, array: np.ndarray) -> Dataset:
    """Write a small array, whole, with HDF5's own checksum."""
    array = np.ascontiguousarray(array)
    if array.ndim == 0 or array.size == 0:
        return group.create_dataset(name, data=array, track_times=False)
    rows = max(1, min(len(array), MAX_CHUNK // 16 // max(1, array[0].nbytes)))
    chunks = (rows, *array.shape[1:])
    return group.create_dataset(name, data=array, chunks=chunks, fletcher32=True, track_times=False)


def create_group(parent: Group, name: str) -> Group:
    return parent.create_group(name, track_times=False)


def flush(file: File) -> None:
    """Hand all that was written to the kernel: from here on a kill of this process loses none of it."""
    file.flush()


def open_safely(path: Path, *, unfinished: bool = False) -> File:
    """Open a file for reading, after a look at every object in it.

    Args:
        path: a file, ours or anybody's.
        unfinished: whether datasets may lack chunks; such a file is not read, only written on.

    Raises:
        DumpError: when it is no HDF5 file, or damaged, or holds links to elsewhere, virtual or external data, types or
            filters other than plain ones, or a dataset larger than what is stored of it.
    """
    with files.opened(path, DumpError):  # a pipe would be waited for
        pass
    with explained(path, "opening"):
        file = File(path, "r", locking=False, rdcc_nbytes=0)
    try:
        with explained(path, "looking through it"):
            _look_through(file, path, unfinished=unfinished)
    except BaseException:
        file.close()
        raise
    return file


def dataset(parent: Group, name: str) -> Dataset:
    """Return the dataset of that name; DumpError when there is none."""
    child = parent.get(name)
    if not isinstance(child, Dataset):
        raise DumpError(f"{parent.file.filename}: {name} is missing")
    return child


def group(parent: Group, name: str) -> Group:
    """Return the group of that name; DumpError when there is none."""
    child = parent.get(name)
    if not isinstance(child, Group):
        raise DumpError(f"{parent.file.filename}: {name} is missing")
    return child


def attribute(holder: Group | Dataset, name: str) -> int | str:
    """Return an attribute that is one number or one text; DumpError when it is missing or anything else."""
    where = f"{holder.file.filename}: attribute {name} of {holder.name!a}"
    with explained(Path(holder.file.filename), f"reading attribute {name}"):
        if name not in holder.attrs:
            raise DumpError(f"{where} is missing")
        handle = h5py.h5a.open(holder.id, name.encode())
        if handle.shape != () or handle.get_storage_size() > MAX_ATTRIBUTE or handle.dtype.kind not in "iuS":
            raise DumpError(f"{where} is neither a number nor a text")
        value = holder.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else int(value)


def set_attribute(holder: Group | Dataset, name: str, value: int | str) -> None:
    """Set a number or a text of fixed length, rewritten in place when it is there: a kill leaves the old or the new."""
    if isinstance(value, int):
        holder.attrs.modify(name, np.int64(value))
    else:
        holder.attrs.modify(name, np.bytes_(value.encode("utf-8", "backslashreplace").replace(b"\0", b"\\0")))


def read_array(source: Dataset, most: int | None = None) -> np.ndarray:
    """Return all of a small dataset, of at most so many bytes."""
    where = f"{source.file.filename}: dataset {source.name!a}"
    if most is not None and (n_bytes := source.size * source.dtype.itemsize) > most:
        raise DumpError(f"{where} holds {n_bytes:,} bytes; at most {most:,} are read")
    if is_compressed(source) and source.size * source.dtype.itemsize > MAX_INFLATED:
        raise DumpError(f"{where} unpacks to more than {MAX_INFLATED} bytes")
    with explained(Path(source.file.filename), f"reading {source.name!a}"):
        _refuse_bombs(source, 0, source.shape[0] if source.shape else 0)
        return np.asarray(source[()])


def read_rows(source: Dataset, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows), by whole chunks, in memory that nothing else holds."""
    stop = len(source) if stop is None else stop
    row_bytes = max(1, math.prod(source.shape[1:]) * source.dtype.itemsize)
    if row_bytes > MAX_CHUNK:
        raise DumpError(f"{source.file.filename}: {source.name!a} has rows of {row_bytes} bytes; at most {MAX_CHUNK}")
    chunk_rows = source.chunks[0] if source.chunks else 1
    step = chunk_rows * max(1, READ_AT_ONCE // (chunk_rows * row_bytes))
    path, name = Path(source.file.filename), source.name
    offsets = chunk_offsets(source) if _is_plain(source) else None
    for start in range(0, stop, step):
        with explained(path, f"reading {name!a} from row {start}"):
            if offsets is None:
                rows = _read_filtered(source, start, min(start + step, stop))
            else:
                rows = _read_plain(source, start, min(start + step, stop), offsets)
        yield start, rows


def _is_plain(source: Dataset) -> bool:
    """Return whether its chunks are rows as they are in memory."""
    whole_rows = source.chunks is not None and source.chunks[1:] == source.shape[1:] and source.ndim > 0
    return whole_rows and not _filters(source) and source.dtype.isnative


def _read_plain(source: Dataset, start: int, stop: int, offsets: list[int]) -> np.ndarray:
    """Read rows straight from the file, without HDF5, whose lock would also stop every other thread of Python."""
    step = source.chunks[0]
    rows = np.empty((-(-(stop - start) // step) * step, *source.shape[1:]), source.dtype)
    handle, size = source.file.id.get_vfd_handle(), step * rows[:1].nbytes
    content = rows.reshape(-1).view(np.uint8).data
    for i, offset in enumerate(offsets[start // step : -(-stop // step)]):
        if os.preadv(handle, [content[i * size : (i + 1) * size]], offset) < size:
            raise OSError("the file ends within a chunk")
    return rows[: stop - start]


def _read_filtered(source: Dataset, start: int, stop: int) -> np.ndarray:
    _refuse_bombs(source, start, stop)
    rows = np.empty((stop - start, *source.shape[1:]), source.dtype)
    selection = source.id.get_space()
    selection.select_hyperslab((start, *(0,) * (rows.ndim - 1)), rows.shape)
    source.id.read(h5py.h5s.create_simple(rows.shape), selection, rows)
    return rows


def write_part(target: Dataset, start: int, rows: np.ndarray) -> None:
    """Write rows from `start` on."""
    selection = target.id.get_space()
    selection.select_hyperslab((start, *(0,) * (rows.ndim - 1)), rows.shape)
    target.id.write(h5py.h5s.create_simple(rows.shape), selection, np.ascontiguousarray(rows))


def chunks_written(source: Dataset) -> int:
    return int(source.id.get_num_chunks())


def chunk_offsets(source: Dataset) -> list[int]:
    """Return where in the file each chunk of rows begins.

    Raises: DumpError when the file's index has a chunk beyond the last row.
    """
    offsets = [0] * (-(-len(source) // source.chunks[0]))
    beyond: list[int] = []

    def note(chunk: Any) -> None:
        row = chunk.chunk_offset[0]
        if row < len(source):
            offsets[row // source.chunks[0]] = chunk.byte_offset
        else:
            beyond.append(row)

    source.id.chunk_iter(note)
    if beyond:
        raise DumpError(f"{source.file.filename}: damaged: {source.name} has rows at {beyond[0]:,} and ends before")
    return offsets


def is_compressed(source: Dataset) -> bool:
    return h5py.h5z.FILTER_DEFLATE in _filters(source)


def _objects(file: File) -> Iterator[tuple[str, Any]]:
    """Yield every object below the root once, by hard links alone, under the first name that leads to it."""
    waiting: list[tuple[str, Any, int]] = [("", file.id, 0)]
    met = {h5py.h5o.get_info(file.id).addr}
    n_links = 0
    while waiting:
        path, group, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise DumpError(f"{file.filename}: groups are nested deeper than {MAX_DEPTH}")
        for link in group:
            n_links += 1
            if n_links > MAX_LINKS or len(met) > MAX_OBJECTS:
                raise DumpError(f"{file.filename}: more than {MAX_OBJECTS:,} objects, or {MAX_LINKS:,} names of them")
            name = path + link.decode("utf-8", "surrogateescape")
            if group.links.get_info(link).type != h5py.h5l.TYPE_HARD:
                raise DumpError(f"{file.filename}: {name!a} is a link to elsewhere, which is not followed")
            address = h5py.h5o.get_info(group, link).addr
            if address in met:
                continue
            met.add(address)
            child = h5py.h5o.open(group, link)
            yield name, child
            if isinstance(child, h5py.h5g.GroupID):
                waiting.append((f"{name}/", child, depth + 1))


def _look_through(file: File, path: Path, *, unfinished: bool) -> None:
    size = path.stat().st_size
    for name, child in _objects(file):
        if isinstance(child, h5py.h5d.DatasetID):
            _refuse_odd(Dataset(child), f"{path}: dataset {name!a}", size, unfinished=unfinished)
        elif not isinstance(child, h5py.h5g.GroupID):
            raise DumpError(f"{path}: {name!a} is neither a group nor a dataset")


def _refuse_odd(child: Dataset, where: str, file_size: int, *, unfinished: bool) -> None:
    plan = child.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise DumpError(f"{where} takes its data from other files, which are not read")
    if child.dtype.kind not in "iufbS" or child.shape is None:
        raise DumpError(f"{where} holds {child.dtype!s:.100}, not plain numbers")
    filters = _filters(child)
    if unsafe := [code for code in filters if code not in _SAFE_FILTERS]:
        raise DumpError(f"{where} is packed with filter {unsafe[0]}; save it again with gzip or uncompressed")
    if h5py.h5z.FILTER_DEFLATE in filters[:-1] and filters[-2:] != [h5py.h5z.FILTER_DEFLATE, _CHECKSUM]:
        raise DumpError(f"{where} is packed more than once; save it again with gzip or uncompressed")
    n_bytes, stored = math.prod(child.shape) * child.dtype.itemsize, child.id.get_storage_size()
    if stored > file_size:
        raise DumpError(f"{where} claims {stored} bytes of a file of {file_size}")
    if child.chunks:
        chunk_bytes = math.prod(child.chunks) * child.dtype.itemsize
        if chunk_bytes > MAX_CHUNK:
            raise DumpError(f"{where} has chunks of {chunk_bytes} bytes; at most {MAX_CHUNK} are read at once")
        n_chunks = math.prod(-(-n // c) for n, c in zip(child.shape, child.chunks, strict=True))
        if chunks_written(child) < n_chunks and not unfinished:
            raise DumpError(f"{where} has {chunks_written(child)} of the {n_chunks} chunks that {child.shape} takes")
    elif n_bytes > stored:
        raise DumpError(f"{where} declares {child.shape}, {n_bytes} bytes, and stores {stored}")


def _filters(source: Dataset) -> list[int]:
    plan = source.id.get_create_plist()
    return [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]


def _refuse_bombs(source: Dataset, start: int, stop: int) -> None:
    """Refuse chunks that unpack to more than they declare.

    HDF5 inflates a chunk to whatever it comes to, so each one is inflated here first, up to its declared size.
    """
    if not source.chunks or not is_compressed(source):
        return
    limit = math.prod(source.chunks) * source.dtype.itemsize
    others = [range(0, n, c) for n, c in zip(source.shape[1:], source.chunks[1:], strict=True)]
    for corner in itertools.product(range(start, stop, source.chunks[0]), *others):
        size = source.id.get_chunk_info_by_coord(corner).size
        if size > 2 * limit + 1024:
            raise ValueError(f"a packed chunk of {size} bytes for {limit}")
        skipped, packed = source.id.read_direct_chunk(corner)
        if skipped or len(zlib.decompressobj().decompress(packed, limit + 1)) > limit:
            raise ValueError(f"a chunk unpacks to more than its {limit} bytes")
