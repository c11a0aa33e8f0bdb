"""Layers with known answers, and the papers' formulas the naive way: d×d matrices, loops, `pinv`."""

from collections.abc import Iterator, Sequence

import numpy as np

from ncscan.layer_graph import LayerKind, LinearMap, Link, Tap, TapGraph
from ncscan.metrics.evaluate import Classifier, LayerView, Row
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.layer_stats import LayerStats
from ncscan.statistics.mean_frame import Weighting


def simplex(K: int) -> np.ndarray:
    """K rows of length 1 with all angles alike, summing to zero."""
    return np.asarray(np.sqrt(K / (K - 1)) * (np.eye(K) - 1 / K))


def rotation(d: int, seed: int = 0) -> np.ndarray:
    """A random orthogonal matrix."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return q


def exact_layer(means: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Two samples a class and axis, μ_c ± σ√d e_j: the covariance within each class is exactly σ²I."""
    K, d = means.shape
    steps = np.sqrt(variance * d) * np.concatenate([np.eye(d), -np.eye(d)])
    return np.concatenate([mean + steps for mean in means]), np.repeat(np.arange(K), 2 * d)


def simplex_layer(K: int, d: int, radius: float, variance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class means on a simplex of that radius, somehow turned, and exactly isotropic classes; d ≥ K − 1."""
    axes = np.linalg.svd(simplex(K))[2][: K - 1]  # a simplex needs K − 1 dimensions, not K
    means = radius * simplex(K) @ axes.T @ rotation(d, seed)[: K - 1]
    return exact_layer(means, variance)


def random_layer(
    K: int = 4, d: int = 6, per_class: int | Sequence[int] = 9, noise: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes around Gaussian means, in shuffled order."""
    rng = np.random.default_rng(seed)
    counts = np.full(K, per_class) if isinstance(per_class, int) else np.array(per_class)
    labels = rng.permutation(np.repeat(np.arange(K), counts))
    features = rng.standard_normal((K, d))[labels] + noise * rng.standard_normal((len(labels), d))
    return features, labels


def chunked(features: np.ndarray, size: int = 7) -> Iterator[tuple[int, np.ndarray]]:
    """What a dump yields: start row and rows."""
    for start in range(0, len(features), size):
        yield start, features[start : start + size]


def stats_of(features: np.ndarray, labels: np.ndarray, K: int | None = None, size: int = 1000) -> LayerStats:
    """LayerStats with spectrum and negative part."""
    n_classes = int(labels.max()) + 1 if K is None else K
    return layer_stats(lambda: chunked(features, size), labels, n_classes, AccumulationOptions(negative_part=True))


def nearest_of(stats: LayerStats) -> np.ndarray:
    """How many samples of class y (row) lie nearest to the mean of class c (column)."""
    assert stats.nearest is not None
    return stats.nearest


def view_of(
    features: np.ndarray, labels: np.ndarray, W: np.ndarray | None = None, weighting: Weighting = "class"
) -> LayerView:
    """A view with everything accumulated."""
    stats = layer_stats(
        lambda: chunked(features, 1000),
        labels,
        int(labels.max()) + 1,
        AccumulationOptions(classifier=W, negative_part=True),
    )
    return LayerView(stats, weighting, None if W is None else Classifier("head", W))


def by_name(rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by `metric` or `metric.quantity`."""
    return {f"{r.metric}.{r.quantity}".rstrip("."): r for r in rows}


# The papers' formulas, one function each, as they are printed.


def naive_means(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([Z[y == c].mean(axis=0) for c in range(y.max() + 1)])


def naive_weights(y: np.ndarray, weighting: str) -> np.ndarray:
    K = y.max() + 1
    return np.full(K, 1 / K) if weighting == "class" else np.bincount(y) / len(y)


def naive_centred(Z: np.ndarray, y: np.ndarray, weighting: str = "class") -> np.ndarray:
    M = naive_means(Z, y)
    return np.asarray(M - sum(w * m for w, m in zip(naive_weights(y, weighting), M, strict=True)))


def naive_scatter(Z: np.ndarray, y: np.ndarray, weighting: str = "class") -> tuple[np.ndarray, np.ndarray]:
    """Σ_W and Σ_B, d×d."""
    M = naive_means(Z, y)
    within = sum(np.outer(h - M[c], h - M[c]) for h, c in zip(Z, y, strict=True)) / len(Z)
    weights = naive_weights(y, weighting)
    between = sum(w * np.outer(m, m) for w, m in zip(weights, naive_centred(Z, y, weighting), strict=True))
    return np.asarray(within), np.asarray(between)


def naive_nc1_pinv(Z: np.ndarray, y: np.ndarray, weighting: str = "class") -> float:
    within, between = naive_scatter(Z, y, weighting)
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / (y.max() + 1))


def naive_nc1_trace(Z: np.ndarray, y: np.ndarray, weighting: str = "class") -> float:
    within, between = naive_scatter(Z, y, weighting)
    return float(np.trace(within) / np.trace(between))


def naive_cdnv(Z: np.ndarray, y: np.ndarray) -> float:
    M, K = naive_means(Z, y), y.max() + 1
    v = [np.mean([np.sum((h - M[c]) ** 2) for h in Z[y == c]]) for c in range(K)]
    pairs = [(v[a] + v[b]) / (2 * np.sum((M[a] - M[b]) ** 2)) for a in range(K) for b in range(K) if a != b]
    return float(np.mean(pairs))


def naive_equinorm(vectors: np.ndarray) -> float:
    norms = [np.sqrt(v @ v) for v in vectors]
    mean = sum(norms) / len(norms)
    return float(np.sqrt(sum((n - mean) ** 2 for n in norms) / (len(norms) - 1)) / mean)


def naive_equiangular(vectors: np.ndarray) -> float:
    K = len(vectors)
    off = [
        abs(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]) + 1 / (K - 1))
        for a in range(K)
        for b in range(K)
        if a != b
    ]
    return float(np.mean(off))


def naive_etf(matrix: np.ndarray) -> float:
    K = len(matrix)
    etf = (np.eye(K) - np.ones((K, K)) / K) / np.sqrt(K - 1)
    return float(np.linalg.norm(matrix / np.linalg.norm(matrix, "fro") - etf, "fro"))


def naive_nearest(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    M = naive_means(Z, y)
    return np.array([np.argmin([np.sum((h - m) ** 2) for m in M]) for h in Z])


def chain(shapes: Sequence[tuple[int, int]], between: Sequence[tuple[LayerKind, ...]], head: int = 1) -> TapGraph:
    """The graph of linear maps `0`, `1`, … one after the other, with what stands between."""
    names = [str(i) for i in range(len(shapes))]
    sizes = [shapes[0][1], *(out for out, _ in shapes)]
    taps = [
        Tap(name, (), "linear" if i else "input", i, (size,), "float32", None, "", is_output=i == len(shapes))
        for i, (name, size) in enumerate(zip(["input", *names], sizes, strict=True))
    ]
    reads = ["input", *names[:-1]]
    maps = [
        LinearMap(n, "linear", f"{n}.weight", f"{n}.bias", r, s) for n, r, s in zip(names, reads, shapes, strict=True)
    ]
    links = [Link(a, b, kinds) for a, b, kinds in zip(names[:-1], names[1:], between, strict=True)]
    return TapGraph(tuple(taps), tuple(maps), tuple(links), tuple(names[-head:]), ())
