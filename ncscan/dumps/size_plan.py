"""Plan what a dump will hold, and how many bytes it takes, before the first batch.

In: a traced pass, the taps to keep and how. Out: `Layer`s and a `SizePlan`.
The only file that decides how rows are cut into chunks.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ncscan.activations import Layer, Trace, reduction_of, width
from ncscan.dumps import hdf5
from ncscan.dumps.description import STORED_AS
from ncscan.dumps.reader import plain_json
from ncscan.errors import NoRoom, RefusedPlan, TapError, UsageError
from ncscan.layer_graph import Tap

AS_COMPUTED = "as computed"
DTYPES = ("float16", "bfloat16", "float32")
"""The types that `--dtype` can ask for; as computed when it does not."""
MAX_WRITTEN_CHUNK = 2**26
"""The bytes of a chunk as written. A batch of a wide layer is cut into several chunks: a reader holds one at a time."""
_PER_DATASET = 4096
"""The bytes of HDF5's own for each dataset, about."""
_PER_CHUNK = 64
"""The bytes of HDF5's index for each chunk, about, and the checksum."""


@dataclass(frozen=True)
class SizePlan:
    """The bytes that a dump will take on the disk, without any gain from compression."""

    layers: tuple[tuple[Layer, int], ...]
    rest: int
    """Labels, logits, weights, descriptions."""

    @property
    def total(self) -> int:
        return self.rest + sum(n_bytes for _, n_bytes in self.layers)

    def check(
        self, path: Path, *, dumps: int = 1, free: Callable[[Path], int] = lambda p: shutil.disk_usage(p).free
    ) -> None:
        """Refuse what does not fit.

        Args:
            path: where the next dump will stand; no folder of it need exist yet.
            dumps: how many of this size are to come.
            free: returns the free bytes of an existing folder.

        Raises:
            NoRoom: when the disk has less than is needed.
        """
        existing = next(folder for folder in path.absolute().parents if folder.exists())
        partial, needed = partial_path(path), dumps * self.total
        # An interrupted dump is gone on with, or overwritten: its room counts as free.
        reusable = partial.stat().st_blocks * 512 if partial.exists() else 0
        if (there := free(existing) + reusable) < needed:
            what = "the dump needs" if dumps == 1 else f"the {dumps} dumps need"
            raise NoRoom(
                f"{what} {_readable(needed)}, and {path.parent} has {_readable(there)} free: take fewer layers "
                "(--layers), --reduction mean or --dtype float16"
            )


def layers_of(traced: Trace, taps: Sequence[Tap], reduction: str, dtype: str | None = None) -> tuple[Layer, ...]:
    """Return the taps as a dump will keep them.

    Raises:
        UsageError: for a storage type that does not exist.
        TapError: for a layer that a dump cannot hold: without features, or of a type of its own.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype} does not exist: choose one of {', '.join(DTYPES)}")
    layers = []
    for index, tap in enumerate(taps):
        _refuse_empty(f"layer {tap.name!a}", tap.shape)
        # Integers (tokens, masks) are not rounded to floats: nothing would be saved, and ids would be lost.
        stored = dtype if dtype is not None and "float" in tap.dtype else tap.dtype
        if stored not in STORED_AS:
            raise TapError(f"layer {tap.name!a} is {tap.dtype}, which a dump cannot hold: leave it out with --layers")
        how = traced.how(tap, reduction)
        layers.append(Layer(index, tap, reduction_of(tap, how), stored, width(tap, how)))
    return tuple(layers)


def plan(
    traced: Trace,
    taps: Sequence[Tap],
    n_samples: int,
    *,
    reduction: str = "mean",
    dtype: str | None = None,
    batch_size: int = 256,
) -> SizePlan:
    """Return the bytes that a dump takes, layer by layer.

    Raises:
        UsageError: for a reduction or a storage type that does not exist.
        RefusedPlan: when one row of a layer is too large to be read as one piece.
        TapError: for a layer that a dump cannot hold, and for a linear map without inputs or outputs.
    """
    # Whichever layers are kept, the weight of each linear map is, and so are the logits.
    for linear_map in traced.graph.maps:
        _refuse_empty(f"the weight of {linear_map.name!a}", linear_map.shape)
    _refuse_empty("the output", traced.graph.output.shape)
    batch = min(batch_size, n_samples)
    layers = layers_of(traced, taps, reduction, dtype)
    sizes = [(layer, _table_bytes(n_samples, layer.n_features, layer.dtype, batch, layer.tap.name)) for layer in layers]
    output = traced.graph.output
    logits = _table_bytes(n_samples, traced.graph.n_outputs, output.dtype, batch, output.name)
    weights = sum(t.numel() * t.element_size() for pair in traced.weights.values() for t in pair if t is not None)
    description = len(plain_json(asdict(traced.graph))) + _PER_DATASET * (6 + 2 * len(traced.weights) + 2 * len(layers))
    return SizePlan(tuple(sizes), logits + weights + description + 16 * n_samples)


def _refuse_empty(what: str, shape: Sequence[int]) -> None:
    if not math.prod(shape):
        shown = "×".join(map(str, shape))
        raise TapError(f"{what} is of size {shown}, which holds no numbers: nothing can be measured there")


def chunk_rows(batch: int, features: int, dtype: str) -> int:
    """Return the number of rows of a chunk: the batch, or the largest part that divides it and is not too large."""
    most = max(1, MAX_WRITTEN_CHUNK // max(1, features * np.dtype(STORED_AS[dtype]).itemsize))
    return max(rows for rows in range(1, min(batch, most) + 1) if batch % rows == 0)


def partial_path(path: Path) -> Path:
    """Return where a dump stands until it is whole."""
    return path.with_name(path.name + ".partial")


def _table_bytes(n: int, features: int, dtype: str, batch: int, name: str) -> int:
    """Return the bytes of a table; chunks are whole, the last one too."""
    row_bytes = features * np.dtype(STORED_AS[dtype]).itemsize
    if row_bytes > hdf5.MAX_CHUNK:
        raise RefusedPlan(f"layer {name!a}: one row is {_readable(row_bytes)}: leave it out, or take --reduction mean")
    rows = chunk_rows(batch, features, dtype)
    return -(-n // rows) * (rows * row_bytes + _PER_CHUNK)


def _readable(n_bytes: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1000:.1f} kB"
