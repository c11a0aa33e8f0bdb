"""Accumulate first and second moments of the linear head, from which every bound and certificate is computed.

In: the activations that the head reads, in chunks, twice in the same order, and the head's weights. Out: `HeadStats`,
class means and within-class spread of every layer of the head, in float64. The only file of the theory that sees
samples: the head is replayed from its input, because activations stored in float32 break bounds that hold.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.sparse import coo_array

from ncscan.errors import DataError, Undefined
from ncscan.statistics import HOLDS_FOURTH_POWERS, VANISHING, float_format, storage_tolerance

RowChunks = Callable[[], Iterable[tuple[int, np.ndarray]]]
"""Opens a pass over the activations: (first row, rows (n, d)), in the order of the labels."""

WIDEST = 4096
"""Up to this width a layer's Gram matrix is formed."""


@dataclass(frozen=True)
class HeadMap:
    """One linear map of the head, y = W x + b."""

    name: str
    weight: Float64[np.ndarray, "n m"]
    bias: Float64[np.ndarray, "n"]
    """The bias; zero where the linear map has none."""
    has_bias: bool
    tolerance: float
    """What rounding W to the format it is stored in can give a singular value of it."""

    @cached_property
    def norm(self) -> float:
        """Return ‖W‖."""
        return float(np.linalg.norm(self.weight, 2))


@dataclass(frozen=True)
class HeadLayer:
    """One layer of the head: its input, an inner layer, or the outputs.

    Noise and signal are factors, not covariances: a linear map takes a factor F to W F, and whatever is computed from
    factors is the exact property of some data next to ours, so inequalities between such numbers survive rounding.
    """

    name: str
    means: Float64[np.ndarray, "n K"]
    """M, class means as columns."""
    noise: Float64[np.ndarray, "n q"]
    """Σ_W = noise·noiseᵀ = (1/N) Z(I−Π)Zᵀ."""
    signal: Float64[np.ndarray, "n K"]
    """Σ_B = signal·signalᵀ with w_c = n_c/N ("sample" weighting): columns √(n_c/N)(μ_c − μ_G)."""

    @cached_property
    def width(self) -> int:
        """Return n."""
        return len(self.means)

    @cached_property
    def within(self) -> float:
        """Return tr Σ_W."""
        return float(np.sum(self.noise**2))

    @cached_property
    def between(self) -> float:
        """Return tr Σ_B, "sample" weighting."""
        return float(np.sum(self.signal**2))

    @cached_property
    def spread(self) -> Float64[np.ndarray, "q"]:
        """Return the eigenvalues of Σ_W, s_i(Z(I−Π))²/N, in decreasing order."""
        return squared_singular_values(self.noise)

    @cached_property
    def nc1_trace(self) -> float:
        """Return tr Σ_W/tr Σ_B, "sample" weighting; Undefined when the class means coincide."""
        if self.between == 0:
            raise Undefined("the class means coincide")
        return self.within / self.between


