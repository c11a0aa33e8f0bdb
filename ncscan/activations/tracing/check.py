"""Check a later pass against the traced one, call by call.

In: what the traced pass did, and what is wanted. Out: each wanted tensor as soon as it exists, or an error naming the
call that differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ncscan.activations.tracing.reading import Pick
from ncscan.activations.tracing.record import PACKED, UNPACKED, Place, call_name, tensors_in
from ncscan.errors import TapError


@dataclass(frozen=True)
class Expected:
    """Describes what a later pass must do at one call, and what is taken there: (position, number of the tap)."""

    func: Callable[..., Any]
    name: str
    module: str
    shape: torch.Size | None
    wanted: tuple[tuple[Place, int], ...]
    pick: Pick | None = None
    """What shows the position of the token that the head reads, where it is this call."""


class Follower(TorchFunctionMode):
    """Checks one pass against the traced one, call by call, and hands on what was asked for."""

    def __init__(
        self,
        routes: Sequence[Sequence[Expected]],
        silent: frozenset[Callable[..., Any]],
        take: Callable[[int, torch.Tensor], None],
        modules: list[str],
        see: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self.modules = modules
        """The modules that are running, outermost first, kept by the hooks."""
        self.position = 0
        self._routes = routes
        self._expected = routes[0]
        self._silent = silent
        self._take, self._see = take, see

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._silent:
            return func(*args, **kwargs)
        if func is PACKED:
            with self:
                return UNPACKED(*args, **kwargs)
        call = self._expected[self.position] if self.position < len(self._expected) else None
        if call is None or func != call.func or self.modules[-1] != call.module:
            call = self._other_route(func, self.modules[-1])
        if call is None:
            result = func(*args, **kwargs)
            if next(tensors_in(result), None) is None and call_name(func) != "setitem":
                return result
            raise self.differs(f"{self.modules[-1]}/{call_name(func)}")
        self.position += 1
        for place, tap in call.wanted:
            if place.side == "before":
                self._take(tap, _nth((args, kwargs), place.position))
        result = func(*args, **kwargs)
        first = next(tensors_in(result), None)
        if first is not None and first.shape != call.shape:
            self.position -= 1
            raise self.differs(f"{call.module}/{call.name} with shape {tuple(first.shape)}")
        for place, tap in call.wanted:
            if place.side == "result":
                self._take(tap, _nth(result, place.position))
            elif place.side == "argument":
                self._take(tap, _nth((args, kwargs), place.position))
        if call.pick is not None and self._see is not None:
            self._see(call.pick.positions(func, args, kwargs))
        return result

    def _other_route(self, func: Callable[..., Any], module: str) -> Expected | None:
        """Return a traced way that went like this one so far and now makes this call."""
        so_far = [(call.func, call.module) for call in self._expected[: self.position]]
        for route in self._routes:
            ways = [(call.func, call.module) for call in route[: self.position + 1]]
            if ways == [*so_far, (func, module)]:
                self._expected = route
                return route[self.position]
        return None

    def end(self) -> None:
        """Raise an error when the traced pass went on."""
        if self.position < len(self._expected):
            raise self.differs("the end")

    def differs(self, seen: str) -> TapError:
        """Return the error for a pass that leaves the traced way."""
        wanted = "the end"
        if self.position < len(self._expected):
            call = self._expected[self.position]
            shape = f" with shape {tuple(call.shape)}" if call.shape is not None else ""
            wanted = f"{call.module}/{call.name}{shape}"
        return TapError(
            f"the model's way depends on the data: after {self.position} calls the traced pass went to {wanted}, "
            f"this one to {seen}; taps need the same calls for every batch"
        )


def _nth(thing: object, position: int) -> torch.Tensor:
    return next(tensor for i, tensor in enumerate(tensors_in(thing)) if i == position)
