"""Compute the checksums of the rows of a chunk, for each version of the format.

In: rows. Out: a number that another bit anywhere changes.

HDF5's own (fletcher32) is not used for rows. It cannot tell 0x0000 from 0xFFFF, passes a chunk of zeros that never
reached the disk, makes every file a filtered one whose chunks cannot be laid out before they are written, and cost as
much again as the writing itself: both sums below are ten times faster.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xxhash

LANES = 1021
"""A prime, so that no two pages or sectors of a chunk fall on the same lanes: one in the other's place is noticed."""


@dataclass(frozen=True)
class Checksum:
    """One function by which changed rows are detected."""

    of: Callable[[np.ndarray], int]
    stored_as: str


def xxh3(rows: np.ndarray) -> int:
    """Return the 64-bit XXH3 of the rows' bytes, with the seed 0.

    >>> xxh3(np.zeros((3, 4), np.float32)) == xxh3(np.zeros((4, 3), np.float64))
    False
    """
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(rows).data)


def crc32_of_lanes(rows: np.ndarray) -> int:
    """Return the crc32 of lane sums: the rows' 64-bit words are dealt to 1,021 lanes in turn and added up in each.

    Bytes that are left over go into the crc32 as they are.
    """
    content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
    dealt = len(content) // (8 * LANES) * 8 * LANES
    sums = content[:dealt].view("<u8").reshape(-1, LANES).sum(axis=0, dtype=np.uint64)
    return zlib.crc32(content[dealt:].data, zlib.crc32(sums.astype("<u8", copy=False).data))


CHECKSUMS: Mapping[int, Checksum] = {1: Checksum(crc32_of_lanes, "<u4"), 2: Checksum(xxh3, "<u8")}
"""The checksum of each version of the format that is read; the last one is written."""
