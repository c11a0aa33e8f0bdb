"""Two passes over the activations of a layer: class sums first, then everything about samples minus their class mean.

In: chunks of activations, numpy or torch, on whatever device they are, twice in the same order. Out: LayerStats.
Only here are activations multiplied. Sums are float64; no matrix is wider than the activations but the optional
Gram matrices, and no copy of the activations is larger than a block of rows that stays in the cache.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float64, Int64

from ncscan.errors import DataError
from ncscan.statistics import WIDEST_GRAM, ClassSums, Frame, LayerStats, Scatter, frame, layer_stats_from

Chunk = np.ndarray | torch.Tensor
"""Rows of activations, (n, d)."""

_BLOCK_NUMBERS = 2**19
"""Numbers in a block of rows: 4 MiB of float64, so that a block and its class means stay in the cache."""

_NONE = 2**62
"""Where no sample is meant; greater than any index."""


def layer_stats(
    chunks: Callable[[], Iterable[tuple[int, Chunk]]],
    labels: Int64[np.ndarray, "N"],
    n_classes: int,
    *,
    decisions: Int64[np.ndarray, "N"] | None = None,
    classifier: Float64[np.ndarray, "K d"] | None = None,
    spectrum: bool = True,
    negative_part: bool = False,
    precision: str | None = None,
    products: torch.dtype | None = None,
) -> LayerStats:
    """Everything that the metrics of one layer need, in two passes: O(N·d·K), and O(N·d²) more for a spectrum.

    Args:
        chunks: called twice; yields (start row, activations (n, d)) in order, the same both times.
        labels: class of every sample, 0 … K−1.
        n_classes: K.
        decisions: what the network decides for every sample, for `nc4_mismatch`.
        classifier: rows w_c of the linear map that reads this layer and writes the logits, for `nc3_cosine`.
        spectrum: accumulate ZᵀZ where d ≤ 4096.
        negative_part: accumulate min(Z, 0), of a pre-activation.
        precision: storage format of the activations where it is not the type of the chunks (a bfloat16 dump is read
            as float32).
        products: type in which centred activations are multiplied; float64 on a CPU, float32 elsewhere.

    Raises: DataError when labels do not fit, samples are missing, or the two passes differ.
    """
    _check_labels(labels, n_classes)
    first = FirstPass(labels, n_classes)
    for start, chunk in chunks():
        first.add(start, chunk)
    sums = first.sums()
    if first.rows != len(labels):
        raise DataError(
            f"there are {len(labels)} labels for {first.rows} rows of activations; they must match one to one"
        )
    of = frame(sums)
    second = SecondPass(
        labels,
        of,
        decisions=decisions,
        classifier=classifier,
        spectrum=spectrum,
        negative_part=negative_part,
        products=products,
    )
    if not sums.nonfinite:
        for start, chunk in chunks():
            second.add(start, chunk)
    return layer_stats_from(
        sums, second.scatter(), of, precision=precision or first.precision, too_wide=second.too_wide
    )


class FirstPass:
    """Class counts and class sums of one layer, chunk by chunk."""

    def __init__(self, labels: Int64[np.ndarray, "N"], n_classes: int) -> None:
        self.rows = 0
        self.precision = "float64"
        self._labels = torch.from_numpy(labels.copy())
        self._counts = torch.zeros(n_classes, dtype=torch.int64)
        self._sums: torch.Tensor | None = None
        self._bad = torch.zeros((), dtype=torch.int64)
        self._first_bad = torch.full((), _NONE)
        self._buffer = torch.empty(0)
        self._batches = 0

    def add(self, start: int, chunk: Chunk) -> None:
        """Add rows start … start + n."""
        for at, block in _blocks(start, chunk, len(self._labels)):
            if self._sums is None:
                self._begin(block)
            assert self._sums is not None
            if block.shape[1] != self._sums.shape[1]:
                raise DataError(f"row {at} has {block.shape[1]} features where earlier rows have {self._sums.shape[1]}")
            y = self._labels[at : at + len(block)]
            rows = self._buffer[: len(block)].copy_(block)
            self._sums.index_add_(0, y, rows)
            self._counts.index_add_(0, y, torch.ones_like(y))
            # One sum a row finds NaN and infinities; tests per number would cost as much as the sums.
            bad = ~torch.isfinite(rows.sum(dim=1))
            self._bad += bad.sum()
            where = torch.arange(at, at + len(block), device=block.device)
            self._first_bad = torch.minimum(self._first_bad, where.where(bad, _NONE).min())
            self.rows += len(block)
            self._batches += 1

    def sums(self) -> ClassSums:
        """What was added so far."""
        if self._sums is None:
            raise DataError("there are no activations: the source gave no rows")
        return ClassSums(
            counts=self._counts.cpu().numpy(),
            sums=self._sums.cpu().numpy(),
            nonfinite=int(self._bad),
            first_nonfinite=int(self._first_bad),
            batches=self._batches,
        )

    def _begin(self, block: torch.Tensor) -> None:
        d, device = block.shape[1], block.device
        self.precision = str(block.dtype).removeprefix("torch.")
        self._labels, self._counts = self._labels.to(device), self._counts.to(device)
        self._bad, self._first_bad = self._bad.to(device), self._first_bad.to(device)
        self._sums = torch.zeros(len(self._counts), d, dtype=torch.float64, device=device)
        self._buffer = torch.empty(_block_rows(d), d, dtype=torch.float64, device=device)


class SecondPass:
    """Everything about samples minus their class mean, chunk by chunk, with the class means of the first pass."""

    def __init__(
        self,
        labels: Int64[np.ndarray, "N"],
        of: Frame,
        *,
        decisions: Int64[np.ndarray, "N"] | None = None,
        classifier: Float64[np.ndarray, "K d"] | None = None,
        spectrum: bool = True,
        negative_part: bool = False,
        products: torch.dtype | None = None,
    ) -> None:
        K, d = of.means.shape
        r = len(of.basis)
        gram = d <= WIDEST_GRAM
        f64 = torch.float64
        self.too_wide = (
            f"too wide: {d} features, and a spectrum is exact up to {WIDEST_GRAM}" if spectrum and not gram else ""
        )
        self._labels = torch.from_numpy(labels.copy())
        self._decisions = None if decisions is None else torch.from_numpy(decisions.copy())
        self._classifier = None if classifier is None else torch.from_numpy(classifier / _norms(classifier))
        self._means, self._basis = torch.from_numpy(of.means), torch.from_numpy(of.basis)
        self._coordinates = torch.from_numpy(of.coordinates)
        self._absent = torch.from_numpy(~of.present)
        self._products = products
        self._epsilon = 0.0
        self._residuals = torch.zeros(K, d, dtype=f64)
        self._within = torch.zeros(K, dtype=f64)
        self._projected = torch.zeros(r, r, dtype=f64)
        self._nearest = torch.zeros(K * K, dtype=torch.int64)
        self._disagreements = torch.zeros(K, dtype=torch.int64)
        self._cosines = torch.zeros(K, dtype=f64)
        self._zero_samples = torch.zeros((), dtype=torch.int64)
        self._gram = torch.zeros(d, d, dtype=f64) if spectrum and gram else None
        self._negative_gram = torch.zeros(d, d, dtype=f64) if negative_part and gram else None
        self._negative_square = torch.zeros((), dtype=f64) if negative_part else None
        self._batches = 0
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, start: int, chunk: Chunk) -> None:
        """Add rows start … start + n."""
        with _exact_products():
            for at, block in _blocks(start, chunk, len(self._labels)):
                if self._buffers is None:
                    self._begin(block)
                self._add(at, block)

    def _begin(self, block: torch.Tensor) -> None:
        device = block.device
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.to(device))
        if self._products is None:
            self._products = torch.float64 if device.type == "cpu" else torch.float32
        self._epsilon = float(torch.finfo(self._products).eps)
        rows, d = _block_rows(block.shape[1]), block.shape[1]
        self._basis = self._basis.to(self._products)
        self._buffers = (
            torch.empty(rows, d, dtype=torch.float64, device=device),
            torch.empty(rows, d, dtype=torch.float64, device=device),
        )

    def _add(self, at: int, block: torch.Tensor) -> None:
        assert self._buffers is not None
        assert self._products is not None
        n, K = len(block), len(self._within)
        y = self._labels[at : at + n]
        x, mu = self._buffers[0][:n], self._buffers[1][:n]
        torch.index_select(self._means, 0, y, out=mu)
        x.copy_(block)
        if self._classifier is not None:
            self._add_cosines(x, y)
        x.sub_(mu)
        self._residuals.index_add_(0, y, x)
        self._within.index_add_(0, y, torch.linalg.vector_norm(x, dim=1).square_())

        multiplied = x.to(self._products)
        projected = multiplied @ self._basis.T
        self._projected += projected.T @ projected
        nearest = self._nearest_means(projected.double(), y)
        ones = torch.ones_like(y)
        self._nearest.index_add_(0, y * K + nearest, ones)
        if self._decisions is not None:
            self._disagreements.index_add_(0, y, (self._decisions[at : at + n] != nearest).long())
        if self._gram is not None:
            _add_gram(self._gram, multiplied)
        if self._negative_square is not None:
            negative = block.clamp(max=0)
            self._negative_square += torch.linalg.vector_norm(negative, dtype=torch.float64) ** 2
            if self._negative_gram is not None:
                _add_gram(self._negative_gram, negative if negative.dtype == torch.float64 else negative.float())
        self._batches += 1

    def _add_cosines(self, h: torch.Tensor, y: torch.Tensor) -> None:
        assert self._classifier is not None
        norms = torch.linalg.vector_norm(h, dim=1)
        dots = (h * self._classifier[y]).sum(dim=1)
        zero = norms == 0
        self._zero_samples += zero.sum()
        self._cosines.index_add_(0, y, (dots / norms).masked_fill(zero, 0.0))

    def _nearest_means(self, projected: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """argmin_c ‖h − μ_c‖², from the projections alone: what lies outside the span is the same for every class.

        Distances that differ by no more than rounding are ties, and the lowest class wins a tie: so equal class means
        and samples halfway are decided alike in every order, chunking and rotation.
        """
        a = self._coordinates
        position = a[y] + projected
        squares = a.square().sum(dim=1)
        scores = torch.addmm(squares, position, a.T, alpha=-2.0)
        scores.masked_fill_(self._absent, math.inf)
        scale = position.square().sum(dim=1) + squares.max()
        limit = scores.min(dim=1).values + 16 * self._epsilon * scale
        return (scores <= limit[:, None]).to(torch.uint8).argmax(dim=1)

    def scatter(self) -> Scatter:
        """What was added so far."""
        K = len(self._within)
        negative = self._negative_square
        return Scatter(
            residuals=self._residuals.cpu().numpy(),
            within=self._within.cpu().numpy(),
            projected=self._projected.cpu().numpy(),
            nearest=self._nearest.view(K, K).cpu().numpy(),
            disagreements=None if self._decisions is None else self._disagreements.cpu().numpy(),
            cosines=None if self._classifier is None else self._cosines.cpu().numpy(),
            zero_samples=int(self._zero_samples),
            gram=None if self._gram is None else self._gram.cpu().numpy(),
            gram_epsilon=self._epsilon,
            negative_gram=None if self._negative_gram is None else self._negative_gram.cpu().numpy(),
            negative_square=None if negative is None else float(negative),
            batches=self._batches,
        )


def _add_gram(out: torch.Tensor, x: torch.Tensor) -> None:
    """Add xᵀx to the upper triangle of `out`, in column blocks: little more than half the products of the whole."""
    d = x.shape[1]
    width = max(128, -(-d // 8))
    if x.dtype == torch.float64:
        for i in range(0, d, width):
            out[i : i + width, i:].addmm_(x[:, i : i + width].T, x[:, i:])
        return
    # Scaled, because the square of a small float32 underflows.
    scale = float(x.abs().amax())
    if scale == 0:
        return
    x = x / scale
    for i in range(0, d, width):
        out[i : i + width, i:].add_(x[:, i : i + width].T @ x[:, i:], alpha=scale**2)


def _blocks(start: int, chunk: Chunk, n_samples: int) -> Iterator[tuple[int, torch.Tensor]]:
    """A chunk as tensors of few enough rows to stay in the cache."""
    if chunk.ndim != 2:
        raise DataError(f"activations have shape {tuple(chunk.shape)}; reduce them to one vector a sample first")
    if start + len(chunk) > n_samples:
        raise DataError(f"activations go on to row {start + len(chunk)}, but there are {n_samples} labels")
    rows = _block_rows(chunk.shape[1])
    for at in range(0, len(chunk), rows):
        block = chunk[at : at + rows]
        if isinstance(block, np.ndarray):
            # torch cannot mark a tensor read-only, so it warns of arrays that are: a memory map, say.
            block = torch.from_numpy(block if block.flags.writeable else block.copy())
        yield start + at, block


def _block_rows(n_features: int) -> int:
    return max(128, min(2048, _BLOCK_NUMBERS // max(n_features, 1)))


def _norms(rows: Float64[np.ndarray, "K d"]) -> Float64[np.ndarray, "K 1"]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(norms == 0, 1.0, norms)


def _check_labels(labels: Int64[np.ndarray, "N"], n_classes: int) -> None:
    if len(labels) == 0:
        raise DataError("there are no samples: nothing to measure")
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        raise DataError(
            f"the label of sample {bad[0]} is {labels[bad[0]]}, but there are {n_classes} classes: labels go from 0 to "
            f"{n_classes - 1}"
        )


@contextmanager
def _exact_products() -> Iterator[None]:
    """Multiply float32 as float32, whatever the program around us chose: TF32 keeps three decimal digits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(before)
