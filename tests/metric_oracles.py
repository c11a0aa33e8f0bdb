"""What each measure should read, written naively from its paper: d×d matrices, loops and `pinv`; and where to look."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from helpers import (
    naive_cdnv,
    naive_centred,
    naive_equiangular,
    naive_equinorm,
    naive_etf,
    naive_means,
    naive_nc1_pinv,
    naive_nc1_trace,
    naive_scatter,
    random_layer,
)

from ncscan.metrics.evaluate import Classifier, LayerView, Reader
from ncscan.metrics.view import Value
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats
from ncscan.statistics.mean_frame import Weighting

Oracle = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Weighting], float | Mapping[str, float]]
"""(Z, y, W, b, weighting) → the number, or the numbers."""

LAYERS: tuple[tuple[int, int, tuple[int, ...]], ...] = ((4, 6, (30, 30, 30, 30)), (5, 9, (20, 9, 9, 40, 33)))
"""K, d and samples per class: balanced, and imbalanced."""


def cases() -> list[tuple[LayerView, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Weighting]]:
    """Random layers with a classifier, under both weightings."""
    found = []
    for seed, (K, d, per_class) in enumerate(LAYERS):
        Z, y = random_layer(K, d, per_class, noise=0.7, seed=seed)
        Z = np.where(np.abs(Z) < 0.05, 0.0, Z + 0.2)
        rng = np.random.default_rng(seed + 10)
        W, b = rng.standard_normal((K, d)), rng.standard_normal(K)
        decisions = np.argmax(Z @ W.T + b, axis=1)
        stats = layer_stats(
            partial(lambda rows: [(0, rows)], Z),
            y,
            K,
            AccumulationOptions(decisions=decisions, classifier=W, negative_part=True),
        )
        view = LayerView(stats, classifier=Classifier("head", W, b), readers=(Reader("head", W, K - 1),))
        weightings: tuple[Weighting, ...] = ("class", "sample")
        found += [(replace(view, weighting=w), Z, y, W, b, w) for w in weightings]
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def orthogonal(Z: np.ndarray, y: np.ndarray) -> float:
    M = naive_means(Z, y).T
    G = M.T @ M
    return float(np.linalg.norm(G / np.linalg.norm(G, "fro") - np.eye(M.shape[1]) / np.sqrt(M.shape[1]), "fro"))


def units(Z: np.ndarray, y: np.ndarray, weighting: str) -> np.ndarray:
    return np.stack([m / np.linalg.norm(m) for m in naive_centred(Z, y, weighting)])


def uniformity(Z: np.ndarray, y: np.ndarray, weighting: str) -> dict[str, float]:
    u = units(Z, y, weighting)
    logs = [np.log(1 / np.linalg.norm(u[a] - u[b])) for a in range(len(u)) for b in range(a + 1, len(u))]
    mean = sum(logs) / len(logs)
    return {"mean": mean, "var": sum((x - mean) ** 2 for x in logs) / len(logs)}


def vci(Z: np.ndarray, y: np.ndarray) -> float:
    _, between = naive_scatter(Z, y, "sample")
    centred = Z - Z.mean(axis=0)
    total = sum(np.outer(h, h) for h in centred) / len(Z)
    return float(1 - np.trace(np.linalg.pinv(total, rcond=1e-10) @ between) / (y.max()))


def separation(Z: np.ndarray, y: np.ndarray) -> float:
    within, between = naive_scatter(Z, y, "sample")
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)))


def normalized(Z: np.ndarray, y: np.ndarray, weighting: str) -> float:
    within, between = naive_scatter(Z, y, weighting)
    return float(np.trace(within) / (np.trace(within) + np.trace(between)))


def subspace(Z: np.ndarray, y: np.ndarray, W: np.ndarray, weighting: str) -> float:
    j = y.max()
    V = np.linalg.svd(W)[2].T[:, :j]
    U = np.linalg.svd(naive_centred(Z, y, weighting).T)[0][:, :j]
    return float(np.mean(np.linalg.svd(V.T @ U)[1]))


def swapped(Z: np.ndarray, y: np.ndarray, W: np.ndarray) -> float:
    """Procrustes over the embeddings R of a fixed simplex: max ⟨W, S R⟩ over RRᵀ = I."""
    K = len(W)
    S = np.sqrt(K / (K - 1)) * (np.eye(K) - 1 / K)
    u, _, vt = np.linalg.svd(S.T @ W)
    E = S @ (u[:, : K - 1] @ vt[: K - 1])  # the direction 1 of R is lost in S
    return float(np.mean(np.argmax(Z @ E.T, axis=1) != y))


def distance(Z: np.ndarray, y: np.ndarray, W: np.ndarray, weighting: str) -> float:
    M = naive_centred(Z, y, weighting)
    return float(np.linalg.norm(W / np.linalg.norm(W, "fro") - M / np.linalg.norm(M, "fro"), "fro"))


def nearest(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    M = naive_means(Z, y)
    return np.array([np.argmin([np.linalg.norm(h - m) for m in M]) for h in Z])


def central(Z: np.ndarray, y: np.ndarray, W: np.ndarray, b: np.ndarray, weighting: str) -> np.ndarray:
    M = naive_means(Z, y)
    return np.asarray(W @ (M - naive_centred(Z, y, weighting))[0] + b)


def effective(Z: np.ndarray) -> float:
    s = np.linalg.svd(Z, compute_uv=False)
    return float(np.exp(-sum(x / s.sum() * np.log(x / s.sum()) for x in s)))


def participation(Z: np.ndarray) -> float:
    lam = np.linalg.eigvalsh(Z.T @ Z)
    return float(lam.sum() ** 2 / (lam**2).sum())


def norms(Z: np.ndarray, y: np.ndarray, weighting: str) -> dict[str, float]:
    length = [np.sqrt(sum(h**2)) for h in Z]
    mean = sum(length) / len(length)
    centre = (naive_means(Z, y) - naive_centred(Z, y, weighting))[0]
    return {
        "global_mean": float(np.linalg.norm(centre)),
        "mean": mean,
        "std": float(np.sqrt(sum((n - mean) ** 2 for n in length) / len(length))),
        "zeros": float(np.mean(Z == 0)),
    }


def negative(Z: np.ndarray) -> dict[str, float]:
    rest = Z - np.maximum(Z, 0)
    return {
        "op": float(np.linalg.norm(rest, 2) / np.linalg.norm(Z, 2)),
        "fro": float(np.linalg.norm(rest) / np.linalg.norm(Z)),
    }


ORACLES: dict[str, Oracle] = {
    "nc1_pinv": lambda Z, y, W, b, w: naive_nc1_pinv(Z, y, w),
    "nc1_trace": lambda Z, y, W, b, w: naive_nc1_trace(Z, y, w),
    "nc1_normalized": lambda Z, y, W, b, w: normalized(Z, y, w),
    "cdnv": lambda Z, y, W, b, w: naive_cdnv(Z, y),
    "separation": lambda Z, y, W, b, w: separation(Z, y),
    "vci": lambda Z, y, W, b, w: vci(Z, y),
    "nc2_equinorm": lambda Z, y, W, b, w: naive_equinorm(naive_centred(Z, y, w)),
    "nc2_equiangular": lambda Z, y, W, b, w: naive_equiangular(naive_centred(Z, y, w)),
    "nc2_etf": lambda Z, y, W, b, w: naive_etf(naive_centred(Z, y, w) @ naive_centred(Z, y, w).T),
    "nc2_etf_unit": lambda Z, y, W, b, w: naive_etf(units(Z, y, w) @ units(Z, y, w).T),
    "nc2_orthogonal": lambda Z, y, W, b, w: orthogonal(Z, y),
    "nc2_condition": lambda Z, y, W, b, w: float(np.linalg.cond(naive_means(Z, y))),
    "gnc2_uniformity": lambda Z, y, W, b, w: uniformity(Z, y, w),
    "ncc_error": lambda Z, y, W, b, w: float(np.mean(nearest(Z, y) != y)),
    "nc4_mismatch": lambda Z, y, W, b, w: float(np.mean(nearest(Z, y) != np.argmax(Z @ W.T + b, axis=1))),
    "feature_condition": lambda Z, y, W, b, w: float(np.linalg.cond(Z)),
    "numerical_rank": lambda Z, y, W, b, w: float(np.linalg.matrix_rank(Z)),
    "stable_rank": lambda Z, y, W, b, w: float((np.linalg.norm(Z, "fro") / np.linalg.norm(Z, 2)) ** 2),
    "effective_rank": lambda Z, y, W, b, w: effective(Z),
    "participation_ratio": lambda Z, y, W, b, w: participation(Z),
    "norms": lambda Z, y, W, b, w: norms(Z, y, w),
    "negativity": lambda Z, y, W, b, w: negative(Z),
    "nc2_equinorm_w": lambda Z, y, W, b, w: naive_equinorm(W),
    "nc2_equiangular_w": lambda Z, y, W, b, w: naive_equiangular(W),
    "nc2_etf_w": lambda Z, y, W, b, w: naive_etf(W @ W.T),
    "nc3_distance": lambda Z, y, W, b, w: distance(Z, y, W, w),
    "nc3_distance_squared": lambda Z, y, W, b, w: distance(Z, y, W, w) ** 2,
    "nc3_etf": lambda Z, y, W, b, w: naive_etf(W @ naive_centred(Z, y, w).T),
    "nc3_cosine": lambda Z, y, W, b, w: {
        "samples": float(np.mean([cosine(h, W[c]) for h, c in zip(Z, y, strict=True)])),
        "means": float(np.mean([cosine(m, r) for m, r in zip(naive_means(Z, y), W, strict=True)])),
    },
    "nc3_uniform": lambda Z, y, W, b, w: float(
        np.var([cosine(r, m) for r, m in zip(W, naive_centred(Z, y, w), strict=True)])
    ),
    "nc3_subspace": lambda Z, y, W, b, w: subspace(Z, y, W, w),
    "bias_collapse": lambda Z, y, W, b, w: float(
        np.linalg.norm((np.eye(len(W)) - np.ones((len(W), len(W))) / len(W)) @ central(Z, y, W, b, w))
    ),
    "bias_collapse_raw": lambda Z, y, W, b, w: float(np.linalg.norm(central(Z, y, W, b, w))),
    "classifier_row_sum": lambda Z, y, W, b, w: float(
        np.linalg.norm(W.T @ np.ones(len(W))) / np.sqrt(len(W)) / np.linalg.norm(W, "fro")
    ),
    "etf_swap_error": lambda Z, y, W, b, w: swapped(Z, y, W),
    "imbalance": lambda Z, y, W, b, w: imbalance(Z, y, w),
    "imbalance_w": lambda Z, y, W, b, w: imbalance_w(y, W),
}


def groups(y: np.ndarray) -> dict[str, list[int]]:
    n = np.bincount(y)
    return {
        "minority": [int(c) for c in np.flatnonzero(n == n.min())],
        "majority": [int(c) for c in np.flatnonzero(n == n.max())],
    }


def mean_cosine(vectors: np.ndarray, classes: list[int]) -> float:
    pairs = [cosine(vectors[a], vectors[b]) for a in classes for b in classes if a < b]
    return float(np.mean(pairs)) if pairs else np.nan


def imbalance(Z: np.ndarray, y: np.ndarray, weighting: str) -> dict[str, float]:
    n, M, C = np.bincount(y), naive_means(Z, y), naive_centred(Z, y, weighting)
    wrong = nearest(Z, y) != y
    found = {"ratio": float(n.max() / n.min())}
    for size, classes in groups(y).items():
        found[f"variance_{size}"] = float(np.mean([((Z[y == c] - M[c]) ** 2).sum(axis=1).mean() for c in classes]))
        found[f"norm_{size}"] = float(np.mean([np.linalg.norm(C[c]) for c in classes]))
        found[f"error_{size}"] = float(np.mean([wrong[y == c].mean() for c in classes]))
        found[f"cosine_{size}"] = mean_cosine(C, classes)
    return found


def imbalance_w(y: np.ndarray, W: np.ndarray) -> dict[str, float]:
    found = {}
    for size, classes in groups(y).items():
        found[f"norm_{size}"] = float(np.mean([np.linalg.norm(W[c]) for c in classes]))
        found[f"cosine_{size}"] = mean_cosine(W, classes)
    return found


CASES = cases()


def check(name: str, function: Callable[[LayerView], Value]) -> None:
    """AssertionError where the function is not the paper's formula on some layer."""
    for view, Z, y, W, b, weighting in CASES:
        expected, found = ORACLES[name](Z, y, W, b, weighting), function(view)
        if not isinstance(expected, Mapping):
            assert isinstance(found, float)
            expected, found = {"": expected}, {"": found}
        assert isinstance(found, Mapping)
        assert set(found) == set(expected)
        for quantity, value in expected.items():
            if np.isnan(value):
                continue  # one class alone: the measure says so
            one = found[quantity]
            assert isinstance(one, float)
            assert abs(one - value) <= 1e-8 * abs(value) + 1e-14, f"{name} {quantity} {weighting}: {one} for {value}"
