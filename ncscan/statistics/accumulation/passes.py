"""Two passes over the activations of a layer: class sums first, then everything about samples minus their class mean.

In: chunks of activations, numpy or torch, on whatever device they are, twice in the same order. Out: LayerStats.
Only here are activations multiplied. Sums are float64; no copy of the activations is larger than a block of rows that
stays in the cache; no matrix is d×d but the Gram matrices of a spectrum.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, Int64

from ncscan.errors import DataError
from ncscan.statistics import (
    LayerStats,
    Members,
    frame,
    layer_stats_from,
    members,
    unit_exponent,
)
from ncscan.statistics.accumulation.first_pass import FirstPass
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

_SMALLEST, _LARGEST = 1e-50, 1e50
"""Between these, float64 holds fourth powers of activations, and squares of what rounding leaves of them."""

Chunks = Callable[[], Iterable[tuple[int, Chunk]]]
"""Opens a pass over the activations: (first row, rows)."""


def layer_stats(
    chunks: Chunks,
    labels: Int64[np.ndarray, "N"],
    n_classes: int,
    *,
    decisions: Int64[np.ndarray, "N"] | None = None,
    classifier: Float64[np.ndarray, "outputs d"] | None = None,
    classifier_precision: str = "float64",
    spectrum: bool = True,
    negative_part: bool = False,
    precision: str | None = None,
    products: torch.dtype | None = None,
    gram: torch.dtype | None = None,
    samples: bool = False,
    permutations: int = 0,
    seed: int = 0,
) -> LayerStats:
    """Return everything that the metrics of one layer need, in two passes: O(N·d·K), and O(N·d²) more for a spectrum.

    K is the number of classes that have samples, whatever their labels and however many the network knows.

    Args:
        chunks: called twice; yields (start row, activations (n, d)), the same both times.
        labels: class of every sample, 0 … n_classes−1.
        n_classes: how many labels there may be.
        decisions: what the network decides for every sample, for `nc4_mismatch`.
        classifier: rows w_c of the linear map from this layer to the logits, for `nc3_cosine` and `etf_swap_error`.
        classifier_precision: the format that those rows were stored in.
        spectrum: accumulate ZᵀZ, where min(N, d) ≤ 4096, else a sketch of it.
        negative_part: accumulate min(Z, 0), of a pre-activation.
        precision: storage format of the activations, where it is not the type of the chunks (a bfloat16 dump is read
            as float32).
        products: type in which centred activations are projected; float64 on a CPU, float32 elsewhere.
        gram: type in which they are multiplied for the spectrum; float64 where that takes no time, else float32.
        samples: keep K + 3 numbers of every sample, for a bootstrap.
        permutations: also make class sums under so many permutations of the labels.
        seed: of the permutations.

    Raises: DataError when labels do not fit, rows are missing, fewer than two classes have samples, or the second
        pass sees other activations than the first.
    """
    known = members(labels, n_classes)
    first = _first_pass(chunks, known, spectrum=spectrum, negative_part=negative_part)
    precision, exponent, sums = precision or first.dtype, 0, first.sums()
    extreme = sums.overflowing > 0 or not _SMALLEST < sums.norms.mean < _LARGEST
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
        first = _first_pass(chunks, known, spectrum=spectrum, negative_part=negative_part)
        sums = first.sums()
    of = frame(sums)
    second = SecondPass(
        known.of,
        of,
        first.device,
        decisions=None if decisions is None else known.places(decisions),
        classifier=classifier,
        classifier_precision=classifier_precision,
        classes=known.classes,
        spectrum=spectrum,
        negative_part=negative_part,
        products=products,
        gram=gram,
        first=sums,
        samples=samples,
        permutations=permutations,
        seed=seed,
    )
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


def _first_pass(chunks: Chunks, known: Members, *, spectrum: bool, negative_part: bool) -> FirstPass:
    first: FirstPass | None = None
    for start, chunk in chunks():
        if first is None:
            first = FirstPass(
                known.of,
                len(known.classes),
                chunk.shape[-1],
                device_of(chunk),
                spectrum=spectrum,
                negative_part=negative_part,
                dtype=type_name(chunk),
            )
        first.add(start, chunk)
    if first is None or first.rows != len(known.of):
        rows = 0 if first is None else first.rows
        raise DataError(f"there are {len(known.of)} labels for {rows} rows of activations; they must match one to one")
    return first