@dataclass(frozen=True)
class HeadStats:
    """All that the theory may know of the linear head on one data set."""

    maps: tuple[HeadMap, ...]
    """W_{L1+1} … W_L, first to last."""
    layers: tuple[HeadLayer, ...]
    """Z_{L1} … Z_L: `layers[i + 1]` is what the linear map `maps[i]` makes of `layers[i]`."""
    counts: Int64[np.ndarray, "K"]
    class_within: Float64[np.ndarray, "K"]
    """v_c at Z_{L−1}, the layer that W_L reads: mean of ‖h − μ_c‖² over class c."""
    cosines: Float64[np.ndarray, "K"] | None
    """Mean of cos(h_i, w_c) over class c at Z_{L−1}; None where a sample or a row of W_L is zero."""
    row_sum: float
    """mean_i |Σ_c f_c|."""

    @cached_property
    def n_classes(self) -> int:
        """Return K."""
        return len(self.counts)

    @cached_property
    def n_samples(self) -> int:
        """Return N."""
        return int(self.counts.sum())

    @cached_property
    def depth(self) -> int:
        """Return L2, the number of linear maps."""
        return len(self.maps)

    @cached_property
    def shares(self) -> Float64[np.ndarray, "K"]:
        """Return n_c/N."""
        return np.asarray(self.counts / float(self.n_samples))

    @cached_property
    def classifier(self) -> HeadMap:
        """Return W_L, b_L."""
        return self.maps[-1]

    @cached_property
    def imbalance(self) -> tuple[float, ...]:
        """Return ‖D_l‖, D_l = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ, of each pair of neighbours, first to last."""
        return tuple(balance(above, through) for through, above in pairwise(self.maps))

    @cached_property
    def imbalance_with_bias(self) -> float:
        """Return ‖D − b_{L−1}b_{L−1}ᵀ‖ of the last pair."""
        return balance(self.maps[-1], self.maps[-2], with_bias=True)

    @cached_property
    def product(self) -> Float64[np.ndarray, "K m"]:
        """Return W_L…W_{L1+1}, the head as one linear map."""
        product = self.classifier.weight
        for linear in reversed(self.maps[:-1]):
            product = product @ linear.weight
        return product

    @cached_property
    def features(self) -> HeadLayer:
        """Return Z_{L−1}, the layer that W_L reads."""
        return self.layers[-2]

    @cached_property
    def entered_features(self) -> Float64[np.ndarray, "K"]:
        """Return what went into each class mean of the features before anything cancelled.

        It is made of norms of linear maps, means and biases.
        """
        size = np.linalg.norm(self.layers[0].means, axis=0)
        for linear in self.maps[:-1]:
            size = linear.norm * size + float(np.linalg.norm(linear.bias))
        return np.asarray(size)

    @cached_property
    def outputs(self) -> HeadLayer:
        """Return Z_L; its means are the mean output of each class."""
        return self.layers[-1]

    @cached_property
    def mean_errors(self) -> Float64[np.ndarray, "K K"]:
        """Return R̄: class means of y − f, classes as columns."""
        return np.asarray(np.eye(self.n_classes) - self.outputs.means)

    @cached_property
    def residual(self) -> float:
        """Return ‖Z_L − Y‖_F."""
        return self._residual(np.zeros(self.n_classes))

    @cached_property
    def residual_without_bias(self) -> float:
        """Return ‖Z_L − b_L1ᵀ − Y‖_F."""
        return self._residual(self.classifier.bias)

    @cached_property
    def loss(self) -> float:
        """Return (1/2N) Σ_i ‖y_i − f_i‖²."""
        return self.residual**2 / (2 * self.n_samples)

    @cached_property
    def error_on_target(self) -> float:
        """Return (1/2N) Σ_i ⟨y_i, y_i − f_i⟩."""
        return float(self.shares @ np.diag(self.mean_errors)) / 2

    @cached_property
    def radial(self) -> float:
        """Return (1/N) Σ_i ⟨y_i − f_i, f_i − b_L⟩; within a class f varies and y does not."""
        along = np.sum(self.mean_errors * (self.outputs.means - self.classifier.bias[:, None]), axis=0)
        return float(self.shares @ along) - self.outputs.within

    @cached_property
    def classifier_noise(self) -> float:
        """Return ‖W_LΣ_W‖_F at the layer that W_L reads."""
        return float(np.linalg.norm(self.outputs.noise @ self.features.noise.T))

    def operator_norm(self, layer: HeadLayer) -> float:
        """Return ‖Z‖ of a layer of the head, not centred."""
        factor = np.column_stack([np.sqrt(self.n_samples) * layer.noise, np.sqrt(self.counts) * layer.means])
        return float(np.sqrt(squared_singular_values(factor)[0]))

    def _residual(self, bias: Float64[np.ndarray, "K"]) -> float:
        off = self.outputs.means - bias[:, None] - np.eye(self.n_classes)
        return float(np.sqrt(self.counts @ np.sum(off**2, axis=0) + self.n_samples * self.outputs.within))


