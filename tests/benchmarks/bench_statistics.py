"""Time of both passes over a dump against its floor: reading it twice with h5py, and one float32 XᵀX a layer.

Run by hand: `python tests/benchmarks/bench_statistics.py`, with OMP_NUM_THREADS and OPENBLAS_NUM_THREADS set. Times are
processor time, so that neighbours on the machine disturb them less; with one thread they are the time it takes.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.passes import layer_stats

N, D, K, ROWS = 60_000, 512, 10, 1024


def spent(work: Callable[[], object], repeats: int = 5) -> float:
    """Least processor time of some runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, N)
    features = rng.standard_normal((K, D), dtype=np.float32)[labels]
    features += 0.3 * rng.standard_normal((N, D), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "dump.h5", "w") as file:
        stored = file.create_dataset("layer", data=features, chunks=(ROWS, D))

        def chunks() -> Iterator[tuple[int, np.ndarray]]:
            for start in range(0, N, ROWS):
                yield start, stored[start : start + ROWS]

        reads = 2 * spent(lambda: [None for _ in chunks()])
        gram = spent(lambda: features.T @ features)
        print(f"floor: {reads:.3f} s reading twice + {gram:.3f} s XᵀX")
        report(
            "no spectrum", partial(layer_stats, chunks, labels, K, AccumulationOptions(spectrum=False)), reads + gram
        )
        report("spectrum", partial(layer_stats, chunks, labels, K), reads + gram)
        report(
            "negativity", partial(layer_stats, chunks, labels, K, AccumulationOptions(negative_part=True)), reads + gram
        )


def report(name: str, work: Callable[[], object], floor: float) -> None:
    taken = spent(work)
    print(f"{name}: {taken:.3f} s, {taken / floor:.2f} × the floor")


if __name__ == "__main__":
    main()
