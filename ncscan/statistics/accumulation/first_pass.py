"""The first pass over a layer: class counts and class sums, and what is the matter with samples.

In: chunks of activations. Out: `ClassSums`.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from ncscan.statistics import (
    HOLDS_SQUARES,
    ClassSums,
    NormSums,
    first_columns,
)
from ncscan.statistics.accumulation.gram import too_wide
from ncscan.statistics.accumulation.optional_sums import SketchSum
from ncscan.statistics.accumulation.options import DEFAULT, AccumulationOptions
from ncscan.statistics.accumulation.row_blocks import (
    Chunk,
    block_rows,
    blocks,
)

_MOST_SKETCHED = 64
"""A sketch is made for so many directions at most: of 1,000 classes it would be as wide as a Gram matrix."""

_NONE = 2**62
"""Stands where no sample is meant; greater than any index."""


class FirstPass:
    """Class counts and class sums of one layer, chunk by chunk."""

    def __init__(
        self,
        labels: Int64[np.ndarray, "N"],
        n_classes: int,
        n_features: int,
        device: torch.device,
        options: AccumulationOptions = DEFAULT,
        *,
        dtype: str = "",
    ) -> None:
        self.device = device
        self.dtype = dtype
        """Storage format of the chunks."""
        self.rows = 0
        self._labels = torch.tensor(labels, device=device)
        self._counts = torch.zeros(n_classes, dtype=torch.int64, device=device)
        self._sums = torch.zeros(n_classes, n_features, dtype=torch.float64, device=device)
        self._bad, self._first_bad = [0, 0], [_NONE, _NONE]
        """Samples with NaN or infinities, and others whose squares overflow: how many, and the first."""
        self._norms = NormSums(0, 0.0, 0.0)
        self._zeros = 0
        self._buffer = torch.empty(block_rows(n_features), n_features, dtype=torch.float64, device=device)
        self._batches = 0
        sketched = too_wide(len(labels), n_features)
        columns = first_columns(n_features, min(n_classes, _MOST_SKETCHED)) if sketched else None
        self._sketch = SketchSum(columns, device) if options.spectrum and columns is not None else None
        self._negative_sketch = SketchSum(columns, device) if options.negative_part and columns is not None else None

    def add(self, start: int, chunk: Chunk) -> None:
        """Add rows start … start + n."""
        for at, block in blocks(start, chunk, len(self._labels), self._sums.shape[1]):
            self._add(at, block)

    def _add(self, at: int, block: Float[torch.Tensor, "n d"]) -> None:
        y = self._labels[at : at + len(block)]
        rows = self._buffer[: len(block)].copy_(block)
        self._sums.index_add_(0, y, rows)
        self._counts.index_add_(0, y, torch.ones_like(y))
        # One norm a row finds NaN and infinities; a test per number would cost as much as the sums.
        norms = torch.linalg.vector_norm(rows, dim=1)
        bad = ~(norms < HOLDS_SQUARES)
        if bad.any():
            self._add_bad(at, bad, torch.isfinite(rows).all(dim=1))
        self._norms += _norm_sums(norms.masked_fill(bad, 0.0))
        self._zeros += _count_zeros(rows)
        if self._sketch is not None:
            self._sketch.add(rows)
        if self._negative_sketch is not None:
            self._negative_sketch.add(rows.clamp_(max=0))
        self.rows += len(block)
        self._batches += 1

    def _add_bad(self, at: int, bad: Bool[torch.Tensor, "n"], finite: Bool[torch.Tensor, "n"]) -> None:
        for of, here in enumerate((bad & ~finite, bad & finite)):
            where = torch.nonzero(here).flatten()
            self._bad[of] += len(where)
            if len(where):
                self._first_bad[of] = min(self._first_bad[of], at + int(where[0]))

    def sums(self) -> ClassSums:
        """Return what was added so far."""
        return ClassSums(
            counts=self._counts.cpu().numpy(),
            sums=self._sums.cpu().numpy(),
            nonfinite=self._bad[0],
            first_nonfinite=self._first_bad[0],
            overflowing=self._bad[1],
            first_overflowing=self._first_bad[1],
            norms=self._norms,
            zeros=self._zeros,
            batches=self._batches,
            sketch=None if self._sketch is None else self._sketch.sketch(),
            negative_sketch=None if self._negative_sketch is None else self._negative_sketch.sketch(),
        )


def _norm_sums(norms: Float64[torch.Tensor, "n"]) -> NormSums:
    least, most = map(float, torch.aminmax(norms))
    if least == most:  # no rounding of their mean stands for a spread
        return NormSums(len(norms), least, 0.0)
    mean = float(norms.mean())
    return NormSums(len(norms), mean, float((norms - mean).square().sum()))


def _count_zeros(rows: Float64[torch.Tensor, "n d"]) -> int:
    """Return how many numbers are zero; on a CPU, numpy compares and counts in a tenth of the time that torch takes."""
    return int(np.count_nonzero(rows.numpy() == 0)) if rows.device.type == "cpu" else int((rows == 0).sum())