def head_stats(
    chunks: RowChunks,
    labels: Int64[np.ndarray, "N"],
    n_classes: int,
    weights: Sequence[tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."] | None]],
    names: Sequence[str] = (),
) -> HeadStats:
    """Return the moments of a linear head, from two passes over what it reads: class means, then Z(I−Π)Zᵀ.

    Args:
        chunks: opens a pass over the activations that the first linear map reads, (N, d) in all.
        labels: class of each sample (N,).
        n_classes: K.
        weights: W (outputs, inputs) and b or None of each linear map, first to last, at least one.
        names: of the layers, the head's input first: one more than there are linear maps.

    Returns: all moments in float64; no array has N rows.

    Raises:
        Undefined: when an output has no samples, a linear map is no finite matrix, the outputs are not one per class, a
            layer is wider than 4096, or activations are not finite.
        DataError: when the second pass sees other activations than the first.

    >>> Z, y = np.array([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 0, 1, 1])
    >>> stats = head_stats(lambda: [(0, Z)], y, 2, [(np.eye(2), None)])
    >>> round(stats.features.within, 6), stats.outputs.means.tolist()
    (0.005, [[1.0, 0.0], [0.0, 1.0]])
    """
    names = names or [f"Z{i}" for i in range(len(weights) + 1)]
    maps = tuple(_map(name, W, b) for name, (W, b) in zip(names[1:], weights, strict=True))
    counts = np.bincount(labels, minlength=n_classes)
    _require_usable(maps, counts)
    means = _class_means(chunks, labels, counts, maps[0].weight.shape[1])
    gram, per_sample = _residuals(chunks, labels, counts, means, maps)
    shares = counts / float(counts.sum())
    layers = [HeadLayer(names[0], means.T, _factor(gram), (np.sqrt(shares)[:, None] * (means - shares @ means)).T)]
    for linear in maps:
        W, below = linear.weight, layers[-1]
        M = W @ below.means + linear.bias[:, None]
        layers.append(HeadLayer(linear.name, M, W @ below.noise, W @ below.signal))
    return HeadStats(
        maps=maps,
        layers=tuple(layers),
        counts=counts,
        class_within=per_sample.squares / counts,
        cosines=per_sample.cosines / counts if np.isfinite(per_sample.cosines).all() else None,
        row_sum=per_sample.row_sum / float(counts.sum()),
    )


def balance(above: HeadMap, through: HeadMap, *, with_bias: bool = False) -> float:
    """Return ‖D‖, D = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ, and − b_lb_lᵀ where it counts."""
    D = above.weight.T @ above.weight - through.weight @ through.weight.T
    if with_bias:
        D = D - np.outer(through.bias, through.bias)
    return float(np.abs(np.linalg.eigvalsh(D)).max())


def squared_singular_values(X: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "q"]:
    """Return s_1² ≥ s_2² ≥ … of X, from the smaller of its Gram matrices: exact relative to s_1²."""
    squares = np.linalg.eigvalsh(X @ X.T if len(X) <= X.shape[1] else X.T @ X)[::-1]
    return np.maximum(squares, 0.0)


@dataclass
class _PerSample:
    """Sums over the samples of each class of what is not linear in them."""

    squares: Float64[np.ndarray, "K"]
    cosines: Float64[np.ndarray, "K"]
    row_sum: float = 0.0


def _class_means(
    chunks: RowChunks, labels: Int64[np.ndarray, "N"], counts: Int64[np.ndarray, "K"], width: int
) -> Float64[np.ndarray, "K d"]:
    sums = np.zeros((len(counts), width))
    seen, largest = 0, 0.0
    for start, rows in chunks():
        if rows.ndim != 2 or rows.shape[1] != width:
            raise Undefined(f"the head reads {width} numbers, its input has the shape {rows.shape[1:]}")
        exact = rows.astype(np.float64)
        if not (np.abs(exact) < HOLDS_FOURTH_POWERS).all():
            raise Undefined("activations that the head reads are not finite")
        sums += _by_class(labels[start : start + len(rows)], len(counts), exact)
        seen += len(rows)
        largest = max(largest, float(np.abs(exact).max(initial=0.0)))
    if seen != len(labels):
        raise DataError(f"{seen} rows of activations for {len(labels)} labels")
    if 0 < largest < 1 / HOLDS_FOURTH_POWERS:
        raise Undefined("activations that the head reads are so small that their fourth powers vanish")
    means: Float64[np.ndarray, "K d"] = sums / counts[:, None]
    return means


def _residuals(
    chunks: RowChunks,
    labels: Int64[np.ndarray, "N"],
    counts: Int64[np.ndarray, "K"],
    means: Float64[np.ndarray, "K d"],
    maps: Sequence[HeadMap],
) -> tuple[Float64[np.ndarray, "d d"], _PerSample]:
    """Return Σ_W of the head's input, and the sums that need every sample replayed."""
    K, d = means.shape
    gram, left_over, squares = np.zeros((d, d)), np.zeros((K, d)), np.zeros(K)
    sums = _PerSample(np.zeros(K), np.zeros(K))
    last = maps[-1]
    lengths = np.linalg.norm(last.weight, axis=1)
    T, t = _composed(maps[:-1], d)
    feature_means = means @ T.T + t
    precision = "float64"
    for start, rows in chunks():
        y = labels[start : start + len(rows)]
        precision = str(rows.dtype) if rows.dtype.kind == "f" else "float64"
        exact = rows.astype(np.float64)
        off = exact - means[y]
        gram += off.T @ off
        left_over += _by_class(y, K, off)
        squares += np.bincount(y, np.einsum("nd,nd->n", exact, exact), K)
        h = exact @ T.T + t
        with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 is how a zero sample is noticed
            cosines = np.einsum("nd,nd->n", h, last.weight[y]) / (np.linalg.norm(h, axis=1) * lengths[y])
        sums.cosines += np.bincount(y, cosines, K)
        sums.squares += np.bincount(y, np.sum((h - feature_means[y]) ** 2, axis=1), K)
        sums.row_sum += float(np.abs(h @ last.weight.sum(axis=0) + last.bias.sum()).sum())
    # Around their mean the samples of a class sum to zero, if they are those that made the mean.
    allowed = 2.0 ** (1 - float_format(precision).digits) + 64 * np.finfo(np.float64).eps * np.sqrt(counts)
    if (np.linalg.norm(left_over, axis=1) > allowed * np.sqrt(counts * squares)).any():
        raise DataError("the second pass saw other activations than the first: give the source a fixed order")
    return gram / len(labels), sums


def _by_class(y: Int64[np.ndarray, "n"], K: int, rows: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "K d"]:
    """Return the sums over the rows of each class."""
    members = coo_array((np.ones(len(y)), (y, np.arange(len(y)))), shape=(K, len(y))).tocsr()
    sums: Float64[np.ndarray, "K d"] = members @ rows
    return sums


def _composed(maps: Sequence[HeadMap], d: int) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "n"]]:
    """Return the linear maps as one: T and t with y = T x + t."""
    T, t = np.eye(d), np.zeros(d)
    for linear in maps:
        T, t = linear.weight @ T, linear.weight @ t + linear.bias
    return T, t


