"""Batches → a dump on the disk, whole or not at all.

In: batches of logits and features, and where they come from. Out: a file as reader.py reads it.
The only file that writes dumps.

A dump is written under another name, `.partial`, flushed batch by batch, read back, marked as complete and renamed.
So whatever stands under its own name is whole, and whatever was killed goes on from its last flushed batch.
"""

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int64

from ncscan.activations import Batch, Gradients, Layer, Provenance, Trace
from ncscan.dumps import hdf5, row_tables
from ncscan.dumps.checksums import CHECKSUMS
from ncscan.dumps.description import STORED_AS
from ncscan.dumps.reader import (
    DOUBTS,
    FORMAT,
    FORMAT_VERSION,
    GRADIENTS,
    LOGITS,
    MAX_DOUBT,
    MAX_DOUBTS,
    ROUNDING,
    activations,
    plain_json,
)
from ncscan.dumps.reader import Dump as Dump
from ncscan.dumps.reader import finished as finished
from ncscan.dumps.size_plan import AS_COMPUTED, chunk_rows, layers_of, partial_path
from ncscan.dumps.size_plan import SizePlan as SizePlan
from ncscan.dumps.size_plan import plan as plan
from ncscan.errors import DataError, DumpError
from ncscan.files import sync
from ncscan.layer_graph import Tap, TapGraph

