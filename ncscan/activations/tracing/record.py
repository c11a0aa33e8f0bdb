"""Record a forward pass: every torch call in order, and the modules around it.

In: a model and its inputs. Out: a `Recording`. The only file that hooks a module; the hooks are gone when it is done.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from types import FunctionType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ncscan.data import Inputs


@dataclass(frozen=True)
class Place:
    """Describes where a value can be met: which call, and which of the tensors around it."""

    call: int
    side: Literal["before", "argument", "result"]
    """`before` and `argument` are the tensors passed in, before and after the call; `result` what it returned."""
    position: int


@dataclass(frozen=True)
class Visit:
    """One run of a module's forward."""

    module: str
    nth: int
    serial: int

    @property
    def name(self) -> str:
        return f"{self.module}:{self.nth}" if self.nth else self.module


@dataclass(frozen=True)
class Call:
    """One torch call, with the numbers of the values it read and made."""

    func: Callable[..., Any]
    name: str
    visit: Visit
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    shape: torch.Size | None
    """The shape of the first tensor it returned."""


@dataclass
class Recording:
    """Everything one pass did. A value is a tensor at a version: in-place calls make new ones of one tensor."""

    n: int
    inputs: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    tensors: list[torch.Tensor] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    stale: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Values that changed behind their back: (what was written through another view, what they were before)."""
    returned: list[tuple[Visit, int]] = field(default_factory=list)
    """What each module returned (its first tensor), in the order they ended."""
    silent: set[Callable[..., Any]] = field(default_factory=set)
    """Functions that gave no tensor: sizes, flags."""
    outputs: dict[str, int] = field(default_factory=dict)
    """The tensors that the model returned, by key, index or field; by an empty text where it is one tensor."""
    returns: str = ""
    """The name of the type that the model returned."""


def copied(inputs: Inputs) -> Inputs:
    """Return a copy of inputs that a model may write into."""
    return {name: value.clone() for name, value in inputs.items()} if isinstance(inputs, dict) else inputs.clone()


def tensors_in(thing: object) -> Iterator[torch.Tensor]:
    """Yield every tensor in nested arguments or results, in order."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from tensors_in(part)
    elif isinstance(thing, Mapping):
        for part in thing.values():
            yield from tensors_in(part)


