"""Find which tensors inside a forward pass are layers, and give each of them as soon as it exists.

In: a model and inputs. Out: a `Trace` (once, on a few samples), then, batch by batch, the values of the taps that were
asked for. The only way to an activation: modules and functional calls, in-place or not, are met by one mechanism.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from ncscan.activations.last_tokens import USUAL, ends, padding_of
from ncscan.activations.tracing.axes import samples_first
from ncscan.activations.tracing.check import Expected, Follower
from ncscan.activations.tracing.layers import Anatomy, understand
from ncscan.activations.tracing.reading import HeadReading
from ncscan.activations.tracing.record import Place, Recording, copied, hooked, quiet, record, tensors_in
from ncscan.data import Inputs
from ncscan.errors import TapError, UsageError
from ncscan.layer_graph import Tap, TapGraph

LOGITS = -1
"""The number under which the logits are taken, beside those of taps."""
AUTO = "auto"
"""The reduction that follows the head: the token that it reads, else the mean."""
REDUCTIONS = ("mean", "flatten", "cls", "last", "max")
"""The ways in which a feature map becomes a vector; recorded with every number that comes of it."""


@dataclass(frozen=True)
class Route:
    """One way through the model, call by call."""

    calls: tuple[Expected, ...]
    shapes: tuple[tuple[torch.Size | None, torch.Size | None], ...]
    """The shapes of what each call returned, for the two traced batch sizes."""
    silent: frozenset[Callable[..., object]]
    anatomy: Anatomy
    writes_input: bool


@dataclass(frozen=True)
class TokenRead:
    """What the head reads of sequences: one token of each sample, or something else."""

    how: str = ""
    """The reduction that takes this token, `cls` or `last`; empty where it reads no token, or it is not clear which."""
    n_positions: int = 0
    """How many positions the sequence has that it reads one of."""
    is_seen: bool = False
    """Whether a call of each pass shows which token that is; else it is the state that an RNN ends in."""
    otherwise: tuple[str, ...] = ()
    """What else it reads of sequences and feature maps, in words."""
    is_unclear: bool = False
    """Whether tokens are among that."""
    padding: tuple[int, ...] = ()
    """The numbers of padding tokens that the model's configuration names."""


@dataclass(frozen=True)
class Trace:
    """A forward pass that is known call by call."""

    graph: TapGraph
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor | None]]
    """The parameters by `LinearMap.name`: the weight as the pass used it, (outputs, inputs, …), and the bias."""
    read: TokenRead
    """What the head reads of sequences."""
    _n: int
    _routes: tuple[Route, ...]

    def how(self, tap: Tap, asked: str) -> str:
        """Return the one of `REDUCTIONS` that is meant for a tap where `auto`, or one of them, was asked for."""
        if asked != AUTO:
            return asked
        if tap.name in self._routes[0].anatomy.states:
            return "flatten"  # a row for each layer and direction of an RNN
        return self.read.how if self.read.how and self.is_read(tap) else "mean"

    def is_read(self, tap: Tap) -> bool:
        """Return whether a tap is a sequence as long as the one that the head reads a token of."""
        return is_sequence(tap) and tap.kind != "input" and tap.shape[0] == self.read.n_positions

    @property
    def passed(self) -> tuple[str, ...]:
        """Return what keeps the order of a row between the logits and what the model returns, first to last."""
        return self._routes[0].anatomy.passed


def trace(model: nn.Module, inputs: Inputs, *, n_classes: int | None = None, logits: str | None = None) -> Trace:
    """Run the model on a few samples and understand what it did.

    Args:
        model: in eval mode; its weights and the inputs are left as they are.
        inputs: three samples or more, a tensor or keyword arguments.
        n_classes: how many classes the data has, where it is known: it tells the logits among several tensors.
        logits: the tensor that holds the logits, by its key in the output or by its tap; None to find out.

    Raises:
        TapError: when the pass cannot be followed (training mode, TorchScript, …), or what the logits are is not clear.
        UsageError: when nothing is called as `logits` says.
    """
    model = _followable(model)
    n = len(next(tensors_in(inputs)))
    if n < 3:
        raise TapError(f"tracing takes three samples or more, not {n}: two batch sizes are compared")
    route_of = partial(_route, model, n=n, n_classes=n_classes, logits=logits)
    routes = [route_of(inputs)]
    first = routes[0].anatomy
    for variant in _other_masks(inputs):
        route = route_of(variant)
        known = any([c.func for c in route.calls] == [c.func for c in other.calls] for other in routes)
        if not known and _layers(route.anatomy.graph) == _layers(first.graph):
            routes.append(route)
    return Trace(first.graph, first.weights, _token_read(first.reading, model, inputs), n, tuple(routes))


