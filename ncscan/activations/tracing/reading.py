"""Find what a network's head reads of a sequence: one of its tokens, the final state of an RNN, or a mean.

In: a recorded pass and its logits. Out: `HeadReading`. The only file that walks back from the logits to the positions.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ncscan.activations.tracing.axes import Layout, samples_first
from ncscan.activations.tracing.logits import picked_from
from ncscan.activations.tracing.record import tensors_in
from ncscan.activations.tracing.steps import Pass, Step
from ncscan.layer_graph import LayerKind

POOLED: Mapping[str, str] = {
    "mean": "mean",
    "sum": "sum",
    "adaptive_avg_pool": "mean",
    "avg_pool": "mean",
    "max": "maximum",
    "amax": "maximum",
    "adaptive_max_pool": "maximum",
    "max_pool": "maximum",
}
"""How calls make one vector of all positions, in words."""
RECURRENT: LayerKind = "recurrent"


@dataclass(frozen=True)
class Pick:
    """A call that gives one position of a sequence for each sample."""

    call: int
    """Its number in the pass."""
    n_positions: int
    along: tuple[int, int]
    """The dimensions of samples and positions in what it reads."""
    layout: Layout
    """How samples lie in what it gives."""

    def positions(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        """Return the position (n,) that the call gives of each sample: it is repeated on the numbers of positions."""
        source = next(tensors_in((args, kwargs)))
        shape = [1] * source.ndim
        shape[self.along[1]] = self.n_positions
        numbers = torch.arange(self.n_positions, device=source.device).reshape(shape).expand(source.shape)
        given = func(*(numbers if each is source else each for each in args), **kwargs)
        rows = samples_first(next(tensors_in(given)), self.layout)
        return rows.reshape(len(rows), -1)[:, 0]


@dataclass(frozen=True)
class HeadReading:
    """What the head reads of sequences and feature maps."""

    pick: Pick | None = None
    """The one call by which it reads a position; None where it reads otherwise, or at several places."""
    n_positions: int = 0
    """How many positions the sequence has of which it reads one, or the state that an RNN is in after the last."""
    positions: torch.Tensor | None = None
    """Which one of each traced sample; None where it is the state of an RNN."""
    otherwise: tuple[str, ...] = ()
    """What else it reads, in words, each once: the mean of the positions, their maximum, …."""
    is_mixed: bool = False
    """Whether single positions are among that."""


def reading_of(seen: Pass, logits: int) -> HeadReading:
    """Return what the head reads of sequences and feature maps, found by walking back from the logits."""
    picks: list[Pick] = []
    finals: set[int] = set()
    otherwise: dict[str, None] = {}
    rnn_states = "several states of an RNN"
    for value, step, source in _crossings(seen, logits):
        pick = _pick(seen, value, source)
        rnn = seen.makers.get(source)
        if step.kind == RECURRENT:
            finals.add(_positions(seen, source))
        elif pick is None or rnn is None or rnn.kind != RECURRENT or source == rnn.writes[0]:
            picks += [pick] if pick else []
            otherwise |= dict.fromkeys([] if pick else [_in_words(seen, value)])
        elif _is_last_layer(seen, pick, rnn):
            finals.add(_positions(seen, rnn.writes[0]))
        else:
            otherwise[rnn_states] = None
    if len(picks) + len(finals) > bool(not otherwise):
        otherwise["several positions" if len(picks) + len(finals) > 1 else "a single position"] = None
    if otherwise or not (picks or finals):
        return HeadReading(otherwise=tuple(otherwise), is_mixed=bool(picks or finals or rnn_states in otherwise))
    if finals:
        return HeadReading(n_positions=finals.pop())
    call = seen.recording.calls[picks[0].call]
    return HeadReading(picks[0], picks[0].n_positions, picks[0].positions(call.func, call.args, call.kwargs))


def _crossings(seen: Pass, logits: int) -> Iterator[tuple[int, Step, int]]:
    """Yield where a vector is made of several positions on the way to the logits: the vector, how, and of what."""
    todo, met = [seen.root(logits)], set[int]()
    while todo:
        value = todo.pop()
        step = seen.makers.get(value)
        if step is None or value in met:
            continue
        met.add(value)
        for source in sorted(step.reads):
            if not seen.recording.tensors[source].is_floating_point() or seen.facts[source].layout is None:
                continue
            if _positions(seen, source) > 1:
                yield value, step, source
            else:
                todo.append(source)


def _positions(seen: Pass, value: int) -> int:
    """Return how many positions a value has a sample: tokens, pixels, layers of an RNN; 1 for a vector."""
    shape, layout = seen.recording.shapes[value], seen.facts[value].layout
    if layout is None or layout.channel is None:
        return 1
    return math.prod(shape) // max(seen.recording.n * shape[layout.channel], 1)


def _pick(seen: Pass, value: int, source: int) -> Pick | None:
    """Return the call that gives one position of a sequence; None where it is no such call."""
    call, layout, read = seen.facts[value].call, seen.facts[value].layout, picked_from(seen, value)
    own = seen.facts[read].layout
    if read == value or call is None or layout is None or own is None or own.before * own.after != 1:
        return None
    dims = [d for d in range(len(seen.recording.shapes[read])) if d not in (own.dim, own.channel)]
    if len(dims) != 1 or seen.root(read) != source:
        return None
    number = next(i for i, each in enumerate(seen.recording.calls) if each is call)
    return Pick(number, seen.recording.shapes[read][dims[0]], (own.dim, dims[0]), layout)


def _is_last_layer(seen: Pass, pick: Pick, rnn: Step) -> bool:
    """Return whether of the states of an RNN in one direction that of its last layer is read."""
    states, sequence = (seen.recording.shapes[value][-1] for value in (rnn.writes[1], rnn.writes[0]))
    call = seen.recording.calls[pick.call]
    last = pick.positions(call.func, call.args, call.kwargs) == pick.n_positions - 1
    return states == sequence and bool(last.all())


def _in_words(seen: Pass, value: int) -> str:
    """Return how a vector is made of several positions."""
    call = seen.facts[value].call
    name = "" if call is None else call.name.removesuffix("_")
    known = next((word for start, word in POOLED.items() if name.startswith(start)), "")
    return f"the {known} of the positions" if known else "all positions"
