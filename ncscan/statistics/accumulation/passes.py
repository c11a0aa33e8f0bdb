"""Two passes over the activations of a layer: class sums first, then everything about samples minus their class mean.

In: chunks of activations, numpy or torch, on whatever device they are, twice in the same order. Out: LayerStats.
Only here are activations multiplied. Sums are float64; no copy of the activations is larger than a block of rows that
stays in the cache; no matrix is d×d but the Gram matrices of a spectrum.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from ncscan.errors import DataError, Undefined
from ncscan.statistics import (
    MOST_PAIRED,
    ClassSums,
    Frame,
    LayerStats,
    Members,
    NormSums,
    Scatter,
    Sketch,
    decompose,
    first_columns,
    frame,
    layer_stats_from,
    lengths,
    members,
    nearest_simplex,
    unit_exponent,
)
from ncscan.statistics.accumulation.gram import Gram
from ncscan.statistics.accumulation.optional_sums import PermutedSum, SampleRows, SketchSum
from ncscan.statistics.accumulation.row_blocks import (
    Chunk,
    block_rows,
    blocks,
    careful,
    device_of,
    extent,
    in_units,
    type_name,
)

WIDEST_GRAM = 4096
"""Above this min(N, d) a spectrum is not exact any more: its Gram matrix costs min(N, d)² numbers."""

_EXACT_GRAM = 2**33
"""Up to so many products N·d² the Gram matrix is summed in float64 throughout: a fraction of a second."""

_MOST_KEPT = 2**29
"""Up to so many numbers N·d the activations of few samples with many features are kept for ZZᵀ: 2 GiB of float32."""

_MOST_SKETCHED = 64
"""A sketch is made for so many directions at most: of 1,000 classes it would be as wide as a Gram matrix."""

_VANISHING = 1e-140
"""Squares of numbers below this, and of what they consist of, are no normal numbers of float64."""

_HUGE = 1e150
"""Activations beyond this are as good as infinite in the unit they are in: their squares overflow."""

_FARTHEST = 1e100
"""Where samples differ in size by more, squares of what differs between the smallest leave float64 in any unit."""

_SMALLEST, _LARGEST = 1e-50, 1e50
"""Between these, float64 holds fourth powers of activations, and squares of what rounding leaves of them."""

Chunks = Callable[[], Iterable[tuple[int, Chunk]]]
"""Opens a pass over the activations: (first row, rows)."""

_NONE = 2**62
"""Stands where no sample is meant; greater than any index."""


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


def _first_pass(chunks: Chunks, known: Members, *, spectrum: bool, negative_part: bool) -> "FirstPass":
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


class FirstPass:
    """Class counts and class sums of one layer, chunk by chunk."""

    def __init__(
        self,
        labels: Int64[np.ndarray, "N"],
        n_classes: int,
        n_features: int,
        device: torch.device,
        *,
        spectrum: bool = False,
        negative_part: bool = False,
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
        sketched = _too_wide(len(labels), n_features)
        columns = first_columns(n_features, min(n_classes, _MOST_SKETCHED)) if sketched else None
        self._sketch = SketchSum(columns, device) if spectrum and columns is not None else None
        self._negative_sketch = SketchSum(columns, device) if negative_part and columns is not None else None

    def add(self, start: int, chunk: Chunk) -> None:
        """Add rows start … start + n."""
        with careful():
            for at, block in blocks(start, chunk, len(self._labels), self._sums.shape[1]):
                self._add(at, block)

    def _add(self, at: int, block: Float[torch.Tensor, "n d"]) -> None:
        y = self._labels[at : at + len(block)]
        rows = self._buffer[: len(block)].copy_(block)
        self._sums.index_add_(0, y, rows)
        self._counts.index_add_(0, y, torch.ones_like(y))
        # One norm a row finds NaN and infinities; a test per number would cost as much as the sums.
        norms = torch.linalg.vector_norm(rows, dim=1)
        bad = ~(norms < _HUGE)
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


class SecondPass:
    """Everything about samples minus their class mean, chunk by chunk, with the class means of the first pass."""

    def __init__(
        self,
        labels: Int64[np.ndarray, "N"],
        of: Frame,
        device: torch.device,
        *,
        decisions: Int64[np.ndarray, "N"] | None = None,
        classifier: Float64[np.ndarray, "outputs d"] | None = None,
        classifier_precision: str = "float64",
        classes: Int64[np.ndarray, "K"] | None = None,
        spectrum: bool = True,
        negative_part: bool = False,
        products: torch.dtype | None = None,
        gram: torch.dtype | None = None,
        first: ClassSums | None = None,
        samples: bool = False,
        permutations: int = 0,
        seed: int = 0,
    ) -> None:
        K, d = of.means.shape
        r = len(of.basis)
        N = len(labels)
        wide = d > WIDEST_GRAM
        self.too_wide = _too_wide(N, d) if spectrum else ""
        few = wide and not _too_wide(N, d)
        self._products = products or (torch.float64 if device.type == "cpu" else torch.float32)
        if gram is None:
            gram = torch.float64 if device.type == "cpu" and N * d * d <= _EXACT_GRAM else torch.float32

        def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._labels = torch.tensor(labels, device=device)
        classes = np.arange(K) if classes is None else classes  # the row of the classifier that is each class's
        classifier = None if classifier is None or len(classifier) <= classes.max() else classifier
        self._decisions = None if decisions is None else torch.tensor(decisions, device=device)
        self._classifier = None if classifier is None else torch.tensor(_unit_rows(classifier[classes]), device=device)
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
            self._simplex = _simplex_axes(classifier, classifier_precision, self._products, device)
        self._swap_errors = zeros(K, dtype=torch.int64)
        self._outputs = torch.tensor(classes, device=device)
        self._zero_samples = zeros(dtype=torch.int64)
        self._gram = Gram(d, block_rows(d), gram, device) if spectrum and not wide else None
        self._negative_gram = Gram(d, block_rows(d), gram, device) if negative_part and not wide else None
        self._negative_square = zeros() if negative_part else None
        self._kept: list[np.ndarray] | None = [] if few and (spectrum or negative_part) else None
        self._sketch = _second_sketch(None if first is None else first.sketch, device)
        self._negative_sketch = _second_sketch(None if first is None else first.negative_sketch, device)
        self._samples = SampleRows() if samples else None
        self._permuted = PermutedSum(labels, K, d, permutations, seed, device) if permutations else None
        self._batches = 0
        self._x, self._mu = (torch.empty(block_rows(d), d, dtype=torch.float64, device=device) for _ in range(2))

    def add(self, start: int, chunk: Chunk) -> None:
        """Add rows start … start + n."""
        with careful():
            for at, block in blocks(start, chunk, len(self._labels), self._means.shape[1]):
                self._add(at, block)

    def _add(self, at: int, block: Float[torch.Tensor, "n d"]) -> None:
        n, K = len(block), len(self._within)
        y = self._labels[at : at + n]
        x, mu = self._x[:n].copy_(block), self._mu[:n]
        cosines = None if self._classifier is None else self._add_cosines(x, y, self._classifier)
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
        torch.index_select(self._means, 0, y, out=mu)
        x.sub_(mu)
        self._residuals.index_add_(0, y, x)
        norms = torch.linalg.vector_norm(x, dim=1)
        self._within.index_add_(0, y, norms.square())
        if self._gram is not None:
            self._gram.add(x, norms)
        if self._kept is not None:
            self._kept.append((block if block.dtype == torch.float64 else block.float()).cpu().numpy().copy())
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
            # Beside one class far away the products keep no digit of the others: differences do.
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


def _norm_sums(norms: Float64[torch.Tensor, "n"]) -> NormSums:
    least, most = map(float, torch.aminmax(norms))
    if least == most:  # no rounding of their mean stands for a spread
        return NormSums(len(norms), least, 0.0)
    mean = float(norms.mean())
    return NormSums(len(norms), mean, float((norms - mean).square().sum()))


def _count_zeros(rows: Float64[torch.Tensor, "n d"]) -> int:
    """Return how many numbers are zero; on a CPU, numpy compares and counts in a tenth of the time that torch takes."""
    return int(np.count_nonzero(rows.numpy() == 0)) if rows.device.type == "cpu" else int((rows == 0).sum())


def _product(a: Float[torch.Tensor, "n m"], b: Float[torch.Tensor, "m p"]) -> Float[torch.Tensor, "n p"]:
    """Return a b; on a CPU numpy's BLAS does it in two thirds of the time of torch's."""
    return torch.from_numpy(a.numpy() @ b.numpy()) if a.device.type == "cpu" else a @ b


def _too_wide(n_samples: int, n_features: int) -> str:
    """Return why a spectrum is not exact here, else empty."""
    if n_features <= WIDEST_GRAM or (n_samples <= WIDEST_GRAM and n_samples * n_features <= _MOST_KEPT):
        return ""
    if min(n_samples, n_features) > WIDEST_GRAM:
        return f"{n_samples} samples of {n_features} features: a spectrum is exact up to min(N, d) = {WIDEST_GRAM}"
    return f"{n_samples} samples of {n_features} features would have to be kept for an exact spectrum"


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