def _token_read(reading: HeadReading, model: nn.Module, inputs: Inputs) -> TokenRead:
    """Return which token of a sequence the head reads, by where its positions are in the traced samples."""
    padding, n_positions = padding_of(model), reading.n_positions
    if not n_positions:
        return TokenRead(otherwise=reading.otherwise, is_unclear=reading.is_mixed, padding=padding)
    if reading.positions is None:
        return TokenRead("last", n_positions, padding=padding)
    at = reading.positions
    if not at.any():
        return TokenRead("cls", n_positions, is_seen=True, padding=padding)
    known = torch.stack(ends(inputs, (*padding, USUAL), n_positions))
    if (known == at).any(dim=0).all():
        return TokenRead("last", n_positions, is_seen=True, padding=padding)
    where = f"positions {', '.join(map(str, dict.fromkeys(at.tolist())))} of {n_positions}"
    return TokenRead(otherwise=(where,), is_unclear=True, padding=padding)


def _route(model: nn.Module, inputs: Inputs, *, n: int, n_classes: int | None, logits: str | None) -> Route:
    recording, writes_input = record(model, inputs, n)
    smaller, _ = record(model, _rows(inputs, n - 1), n - 1)
    if _ways(recording) != _ways(smaller):
        # A model may prepare something in its very first pass, such as a table of positions, and keep it.
        recording, writes_input = record(model, inputs, n)
    for i, (a, b) in enumerate(zip(_ways(recording), _ways(smaller), strict=False)):
        if a != b:
            to = [f"{r.calls[i].visit.module}/{r.calls[i].name}" for r in (recording, smaller)]
            raise TapError(
                f"the model's way depends on the batch size: at call {i} it goes to {to[0]} for {n} samples "
                f"and to {to[1]} for {n - 1}"
            )
    if len(recording.calls) != len(smaller.calls):
        raise TapError(f"the model's way depends on the batch size: {n} and {n - 1} samples take different calls")
    anatomy = understand(model, recording, smaller, n_classes=n_classes, logits=logits)
    return Route(
        calls=tuple(Expected(c.func, c.name, c.visit.module, c.shape, ()) for c in recording.calls),
        shapes=tuple((a.shape, b.shape) for a, b in zip(recording.calls, smaller.calls, strict=True)),
        silent=frozenset(recording.silent),
        anatomy=anatomy,
        writes_input=writes_input,
    )


def _ways(recording: Recording) -> list[tuple[object, ...]]:
    """Return what a pass did, call by call, whatever the values."""
    return [(call.func, call.visit.module, call.reads, call.writes) for call in recording.calls]


def _other_masks(inputs: Inputs) -> list[Inputs]:
    """Return the inputs with other masks, so that both ways of a language model are traced.

    Language models take a shorter way when nothing in a batch is padding.
    """
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    if not isinstance(inputs, dict) or mask is None or mask.ndim != 2 or mask.shape[1] < 2:
        return []
    padded = torch.ones_like(mask)
    padded[:, -1] = 0
    return [{**inputs, "attention_mask": torch.ones_like(mask)}, {**inputs, "attention_mask": padded}]


def _layers(graph: TapGraph) -> object:
    """Return what two ways must share to be the same network: they may differ in how a mask is made and added."""
    layers = [replace(tap, depth=0) for tap in graph.taps if not tap.minor]
    return layers, graph.maps, [(link.first, link.next) for link in graph.links], graph.head


