"""Whether a forward pass is a function of its sample: the same samples again, alone, and in another batch.

In: a model, a dataset, the traced pass. Out: nothing, or the error that names the layer at which features begin to
depend on chance, on the pass before, or on the samples beside them. Numbers of such features would be those of one
replay.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from ncscan.dataset import Dataset
from ncscan.errors import ModelError
from ncscan.graph import Tap
from ncscan.replay import moved
from ncscan.taps import Trace, watch

SAMPLES = 8
"""Samples that are looked at, spread over the dataset, where their features fit into `MEMORY`."""
NEIGHBOURS = 11
"""Other samples in the other batch, which is then of another size too."""
MEMORY = 256 * 2**20
DRAWS = 64
"""Passes of one batch where something moves between passes: what is drawn rarely must have a chance to show."""


class Tolerance(NamedTuple):
    """How far a feature may move, in units of the rms of its layer: what rounding alone does, many layers deep."""

    again: float
    """In the same batch, where a CPU repeats every bit."""
    elsewhere: float
    """In another batch, where products sum in another order."""


TOLERANCES = {
    torch.float64: Tolerance(1e-9, 1e-5),  # code of the model may still work in float32 on the way
    torch.float32: Tolerance(1e-5, 1e-3),
    torch.float16: Tolerance(1e-2, 0.1),
    torch.bfloat16: Tolerance(1e-2, 0.25),
}
EXACT = Tolerance(0.0, 0.0)
"""Of integers."""


def require_repeatable(
    model: nn.Module, dataset: Dataset, traced: Trace, taps: Sequence[Tap], device: torch.device
) -> str:
    """Refuse a model whose features are not a function of the sample.

    A few samples are replayed twice in one batch, alone, and among others, in float64 where the model runs in it, so
    that rounding hides little.

    Args:
        model: in eval mode, on the device; it is not changed, what runs is a copy where it can be copied.
        dataset: where the samples come from.
        traced: the model's traced pass.
        taps: whose features are to be kept. Others may depend on the batch (experts see its tokens in an order of their
            own), as long as neither these nor the logits do.
        device: where to compute.

    Returns: a doubt, where the model draws random numbers that moved no feature; else empty.

    Raises:
        ModelError: when features move by more than rounding; it names the first layer in which they do.
    """
    try:
        twin = copy.deepcopy(model).double()
        return _checked(twin, replace(dataset, floats=torch.float64), traced, taps, device)
    except ModelError:
        raise
    except Exception:  # noqa: S110 - the model's own code may raise anything where it cannot be copied or be in float64
        pass
    try:
        twin = copy.deepcopy(model)
    except Exception:  # its own code again
        twin = model
    return _checked(twin, dataset, traced, taps, device)


def _checked(model: nn.Module, dataset: Dataset, traced: Trace, taps: Sequence[Tap], device: torch.device) -> str:
    """The passes, one after the other, each against the first."""
    seen = [tap for tap in traced.graph.taps if tap.kind != "input"]
    per_sample = 8 * sum(int(np.prod(tap.shape)) for tap in seen)
    n = int(np.clip(MEMORY // max(per_sample, 1), 2, SAMPLES))
    rows, others = _spread(dataset.n_samples, n)
    comparison = _Comparison(seen, frozenset({traced.graph.output.name, *(tap.name for tap in taps)}))
    with watch(model, traced, seen, comparison.take) as forward, torch.no_grad():

        def run(chosen: Int64[np.ndarray, "m"], places: Sequence[int], kept: Sequence[int]) -> list[float]:
            """The samples numbered `kept`, which stand at `places` of a batch: how far each tap moved."""
            inputs = moved(dataset.samples(chosen), device)
            comparison.begin(places, kept)
            forward(inputs)
            return comparison.moved

        everyone = range(len(rows))
        run(rows, everyone, everyone)
        before, own = _random_states(device), _own_states(model)
        again = run(rows, everyone, everyone)
        draws = _random_states(device) != before
        for _ in range(DRAWS - 2 if draws or _own_states(model) != own else 0):
            again = list(map(max, again, run(rows, everyone, everyone)))
        _refuse(comparison, again, "again", _RANDOM if draws else _STATE)
        for i in everyone:
            try:
                alone = run(rows[i : i + 1], [0], [i])
            except Exception:
                break  # a model may need two samples, as long as the replay never gives it one
            _refuse(comparison, alone, "elsewhere", _NEIGHBOURS)
        # In another order, between others, in a batch of another size.
        mixed, places = _among(rows, others)
        _refuse(comparison, run(mixed, places, [*everyone][::-1]), "elsewhere", _NEIGHBOURS)
    return f"the forward pass draws random numbers, though {DRAWS} passes of the same samples agreed" if draws else ""


_RANDOM = (
    "a sample's features differ from pass to pass, first at layer {layer}, because the forward pass draws random "
    "numbers (dropout, noise, stochastic depth): switch that off in eval mode"
)
_STATE = (
    "a sample's features differ from pass to pass, first at layer {layer}: the model keeps something from one pass to "
    "the next, or draws from a random generator of its own; make forward a function of its input"
)
_NEIGHBOURS = (
    "a sample's features depend on the batch it is in, first at layer {layer}: BatchNorm without running statistics, "
    "attention or centring over the batch, or a draw with a fixed seed; make forward treat each sample alone"
)


def _refuse(comparison: "_Comparison", moved_by: Sequence[float], which: str, why: str) -> None:
    """ModelError at the first layer that moved, where one that is kept did.

    A layer's tolerance is that of the coarsest type up to there.
    """
    allowed = 0.0
    first: tuple[str, float] | None = None
    for tap, by, dtype in zip(comparison.taps, moved_by, comparison.dtypes, strict=True):
        allowed = max(allowed, getattr(TOLERANCES.get(dtype, EXACT), which))
        if by > allowed:
            first = first or (tap.name, by)
            if tap.name in comparison.wanted:
                extent = f" (by {first[1]:.2g} times the size of its features)" if np.isfinite(first[1]) else ""
                raise ModelError(why.format(layer=first[0]) + extent)


class _Comparison:
    """The features of the first pass, and how far those of the present one are from them, tap by tap."""

    def __init__(self, taps: Sequence[Tap], wanted: frozenset[str]) -> None:
        self.taps, self.wanted = taps, wanted
        self.moved: list[float] = []
        self.dtypes: list[torch.dtype] = [torch.float64] * len(taps)
        self._first: list[torch.Tensor | None] = [None] * len(taps)
        self._places: Sequence[int] = ()
        self._kept: Sequence[int] = ()

    def begin(self, places: Sequence[int], kept: Sequence[int]) -> None:
        """A pass begins, in which the samples numbered `kept` stand at `places`."""
        self.moved = [0.0] * len(self.taps)
        self._places, self._kept = places, kept

    def take(self, i: int, value: torch.Tensor) -> None:
        """A tap's value (m, …), to be kept or to be compared."""
        own = value[list(self._places)].reshape(len(self._places), -1)
        first = self._first[i]
        if first is None:
            self._first[i], self.dtypes[i] = own.clone(), value.dtype
        else:
            self.moved[i] = _distance(first[list(self._kept)].double(), own.double(), first)


