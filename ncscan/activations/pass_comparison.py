"""Measure how far features deviate between passes of the same samples, and how much of that rounding explains.

In: features of two passes, tap by tap. Out: distances in units of the size of a layer, and the most that rounding
allows, by the types on the way and by passes whose weights and inputs differ in their last digit.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from ncscan.layer_graph import Tap

NUDGES = 24
"""The number of passes, each with another last digit in weights and inputs: they show how rounding moves features."""
OFTEN = 7
"""Features must move in so many of them: what decides by a digit falls to either side, a rare event returns rarely."""
BEYOND = 10
"""Features must move so many times farther than in those passes to be no matter of rounding."""


class Tolerance(NamedTuple):
    """How far a feature may deviate, in units of the rms of its layer: what rounding alone does, many layers deep."""

    again: float
    """The allowance in the same batch, where a CPU repeats every bit."""
    elsewhere: float
    """The allowance in another batch, where products sum in another order."""


TOLERANCES = {
    torch.float64: Tolerance(1e-9, 1e-5),  # code of the model may still work in float32 on the way
    torch.float32: Tolerance(1e-5, 1e-3),
    torch.float16: Tolerance(1e-2, 0.1),
    torch.bfloat16: Tolerance(1e-2, 0.25),
}
EXACT = Tolerance(0.0, 0.0)
"""The tolerance of integers."""


class Rounding(NamedTuple):
    """Passes of one batch that show what rounding does."""

    nudged: Callable[[], Sequence[float]]
    """How far each layer moves with other last digits."""
    repeated: Callable[[], Sequence[float]]
    """How far it moves without."""

    def explains(self, again: Sequence[float]) -> list[float]:
        """Return how far each layer may deviate: `BEYOND` times as far as in `OFTEN` of the nudged passes.

        Nothing where a repeated pass deviates farther than `again` allows: what happens at random, some of the nudged
        passes show as well.
        """
        passes = []
        for _ in range(NUDGES):
            if any(by > most for by, most in zip(self.repeated(), again, strict=True)):
                return [0.0] * len(again)
            passes.append(self.nudged())
        return [BEYOND * sorted(by)[-OFTEN] for by in zip(*passes, strict=True)]


def rounding_doubt(layer: str, by: float) -> str:
    """Return what is doubtful about features that the last digit of the weights changes much."""
    extent = f"{by:.2g} times the size of its features" if np.isfinite(by) else "beyond what is finite"
    return f"rounding alone moves samples at layer {layer} from batch to batch, by {extent}: their digits are noise"


def allowances(dtypes: Sequence[torch.dtype], which: str) -> list[float]:
    """Return how far features may deviate, layer by layer: as far as the coarsest type up to there allows."""
    return [*accumulate((getattr(TOLERANCES.get(dtype, EXACT), which) for dtype in dtypes), max)]


class PassComparison:
    """Keeps the features of the first pass, and how far those of the present one are from them, tap by tap."""

    def __init__(self, taps: Sequence[Tap], output: str, kept: Sequence[Tap]) -> None:
        self.taps, self.output = taps, output
        self.wanted = frozenset({output, *(tap.name for tap in kept)})
        self.deviations: list[float] = []
        self.dtypes: list[torch.dtype] = [torch.float64] * len(taps)
        self._first: list[Float64[np.ndarray, "n d"] | None] = [None] * len(taps)
        self._sizes = [0.0] * len(taps)
        self._places: Sequence[int] = ()
        self._kept: Sequence[int] = ()

    def restart(self) -> None:
        """Make the next pass the first."""
        self._first = [None] * len(self.taps)

    def begin(self, places: Sequence[int], kept: Sequence[int]) -> None:
        """Begin a pass in which the samples numbered `kept` are the rows `places` of the batch."""
        self.deviations = [0.0] * len(self.taps)
        self._places, self._kept = places, kept

    def take(self, i: int, value: torch.Tensor) -> None:
        """Take a tap's value (m, …), to be kept or to be compared."""
        own = on_host(value[list(self._places)].reshape(len(self._places), -1))
        first = self._first[i]
        if first is None:
            self._first[i], self.dtypes[i], self._sizes[i] = own, value.dtype, extent(own)
        else:
            self.deviations[i] = float(distances(first[list(self._kept)], own, self._sizes[i]).max(initial=0.0))


def extent(layer: Float64[np.ndarray, "n d"]) -> float:
    """Return the rms of a layer's finite entries, the size that distances are measured by."""
    known = layer if np.isfinite(layer).all() else layer[np.isfinite(layer)]
    size = float(np.abs(known).max(initial=0.0))
    return size * float(np.sqrt(np.square(known / size).mean())) if size else 0.0


def distances(
    expected: Float64[np.ndarray, "n d"], actual: Float64[np.ndarray, "n d"], size: float
) -> Float64[np.ndarray, "n"]:
    """Return the largest difference in each row, in units of `size`; infinite where only one is a number."""
    with np.errstate(over="ignore", invalid="ignore"):
        by = np.abs(expected - actual).max(axis=1, initial=0.0)
    if not np.isfinite(by).all():
        finite = np.isfinite(expected)
        by = np.abs(np.where(finite, expected, 0.0) - np.where(finite, actual, 0.0)).max(axis=1, initial=0.0)
        by[(finite != np.isfinite(actual)).any(axis=1)] = np.inf
    return by / size if size else np.where(by > 0, np.inf, 0.0)


def on_host(values: torch.Tensor) -> Float64[np.ndarray, "n d"]:
    """Return a tensor as float64 on the host: numpy does not wait for the threads that compute the next batch."""
    found: Float64[np.ndarray, "n d"] = values.cpu().double().numpy()
    return found
