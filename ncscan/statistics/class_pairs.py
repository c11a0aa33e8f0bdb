"""All pairs of K points, some rows of the K×K table at a time: distances, cosines, products.

In: points as rows. Out: blocks of the table, or what they add up to; the table itself is never whole beyond one block.
Products are BLAS's, O(K²r); distances take differences only of the pairs for which the product would lose digits.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

_BLOCK_NUMBERS = 2**22
"""Numbers of a block of the table: 32 MiB, and the whole table up to K = 2,048."""

_CLOSE = 2.0**-4
"""Where ‖a − b‖² is under this share of ‖a‖² + ‖b‖², the product has lost four bits, and the difference is taken."""


class Crowding(NamedTuple):
    """Describes how close points are to each other."""

    distance: float
    """The smallest distance of any pair."""
    pair: tuple[int, int]
    """Those two points, the first of equals."""
    inverse_squares: Float64[np.ndarray, "K"]
    """Σ_{c'≠c} 1/‖a_c − a_c'‖² of each point; infinite where two coincide."""


def distance_blocks(points: Float64[np.ndarray, "K r"]) -> Iterator[tuple[int, Float64[np.ndarray, "b m"]]]:
    """Yield the first row of each block, and the distances of its rows from the points from that row on.

    So each pair is there once above the diagonal of a block; the diagonal is 0, and below it are the same pairs again.

    ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩ where that keeps its digits; where the points are close, from their difference.

    >>> [(start, block.tolist()) for start, block in distance_blocks(np.array([[0.0, 0.0], [3.0, 4.0]]))]
    [(0, [[0.0, 5.0], [5.0, 0.0]])]
    """
    # Squares of large and of small numbers have no digits; a power of two takes none.
    size = np.exp2(np.frexp(np.abs(points).max(initial=0.0))[1] - 1.0)
    scaled = points / size
    squares = np.einsum("kr,kr->k", scaled, scaled)
    for start, stop in _blocks(len(points)):
        rows, rest = scaled[start:stop], scaled[start:]
        sums = squares[start:stop, None] + squares[start:]
        block = rows @ rest.T
        block *= -2.0
        block += sums
        sums *= _CLOSE
        one, other = np.nonzero(block < sums)
        step = max(1, _BLOCK_NUMBERS // max(points.shape[1], 1))
        for at in range(0, len(one), step):
            i, j = one[at : at + step], other[at : at + step]
            apart = rows[i] - rest[j]
            block[i, j] = np.einsum("nr,nr->n", apart, apart)
        np.sqrt(block, out=block)
        block *= size
        yield start, block


def not_above_diagonal(block: Float64[np.ndarray, "b m"]) -> Bool[np.ndarray, "b m"]:
    """Mark what of a block of `distance_blocks` is a pair of a point with itself, or one that is there already."""
    rows, columns = (np.arange(n) for n in block.shape)
    marked: Bool[np.ndarray, "b m"] = rows[:, None] >= columns
    return marked


def crowding(points: Float64[np.ndarray, "K r"]) -> Crowding:
    """Return how close K points are to each other, from one sweep over their pairs.

    >>> found = crowding(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]))
    >>> found.distance, found.pair, found.inverse_squares.round(6).tolist()
    (1.0, (0, 1), [1.111111, 1.25, 0.361111])
    """
    distance, pair, inverse = np.inf, (0, 0), np.zeros(len(points))
    for start, block in distance_blocks(points):
        block[not_above_diagonal(block)] = np.inf  # each pair once
        one, other = map(int, np.unravel_index(int(np.argmin(block)), block.shape))
        if block[one, other] < distance:
            distance, pair = float(block[one, other]), (start + one, start + other)
        with np.errstate(divide="ignore", over="ignore"):  # points that coincide are seen from the distance
            np.divide(1.0, np.square(block, out=block), out=block)
        inverse[start : start + len(block)] += block.sum(axis=1)
        inverse[start:] += block.sum(axis=0)
    return Crowding(distance, pair, inverse)


def product_blocks(
    a: Float64[np.ndarray, "K r"], b: Float64[np.ndarray, "K r"]
) -> Iterator[tuple[int, Float64[np.ndarray, "b K"]]]:
    """Yield the first row of each block, and the block of a bᵀ.

    >>> [(start, block.tolist()) for start, block in product_blocks(np.eye(2), np.eye(2))]
    [(0, [[1.0, 0.0], [0.0, 1.0]])]
    """
    for start, stop in _blocks(len(a)):
        yield start, a[start:stop] @ b.T


def fits_a_block(K: int) -> bool:
    """Return whether the whole table is one block, which can be kept where it is needed twice."""
    return K * K <= _BLOCK_NUMBERS


def _blocks(K: int) -> Iterator[tuple[int, int]]:
    """Yield first and last row of each block of K×K numbers."""
    rows = max(1, _BLOCK_NUMBERS // max(K, 1))
    for start in range(0, K, rows):
        yield start, min(start + rows, K)
