"""Find the states of networks in what a pickle holds: dictionaries of tensors, and modules that were pickled whole.

In: the content of a pickle. Out: `Content`, flat: names, descriptions of tensors, plain notes. Which of several states
is meant is not decided here.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from ncscan.pickles.arrays import array_of
from ncscan.pickles.calls import MAX_TENSORS
from ncscan.pickles.notes import MAX_LIST, Note, NumberOf, gather, named_values
from ncscan.pickles.values import BadPickle, Context, NumpyArray, Record, View

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "params_ema", "ema"),
)
"""Keys under which training loops keep the model's tensors; plain weights come before averaged ones."""
VALUE = "value"
"""What a pickle's content is called that has no name of its own."""
MAX_WRAPPERS = 4
"""How deep a state may lie in others."""
MAX_MODULES = 64
"""How deep modules may lie in one another."""
MAX_LOOKED_AT = 20_000
"""Values that are looked at in the search for states."""


class PickledState(msgspec.Struct, frozen=True, array_like=True):
    """The tensors of one network, or of a part of one."""

    wrappers: tuple[tuple[str, ...], ...]
    """The keys under which it lies, from the outside in, for each way that leads to it; none for the content itself."""
    module: str
    """The class of the module that was pickled whole, empty for a dictionary."""
    tensors: dict[str, View | NumpyArray]
    odd: tuple[str, ...]
    """Names of values in it that stand for tensors which are not dense, each with what would build it."""
    bad_names: tuple[str, ...]
    """Keys of tensors that are no text."""


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What a pickle of a checkpoint holds."""

    kind: str
    """The type of the outermost object."""
    keys: tuple[str, ...]
    """Its first keys, for messages."""
    states: tuple[PickledState, ...]
    notes: dict[str, Note]
    inert: tuple[str, ...]
    """Classes and functions that the pickle names and that were not needed, sorted."""
    pieces: tuple[bytes, ...] = ()
    """Bytes of tensors that lie in the pickle."""
    members: tuple[tuple[str, int], ...] = ()
    """For a stream: the storages that follow the pickle, in order, each with the bytes of an element."""
    end: int = 0
    """For a stream: where its pickles end, and the storages begin."""
    little_endian: bool = True


def understand(content: object, context: Context, number_of: NumberOf) -> Content:
    """Return the states and the notes in the content of a pickle.

    Args:
        content: what the interpreter made.
        context: with which it was read; it takes the bytes of arrays.
        number_of: gives the number in a tensor of one element.

    Raises: BadPickle when modules are nested without end.
    """
    states = _states(content, context)
    named = named_values(content)
    kind = content.name if isinstance(content, Record) else type(content).__name__
    keys = tuple(f"{key!a:.60}" for key, _ in zip(named or {}, range(9), strict=False))
    notes = gather(content, states, number_of)
    return Content(kind, keys, tuple(states.values()), notes, tuple(sorted(context.inert)), tuple(context.pieces))


def understand_value(content: object, context: Context, number_of: NumberOf) -> Content:
    """Return the content of a pickle that is one tensor, or else a value, under the name `VALUE`."""
    if isinstance(content, View):
        state = PickledState(((),), "", {VALUE: content}, (), ())
        return Content("tensor", (), (state,), {}, tuple(sorted(context.inert)), tuple(context.pieces))
    return understand({VALUE: content}, context, number_of)


def _states(content: object, context: Context) -> dict[int, PickledState]:
    """Return the states by the ids of what holds them, the outer ones first."""
    found: dict[int, PickledState] = {}
    seen: set[int] = set()
    waiting: deque[tuple[tuple[str, ...], object]] = deque([((), content)])
    for _ in range(MAX_LOOKED_AT):
        if not waiting:
            break
        wrapper, value = waiting.popleft()
        if (state := found.get(id(value))) is not None and len(state.wrappers) < MAX_LIST:
            found[id(value)] = msgspec.structs.replace(state, wrappers=(*state.wrappers, wrapper))
        if id(value) in seen:
            continue
        seen.add(id(value))
        if _is_module(value):
            found[id(value)] = _of_module(wrapper, value)
            continue
        if isinstance(value, list | tuple) and len(value) <= MAX_LIST:
            inner: Mapping[Any, Any] | None = {str(place): each for place, each in enumerate(value)}
        else:
            inner = named_values(value)
        if inner is None or isinstance(inner.get("param_groups"), list):
            continue
        if _is_state(inner) and not any(_is_module(inner.get(key)) or _is_state(inner.get(key)) for key in WRAPPERS):
            found[id(value)] = _of_dictionary(wrapper, inner, context)
        if len(wrapper) < MAX_WRAPPERS:
            waiting += (
                ((*wrapper, key), each)
                for key, each in inner.items()
                if isinstance(key, str) and isinstance(each, Mapping | Record | list | tuple)
            )
    return found


def _is_state(value: object) -> bool:
    named = value if isinstance(value, Mapping) else None
    return named is not None and any(_is_tensor(each) for each in named.values())


def _is_tensor(value: object) -> bool:
    """Return whether a value is a tensor or an array with a dimension at least: numbers alone are notes."""
    if isinstance(value, Record):
        shaped = isinstance(value.state, tuple) and len(value.state) == 5 and value.state[1] != ()
        return (value.name == "numpy.ndarray" and shaped) or _is_odd(value)
    return isinstance(value, View) and bool(value.shape)


def _is_odd(value: object) -> bool:
    """Return whether a record stands for a tensor that is not dense."""
    return isinstance(value, Record) and value.name.startswith("torch._utils._rebuild_")


def _of_dictionary(wrapper: tuple[str, ...], named: Mapping[Any, Any], context: Context) -> PickledState:
    tensors: dict[str, View | NumpyArray] = {}
    odd: list[str] = []
    bad: list[str] = []
    for key, value in named.items():
        tensor = value if isinstance(value, View) else array_of(value, context) if isinstance(value, Record) else None
        if tensor is None:
            odd += [f"{key!a:.60} by {value.name!a:.60}"] if _is_odd(value) else []
        elif isinstance(key, str):
            tensors[key] = tensor
        else:
            bad.append(f"{key!a:.100}")
    return PickledState((wrapper,), "", tensors, tuple(odd[:9]), tuple(bad[:9]))


def _is_module(value: object) -> bool:
    if not isinstance(value, Record):
        return False
    fields = value.fields()
    return all(isinstance(fields.get(part), Mapping) for part in ("_parameters", "_buffers", "_modules"))


def _of_module(wrapper: tuple[str, ...], module: Any) -> PickledState:
    """Return the tensors of a module that was pickled whole, by the names and in the order of its state_dict."""
    tensors: dict[str, View | NumpyArray] = {}
    odd: list[str] = []
    visits = 0
    stack: list[tuple[tuple[str, ...], Record]] = [((), module)]
    while stack:
        path, record = stack.pop()
        fields = record.fields()
        passing = fields.get("_non_persistent_buffers_set")
        left_out = _members(passing) if isinstance(passing, Record) else set()
        own = [
            *fields["_parameters"].items(),
            *(pair for pair in fields["_buffers"].items() if pair[0] not in left_out),
        ]
        visits += 1 + len(own)
        if visits > MAX_TENSORS or len(path) > MAX_MODULES:
            raise BadPickle("holds modules that lie in one another without end")
        for name, value in own:
            if isinstance(value, View) and isinstance(name, str):
                tensors[".".join((*path, name))] = value
            elif _is_odd(value):
                odd.append(f"{name!a:.60} by {value.name!a:.60}")
        inner = [(name, each) for name, each in fields["_modules"].items() if _is_module(each)]
        stack += [((*path, str(name)), each) for name, each in reversed(inner)]
    return PickledState((wrapper,), module.name, tensors, tuple(odd[:9]), ())


def _members(record: Record) -> set[str]:
    """Return the texts in the record of a set."""
    given = record.arguments[0] if record.arguments and isinstance(record.arguments[0], list) else []
    return {text for text in (*record.items, *given) if isinstance(text, str)}