@contextmanager
def watch(
    model: nn.Module,
    traced: Trace,
    taps: Sequence[Tap],
    consume: Callable[[int, torch.Tensor], None],
    see: Callable[[torch.Tensor], None] | None = None,
) -> Generator[Callable[[Inputs], torch.Tensor]]:
    """Run the model inside by `logits = forward(inputs)`; `consume(i, value)` gets the value of `taps[i]` at once.

    Logits are (n, K), a column for each class; one logit z for two classes comes as (−z/2, z/2).

    `see(positions)` gets the position (n,) of the token that the head reads of each sample, where it reads one.

    A value has one row per sample. It is the tensor itself: a later call of the pass may write into it, so keep a copy
    (`reduce` makes one). Hooks and modes are gone when the context ends, also after an error.

    Raises:
        TapError: from `forward`, when a pass makes other calls than the traced one.
    """
    model = _followable(model)
    layouts = [traced._routes[0].anatomy.spots[tap.name][2] for tap in taps]
    of_logits = traced._routes[0].anatomy.logits
    kept: list[torch.Tensor] = []
    modules = [""]
    by_size: dict[int, list[list[Expected]]] = {}
    # A function that is silent on one way and not on another must not be passed over.
    silent = frozenset[Callable[..., object]]().union(*(route.silent for route in traced._routes))
    silent -= {call.func for route in traced._routes for call in route.calls}

    def take(i: int, value: torch.Tensor) -> None:
        if i == LOGITS:  # a copy, for what follows may write into them
            kept.append(_by_class(samples_first(value, of_logits[2]).clone()))
        else:
            consume(i, samples_first(value, layouts[i]))

    def leave(_name: str, _output: object) -> None:
        modules.pop()

    def forward(inputs: Inputs) -> torch.Tensor:
        del modules[1:], kept[:]
        n = len(next(tensors_in(inputs)))
        if n not in by_size:
            by_size[n] = [_expected(route, taps, n, traced._n) for route in traced._routes]
        with quiet():
            own = copied(inputs) if traced._routes[0].writes_input else inputs
            spots = [traced._routes[0].anatomy.spots[tap.name] for tap in taps]
            for i, (place, name, _) in [*enumerate(spots), (LOGITS, of_logits)]:
                if place is None:
                    take(i, own if isinstance(own, torch.Tensor) else own[name.removeprefix("input/")])
            follower = Follower(by_size[n], silent, take, modules, see)
            with follower:
                model(**own) if isinstance(own, dict) else model(own)
            follower.end()
            return kept.pop()

    with hooked(model, modules.append, leave):
        yield forward


def _by_class(logits: torch.Tensor) -> torch.Tensor:
    """Return logits as (n, K): of one logit z for two classes −z/2 and z/2, the smallest rows with that difference.

    So the larger is that of class 1 where z > 0, and the cross-entropy of the two is the binary one of z.
    """
    rows = logits.reshape(len(logits), -1)
    return torch.cat([-rows / 2, rows / 2], dim=1) if rows.shape[1] == 1 else rows


def reduction_of(tap: Tap, how: str) -> str:
    """Return the reduction that `how` means for a tap.

    It is `none` for plain vectors, `flatten` for the input, and picks a token only where there are tokens.

    `cls` and `last` pick a token of a sequence, features last; a feature map of another shape is averaged instead.
    `mean` would leave one number per colour of an image, so the input is flattened.

    Raises:
        UsageError: for a reduction that does not exist.
    """
    if how not in REDUCTIONS:
        raise UsageError(f"--reduction {how} does not exist: choose one of {', '.join(REDUCTIONS)}")
    if len(tap.shape) < 2:
        return "none"
    if tap.kind == "input" and how == "mean":
        return "flatten"
    return "mean" if how in ("cls", "last") and not is_sequence(tap) else how


def is_sequence(tap: Tap) -> bool:
    """Return whether a tap has positions in a row, features last."""
    return len(tap.shape) == 2 and tap.channel_dim == 1


def width(tap: Tap, how: str) -> int:
    """Return the number of features of a tap after its reduction."""
    if reduction_of(tap, how) in ("none", "flatten") or tap.channel_dim is None:
        return torch.Size(tap.shape).numel()
    return tap.shape[tap.channel_dim]


