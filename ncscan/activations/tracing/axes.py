"""Find the dimensions of samples and features in a tensor, also after its dimensions were permuted or reshaped.

In: a tensor of the pass and the call that rearranged it. Out: the same tensor with one row per sample.
The only file that knows that attention layers work on `(positions, samples, …)` or `(positions · samples, …)`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch


@dataclass(frozen=True)
class Layout:
    """Describes which dimension holds the samples, and which the features."""

    dim: int
    """Dimension of size `before · n · after`, in that order: plain batches have before = after = 1."""
    before: int = 1
    after: int = 1
    channel: int | None = None
    """Dimension of the features; None when they are spread over several."""


@dataclass(frozen=True)
class Move:
    """Describes what a call that computes nothing did to a tensor."""

    keeps_all: bool
    """Whether every number is still there, once: a view or a copy. Otherwise some were left out: a slice."""
    layout: Layout | None


def samples_first(value: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return the same numbers as `(n, *sample shape)`, a view wherever torch can make one."""
    if layout.dim == 0 and layout.before == layout.after == 1:
        return value
    n = value.shape[layout.dim] // (layout.before * layout.after)
    split = [size for size in (layout.before,) if size > 1] + [n] + [size for size in (layout.after,) if size > 1]
    shape = (*value.shape[: layout.dim], *split, *value.shape[layout.dim + 1 :])
    return value.reshape(shape).movedim(layout.dim + (layout.before > 1), 0)


def sample_shape(shape: tuple[int, ...], layout: Layout, n: int) -> tuple[tuple[int, ...], int | None]:
    """Return the shape of one sample, and its feature axis: None for a plain vector."""
    inner = tuple(samples_first(torch.empty(shape, device="meta"), layout).shape[1:])
    if len(inner) < 2:
        return inner, None
    if layout.channel is None or layout.channel == layout.dim:
        return inner, len(inner) - 1
    after_samples = (layout.before > 1) + (layout.after > 1) - 1
    return inner, layout.channel + (after_samples if layout.channel > layout.dim else 0)


def follow(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    source: torch.Tensor,
    shape: tuple[int, ...],
    layout: Layout | None,
    n: int,
    position: int,
) -> Move | None:
    """Return where `func` puts what: the call is repeated on a tensor of the same shape that holds its own positions.

    None when the call does not take whole numbers, so it does more than rearrange them.
    """
    positions = torch.arange(math.prod(shape), device=source.device).reshape(shape)
    try:
        moved = func(*(positions if a is source else a for a in args), **kwargs)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):  # what torch raises of whole numbers
        return None
    moved = moved if isinstance(moved, torch.Tensor) else moved[position]
    keeps_all = moved.numel() == positions.numel() and torch.equal(moved.flatten().sort().values, positions.flatten())
    if layout is None:
        return Move(keeps_all, None)
    sample = torch.arange(n, device=source.device).repeat_interleave(layout.after).repeat(layout.before)
    where = _along(sample, layout.dim, shape)[moved]
    samples = _samples(where, n)
    if samples is None:
        return Move(keeps_all, None)
    channel = None
    if layout.channel is not None:
        feature = torch.arange(shape[layout.channel], device=source.device)
        channel = _features(_along(feature, layout.channel, shape)[moved])
    return Move(keeps_all, Layout(*samples, channel))


def _along(line: torch.Tensor, dim: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return one number per element of a tensor, flat, that depends on its position in one dimension only."""
    return line.reshape([-1 if d == dim else 1 for d in range(len(shape))]).expand(shape).flatten()


def _varies(ids: torch.Tensor) -> tuple[int, torch.Tensor] | None:
    """Return the only dimension along which the numbers change, and how they do."""
    dims = [d for d in range(ids.ndim) if bool((ids != ids.narrow(d, 0, 1)).any())] if ids.numel() else []
    return (dims[0], ids.movedim(dims[0], 0).flatten(1)[:, 0] if ids.ndim > 1 else ids) if len(dims) == 1 else None


def _samples(ids: torch.Tensor, n: int) -> tuple[int, int, int] | None:
    """Return (dim, before, after) when the sample numbers lie along one dimension as in `Layout`, else None."""
    found = _varies(ids)
    if found is None or found[1].numel() % n:
        return None
    dim, line = found
    after = next((i + 1 for i, (a, b) in enumerate(pairwise(line.tolist())) if a != b), line.numel())
    before = line.numel() // (n * after)
    expected = torch.arange(n, device=line.device).repeat_interleave(after).repeat(before)
    return (dim, before, after) if torch.equal(line, expected) else None


def _features(ids: torch.Tensor) -> int | None:
    """Return the dimension along which every step is another feature, else None."""
    found = _varies(ids)
    return found[0] if found is not None and len(set(found[1].tolist())) == found[1].numel() else None
