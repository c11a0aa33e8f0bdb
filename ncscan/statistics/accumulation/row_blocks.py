"""Chunks of activations as blocks that a core's cache holds.

In: chunks as a source yields them, numpy or torch, on any device. Out: tensors of few rows.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from ncscan.errors import DataError

Chunk = np.ndarray | torch.Tensor
"""Rows of activations, (n, d)."""

_BLOCK_NUMBERS = 2**20
"""Numbers in a block of rows: 8 MiB of float64, small enough for the cache, large enough that threads of BLAS pay."""


def blocks(start: int, chunk: Chunk, n_samples: int, n_features: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield a chunk as tensors of few enough rows to stay in the cache."""
    if chunk.ndim != 2:
        raise DataError(f"activations have shape {tuple(chunk.shape)}; reduce them to one vector a sample first")
    if chunk.shape[1] != n_features:
        raise DataError(f"row {start} has {chunk.shape[1]} features where earlier rows have {n_features}")
    if start < 0 or start + len(chunk) > n_samples:
        raise DataError(f"activations go on to row {start + len(chunk)}, but there are {n_samples} labels")
    rows = block_rows(n_features)
    for at in range(0, len(chunk), rows):
        block = chunk[at : at + rows]
        if isinstance(block, np.ndarray):
            # torch cannot mark a tensor read-only, so it warns of arrays that are: a memory map, say.
            block = torch.from_numpy(block if block.flags.writeable else block.copy())
        yield start + at, block


def block_rows(n_features: int) -> int:
    """Return the number of rows of a block."""
    return max(128, min(2048, _BLOCK_NUMBERS // max(n_features, 1)))


def device_of(chunk: Chunk) -> torch.device:
    """Return where a chunk is."""
    return chunk.device if isinstance(chunk, torch.Tensor) else torch.device("cpu")


def type_name(chunk: Chunk) -> str:
    """Return the storage format of a chunk: `float32`."""
    return str(chunk.dtype).removeprefix("torch.")


def extent(chunks: Iterable[tuple[int, Chunk]]) -> tuple[float, float]:
    """Return the smallest and the largest of the non-zero rows, each by its largest absolute value; else 0 and 0."""
    smallest, largest = np.inf, 0.0
    for _, chunk in chunks:
        rows = chunk if isinstance(chunk, torch.Tensor) else torch.from_numpy(np.array(chunk))
        sizes = rows.abs().amax(dim=1)
        sizes = sizes[sizes > 0]
        if len(sizes):
            smallest, largest = min(smallest, float(sizes.min())), max(largest, float(sizes.max()))
    return (smallest, largest) if largest else (0.0, 0.0)


def in_units(chunks: Callable[[], Iterable[tuple[int, Chunk]]], exponent: int) -> Iterator[tuple[int, Chunk]]:
    """Yield the same chunks in the unit 2^exponent; in two steps, because 2^1074 is no float64."""
    half = -exponent // 2
    for start, chunk in chunks():
        yield start, chunk * 2.0**half * 2.0 ** (-exponent - half)