def named_tensors(output: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor in a model's output by its key, index or field: `a.0` is the first of `a`, a bare one ``.

    >>> [name for name, _ in named_tensors({"a": (torch.zeros(1), torch.zeros(2)), "b": torch.zeros(3)})]
    ['a.0', 'a.1', 'b']
    """
    if isinstance(output, torch.Tensor):
        yield name, output
        return
    parts: Mapping[Any, object] = {}
    if isinstance(output, Mapping):
        parts = output
    elif isinstance(output, (tuple, list)):
        parts = dict(zip(getattr(output, "_fields", range(len(output))), output, strict=True))
    elif not name:  # what a class of the model's own holds, but not what a cache within it does
        held = {field.name: getattr(output, field.name) for field in fields(output)} if is_dataclass(output) else {}
        own: Mapping[Any, object] = getattr(output, "__dict__", {})
        parts = held or own or {"logits": getattr(output, "logits", None)}
    for key, part in parts.items():
        yield from named_tensors(part, f"{name}.{key}" if name else str(key))


def _opened(func: Any) -> Callable[..., Any]:
    """Return the same function, but with its inner calls seen: it no longer asks to hand itself over as one call."""
    copy = FunctionType(
        func.__code__, {**func.__globals__, "has_torch_function": lambda _: False}, func.__name__, func.__defaults__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


# Attention as torch packs it reads four parameters in one call; its parts are the linear maps that we are after.
# (Its encoder layers are fused still further, but never while a mode is watching.)
PACKED = functional.multi_head_attention_forward
UNPACKED = _opened(PACKED)


def call_name(func: Callable[..., Any]) -> str:
    """Return `relu`, `add_`, `getitem`; for a property its name (`T`)."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    return name.strip("_") if name.startswith("__") else name


class Recorder(TorchFunctionMode):
    """Writes down one pass. Tensors are kept alive until it is done, so that their ids stay theirs."""

    def __init__(self, inputs: Inputs, n: int) -> None:
        super().__init__()
        self.recording = Recording(n)
        self.visits = [Visit("", 0, 0)]
        self._count: Counter[str] = Counter()
        self._numbers: dict[tuple[int, int], int] = {}
        self._latest: dict[int, int] = {}
        self._written: dict[int, int] = {}
        named = {"input": inputs} if isinstance(inputs, torch.Tensor) else {f"input/{k}": v for k, v in inputs.items()}
        self.recording.inputs = {name: self._new(tensor) for name, tensor in named.items()}

    def enter(self, module: str) -> None:
        self.visits.append(Visit(module, self._count[module], 1 + self._count.total()))
        self._count[module] += 1

    def leave(self, module: str, output: object) -> None:
        visit = self.visits.pop()
        first = next(tensors_in(output), None)
        if first is not None:
            self.recording.returned.append((visit, self.number(first)))

    def number(self, tensor: torch.Tensor, version: int | None = None) -> int:
        """Return the number of a tensor's present value; a tensor never seen before gets its first."""
        key = (id(tensor), tensor._version if version is None else version)
        if key not in self._numbers:
            before = self._latest.get(id(tensor))
            new = self._new(tensor, key[1])
            written = self._written.get(_storage(tensor))
            if before is not None:
                # Somebody wrote into a view of it: its value is what they wrote, and what it was elsewhere.
                self.recording.stale[new] = (before if written is None else written, before)
        return self._numbers[key]

    def _new(self, tensor: torch.Tensor, version: int | None = None) -> int:
        number = len(self.recording.tensors)
        self.recording.tensors.append(tensor)
        self.recording.shapes.append(tuple(tensor.shape))
        self._numbers[id(tensor), tensor._version if version is None else version] = number
        self._latest[id(tensor)] = number
        return number

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is PACKED:
            with self:
                return UNPACKED(*args, **kwargs)
        passed = list(tensors_in((args, kwargs)))
        versions = [tensor._version for tensor in passed]
        result = func(*args, **kwargs)
        results = list(tensors_in(result))
        changed = [t for t, v in zip(passed, versions, strict=True) if t._version != v]
        if not results and not changed:
            self.recording.silent.add(func)
            return result
        self.recording.silent.discard(func)
        at = len(self.recording.calls)
        reads = tuple(self._read(t, v, at, i) for i, (t, v) in enumerate(zip(passed, versions, strict=True)))
        # A call may change the base of its argument too: what it returns, or else its first argument, is what it wrote.
        returned = {id(t) for t in results}
        targets = [t for t in changed if id(t) in returned] or changed[:1]
        writes = [self._write(t, at, "argument", next(i for i, p in enumerate(passed) if p is t)) for t in targets]
        for target, number in zip(targets, writes, strict=True):
            self._written[_storage(target)] = number
        for i, tensor in enumerate(results):
            if (id(tensor), tensor._version) not in self._numbers:
                writes.append(self._write(tensor, at, "result", i))
        shape = results[0].shape if results else None
        self.recording.calls.append(
            Call(func, call_name(func), self.visits[-1], args, kwargs, reads, tuple(writes), shape)
        )
        return result

    def _read(self, tensor: torch.Tensor, version: int, call: int, position: int) -> int:
        number = self.number(tensor, version)
        if number in self.recording.stale:
            self.recording.places.setdefault(number, Place(call, "before", position))
        return number

    def _write(self, tensor: torch.Tensor, call: int, side: Literal["argument", "result"], position: int) -> int:
        number = self._new(tensor)
        self.recording.places[number] = Place(call, side, position)
        return number


def _storage(tensor: torch.Tensor) -> int:
    """Return what views of one memory share; batched tensors of torch.func have none."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # what torch raises of a tensor without memory
        return -id(tensor)


def record(model: nn.Module, inputs: Inputs, n: int) -> tuple[Recording, bool]:
    """Run the model on its own copy of the inputs, and return the recording and whether the model wrote into them."""
    with quiet():
        own = copied(inputs)
        recorder = Recorder(own, n)
        versions = [t._version for t in tensors_in(own)]
        with hooked(model, recorder.enter, recorder.leave), recorder:
            output = model(**own) if isinstance(own, dict) else model(own)
        recorder.recording.outputs = {name: recorder.number(tensor) for name, tensor in named_tensors(output)}
        recorder.recording.returns = type(output).__name__
    return recorder.recording, versions != [t._version for t in tensors_in(own)]


@contextmanager
def quiet() -> Generator[None]:
    """Keep gradients off inside, but tensors with versions, which inference mode would not keep."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@contextmanager
def hooked(model: nn.Module, enter: Callable[[str], None], leave: Callable[[str, object], None]) -> Generator[None]:
    """Report every module that is entered and left, inside the context."""

    def follow(name: str, module: nn.Module) -> None:
        def before(_module: nn.Module, _args: object) -> None:
            enter(name)

        def after(_module: nn.Module, _args: object, output: object) -> None:
            leave(name, output)

        # First in and last out: hooks that compute a weight, or replace an output, belong to the module.
        handles.append(module.register_forward_pre_hook(before, prepend=True))
        handles.append(module.register_forward_hook(after, always_call=True))

    handles: list[Any] = []
    try:
        for name, module in model.named_modules():
            follow(name, module)
        yield
    finally:
        for handle in handles:
            handle.remove()
