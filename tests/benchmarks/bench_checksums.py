"""What the checksum of each version of a dump costs, in MB/s, beside copying the same rows: no arguments."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from ncscan.dumps.checksums import CHECKSUMS

ROUNDS = 15
SIZES = (2**16, 2**20, 2**23, 2**26)
"""Bytes of a chunk: from a narrow layer's to the largest that is written."""


def seconds(work: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    for size in SIZES:
        rows = np.random.default_rng(0).standard_normal(size // 8).reshape(-1, 64)
        room = np.empty_like(rows)
        works: dict[str, Callable[[], object]] = {"copy": partial(np.copyto, room, rows)}
        works |= {f"version {version}": partial(checksum.of, rows) for version, checksum in CHECKSUMS.items()}
        # The variants take turns, and the best round of each counts: other work beside them only makes one slower.
        seen = [{name: seconds(work, max(1, 2**24 // size)) for name, work in works.items()} for _ in range(ROUNDS)]
        best = {name: min(each[name] for each in seen) for name in works}
        print(f"{size:>10,} bytes: " + ", ".join(f"{n} {size / s / 1e6:,.0f} MB/s" for n, s in best.items()))


if __name__ == "__main__":
    main()