def reduce(
    value: torch.Tensor, tap: Tap, how: str, mask: torch.Tensor | None = None, *, copy: bool = True
) -> torch.Tensor:
    """Return a value (n, *shape) as (n, d), a copy: what the pass does to the value later does not reach it.

    Args:
        value: what `watch` handed on, (n, *tap.shape).
        tap: whose value it is.
        how: one of `REDUCTIONS`; `reduction_of` gives what is done.
        mask: (n, positions), true where a position is no padding; used where a tap has that many positions.
        copy: False where nobody is going to write into the value: then it may be the value itself.
    """
    how = reduction_of(tap, how)
    if how in ("none", "flatten") or tap.channel_dim is None:
        rows = value.reshape(len(value), -1)  # one number per sample has no second dimension
        return rows.clone() if copy else rows
    channel = tap.channel_dim + 1
    positions = [d for d in range(1, value.ndim) if d != channel]
    if mask is None or mask.shape[1] != _n_positions(tap):
        if how == "mean":
            return value.mean(positions)
        if how == "max":
            return value.amax(positions)
    rows = value.movedim(channel, -1).flatten(1, -2)
    keep = mask.to(rows.device, torch.bool) if mask is not None and mask.shape[1] == rows.shape[1] else None
    if how == "cls":
        return rows[:, 0].clone()
    if how == "last":
        if keep is None:
            return rows[:, -1].clone()
        last = rows.shape[1] - 1 - keep.flip(1).int().argmax(1)
        return rows[torch.arange(len(rows), device=rows.device), last]
    if keep is None:
        return rows.mean(1)
    if how == "max":
        return rows.masked_fill(~keep[..., None], -torch.inf).amax(1)
    return rows.masked_fill(~keep[..., None], 0).sum(1) / keep.sum(1, keepdim=True).clamp(min=1)


def _n_positions(tap: Tap) -> int:
    """Return how many positions a feature map has: pixels, tokens."""
    return torch.Size(tap.shape).numel() // (tap.shape[tap.channel_dim] if tap.channel_dim is not None else 1)


def _followable(model: nn.Module) -> nn.Module:
    """Return the model inside its wrappers, or the reason it cannot be followed."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            break
    for name, module in model.named_modules():
        where = name or type(model).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise TapError(
                f"{where} is TorchScript, which shows nothing of what it computes: build the model from its code"
            )
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise TapError(f"{where} is compiled, which hides what it computes: build the model without torch.compile")
        if module.training:
            raise TapError(f"{where} is in training mode, where a pass changes the model: call model.eval() first")
    return model


def _rows(inputs: Inputs, n: int) -> Inputs:
    return {name: value[:n] for name, value in inputs.items()} if isinstance(inputs, dict) else inputs[:n]


def _expected(route: Route, taps: Sequence[Tap], n: int, traced_n: int) -> list[Expected]:
    """Return the calls of one way, for a batch of n, with what is wanted at each."""
    wanted: dict[int, list[tuple[Place, int]]] = defaultdict(list)
    places = [route.anatomy.spots[tap.name][0] if tap.name in route.anatomy.spots else None for tap in taps]
    for i, place in [*enumerate(places), (LOGITS, route.anatomy.logits[0])]:
        if place is not None:
            wanted[place.call].append((place, i))
    pick = route.anatomy.reading.pick
    return [
        replace(
            call,
            shape=_shape_for(n, traced_n, *shapes),
            wanted=tuple(wanted.get(i, ())),
            pick=pick if pick is not None and pick.call == i else None,
        )
        for i, (call, shapes) in enumerate(zip(route.calls, route.shapes, strict=True))
    ]


def _shape_for(n: int, traced_n: int, a: torch.Size | None, b: torch.Size | None) -> torch.Size | None:
    """Return the shape for another batch size: each dimension grows as it did from one traced size to the next."""
    if a is None or b is None:
        return None
    return torch.Size(x + (x - y) * (n - traced_n) for x, y in zip(a, b, strict=True))
