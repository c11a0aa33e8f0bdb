"""Linear heads of every kind that certificates must hold for, and the ones with known answers."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ncscan.theory.head import HeadStats, head_stats

Maps = list[tuple[np.ndarray, np.ndarray | None]]

KINDS = ("near balance", "exact balance", "biased", "rank-deficient", "two classes", "labels missed", "adversarial")


def stats_of(Z: np.ndarray, y: np.ndarray, maps: Maps) -> HeadStats:
    return head_stats(lambda: [(0, Z)], y, len(maps[-1][0]), maps)


def frame(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """min(n, k) orthonormal columns in R^n."""
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q[:, : min(n, k)]


def balanced(widths: Sequence[int], s: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Neighbours share singular values and vectors, W_l = U_{l+1} diag(s) U_lᵀ: D is zero where widths allow it."""
    frames = [frame(n, len(s), rng) for n in widths]
    maps = []
    for below, above in pairwise(frames):
        k = min(below.shape[1], above.shape[1])
        maps.append((above[:, :k] * s[:k]) @ below[:, :k].T)
    return maps


def fitted(maps: Maps, targets: np.ndarray) -> np.ndarray:
    """Inputs of least norm from which the head makes these outputs, as rows."""
    product, shift = np.eye(maps[0][0].shape[1]), np.zeros(maps[0][0].shape[1])
    for W, b in maps:
        product, shift = W @ product, W @ shift + (0 if b is None else b)
    return np.asarray((np.linalg.pinv(product, rcond=1e-6) @ (targets - shift).T).T)


def random_head(kind: str, rng: np.random.Generator) -> HeadStats:
    """A head and its data: biases, imbalance, ranks and noise as the kind says, of random sizes and scales."""
    K = 2 if kind == "two classes" else int(rng.integers(2, 6))
    plain = kind in ("near balance", "exact balance")
    counts = np.full(K, rng.integers(3, 9)) if plain else rng.integers(2, 12, K)
    y = np.repeat(np.arange(K), counts)
    lowest = 1 if kind == "rank-deficient" else K
    widths = [int(n) for n in rng.integers(lowest, 12, rng.integers(2, 5))]
    off_balance = {"near balance": 10 ** rng.uniform(-4, -1.5), "exact balance": 0.0}.get(
        kind, 10 ** rng.uniform(-3, 0)
    )
    maps: Maps = [
        (W + off_balance * rng.standard_normal(W.shape) / np.sqrt(W.shape[1]), None)
        for W in balanced([*widths, K], 1 + 0.3 * rng.random(K), rng)
    ]
    if not plain:
        maps = [(W, 0.3 * rng.standard_normal(len(W)) if rng.random() < 0.7 else None) for W, _ in maps]
    targets = np.eye(K)[y]
    if kind == "labels missed":
        targets = targets @ rng.standard_normal((K, K))
    noise = 10 ** rng.uniform(-3, -1)
    Z = fitted(maps, targets) + noise * rng.standard_normal((len(y), widths[0]))
    return stats_of(Z, y, maps)


def adversarial_head(rng: np.random.Generator) -> HeadStats:
    """A head where rounding could decide: shrunken, of odd scales, with large biases, nearly balanced, in float32."""
    K = int(rng.choice([2, 2, 3, 4, 6]))
    counts = np.full(K, rng.integers(2, 12)) if rng.random() < 0.4 else rng.integers(1, 30, K)
    y = np.repeat(np.arange(K), counts)
    n_maps = int(rng.integers(2, 5))
    if rng.random() < 0.25:
        y, Z, maps = _shrunken(n_maps, rng)
    else:
        widths = [int(n) for n in rng.integers(1 if rng.random() < 0.3 else K, 10, n_maps)]
        s = 1 + rng.choice([0, 1e-6, 0.3]) * rng.random(K)
        off_balance = rng.choice([0, 1e-12, 1e-8, 1e-4, 0.1, 1])
        maps = []
        for W in balanced([*widths, K], s, rng):
            b = rng.standard_normal(len(W)) * rng.choice([1e-6, 1e-3, 1, 1e3]) if rng.random() < 0.4 else None
            maps.append((W + off_balance * rng.standard_normal(W.shape), b))
        noise = 10 ** rng.uniform(-7, 0) * rng.standard_normal((len(y), widths[0]))
        Z = noise if rng.random() < 0.2 else fitted(maps, np.eye(K)[y]) + noise
        scale = rng.choice([1e-6, 1e-3, 1, 1e3, 1e6])
        if rng.random() < 0.5:  # the outputs scale as all maps together
            maps = [(scale * W, None if b is None else scale * b) for W, b in maps]
        else:  # the outputs stay
            Z, maps[0] = scale * Z, (maps[0][0] / scale, maps[0][1])
    if rng.random() < 0.5:
        Z, maps = Z.astype(np.float32), [(W.astype(np.float32), b) for W, b in maps]
    return stats_of(Z, y, maps)


def _shrunken(n_maps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Maps]:
    """Two classes and outputs down to 1e-24: ‖Y‖ and ‖Z_L − Y‖ are equal in all digits."""
    counts = [30, 30] if rng.random() < 0.7 else rng.integers(1, 40, 2)
    y = np.repeat([0, 1], counts)
    Z = 2 * np.eye(2)[y] + 10 ** rng.uniform(-6, -0.5) * rng.standard_normal((len(y), 2))
    W = 10 ** rng.uniform(-6, 0) * np.array([[1.0, -1.0], [-1.0, 1.0]]) / 2
    return y, np.maximum(Z, 0), [(W, None)] * n_maps


def random_heads(kind: str, n: int) -> Iterator[HeadStats]:
    rng = np.random.default_rng(KINDS.index(kind))
    return (adversarial_head(rng) if kind == "adversarial" else random_head(kind, rng) for _ in range(n))


def collapsed_head(K: int, L2: int, *, centred: bool = False, per_class: int = 4) -> HeadStats:
    """Exact collapse at exact balance: every map the same projector-free isometry, class means an orthogonal frame.

    Centred, the outputs are a simplex ETF instead and every map is I − 11ᵀ/K.
    """
    Q = np.eye(K) - 1 / K if centred else np.eye(K)
    y = np.repeat(np.arange(K), per_class)
    return stats_of(Q[y], y, [(Q, None)] * L2)