Closable = TypeVar("Closable", hdf5.File, row_tables.Writer)
CHECKSUM = CHECKSUMS[FORMAT_VERSION]
IN_FLIGHT = 2
"""The number of batches that wait for the writer, at least: one that is being written and one that is ready."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class DumpFacts:
    """Describes a dump after its extraction."""

    path: Path
    n_samples: int
    n_bytes: int
    resumed_at: int
    """The number of rows that were there already."""
    begun_anew: str = ""
    """Why the rows of an interrupted dump of the same settings could not stay, else empty."""


def write_dump(
    path: Path,
    provenance: Provenance,
    traced: Trace,
    taps: Sequence[Tap],
    labels: Int64[np.ndarray, "N"],
    batches: Callable[[int], Iterable[Batch]],
    *,
    gradients: Gradients | None = None,
    rounding: Mapping[str, Float64[np.ndarray, "_"]] | None = None,
    doubts: Callable[[], Iterable[str]] = tuple,
    compress: bool = False,
) -> DumpFacts:
    """Write a dump, or go on with one that was interrupted.

    Args:
        path: where it will stand; what stands there is replaced in one step, at the end.
        provenance: kept in the dump, with reduction, storage type, batch size. A partial dump with any other
            is written anew.
        traced: the traced pass, with the weights of its linear maps.
        taps: what to keep, in the order of the features of a batch.
        labels: one class per sample.
        batches: gives the batches from a row on: `lambda start: replay(…, start=start)`.
        rounding: by tap, the mean squared rounding of each feature in the forward pass, where it was measured.
        gradients: what was measured by gradients, if it was; a partial dump of as many samples keeps its own.
        doubts: gives what is doubtful about the replay, in lines; asked when all rows are there.
        compress: gzip: smaller, and more than ten times slower.

    Raises:
        DumpError: when the disk is full, another process writes this dump, or it does not read back as written.
    """
    partial = partial_path(path)
    layers = layers_of(
        traced, taps, provenance.reduction, None if provenance.dtype == AS_COMPUTED else provenance.dtype
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(partial):
        n_gradients = None if gradients is None else gradients.n_samples
        start, begun_anew = _rows_to_keep(partial, provenance, traced.graph, layers, len(labels), n_gradients)
        with _disk_errors(partial):
            file = hdf5.reopen(partial) if start else hdf5.create(partial)
        with _closing(file, partial):
            if not start:
                with _disk_errors(partial):
                    _describe(file, provenance, traced, layers, labels, gradients, rounding or {}, gzip=compress)
            shape = (len(labels), min(provenance.batch_size, len(labels)))
            _append_all(file, partial, layers, batches(start), shape, start)
        _verify(partial, labels)
        with _disk_errors(partial), hdf5.reopen(partial) as file:
            if told := "\n".join(" ".join(doubt.split())[:MAX_DOUBT] for doubt in [*doubts()][:MAX_DOUBTS]):
                hdf5.set_attribute(file, DOUBTS, told)
            hdf5.set_attribute(file, "rows_complete", len(labels))
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    return DumpFacts(path, len(labels), path.stat().st_size, start, begun_anew)


def remove_partial(path: Path) -> None:
    """Remove the partial file that an interrupted extract left for a dump; one that is being written stays."""
    partial = partial_path(path)
    if partial.exists():
        with suppress(DumpError), _locked(partial):
            partial.unlink()


def _describe(
    file: hdf5.File,
    provenance: Provenance,
    traced: Trace,
    layers: Sequence[Layer],
    labels: Int64[np.ndarray, "N"],
    gradients: Gradients | None,
    rounding: Mapping[str, Float64[np.ndarray, "_"]],
    *,
    gzip: bool,
) -> None:
    """Write all of the dump but its rows."""
    graph, n = traced.graph, len(labels)
    output = graph.output
    batch = min(provenance.batch_size, n)
    hdf5.set_attribute(file, "format", FORMAT)
    counts = {"format_version": FORMAT_VERSION, "n_samples": n, "n_layers": len(layers), "batch_rows": batch}
    for name, count in counts.items():
        hdf5.set_attribute(file, name, count)
    for name in ("rows_written", "rows_complete"):  # from now on they are only rewritten, in place
        hdf5.set_attribute(file, name, 0)
    texts = {"provenance": plain_json(asdict(provenance)), "graph": plain_json(asdict(graph))}
    if gradients is not None:
        texts[GRADIENTS] = plain_json(asdict(gradients))
    for name, text in texts.items():
        hdf5.write_array(file, name, np.frombuffer(text.encode(), np.uint8))
    hdf5.write_array(file, "labels", labels)
    hdf5.write_array(file, "sample_ids", np.arange(n))
    maps = hdf5.create_group(file, "maps")
    for index, linear_map in enumerate(graph.maps):
        group = hdf5.create_group(maps, f"{index:04}")
        hdf5.set_attribute(group, "name", linear_map.name[:1000])
        for name, tensor in zip(("weight", "bias"), traced.weights[linear_map.name], strict=True):
            if tensor is not None:
                dtype = str(tensor.dtype).removeprefix("torch.")
                hdf5.set_attribute(hdf5.write_array(group, name, _encoded(tensor, dtype)), "dtype", dtype)
    parent = hdf5.create_group(file, "layers")
    for layer in layers:
        group = hdf5.create_group(parent, f"{layer.index:04}")
        # The name is there to be looked at; the tap's own is in the graph, whatever characters it has.
        hdf5.set_attribute(group, "name", layer.tap.name[:1000])
        hdf5.set_attribute(group, "kind", layer.tap.kind)
        hdf5.set_attribute(group, "tap", graph.taps.index(layer.tap))
        hdf5.set_attribute(group, "reduction", layer.reduction)
        hdf5.set_attribute(group, "dtype", layer.dtype)
        hdf5.set_attribute(group, "n_features", layer.n_features)
        if layer.tap.name in rounding:
            hdf5.write_array(group, ROUNDING, rounding[layer.tap.name])
    kept = [(LOGITS, graph.n_outputs, output.dtype)]
    kept += [(activations(layer.index), layer.n_features, layer.dtype) for layer in layers]
    shapes = [(name, width, STORED_AS[dtype], chunk_rows(batch, width, dtype)) for name, width, dtype in kept]
    row_tables.create(file, shapes, n, batch, CHECKSUM, gzip=gzip)
    hdf5.set_attribute(hdf5.dataset(file, LOGITS), "dtype", output.dtype)
    hdf5.flush(file)


def _append_all(
    file: hdf5.File,
    partial: Path,
    layers: Sequence[Layer],
    batches: Iterable[Batch],
    shape: tuple[int, int],
    start: int,
) -> None:
    """Append all rows: this thread computes batches while one other thread writes them.

    The other thread is the only one that touches the file.
    """
    names = [LOGITS, *(activations(layer.index) for layer in layers)]
    tables = row_tables.find(file, names, *shape, CHECKSUM)
    spoken = ["the logits", *(f"layer {layer.tap.name!a}" for layer in layers)]
    dtypes = [str(hdf5.attribute(tables[0].values, "dtype")), *(layer.dtype for layer in layers)]

    def append(into: row_tables.Writer, batch: Batch, ready: torch.cuda.Event | None) -> None:
        if batch.start == into.received:  # else one before it failed, and its error is on the way
            values = _fetched((batch.logits, *batch.features), dtypes, spoken, ready)
            with _disk_errors(partial):
                into.append(values)

    waiting: deque[tuple[Future[None], int]] = deque()
    with (
        _closing(row_tables.Writer(file, tables, *shape, start), partial) as into,
        ThreadPoolExecutor(1, "ncscan-writer") as writer,
    ):
        try:
            for batch in batches:
                if batch.start != start:
                    raise DataError(f"{partial}: expected the batch from row {start}, got that from row {batch.start}")
                start += len(batch.logits)
                n_bytes = sum(features.nbytes for features in batch.features)
                waiting.append((writer.submit(append, into, batch, _recorded(batch.logits)), n_bytes))
                del batch  # it is the writer's now; one batch less in memory while the next is computed
                while len(waiting) > IN_FLIGHT and sum(n_bytes for _, n_bytes in waiting) > row_tables.GATHERED:
                    waiting.popleft()[0].result()
            while waiting:
                waiting.popleft()[0].result()
        finally:
            if isinstance(batches, Generator):
                batches.close()
    if start != shape[0]:
        raise DataError(f"{partial}: {shape[0]} labels, and the model gave {start} rows")


def _recorded(value: torch.Tensor) -> torch.cuda.Event | None:
    """Return a mark behind all that the device has to compute for a batch."""
    if not value.is_cuda:
        return None
    ready = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    ready.record(torch.cuda.current_stream(value.device))
    return ready


def _fetched(
    values: Sequence[torch.Tensor], dtypes: Sequence[str], names: Sequence[str], ready: torch.cuda.Event | None
) -> list[np.ndarray]:
    """Return values on the host as they are stored.

    From a GPU they come on a stream of their own, in parallel to the next batch.
    """
    if ready is None:
        return [_encoded(*pair) for pair in zip(values, dtypes, names, strict=True)]
    stream = torch.cuda.Stream(values[0].device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.cuda.stream(stream):
        stream.wait_event(ready)
        narrow = [_narrowed(*each) for each in zip(values, dtypes, names, strict=True)]
        host = [torch.empty(v.shape, dtype=v.dtype, pin_memory=True).copy_(v, non_blocking=True) for v in narrow]
        stream.synchronize()
    return [_encoded(*pair) for pair in zip(host, dtypes, names, strict=True)]


def _narrowed(value: torch.Tensor, dtype: str, name: str) -> torch.Tensor:
    wanted: torch.dtype = getattr(torch, dtype)
    if value.dtype == wanted:
        return value.detach()
    narrow = value.detach().to(wanted)
    if dtype == "float16" and bool((narrow.isinf() & value.isfinite()).any()):
        raise DumpError(f"{name} has values beyond float16's 65504: use --dtype bfloat16, or keep them as computed")
    return narrow


def _encoded(value: torch.Tensor, dtype: str, name: str = "") -> np.ndarray:
    """Return a tensor as the file holds it: bfloat16 as its 16 bits."""
    host = _narrowed(value, dtype, name).cpu().contiguous()
    if dtype == "bfloat16":
        return host.view(torch.uint16).numpy()
    return host.view(torch.uint8).numpy() if dtype == "bool" else host.numpy()


def _rows_to_keep(
    partial: Path,
    provenance: Provenance,
    graph: TapGraph,
    layers: Sequence[Layer],
    n_samples: int,
    n_gradients: int | None,
) -> tuple[int, str]:
    """Return how many rows of an interrupted dump can stay, and why none can where only the version is in the way.

    They are of the same settings, and sound as far as they were counted.
    """
    if not partial.stat().st_size:
        return 0, ""
    try:
        with Dump(partial, unfinished=True) as there:
            same = (plain_json(asdict(there.provenance)), there.graph, there.layers, there.n_samples)
            if same != (plain_json(asdict(provenance)), graph, tuple(layers), n_samples):
                return 0, ""
            if n_gradients != (None if there.gradients is None else there.gradients.n_samples):
                return 0, ""
            if there.format_version != FORMAT_VERSION:
                return 0, f"an unfinished dump of format version {there.format_version} was there"
            # A kill leaves all that was counted; a power cut can leave a count of rows that never reached the disk.
            return (there.rows_written if row_tables.are_sound(there.tables, there.rows_written) else 0), ""
    except DumpError:
        return 0, ""


def _verify(partial: Path, labels: Int64[np.ndarray, "N"]) -> None:
    """Open it as any reader would, and read back what the writer did not: what fails is removed."""
    try:
        with Dump(partial, unfinished=True) as dump:
            if not np.array_equal(dump.labels, labels):
                raise DumpError(f"{partial}: the labels read back are not those written")
            if not row_tables.are_sound([table for table in dump.tables if table.is_compressed], len(labels)):
                raise DumpError(f"{partial}: what was read back is not what was written")
    except DumpError as error:
        partial.unlink()
        raise DumpError(f"{error}; the dump was removed: check the disk, and extract again") from error


@contextmanager
def _locked(partial: Path) -> Generator[None]:
    """Hold the partial file for this process as the only one to write it.

    Inside, the file is there; the kernel forgets the dead.
    """
    while True:
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise DumpError(
                f"{partial} is being written by another process: wait for it, or choose another --out"
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), partial.stat()):
                break
        os.close(handle)  # the other one was done in between, and what we hold now has its final name
    try:
        yield
    finally:
        if not os.fstat(handle).st_size:
            partial.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def _disk_errors(partial: Path) -> Generator[None]:
    """Turn a full disk inside into one clear error, and free what was written."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 raises either, and keeps the reason in the text
        full = next((code for code in _DISK_FULL if os.strerror(code) in str(error)), None)
        if full is None:
            raise DumpError(f"{partial}: writing failed: {str(error).splitlines()[0]}") from error
        partial.unlink(missing_ok=True)
        raise DumpError(
            f"{partial}: {os.strerror(full).lower()}; this partial dump was removed, others are untouched: make room, "
            "or take fewer layers (--layers), --reduction mean or --dtype float16"
        ) from error


@contextmanager
def _closing(thing: Closable, partial: Path) -> Generator[Closable]:
    """Close a file or what writes into it; of two errors the first is the one to report."""
    try:
        yield thing
    except BaseException:
        with suppress(OSError, RuntimeError):
            thing.close()
        raise
    with _disk_errors(partial):
        thing.close()
