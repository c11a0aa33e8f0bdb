"""What it costs to check that features are functions of their samples: python tests/benchmarks/bench_repeatable.py

An extract of the twelve checkpoints of a run of the sample data (1,797 digits), and of the same checkpoints with 20
times as many samples, each with the checks and without, in turn; wall and CPU seconds of the medians of ROUNDS.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ncscan.activations.batches import Batch, replay
from ncscan.activations.crosscheck import CrossCheck
from ncscan.activations.repeatability import Repeated, require_repeatable
from ncscan.pipeline import extract as extraction
from ncscan.pipeline.extract import extract
from ncscan.pipeline.load import Flags, find_targets

ROUNDS = 5
SAMPLES = Path(__file__).parents[2] / "sample_data"
CHECKED = (require_repeatable, CrossCheck)


class Unchecked:
    """A replay that is compared with nothing."""

    def __init__(self, *given: object, changes: str, **settings: object) -> None:
        self.doubts: list[str] = []
        self._given, self._settings = given, settings

    def batches(self, start: int) -> Iterator[Batch]:
        return replay(*self._given, **self._settings, start=start)  # type: ignore[arg-type]


def spent(flags: Flags) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        targets = find_targets([SAMPLES / "trajectories" / "decay-seed0"], flags).targets
        wall, cpu = time.perf_counter(), time.process_time()
        outcome = extract(targets, flags, Path(out), lambda _event: None)
        assert outcome.exit_code == 0
        return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        with np.load(SAMPLES / "digits.npz") as digits:
            x, y = (np.concatenate([digits[name]] * 20) for name in ("inputs", "labels"))
        np.savez(Path(folder) / "many.npz", inputs=x, labels=y)
        for flags in (Flags(), Flags(data=f"npz:{folder}/many.npz")):
            times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for _ in range(rounds):
                for checked in (True, False):
                    check = CHECKED if checked else (lambda *_: Repeated(), Unchecked)
                    vars(extraction).update(require_repeatable=check[0], CrossCheck=check[1])
                    times[checked].append(spent(flags))
            (wall, cpu), (bare, bare_cpu) = (tuple(map(median, zip(*times[c], strict=True))) for c in (True, False))
            print(
                f"{flags.data or 'digits'}: wall {wall:.2f} s over {bare:.2f} s = {wall / bare:.2f}, "
                f"CPU {cpu:.2f} s over {bare_cpu:.2f} s = {cpu / bare_cpu:.2f}; {torch.get_num_threads()} threads",
                flush=True,
            )


if __name__ == "__main__":
    main()
