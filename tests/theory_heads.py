"""Linear heads of every kind that certificates must hold for, and the ones with known answers."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from ncscan.theory.linear_head import HeadStats, head_stats

Maps = list[tuple[np.ndarray, np.ndarray | None]]

KINDS = (
    *("near balance", "exact balance", "biased", "rank-deficient", "two classes", "labels missed", "adversarial"),
    *("annihilating", "common row", "at a threshold"),
)


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


def annihilating_head(rng: np.random.Generator) -> HeadStats:
    """A head whose maps nearly annihilate each other: what one writes lies beside what the next one reads."""
    K, n_maps = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    n = K + int(rng.integers(1, 4))
    y = _labels(K, rng)
    bases = [frame(n, n, rng).T for _ in range(n_maps)]
    beside, s = 10 ** rng.uniform(0, 9), np.ones(K)
    s[-1] = 10 ** rng.uniform(-7, 0)
    maps: Maps = [((frame(K, K, rng) * s) @ bases[0][:K], None)]
    for above, below in pairwise(bases):
        inner = np.zeros((n, n))
        inner[:K, :K] = np.diag(10 ** rng.uniform(-3, 0, K))
        inner[K:] = beside * rng.standard_normal((n - K, n)) if rng.random() < 0.7 else 0
        b = rng.standard_normal(n) * 10 ** rng.uniform(-3, 6) if rng.random() < 0.3 else None
        maps.insert(0, (above.T @ inner @ below, b))
    noise = 10 ** rng.uniform(-6, 0) * rng.standard_normal((len(y), n))
    if rng.random() < 0.5:
        return stats_of(fitted(maps, np.eye(K)[y]) + noise, y, maps)
    return stats_of(10 ** rng.uniform(-2, 2) * rng.standard_normal((K, n))[y] + noise, y, maps)


def common_row_head(rng: np.random.Generator) -> HeadStats:
    """A head that adds nearly the same to the outputs of all classes: little is left of V = CW_L, and of CZ_L."""
    K, n_maps = int(rng.choice([2, 2, 3, 5])), int(rng.integers(2, 5))
    n = K + int(rng.integers(0, 3))
    y = _labels(K, rng)
    maps: Maps = []
    for rows in [n] * (n_maps - 1) + [K]:
        b = rng.standard_normal(rows) * 10 ** rng.uniform(-6, 9) if rng.random() < 0.5 else None
        maps.append((rng.standard_normal((rows, n)) * 10 ** rng.uniform(-6, 1), b))
    common = 10 ** rng.uniform(-3, 6) * rng.standard_normal(n)
    maps[-1] = (maps[-1][0] + common, maps[-1][1])
    Z = 2 * rng.standard_normal((K, n))[y] + 10 ** rng.uniform(-7, 1) * rng.standard_normal((len(y), n))
    if rng.random() < 0.3:
        Z = Z + 10 ** rng.uniform(0, 9) * rng.standard_normal(n)
    Z = 10 ** rng.uniform(-6, 6) * Z
    return stats_of(Z.astype(np.float32) if rng.random() < 0.5 else Z, y, maps)


def threshold_head(rng: np.random.Generator) -> HeadStats:
    """A head at which d*, or e, is nearly 1, or of which D_b is nearly 0: a difference of near equals decides."""
    return [_relative_head, _missed_head, _balanced_with_its_bias][int(rng.integers(3))](rng)


def _relative_head(rng: np.random.Generator) -> HeadStats:
    """Maps of one basis, whose product is off the power of W_L by d* ≈ 1 in the first direction."""
    K, n_maps = int(rng.integers(2, 4)), int(rng.integers(2, 5))
    y, d = _labels(K, rng), 1 - 10 ** rng.uniform(-12, -1)
    s = np.ones(K)
    s[0] = 10 ** rng.uniform(0, 7.5 / (2 * n_maps))
    off = np.sqrt(1 + d * rng.choice([-1, 1], K))
    bases = [frame(K, K, rng) for _ in range(n_maps + 1)]
    maps: Maps = [
        ((above * s * (off if i == n_maps - 1 else 1)) @ below.T, None)
        for i, (above, below) in enumerate(pairwise(bases))
    ]
    maps.reverse()
    return stats_of(fitted(maps, np.eye(K)[y]) + 10 ** rng.uniform(-8, -1) * rng.standard_normal((len(y), K)), y, maps)


def _missed_head(rng: np.random.Generator) -> HeadStats:
    """Outputs that miss their classes by e ≈ 1, of an ill-conditioned classifier, with large means beside."""
    K = int(rng.integers(2, 5))
    n = K + int(rng.integers(0, 3))
    y, basis = _labels(K, rng), frame(n, n, rng).T
    s = 10 ** rng.uniform(-rng.uniform(0, 7), 0, K)
    inner = basis.T @ np.diag([*s, *(10 ** rng.uniform(-9, 6, n - K))]) @ frame(n, n, rng)
    shift = rng.standard_normal(n) * 10 ** rng.uniform(-6, 6) if rng.random() < 0.3 else None
    last = rng.standard_normal(K) * 10 ** rng.uniform(-3, 6) if rng.random() < 0.5 else None
    maps: Maps = [(inner, shift), ((frame(K, K, rng) * s) @ basis[:K], last)]
    off = rng.standard_normal((K, K))
    targets = np.eye(K) + (1 - 10 ** rng.uniform(-7, -0.1)) * off / np.linalg.norm(off, 2)
    Z = fitted(maps, targets[y]) + 10 ** rng.uniform(-9, 0) * rng.standard_normal((len(y), n))
    if rng.random() < 0.5:
        Z = Z + 10 ** rng.uniform(-3, 6) * rng.standard_normal(n)
    return stats_of(Z, y, maps)


def _balanced_with_its_bias(rng: np.random.Generator) -> HeadStats:
    """W_LᵀW_L = WWᵀ + bbᵀ: ‖D_b‖ is rounding, whose root is not; class means below that no map reads are large."""
    K = int(rng.integers(2, 5))
    n = K + int(rng.integers(1, 4))
    y, basis, scale = _labels(K, rng), frame(n, n, rng)[:, :K], rng.choice([1e-6, 1, 1e6])
    s = 1 + rng.choice([0, 0.3]) * rng.random(K)
    last = scale * (frame(K, K, rng) * s) @ basis.T
    b = scale * rng.uniform(0, 0.999) * basis @ (s * frame(K, 1, rng)[:, 0])
    squares, axes = np.linalg.eigh(last.T @ last - np.outer(b, b))
    inner = (axes * np.sqrt(np.maximum(squares, 0))) @ axes.T @ frame(n, n, rng)
    inner = inner + rng.choice([0, 1e-16, 1e-12, 1e-8]) * scale * rng.standard_normal((n, n))
    maps: Maps = [(inner, b), (last, None if rng.random() < 0.5 else rng.standard_normal(K))]
    Z = fitted(maps, 10 ** rng.uniform(-6, 2) * np.eye(K)[y]) + 10 ** rng.uniform(-9, 2) * rng.standard_normal(
        (len(y), n)
    )
    unread = np.linalg.svd(inner)[2][K:]
    return stats_of(Z + (10 ** rng.uniform(0, 8) * rng.standard_normal((K, n - K)) @ unread)[y], y, maps)


def _labels(K: int, rng: np.random.Generator) -> np.ndarray:
    counts = np.full(K, rng.integers(2, 12)) if rng.random() < 0.5 else rng.integers(1, 20, K)
    return np.repeat(np.arange(K), counts)


MADE: dict[str, Callable[[np.random.Generator], HeadStats]] = {
    "adversarial": adversarial_head,
    "annihilating": annihilating_head,
    "common row": common_row_head,
    "at a threshold": threshold_head,
}


def random_heads(kind: str, n: int, seed: int | None = None) -> Iterator[HeadStats]:
    """Heads of a kind; those of the tests have no seed."""
    rng = np.random.default_rng(KINDS.index(kind) if seed is None else [seed, KINDS.index(kind)])
    return (MADE[kind](rng) if kind in MADE else random_head(kind, rng) for _ in range(n))


def collapsed_head(K: int, L2: int, *, centred: bool = False, per_class: int = 4) -> HeadStats:
    """Exact collapse at exact balance: every map the same projector-free isometry, class means an orthogonal frame.

    Centred, the outputs are a simplex ETF instead and every map is I − 11ᵀ/K.
    """
    Q = np.eye(K) - 1 / K if centred else np.eye(K)
    y = np.repeat(np.arange(K), per_class)
    return stats_of(Q[y], y, [(Q, None)] * L2)
