"""Check that a forward pass is a function of its sample: the same samples again, alone, and in another batch.

In: a model, a dataset, the traced pass. Out: nothing or a doubt, or the error that names the layer at which features
begin to depend on chance, on the pass before, or on the other samples of the batch. Numbers of such features would be
those of one replay. What only shows in the replay itself, crosscheck.py sees.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from ncscan.activations.batches import on_device
from ncscan.activations.module_state import Draws, changed_states, generator_states, own_states
from ncscan.activations.pass_comparison import PassComparison, Rounding, allowances, rounding_doubt
from ncscan.activations.tracer import Trace, watch
from ncscan.activations.tracing.record import copied
from ncscan.data import Dataset, Inputs
from ncscan.errors import ModelError
from ncscan.layer_graph import Tap

SAMPLES = 8
"""Samples that are looked at, spread over the dataset, where their features fit into `MEMORY`."""
NEIGHBOURS = 11
"""Other samples in the other batch, which is then of another size too."""
MEMORY = 256 * 2**20
DRAWS = 128
"""Passes of two samples where something moves between passes: what happens rarely must have a chance to show."""


@dataclass(frozen=True)
class Repeated:
    """What the passes of a model that was not refused have shown."""

    doubt: str = ""
    """Describes random draws, changes of state or rounding that somebody should know of; else empty."""
    changes: str = ""
    """Describes what moves from pass to pass: then rounding explains nothing."""


def require_repeatable(
    model: nn.Module, dataset: Dataset, traced: Trace, taps: Sequence[Tap], device: torch.device
) -> Repeated:
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

    Returns: a doubt, where the model draws random numbers or keeps a state that changed no feature, or where rounding
    alone moves features far.

    Raises:
        ModelError: when features move by more than rounding; it names the first layer in which they do.
    """
    digits = digits_of(model)
    try:
        twin = copy.deepcopy(model).double()
        return _checked(twin, replace(dataset, floats=torch.float64), traced, taps, device, digits)
    except ModelError:
        raise
    except Exception:  # noqa: S110 - the model's own code may raise anything where it cannot be copied or be in float64
        pass
    return _checked(copied_model(model), dataset, traced, taps, device, digits)


def copied_model(model: nn.Module) -> nn.Module:
    """Return a copy, or the model itself where it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # the model's own code may raise anything
        return model


def digits_of(model: nn.Module) -> float:
    """Return the relative size of the last digit of a model's weights, of the coarsest where types are mixed."""
    floats = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return max((torch.finfo(dtype).eps for dtype in floats), default=torch.finfo(torch.float32).eps)


def _checked(
    model: nn.Module, dataset: Dataset, traced: Trace, taps: Sequence[Tap], device: torch.device, digits: float
) -> Repeated:
    """Run the passes one after the other, compare each with the first, and return what they show."""
    seen = [tap for tap in traced.graph.taps if tap.kind != "input"]
    rows, others = _chosen(dataset.n_samples, samples_for(seen))
    comparison = PassComparison(seen, traced.graph.output.name, taps)
    doubts: list[str] = []
    with watch(model, traced, seen, comparison.take) as forward, torch.no_grad():

        def run(chosen: Int64[np.ndarray, "m"], places: Sequence[int], kept: Sequence[int]) -> list[float]:
            """Run the samples numbered `kept`, as rows `places` of a batch, and return how far each tap deviates."""
            comparison.begin(places, kept)
            forward(on_device(dataset.samples(chosen), device))
            return comparison.deviations

        def nudged() -> list[float]:
            """Run the same samples, weights and inputs changed in the last digit; return how far each tap deviates."""
            comparison.begin(everyone, everyone)
            with last_digits(model, digits, seed := next(seeds)):
                forward(with_last_digits(on_device(dataset.samples(rows), device), digits, seed))
            return comparison.deviations

        everyone, seeds = range(len(rows)), count()
        rounding = Rounding(nudged, lambda: run(rows, everyone, everyone))
        with Draws() as first:
            run(rows, everyone, everyone)
        changes = _changes(model, on_device(dataset.samples(rows), device), device)
        with Draws() as second:
            again = run(rows, everyone, everyone)
        changes = changes._replace(draws=changes.draws or first.states != second.states)
        why = _STATE.format(changes=f" ({changes.state})" if changes.state else "", layer="{layer}")
        steady = partial(refuse, comparison, which="again", why=_RANDOM if changes.draws else why)
        steady(again)
        if changes:
            comparison.restart()
            for _ in range(DRAWS):
                steady(run(rows[:2], everyone[:2], everyone[:2]))
            comparison.restart()
            run(rows, everyone, everyone)

        def settle(by: list[float]) -> None:
            doubts.extend(refuse(comparison, by, "elsewhere", NEIGHBOURS_DECIDE, None if changes else rounding))

        for i in everyone:
            try:
                alone = run(rows[i : i + 1], [0], [i])
            except Exception:  # the model's own code may raise anything
                break  # a model may need two samples, as long as the replay never gives it one
            settle(alone)
        # In another order, between others, in a batch of another size.
        mixed, places = _among(rows, others)
        settle(run(mixed, places, [*everyone][::-1]))
    if changes:
        doubts.insert(0, f"the forward pass {changes}; {DRAWS} passes of the same samples agreed, others need not")
    return Repeated(doubts[0] if doubts else "", str(changes))


class _Changes(NamedTuple):
    """The changes that one pass made."""

    draws: bool
    """Whether random numbers were drawn from a generator that everybody shares, or that was given to a call."""
    state: str
    """Describes what else changed; empty where nothing did."""

    def __bool__(self) -> bool:
        return self.draws or bool(self.state)

    def __str__(self) -> str:
        return " and ".join(["draws random numbers"] * self.draws + [self.state] * bool(self.state))