def _distance(expected: torch.Tensor, actual: torch.Tensor, layer: torch.Tensor) -> float:
    """The largest difference of an entry, in units of the rms over a layer; infinite where only one is a number."""
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(actual)):
        return float("inf")
    largest = float(torch.where(finite, expected - actual, 0.0).abs().amax()) if expected.numel() else 0.0
    if largest == 0:
        return 0.0
    known = layer[torch.isfinite(layer)].double()
    size = float(known.abs().amax())
    return largest / size / float((known / size).square().mean().sqrt()) if size else float("inf")


def _spread(n_samples: int, n: int) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "m"]]:
    """Samples spread over a dataset, and others between them."""
    rows = np.unique(np.linspace(0, n_samples - 1, n).astype(np.int64))
    left = np.setdiff1d(np.linspace(0, n_samples - 1, 4 * (n + NEIGHBOURS)).astype(np.int64), rows)
    return rows, left[np.unique(np.linspace(0, len(left) - 1, NEIGHBOURS).astype(np.int64))] if len(left) else left


def _among(rows: Int64[np.ndarray, "n"], others: Int64[np.ndarray, "m"]) -> tuple[Int64[np.ndarray, "l"], list[int]]:
    """The rows in reverse order between others, and where they then stand."""
    mixed: list[int] = []
    places: list[int] = []
    waiting = [int(other) for other in others]
    for row in rows[::-1]:
        mixed += [waiting.pop()] if waiting else []
        places.append(len(mixed))
        mixed.append(int(row))
    return np.array([*mixed, *waiting]), places


def _random_states(device: torch.device) -> tuple[object, ...]:
    """The states of torch's and numpy's generators."""
    cuda = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b""
    _, keys, position, *rest = np.random.get_state()  # noqa: NPY002 - code of a model may draw from it
    return torch.get_rng_state().numpy().tobytes(), cuda, np.asarray(keys).tobytes(), position, rest


def _own_states(model: nn.Module) -> list[str]:
    """What else a pass may move that the next one sees: counters and generators in modules, Python's own generator.

    Where it moves more passes are worth their time; it is no evidence: a count may be for nothing, and from Python's
    generator bystanders draw too, such as type checkers.
    """
    states = [repr(random.getstate())]
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, int | float):
                states.append(repr(value))
            elif isinstance(value, torch.Generator):
                states.append(value.get_state().numpy().tobytes().hex())
            elif isinstance(value, np.random.Generator):
                states.append(str(value.bit_generator.state))
            elif isinstance(value, np.random.RandomState):
                states.append(repr(value.get_state()))
            elif isinstance(value, random.Random):
                states.append(repr(value.getstate()))
    return states
