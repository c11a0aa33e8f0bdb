"""Two passes over the activations of a layer: class sums first, then everything about samples minus their class mean.

In: chunks of activations, numpy or torch, on whatever device they are, twice in the same order. Out: LayerStats.
Only here are activations multiplied. Sums are float64; no copy of the activations is larger than a block of rows that
stays in the cache; no matrix is d×d but the Gram matrices of a spectrum.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Int64

from ncscan.errors import DataError
from ncscan.statistics import (
    LayerStats,
    Members,
    frame,
    layer_stats_from,
    members,
    unit_exponent,
)
from ncscan.statistics.accumulation.careful import careful
from ncscan.statistics.accumulation.first_pass import FirstPass
from ncscan.statistics.accumulation.options import DEFAULT, AccumulationOptions
from ncscan.statistics.accumulation.row_blocks import (
    Chunk,
    device_of,
    extent,
    in_units,
    type_name,
)
from ncscan.statistics.accumulation.second_pass import SecondPass

_FARTHEST = 1e100
"""Where samples differ in size by more, squares of what differs between the smallest leave float64 in any unit."""

Chunks = Callable[[], Iterable[tuple[int, Chunk]]]
"""Opens a pass over the activations: (first row, rows)."""


def layer_stats(
    chunks: Chunks,
    labels: Int64[np.ndarray, "N"],
    n_classes: int,
    options: AccumulationOptions = DEFAULT,
) -> LayerStats:
    """Return everything that the metrics of one layer need, in two passes: O(N·d·K), and O(N·d²) more for a spectrum.

    K is the number of classes that have samples, whatever their labels and however many the network knows.

    Args:
        chunks: called twice; yields (start row, activations (n, d)), the same both times.
        labels: class of every sample, 0 … n_classes−1.
        n_classes: how many labels there may be.
        options: what else to accumulate.

    Raises: DataError when labels do not fit, rows are missing, fewer than two classes have samples, or the second
        pass sees other activations than the first.
    """
    with careful():
        return _stats_of(chunks, members(labels, n_classes), options)


def _stats_of(chunks: Chunks, known: Members, options: AccumulationOptions) -> LayerStats:
    first = _first_pass(chunks, known, options)
    precision, exponent, sums = options.precision or first.dtype, 0, first.sums()
    mean = sums.norms.mean  # 0 also where squares vanish
    extreme = sums.overflowing > 0 or mean == 0 or unit_exponent(mean) != 0
    if first.dtype == "float64" and extreme and not sums.nonfinite:
        # Squares of such numbers leave float64. Powers of two cost no digit, and so two more passes save them all.
        smallest, largest = extent(chunks())
        if smallest > largest / _FARTHEST:
            exponent = unit_exponent(largest)
        elif largest:
            sizes = f"the largest activation of a sample goes from {smallest:.1e} to {largest:.1e}"
            sums = replace(sums, extent=f"{sizes}: no unit keeps squares of both in float64")
    if exponent:
        chunks = partial(in_units, chunks, exponent)
        first = _first_pass(chunks, known, options)
        sums = first.sums()
    of = frame(sums)
    second = SecondPass(known, sums, of, first.device, options)
    if not sums.obstacle:
        for start, chunk in chunks():
            second.add(start, chunk)
    return layer_stats_from(
        sums,
        second.scatter(),
        of,
        classes=known.classes,
        precision=precision,
        too_wide=second.too_wide,
        exponent=exponent,
    )


def _first_pass(chunks: Chunks, known: Members, options: AccumulationOptions) -> FirstPass:
    first: FirstPass | None = None
    for start, chunk in chunks():
        if first is None:
            K, d = len(known.classes), chunk.shape[-1]
            first = FirstPass(known.of, K, d, device_of(chunk), options, dtype=type_name(chunk))
        first.add(start, chunk)
    if first is None or first.rows != len(known.of):
        rows = 0 if first is None else first.rows
        raise DataError(f"there are {len(known.of)} labels for {rows} rows of activations; they must match one to one")
    return first