def _changes(model: nn.Module, inputs: Inputs, device: torch.device) -> _Changes:
    """Return what a pass changes, seen in a plain call, in which no code but the model's own runs."""
    given = copied(inputs)
    own, shared = own_states(model), generator_states(device)
    model(**given) if isinstance(given, dict) else model(given)
    draws = bool(changed_states(shared, generator_states(device)))
    names = changed_states(own, own_states(model))
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return _Changes(draws, f"changes {', '.join(names[:2])}{more}" if names else "")


@contextmanager
def last_digits(model: nn.Module, digits: float, seed: int) -> Iterator[None]:
    """Make every weight a relative `digits` larger or smaller, at random, inside the context."""
    generator = torch.Generator().manual_seed(seed)
    floats = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    before = [parameter.data for parameter in floats]
    try:
        for parameter in floats:
            parameter.data = _nudged(parameter.data, digits, generator)
        yield
    finally:
        for parameter, value in zip(floats, before, strict=True):
            parameter.data = value


def with_last_digits(inputs: Inputs, digits: float, seed: int) -> Inputs:
    """Return inputs of which every entry is a relative `digits` larger or smaller, at random; integers stay."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(inputs, dict):
        return {name: _nudged(value, digits, generator) for name, value in inputs.items()}
    return _nudged(inputs, digits, generator)


def _nudged(values: torch.Tensor, digits: float, generator: torch.Generator) -> torch.Tensor:
    if not values.is_floating_point():
        return values
    signs = torch.randint(0, 2, values.shape, generator=generator).to(values) * 2 - 1
    return values * (1 + digits * signs)


def samples_for(taps: Sequence[Tap]) -> int:
    """Return how many samples' features of all the taps fit into `MEMORY`, between 2 and `SAMPLES`."""
    per_sample = 8 * sum(int(np.prod(tap.shape)) for tap in taps)
    return int(np.clip(MEMORY // max(per_sample, 1), 2, SAMPLES))


_RANDOM = (
    "a sample's features differ from pass to pass, first at layer {layer}, because the forward pass draws random "
    "numbers (dropout, noise, stochastic depth): switch that off in eval mode"
)
_STATE = (
    "a sample's features differ from pass to pass, first at layer {layer}: the model keeps something from one pass to "
    "the next{changes}, or draws from a random generator of its own; make forward a function of its input"
)
NEIGHBOURS_DECIDE = (
    "a sample's features depend on the batch it is in, first at layer {layer}: BatchNorm without running statistics, "
    "attention or centring over the batch, or a draw with a fixed seed; make forward treat each sample alone"
)
_ASIDE = (
    "; the logits do not depend on it: where these layers hold the samples of a batch in an order of their own, as "
    "experts do, leave them out with --layers all {without}"
)


def refuse(
    comparison: "PassComparison",
    deviations: Sequence[float],
    which: str,
    why: str,
    rounding: "Rounding | None" = None,
) -> list[str]:
    """Raise ModelError at the first layer that deviates, where one that is kept does, by more than rounding explains.

    A layer's tolerance is that of the coarsest type up to there. Without `rounding`, that explains nothing.

    Returns: what rounding changes beyond the tolerance, in words.
    """
    allowed = allowances(comparison.dtypes, which)
    beyond = [by > most for by, most in zip(deviations, allowed, strict=True)]
    wanted = [tap.name in comparison.wanted for tap in comparison.taps]
    if rounding and any(b and w for b, w in zip(beyond, wanted, strict=True)):
        explained = rounding.explains(allowances(comparison.dtypes, "again"))
        beyond = [b and by > most for b, by, most in zip(beyond, deviations, explained, strict=True)]
    loose = [tap.name for tap, b, w in zip(comparison.taps, beyond, wanted, strict=True) if b and w]
    if loose:
        first = beyond.index(True)
        by = deviations[first]
        extent = f" (by {by:.2g} times the size of its features)" if np.isfinite(by) else ""
        without = " ".join(f"--layers '!{name}'" for name in loose[:3]) + " …" * (len(loose) > 3)
        # Coarse types allow the logits so much elsewhere that it would prove nothing.
        still = dict(zip((tap.name for tap in comparison.taps), deviations, strict=True))[comparison.output]
        beside = which == "elsewhere" and still <= allowances(comparison.dtypes, "again")[-1]
        aside = _ASIDE.format(without=without) if beside else ""
        raise ModelError(why.format(layer=comparison.taps[first].name) + extent + aside)
    return [
        rounding_doubt(tap.name, by)
        for tap, by, most, w in zip(comparison.taps, deviations, allowed, wanted, strict=True)
        if w and by > most
    ]


def spread(n_samples: int, n: int) -> Int64[np.ndarray, "n"]:
    """Return at most n samples spread over a dataset, the first and the last among them, in order."""
    return np.unique(np.linspace(0, n_samples - 1, n).astype(np.int64))


def _chosen(n_samples: int, n: int) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "m"]]:
    """Return samples spread over a dataset, and others between them."""
    rows = spread(n_samples, n)
    left = np.setdiff1d(spread(n_samples, 4 * (n + NEIGHBOURS)), rows)
    return rows, left[spread(len(left), NEIGHBOURS)] if len(left) else left


def _among(rows: Int64[np.ndarray, "n"], others: Int64[np.ndarray, "m"]) -> tuple[Int64[np.ndarray, "l"], list[int]]:
    """Return the rows in reverse order between others, and where they then stand."""
    mixed: list[int] = []
    places: list[int] = []
    waiting = [int(other) for other in others]
    for row in rows[::-1]:
        mixed += [waiting.pop()] if waiting else []
        places.append(len(mixed))
        mixed.append(int(row))
    return np.array([*mixed, *waiting]), places
