"""The second pass over a layer: everything about samples minus their class mean.

In: chunks of activations, in the order of the first pass, and the class means that it found. Out: `Scatter`.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

from ncscan.errors import Undefined
from ncscan.statistics import (
    MOST_PAIRED,
    ClassSums,
    Frame,
    Members,
    Scatter,
    Sketch,
    decompose,
    lengths,
    nearest_simplex,
)
from ncscan.statistics.accumulation.gram import Gram, is_wide, too_wide
from ncscan.statistics.accumulation.optional_sums import PermutedSum, SampleRows, SketchSum
from ncscan.statistics.accumulation.options import DEFAULT, AccumulationOptions
from ncscan.statistics.accumulation.row_blocks import (
    Chunk,
    block_rows,
    blocks,
)

_EXACT_GRAM = 2**33
"""Up to so many products N·d² the Gram matrix is summed in float64 throughout: a fraction of a second."""

_VANISHING = 1e-140
"""Squares of numbers below this, and of what they consist of, are no normal numbers of float64."""


class SecondPass:
    """Everything about samples minus their class mean, chunk by chunk, with the class means of the first pass."""

    def __init__(
        self,
        known: Members,
        sums: ClassSums,
        of: Frame,
        device: torch.device,
        options: AccumulationOptions = DEFAULT,
    ) -> None:
        K, d = of.means.shape
        r = len(of.basis)
        N = len(known.of)
        wide = is_wide(d)
        self.too_wide = too_wide(N, d) if options.spectrum else ""
        few = wide and not too_wide(N, d)
        self._products = options.products or (torch.float64 if device.type == "cpu" else torch.float32)
        gram = options.gram
        if gram is None:
            gram = torch.float64 if device.type == "cpu" and N * d * d <= _EXACT_GRAM else torch.float32

        def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._labels = torch.tensor(known.of, device=device)
        classifier, decisions = options.classifier, options.decisions
        if classifier is not None and len(classifier) <= known.classes.max():
            classifier = None
        self._decisions = None if decisions is None else torch.tensor(known.places(decisions), device=device)
        own = None if classifier is None else _unit_rows(classifier[known.classes])  # the row that is each class's
        self._classifier = None if own is None else torch.tensor(own, device=device)
        self._means = torch.tensor(of.means, device=device)
        self._axes = torch.tensor(of.basis.T, dtype=self._products, device=device)
        self._coordinates = torch.tensor(of.coordinates, device=device)
        self._residuals = zeros(K, d)
        self._within = zeros(K)
        self._projected = zeros(r, r)
        self._right = zeros(K, dtype=torch.int64)
        self._nearest = zeros(K * K, dtype=torch.int64) if K <= MOST_PAIRED else None
        self._disagreements = zeros(K, dtype=torch.int64)
        self._cosines = zeros(K)
        self._simplex = None
        if classifier is not None:
            self._simplex = _simplex_axes(classifier, options.classifier_precision, self._products, device)
        self._swap_errors = zeros(K, dtype=torch.int64)
        self._outputs = torch.tensor(known.classes, device=device)
        self._zero_samples = zeros(dtype=torch.int64)
        self._gram = Gram(d, block_rows(d), gram, device) if options.spectrum and not wide else None
        self._negative_gram = Gram(d, block_rows(d), gram, device) if options.negative_part and not wide else None
        self._negative_square = zeros() if options.negative_part else None
        self._kept: list[np.ndarray] | None = [] if few and (options.spectrum or options.negative_part) else None
        self._sketch = _second_sketch(sums.sketch, device)
        self._negative_sketch = _second_sketch(sums.negative_sketch, device)
        self._samples = SampleRows() if options.samples else None
        self._permuted = None
        if options.permutations:
            self._permuted = PermutedSum(known.of, K, d, options.permutations, options.seed, device)
        self._batches = 0
        self._x, self._mu = (torch.empty(block_rows(d), d, dtype=torch.float64, device=device) for _ in range(2))

    def add(self, start: int, chunk: Chunk) -> None:
        """Add rows start … start + n."""
        for at, block in blocks(start, chunk, len(self._labels), self._means.shape[1]):
            self._add(at, block)

    def _add(self, at: int, block: Float[torch.Tensor, "n d"]) -> None:
        n, K = len(block), len(self._within)
        y = self._labels[at : at + n]
        x, mu = self._x[:n].copy_(block), self._mu[:n]
        cosines = None if self._classifier is None else self._add_cosines(x, y, self._classifier)
        # What needs the activations themselves comes first: x is centred in place below.
        if self._sketch is not None:
            self._sketch.add(x)
        if self._simplex is not None:
            decided = _product(x.to(self._products), self._simplex).argmax(dim=1)
            self._swap_errors.index_add_(0, y, (decided != self._outputs[y]).long())
        if self._negative_square is not None:
            negative = torch.clamp(x, max=0, out=mu)
            norms = torch.linalg.vector_norm(negative, dim=1)
            self._negative_square += norms.square().sum()
            if self._negative_gram is not None:
                self._negative_gram.add(negative, norms)
            if self._negative_sketch is not None:
                self._negative_sketch.add(negative)
        # From here on x is the residuals, samples minus their class mean.
        torch.index_select(self._means, 0, y, out=mu)
        x.sub_(mu)
        self._residuals.index_add_(0, y, x)
        norms = torch.linalg.vector_norm(x, dim=1)
        self._within.index_add_(0, y, norms.square())
        if self._gram is not None:
            self._gram.add(x, norms)
        if self._kept is not None:
            self._kept.append((block if block.dtype == torch.float64 else block.float()).cpu().numpy().copy())
        # In the span of the class means: what Σ_W⁺ of the means needs, and which mean is nearest.
        projected = _product(x.to(self._products), self._axes)
        self._projected += projected.T @ projected
        nearest = self._nearest_means(projected.double(), y)
        self._right.index_add_(0, y, (nearest == y).long())
        if self._nearest is not None:
            self._nearest.index_add_(0, y * K + nearest, torch.ones_like(y))
        disagrees = None if self._decisions is None else self._decisions[at : at + n] != nearest
        if disagrees is not None:
            self._disagreements.index_add_(0, y, disagrees.long())
        if self._samples is not None:
            self._samples.add(y, norms.square(), projected.double(), nearest, disagrees, cosines)
        if self._permuted is not None:
            self._permuted.add(at, x)
        self._batches += 1

    def _add_cosines(
        self, h: Float64[torch.Tensor, "n d"], y: Int64[torch.Tensor, "n"], unit: Float64[torch.Tensor, "K d"]
    ) -> Float64[torch.Tensor, "n"]:
        norms = torch.linalg.vector_norm(h, dim=1)
        small = torch.nonzero(norms < _VANISHING).flatten()
        if len(small):  # their squares vanish; a power of two is exact
            h = h.index_copy(0, small, h[small] * 2.0**700)
            norms = norms.index_copy(0, small, torch.linalg.vector_norm(h[small], dim=1))
        zero = norms == 0
        along: Float64[torch.Tensor, n] = ((h * unit[y]).sum(dim=1) / norms).masked_fill(zero, 0.0)
        self._cosines.index_add_(0, y, along)
        self._zero_samples += zero.sum()
        return along

    def _nearest_means(
        self, projected: Float64[torch.Tensor, "n r"], y: Int64[torch.Tensor, "n"]
    ) -> Int64[torch.Tensor, "n"]:
        """Return argmin_c ‖h − μ_c‖², from the projections alone: what lies outside the span is alike for every class.

        Distances that differ by no more than rounding are ties, and the lowest class wins a tie: so equal class means
        and samples halfway are decided alike in every order, chunking and rotation.
        """
        a = self._coordinates
        position = a[y] + projected
        squares = a.square().sum(dim=1)
        scores = _product(position, a.T).mul_(-2.0).add_(squares)
        scale = position.square().sum(dim=1) + squares.max()
        eps = 16 * torch.finfo(self._products).eps
        near = scores <= (scores.min(dim=1).values + eps * scale)[:, None]
        open_rows = torch.nonzero(near.sum(dim=1) > 1).flatten()
        if len(open_rows) and a.shape[1]:
            # With one class far away the products keep no digit of the others: differences do.
            some = position[open_rows]
            d = torch.cdist(some, a, compute_mode="donot_use_mm_for_euclid_dist").masked_fill_(
                ~near[open_rows], math.inf
            )
            least = d.min(dim=1).values
            sizes = torch.linalg.vector_norm(some, dim=1)
            near[open_rows] = d.square() <= (least.square() + eps * least * (least + sizes))[:, None]
        return near.to(torch.uint8).argmax(dim=1)

    def scatter(self) -> Scatter:
        """Return what was added so far."""
        K = len(self._within)
        gram, negative = self._gram, self._negative_gram
        return Scatter(
            residuals=self._residuals.cpu().numpy(),
            within=self._within.cpu().numpy(),
            projected=self._projected.cpu().numpy(),
            right=self._right.cpu().numpy(),
            nearest=None if self._nearest is None else self._nearest.view(K, K).cpu().numpy(),
            disagreements=None if self._decisions is None else self._disagreements.cpu().numpy(),
            cosines=None if self._classifier is None else self._cosines.cpu().numpy(),
            zero_samples=int(self._zero_samples),
            swap_errors=None if self._simplex is None else self._swap_errors.cpu().numpy(),
            gram=None if gram is None else gram.total.cpu().numpy(),
            rows=np.concatenate(self._kept) if self._kept else None,
            gram_error=None if gram is None or gram.error is None else gram.error.cpu().numpy(),
            negative_gram=None if negative is None else negative.total.cpu().numpy(),
            negative_square=None if self._negative_square is None else float(self._negative_square),
            batches=self._batches,
            sketch=None if self._sketch is None else self._sketch.sketch(),
            negative_sketch=None if self._negative_sketch is None else self._negative_sketch.sketch(),
            samples=None if self._samples is None else self._samples.samples(),
            permuted=None if self._permuted is None else self._permuted.permuted(),
        )


def _second_sketch(first: Sketch | None, device: torch.device) -> SketchSum | None:
    """Return the sketch of the directions that the first pass found: one step of a power iteration."""
    return None if first is None else SketchSum(decompose(first).vectors, device)


def _product(a: Float[torch.Tensor, "n m"], b: Float[torch.Tensor, "m p"]) -> Float[torch.Tensor, "n p"]:
    """Return a b; on a CPU numpy's BLAS does it in two thirds of the time of torch's."""
    return torch.from_numpy(a.numpy() @ b.numpy()) if a.device.type == "cpu" else a @ b


def _unit_rows(rows: Float64[np.ndarray, "K d"]) -> Float64[np.ndarray, "K d"]:
    norms = lengths(rows)[:, None]
    unit: Float64[np.ndarray, "K d"] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit


def _simplex_axes(
    W: Float64[np.ndarray, "K d"], precision: str, dtype: torch.dtype, device: torch.device
) -> torch.Tensor | None:
    """Return the simplex ETF nearest to W, as columns; None where there is none, and the metric gives the reason."""
    try:
        return torch.tensor(nearest_simplex(W, precision).T, dtype=dtype, device=device)
    except Undefined:
        return None