def _factor(gram: Float64[np.ndarray, "d d"]) -> Float64[np.ndarray, "d q"]:
    """Return F with FFᵀ = gram, over the eigenvalues that float64 sums resolve."""
    squares, axes = np.linalg.eigh(gram)
    kept = squares > np.finfo(np.float64).eps * squares[-1]
    factor: Float64[np.ndarray, "d q"] = axes[:, kept] * np.sqrt(squares[kept])
    return factor


def _map(name: str, W: Float[np.ndarray, "..."], b: Float[np.ndarray, "..."] | None) -> HeadMap:
    if W.ndim != 2:
        raise Undefined(f"{name} is no matrix")
    exact = W.astype(np.float64)
    bias = np.zeros(len(W)) if b is None else b.astype(np.float64)
    if not ((np.abs(exact) < HOLDS_FOURTH_POWERS).all() and (np.abs(bias) < HOLDS_FOURTH_POWERS).all()):
        raise Undefined(f"{name} has non-finite weights")
    return HeadMap(name, exact, bias, b is not None, storage_tolerance(exact, str(W.dtype)))


def _require_usable(maps: Sequence[HeadMap], counts: Int64[np.ndarray, "K"]) -> None:
    powers = 2 * max(len(maps), 2)  # of a weight norm, in the chain from the outputs to the head's input
    for linear in maps:
        if 0 < np.abs(linear.weight).max(initial=0.0) < VANISHING ** (1 / powers):
            raise Undefined(f"the weights of {linear.name} are so small that powers of them vanish")
    present, outputs = int((counts > 0).sum()), len(maps[-1].weight)
    if len(counts) > outputs:
        raise Undefined(f"{outputs} outputs for {len(counts)} classes")
    if present < outputs:
        raise Undefined(f"the data has {present} of the network's {outputs} classes: it is said of all of them")
    widest = max(max(linear.weight.shape) for linear in maps)
    if widest > WIDEST:
        raise Undefined(f"a layer of the head has {widest} features; Gram matrices are formed up to {WIDEST}")
