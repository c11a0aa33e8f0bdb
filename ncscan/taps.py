"""Which tensors inside a forward pass are layers, and each of them the moment it exists.

In: a model and inputs. Out: a `Trace` (once, on a few samples), then, batch by batch, the values of the taps that were
asked for. The only way to an activation: modules and functional calls, in-place or not, are met by one mechanism.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ncscan.anatomy import understand
from ncscan.errors import TapError, UsageError
from ncscan.graph import Tap, TapGraph
from ncscan.layout import Layout, samples_first
from ncscan.tracing import Expected, Follower, Inputs, Place, copied, hooked, logits_in, quiet, record, tensors_in

REDUCTIONS = ("mean", "flatten", "cls", "last", "max")
"""How a map becomes a vector; recorded with every number that comes of it."""


@dataclass(frozen=True)
class Trace:
    """A forward pass that is known call by call."""

    graph: TapGraph
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor | None]]
    """By `LinearMap.name`: the weight as the pass used it, (outputs, inputs, …), and the bias."""
    _expected: tuple[Expected, ...]
    _sizes: tuple[int, int]
    _shapes: tuple[tuple[torch.Size | None, torch.Size | None], ...]
    _silent: frozenset[Callable[..., object]]
    _spots: Mapping[str, tuple[Place | None, str, Layout]]
    _writes_input: bool


def trace(model: nn.Module, inputs: Inputs) -> Trace:
    """Runs the model on a few samples and understands what it did.

    Args:
        model: in eval mode; its weights and the inputs are left as they are.
        inputs: three samples or more, a tensor or keyword arguments.

    Raises:
        TapError: when the pass cannot be followed: training mode, TorchScript, logits that are not (n, K), …
    """
    model = _followable(model)
    n = len(next(tensors_in(inputs)))
    if n < 3:
        raise TapError(f"tracing takes three samples or more, not {n}: two batch sizes are compared")
    recording, writes_input = record(model, inputs, n)
    smaller, _ = record(model, _rows(inputs, n - 1), n - 1)
    for i, (a, b) in enumerate(zip(recording.calls, smaller.calls, strict=False)):
        if (a.func, a.visit.module, a.reads, a.writes) != (b.func, b.visit.module, b.reads, b.writes):
            raise TapError(
                f"the model's way depends on the batch size: at call {i} it goes to {a.visit.module}/{a.name} for {n} "
                f"samples and to {b.visit.module}/{b.name} for {n - 1}"
            )
    if len(recording.calls) != len(smaller.calls):
        raise TapError(f"the model's way depends on the batch size: {n} and {n - 1} samples take different calls")
    if recording.shapes[recording.output][0] != n:
        raise TapError("the model does not return one row of logits per sample")
    anatomy = understand(model, recording, smaller)
    return Trace(
        graph=anatomy.graph,
        weights=anatomy.weights,
        _expected=tuple(Expected(c.func, c.name, c.visit.module, c.shape, ()) for c in recording.calls),
        _sizes=(n, n - 1),
        _shapes=tuple((a.shape, b.shape) for a, b in zip(recording.calls, smaller.calls, strict=True)),
        _silent=frozenset(recording.silent),
        _spots=anatomy.spots,
        _writes_input=writes_input,
    )


@contextmanager
def watch(
    model: nn.Module, traced: Trace, taps: Sequence[Tap], consume: Callable[[int, torch.Tensor], None]
) -> Generator[Callable[[Inputs], torch.Tensor]]:
    """Inside, `logits = forward(inputs)` runs the model, and `consume(i, value)` gets the value of `taps[i]` at once.

    A value has one row per sample. It is the tensor itself: a later call of the pass may write into it, so keep a copy
    (`reduce` makes one). Hooks and modes are gone when the context ends, also after an error.

    Raises:
        TapError: from `forward`, when a pass makes other calls than the traced one.
    """
    model = _followable(model)
    wanted: dict[int, list[tuple[Place, int]]] = defaultdict(list)
    from_input: list[tuple[int, str]] = []
    layouts = []
    for i, tap in enumerate(taps):
        place, name, layout = traced._spots[tap.name]
        layouts.append(layout)
        if place is None:
            from_input.append((i, name))
        else:
            wanted[place.call].append((place, i))
    shapes_by_size: dict[int, list[Expected]] = {}

    def take(i: int, value: torch.Tensor) -> None:
        consume(i, samples_first(value, layouts[i]))

    def expected(n: int) -> list[Expected]:
        if n not in shapes_by_size:
            shapes = [_shape_for(n, traced._sizes, *pair) for pair in traced._shapes]
            shapes_by_size[n] = [
                Expected(e.func, e.name, e.module, shape, tuple(wanted.get(i, ())))
                for i, (e, shape) in enumerate(zip(traced._expected, shapes, strict=True))
            ]
        return shapes_by_size[n]

    modules: list[str] = [""]

    def leave(_name: str, _output: object) -> None:
        modules.pop()

    def forward(inputs: Inputs) -> torch.Tensor:
        del modules[1:]
        with quiet():
            own = copied(inputs) if traced._writes_input else inputs
            for i, name in from_input:
                take(i, own if isinstance(own, torch.Tensor) else own[name.removeprefix("input/")])
            follower = Follower(expected(len(next(tensors_in(own)))), traced._silent, take, modules)
            with follower:
                output = model(**own) if isinstance(own, dict) else model(own)
            if follower.position < len(traced._expected):
                raise follower.differs("the end")
            return logits_in(output)

    with hooked(model, modules.append, leave):
        yield forward


def reduction_of(tap: Tap, how: str) -> str:
    """What `how` comes to for a tap: `none` for plain vectors, `flatten` for the input, tokens where there are tokens.

    `cls` and `last` pick a token of a sequence, features last; a map of another shape is averaged instead. `mean` would
    leave one number per colour of an image, so the input is flattened.

    Raises:
        UsageError: for a reduction that does not exist.
    """
    if how not in REDUCTIONS:
        raise UsageError(f"--reduction {how} does not exist: choose one of {', '.join(REDUCTIONS)}")
    if len(tap.shape) < 2:
        return "none"
    if tap.kind == "input" and how == "mean":
        return "flatten"
    is_sequence = len(tap.shape) == 2 and tap.channel_dim == 1
    return "mean" if how in ("cls", "last") and not is_sequence else how


def width(tap: Tap, how: str) -> int:
    """Features of a tap after its reduction."""
    if reduction_of(tap, how) in ("none", "flatten") or tap.channel_dim is None:
        return torch.Size(tap.shape).numel()
    return tap.shape[tap.channel_dim]


def reduce(value: torch.Tensor, tap: Tap, how: str, mask: torch.Tensor | None = None) -> torch.Tensor:
    """A value (n, *shape) as (n, d), always a copy: what the pass does to the value later does not reach it.

    Args:
        value: what `watch` handed on, (n, *tap.shape).
        tap: whose value it is.
        how: one of `REDUCTIONS`; `reduction_of` says what is done.
        mask: (n, positions), true where a position is no padding; used where a tap has that many positions.
    """
    how = reduction_of(tap, how)
    if how in ("none", "flatten") or tap.channel_dim is None:
        return value.flatten(1).clone() if value.ndim != 2 else value.clone()
    channel = tap.channel_dim + 1
    positions = [d for d in range(1, value.ndim) if d != channel]
    if mask is None or mask.shape[1] != width_of_positions(tap):
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


def width_of_positions(tap: Tap) -> int:
    return torch.Size(tap.shape).numel() // (tap.shape[tap.channel_dim] if tap.channel_dim is not None else 1)


def _followable(model: nn.Module) -> nn.Module:
    """The model inside its wrappers, or the reason it cannot be followed."""
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


def _shape_for(n: int, sizes: tuple[int, int], a: torch.Size | None, b: torch.Size | None) -> torch.Size | None:
    """The shape for another batch size: each dimension grows as it did between the two traced ones."""
    if a is None or b is None:
        return None
    return torch.Size(x + (x - y) * (n - sizes[0]) // (sizes[0] - sizes[1]) for x, y in zip(a, b, strict=True))
