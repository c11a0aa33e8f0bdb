"""What a forward pass may leave behind for the next: random generators, counters, buffers, tables.

In: a model. Out: the state of everything that its code names, by the name it has there. Where two states differ, a
pass between them changed something.
"""

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

DEPTH = 6
"""How far containers, objects and functions are followed from a module."""
MANY = 1_000
"""The number of entries of a container that are looked at."""
WHOLE = 2**20
"""Tensors of at most so many bytes are compared byte by byte; larger ones by their sum."""

_LIBRARIES = frozenset({*sys.stdlib_module_names, "ncscan"})
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_parameters", "_buffers"}


def changed_states(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the names under which two states differ, sorted."""
    missing = object()
    return sorted(name for name in {*before, *after} if before.get(name, missing) != after.get(name, missing))


def generator_states(device: torch.device) -> dict[str, object]:
    """Return the states of the generators that everybody shares: torch's, numpy's and Python's."""
    _, keys, position, *rest = np.random.get_state()  # noqa: NPY002 - code of a model may draw from it
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "CUDA": torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b"",
        "numpy": (np.asarray(keys).tobytes(), position, rest),
        "Python": random.getstate(),
    }


class Draws(TorchFunctionMode):
    """Notes the generators that torch calls are given inside the context, wherever the model's code keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[bytes] = []
        """The state of a generator at each call that was given one: alike in two passes where it is seeded anew."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = (*args, *(kwargs or {}).values())
        self.states += [each.get_state().numpy().tobytes() for each in given if isinstance(each, torch.Generator)]
        return func(*args, **(kwargs or {}))


def own_states(model: nn.Module) -> dict[str, object]:
    """Return the state of what a model's modules keep, and of what their code names: attributes, globals, closures.

    Args:
        model: any; what the code of installed packages names besides its modules is left out.

    Returns: by name (`block.passes`, `net.GENERATOR`), something that compares equal as long as nothing changed.
    """
    walk = _Walk()
    for name, module in model.named_modules():
        walk.module(name, module)
    return walk.states


class _Walk:
    """One look at everything within reach."""

    def __init__(self) -> None:
        self.states: dict[str, object] = {}
        self._seen: set[int] = set()
        self._alive: list[object] = []  # so that no id is given twice

    def module(self, name: str, module: nn.Module) -> None:
        if self._again(module):
            return
        for key, value in list(vars(module).items()):
            if key not in _OF_EVERY_MODULE:
                within = name if key in ("_parameters", "_buffers") else _joined(name, key)
                self.value(within, value, DEPTH)
        for base in type(module).__mro__:
            if not _is_known(base.__module__) and not self._again(base):
                for key, value in list(vars(base).items()):
                    if not key.startswith("__") or isinstance(value, FunctionType):
                        self.value(f"{base.__name__}.{key}", value, DEPTH)

    def value(self, name: str, value: object, depth: int) -> None:
        if (state := _state(value)) is not None:
            self.states[name] = state
        elif depth and not self._again(value):
            if isinstance(value, nn.Module):
                self.module(name, value)
            elif isinstance(value, FunctionType):
                self._function(value, depth - 1)
            elif isinstance(value, MethodType | staticmethod | classmethod):
                self.value(name, value.__func__, depth)
                self.value(name, getattr(value, "__self__", None), depth - 1)
            else:
                for key, part in _parts(value):
                    self.value(_joined(name, key), part, depth - 1)

    def _function(self, function: FunctionType, depth: int) -> None:
        """Look at what a function names besides its arguments."""
        code = function.__code__
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            try:
                self.value(key, cell.cell_contents, depth)
            except ValueError:  # not filled yet
                continue
        for key, value in list(vars(function).items()):
            self.value(f"{function.__name__}.{key}", value, depth)
        for number, value in enumerate(function.__defaults__ or ()):
            self.value(f"{function.__name__}'s default {number}", value, depth)
        if not _is_known(function.__module__ or ""):
            names = _names(code)
            self._named(function.__module__ or "", function.__globals__, names, depth)

    def _named(self, module: str, namespace: Mapping[str, object], names: frozenset[str], depth: int) -> None:
        for key in names & namespace.keys():
            value = namespace[key]
            if isinstance(value, ModuleType):
                if depth and not _is_known(value.__name__):
                    self._named(value.__name__, vars(value), names - {key}, depth - 1)
            elif not isinstance(value, type):
                self.value(f"{module}.{key}", value, depth)
            elif not _is_known(value.__module__) and not self._again(value):
                for name, part in list(vars(value).items()):
                    if not name.startswith("__"):
                        self.value(f"{value.__name__}.{name}", part, depth - 1)

    def _again(self, thing: object) -> bool:
        if id(thing) in self._seen:
            return True
        self._seen.add(id(thing))
        self._alive.append(thing)
        return False


def _state(value: object) -> object:
    """Return what compares equal while a value stays what it is; None for what has to be looked into."""
    if isinstance(value, bool | int | float | complex | str | bytes | count):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return _of_tensor(value)
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes() if value.nbytes <= WHOLE and value.dtype != object else len(value))
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, random.Random):
        return repr(value.getstate())
    return None


def _of_tensor(tensor: torch.Tensor) -> object:
    form = (tuple(tensor.shape), str(tensor.dtype), str(tensor.device))
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested:
        return form
    values = tensor.detach()
    if values.nbytes <= WHOLE:
        return (*form, values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return (*form, repr(values.sum(dtype=torch.float64 if values.is_floating_point() else None).item()))


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield the entries of a container, and the attributes of an object of the model's own code."""
    if isinstance(value, Mapping):
        yield "length", len(value)
        yield from ((str(key)[:80], part) for key, part in list(value.items())[:MANY])
    elif isinstance(value, list | tuple | deque | Set):
        yield "length", len(value)
        if not isinstance(value, Set):
            yield from ((str(i), part) for i, part in enumerate(list(value)[:MANY]))
    elif not isinstance(value, type) and not _is_known(type(value).__module__):
        yield from list(getattr(value, "__dict__", {}).items())[:MANY]


def _names(code: CodeType) -> frozenset[str]:
    """Return the names that a function's code looks up, inner functions included."""
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return frozenset(code.co_names).union(*inner)


@cache
def _is_library(package: str) -> bool:
    """Return whether a module belongs to an installed package, and is none of the model's own files.

    What a package keeps, such as caches, is its own.
    """
    if package in _LIBRARIES:
        return True
    module = sys.modules.get(package)
    places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
    return any(part in Path(place).parts for place in places for part in ("site-packages", "dist-packages"))


def _is_known(module: str) -> bool:
    return _is_library(module.partition(".")[0])


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
