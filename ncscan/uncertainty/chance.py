"""Compute what a measure reads by chance: for directions at random, for labels permuted.

In: K and d, or the class sums of permuted labels. Out: the value that chance gives a measure, and its spread. A
wide layer looks collapsed by chance, so no value means anything before it is compared with this.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ncscan.metrics import (
    Key,
    LayerView,
    bare,
    cross_etf_distance,
    equiangular,
    equinorm,
    etf_distance,
    key_of,
    measure,
    product_distance,
)
from ncscan.statistics import LayerStats, Permuted, permuted_frames

_DRAWS = 400
"""The number of draws of random directions: it gives the ends of an interval to a few per cent of its width."""


class Chance(NamedTuple):
    """The values that are read where nothing carries information."""

    value: float
    """The value on average."""
    low: float | None
    """95 % of chance lies between these, where their distribution is known."""
    high: float | None


def nc2_etf_chance(K: int, d: int) -> float:
    """Return the value of centred Gaussian directions: √(2 − 2/√(1 + K/d)).

    >>> round(nc2_etf_chance(10, 512), 3)
    0.139
    """
    return float(np.sqrt(2 - 2 / np.sqrt(1 + K / d)))


def nc2_etf_w_chance(K: int, d: int) -> float:
    """Return the value of Gaussian rows of a classifier, not centred: √(2 − 2√((K−1)/K)/√(1 + (K+1)/d)).

    >>> round(nc2_etf_w_chance(10, 512), 3)
    0.35
    """
    return float(np.sqrt(2 - 2 * np.sqrt((K - 1) / K) / np.sqrt(1 + (K + 1) / d)))


def nc2_orthogonal_chance(K: int, d: int) -> float:
    """Return the value of Gaussian directions, not centred: √(2 − 2/√(1 + (K+1)/d)).

    >>> round(nc2_orthogonal_chance(10, 512), 3)
    0.145
    """
    return float(np.sqrt(2 - 2 / np.sqrt(1 + (K + 1) / d)))


def nc3_subspace_chance(K: int, d: int) -> float:
    """Return the value of two random subspaces of k = K − 1 directions, for k ≪ d: 8/(3π)·√(k/d); 1 if they fill space.

    Centred means have K − 1 directions, so as many are compared; with K of them the same formula has K.

    >>> round(nc3_subspace_chance(10, 512), 3)
    0.113
    """
    return float(min(8 / (3 * np.pi) * np.sqrt((K - 1) / d), 1.0))


def unrelated(K: int, d: int) -> float:
    """Return the root mean square for two matrices of norm 1 that have nothing to do with each other: √2."""
    return float(np.sqrt(2))


CLOSED_FORMS: tuple[tuple[str, Callable[[int, int], float]], ...] = (
    ("nc2_etf", nc2_etf_chance),
    ("nc2_etf_w", nc2_etf_w_chance),
    ("nc2_orthogonal", nc2_orthogonal_chance),
    ("nc3_subspace", nc3_subspace_chance),
    ("nc3_etf", unrelated),
    ("nc3_distance", unrelated),
)
"""The values of Gaussian directions, as formulas."""


def random_directions(
    K: int, d: int, draws: int = _DRAWS, seed: int = 0, *, centred_rows: bool = False
) -> dict[str, Chance]:
    """Return the values of Gaussian class means and an unrelated Gaussian classifier, drawn and measured.

    The lengths and angles of 2K Gaussian vectors of d dimensions are those of a triangle of 2K×2K numbers (Bartlett),
    so a wide layer costs no more than a narrow one.

    Args:
        K: classes.
        d: features.
        draws: how many times.
        seed: of the draws.
        centred_rows: whether the rows of the classifier are taken minus their mean.
    """
    rng = np.random.default_rng([seed, K, d])
    read: dict[str, list[float]] = {}
    for _ in range(draws):
        both = _gaussian(rng, 2 * K, d)
        M, W = both[:K], both[K:]
        W = W - W.mean(axis=0) if centred_rows else W
        centred = M - M.mean(axis=0)
        for name, value in _frames(M, centred, W):
            read.setdefault(name, []).append(value)
    return {name: _chance(values) for name, values in read.items()}


def _frames(M: np.ndarray, centred: np.ndarray, W: np.ndarray) -> Iterator[tuple[str, float]]:
    K = len(M)
    if K > 2:  # with two classes a centred frame is a simplex by construction
        yield "nc2_equinorm", equinorm(centred)
        yield "nc2_equiangular", equiangular(centred)
        yield "nc2_etf", etf_distance(centred)
        yield "nc2_etf_unit", etf_distance(centred / np.linalg.norm(centred, axis=1, keepdims=True))
    yield "nc2_equinorm_w", equinorm(W)
    yield "nc2_equiangular_w", equiangular(W)
    yield "nc2_etf_w", etf_distance(W)
    yield "nc2_orthogonal", product_distance(M, M, 1 / np.sqrt(K), 0.0)
    yield "nc3_distance", float(np.linalg.norm(W / np.linalg.norm(W) - centred / np.linalg.norm(centred)))
    yield "nc3_etf", cross_etf_distance(W, centred)
    k = min(K - 1, M.shape[1])
    rows, means = (np.linalg.svd(x, full_matrices=False)[2][:k] for x in (W, centred))
    yield "nc3_subspace", float(np.linalg.svd(rows @ means.T, compute_uv=False).mean())


def _gaussian(rng: np.random.Generator, n: int, d: int) -> Float64[np.ndarray, "n m"]:
    """Return n Gaussian vectors of d dimensions, up to a rotation: m = min(n, d)."""
    if d <= n:
        return rng.standard_normal((n, d))
    triangle = np.tril(rng.standard_normal((n, n)), -1)
    return np.asarray(triangle + np.diag(np.sqrt(rng.chisquare(d - np.arange(n)))))


PERMUTED = (
    *("nc1_trace", "nc1_normalized"),
    *("nc2_equinorm", "nc2_equiangular", "nc2_etf", "nc2_etf_unit", "gnc2_uniformity"),
)
"""The measures that need no more than class sums and the total square."""


def permutation_baseline(view: LayerView, permuted: Permuted) -> dict[Key, Chance]:
    """Return the values of the same activations under labels that are independent of them: nc1_trace about (N−K)/(K−1).

    Args:
        view: a layer.
        permuted: its class sums under P ≥ 20 permutations, from the same pass.

    Returns: on average over the permutations, with their smallest and largest 2.5 %.
    """
    read: dict[Key, list[float]] = {}
    for one in permuted_views(view, permuted):
        for row in measure(one, only=PERMUTED):
            if row.value is not None:
                read.setdefault(key_of(row), []).append(row.value)
    return {key: _chance(values) for key, values in read.items() if len(values) == len(permuted.sums)}


def permuted_views(view: LayerView, permuted: Permuted) -> Iterator[LayerView]:
    """Yield the layer under each permutation, as its class sums and total square give it: no scatter in directions."""
    stats = bare(view).stats
    if stats.obstacle:
        return
    total = _total_scatter(stats)
    for of in permuted_frames(stats.frame, permuted):
        own = float(stats.counts @ np.einsum("kr,kr->k", of.coordinates, of.coordinates))
        centre = stats.counts @ of.coordinates / stats.n_samples
        between = own - stats.n_samples * float(centre @ centre)
        resample = replace(
            stats,
            frame=of,
            within=(total - between) * stats.counts / stats.n_samples,
            projected=np.zeros((len(of.basis), len(of.basis))),
            resolution=stats.tolerance,  # what storage resolves does not depend on the labels
        )
        yield replace(bare(view), stats=resample)


def is_chance(value: float, chance: Chance, collapse: float) -> bool:
    """Return whether a value is no nearer to collapse than 97.5 % of the values by chance.

    >>> etf = Chance(0.139, 0.12, 0.16)
    >>> is_chance(0.14, etf, collapse=0.0), is_chance(0.05, etf, collapse=0.0)
    (True, False)
    """
    low = chance.value if chance.low is None else chance.low
    high = chance.value if chance.high is None else chance.high
    return value >= low if collapse <= low else value <= high


def _total_scatter(stats: LayerStats) -> float:
    """Return Σ ‖h − mean‖² over all samples, which no permutation changes."""
    centre = stats.counts @ stats.coordinates / stats.n_samples
    return float(stats.within.sum() + stats.counts @ ((stats.coordinates - centre) ** 2).sum(axis=1))


def _chance(values: list[float]) -> Chance:
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return Chance(float(np.mean(values)), low, high)
