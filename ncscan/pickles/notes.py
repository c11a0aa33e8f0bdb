"""Gather the notes of a checkpoint: the plain values that it carries in addition to its tensors.

In: the content of a pickle. Out: a flat mapping of names to plain values.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ncscan.pickles.values import USER_DICTS, Named, Record, View

Note = str | int | float | bool
"""The types that a note can have: it goes into CSV, JSON and HDF5 as it is."""

MAX_NOTES = 1_000
MAX_TEXT = 1_000
MAX_LIST = 16
"""Lists longer than this are histories or vocabularies, not notes."""
MAX_VISITS = 20_000
"""The number of values looked at or waiting: seven nested lists of sixteen are 268 million values in a few bytes."""
MEMBER_OF = ("builtins.getattr", "__builtin__.getattr")
"""The call by which some versions of Python pickle a member of an Enum: its class and its name."""
_MAX_DEPTH = 8
_MAX_STATES = 100_000
"""The number of parameters whose counts of updates are looked at."""
_GROUP_NOTES = ("lr", "initial_lr", "weight_decay", "momentum", "nesterov", "dampening", "betas", "eps")
STEP_NOTES = ("global_step", "step", "iteration", "iter", "iter_num", "n_iter", "steps", "num_steps", "train_steps")
"""Names under which training loops count updates."""
EPOCH_NOTES = ("epoch", "current_epoch", "epochs_trained")
PLACES = ("", "meta.", "trainer.", "info.")
"""The places where training loops leave them; `args.epochs` and its like tell what was planned, not what was done."""

NumberOf = Callable[[View], Note | None]
"""Gives the number in a tensor of one element."""


def plain(value: object, number_of: NumberOf = lambda _: None) -> Note | None:
    """Return a note's value: a tensor of one element becomes its number, text is cut to 1,000 printable characters.

    None for anything that is no plain value, and for integers that no table holds (beyond 64 bits).
    """
    if isinstance(value, View):
        return plain(number_of(value)) if math.prod(value.shape) == 1 else None
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, str):
        text = value[: MAX_TEXT + 1]
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return None


def gather(content: object, states: Collection[int], number_of: NumberOf) -> dict[str, Note]:
    """Return every plain value outside the tensors of the states, and the settings of optimizers.

    Nested names are joined by dots (`hyper_parameters.lr`); shallow ones come first when there are too many.
    An optimizer's groups that agree give `lr`, `momentum`, `weight_decay`, …; where they differ, each keeps its
    own (`optimizer.0.lr`). Where training was counted by Adam alone, `step` is its count.

    Args:
        content: what the pickle holds.
        states: the ids of the dictionaries in it that are states, whose tensors are no notes.
        number_of: gives the number in a tensor of one element.
    """
    notes: dict[str, Note] = {}
    optimizers: dict[int, Mapping[Any, Any]] = {}
    large: set[int] = set()
    waiting: deque[tuple[str, object, int]] = deque([("", content, 0)])
    for _ in range(MAX_VISITS):
        if not waiting or len(notes) >= MAX_NOTES:
            break
        name, value, depth = waiting.popleft()
        children: Iterable[tuple[object, object]] = ()
        named = named_values(value)
        if id(value) in states:
            children = [(key, item) for key, item in (named or {}).items() if not isinstance(item, View | Record)]
            children = children[:MAX_NOTES]
        elif named is not None:
            if isinstance(named.get("param_groups"), list):
                if len(optimizers) < MAX_LIST:
                    optimizers[id(value)] = named
            elif depth < _MAX_DEPTH and id(value) not in large and not _is_tensors(named):
                children = itertools.islice(named.items(), MAX_NOTES)
            if len(named) > MAX_NOTES:  # it can be met again and again, in a few bytes
                large.add(id(value))
        elif isinstance(value, list | tuple) and len(value) <= MAX_LIST and depth < _MAX_DEPTH:
            children = enumerate(value)
        elif name and (note := plain(_content(value), number_of)) is not None:
            notes[name] = note
        for key, child in children if len(waiting) < MAX_VISITS else ():
            if isinstance(part := plain(key), str | int):
                waiting.append((f"{name}.{part}".strip(".")[:MAX_TEXT], child, depth + 1))
    told = _of_optimizers(optimizers.values(), number_of)
    notes = dict(itertools.islice((told | {n: v for n, v in notes.items() if n not in told}).items(), MAX_NOTES))
    if first_count(notes, STEP_NOTES) is None and (step := _adam_step(optimizers.values(), number_of)) is not None:
        notes["step"] = step
    return notes


def named_values(value: object) -> Mapping[Any, Any] | None:
    """Return the named values in a dictionary or a record, None where there are none; OmegaConf's nodes are opened."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, Record):
        return None
    fields = value.fields()
    for inner in ("_content", "data"):  # of OmegaConf's dictionaries, of UserDict
        if isinstance(fields.get(inner), Mapping) and (inner == "_content" or value.name in USER_DICTS):
            return fields[inner]  # type: ignore[no-any-return]
    return None if "_val" in fields else fields or None


def _content(value: object) -> object:
    """Return the plain value in a record: that of OmegaConf's leaves, or the value or name that an Enum is got by."""
    if not isinstance(value, Record):
        return value
    fields = value.fields()
    if "_val" in fields:
        return fields["_val"]
    given = value.arguments
    if value.name in MEMBER_OF and len(given) == 2 and isinstance(given[0], Named):
        given = given[1:]
    alone = given[0] if len(given) == 1 and value.state is None else None
    return alone if isinstance(alone, str | int | float) else None


def first_count(notes: Mapping[str, Note | None], names: tuple[str, ...]) -> int | None:
    """Return the first whole number of at least 0 under some names, in the usual places."""
    for place in PLACES:
        for name in names:
            if (count := whole(notes.get(place + name))) is not None:
                return count
    return None


def whole(value: Note | None) -> int | None:
    """Return a count; `True` is none, 3.0 is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return int(value) if value == int(value) and value < 2**63 else None


def _is_tensors(named: Mapping[Any, Any]) -> bool:
    """Return whether a dictionary is another state, whose scalars are buffers, not notes.

    Examples are an average of the weights, or a second network.
    """
    values = list(itertools.islice(named.values(), MAX_VISITS))
    return any(isinstance(item, View) and item.shape for item in values) and not any(
        isinstance(item, Mapping | str | int | float) for item in values
    )


def _of_optimizers(optimizers: Iterable[Mapping[Any, Any]], number_of: NumberOf) -> dict[str, Note]:
    groups: list[Mapping[Any, Any]] = []
    for optimizer in optimizers:
        found = (group for group in optimizer["param_groups"] if isinstance(group, Mapping))
        groups += itertools.islice(found, MAX_LIST - len(groups))
    notes: dict[str, Note] = {}
    for name in _GROUP_NOTES:
        told: dict[str, Note] = {}
        for index, group in enumerate(groups):
            value = group.get(name)
            pairs = value if isinstance(value, tuple | list) else None
            told |= {
                f"{index}.{name}" + (f".{place}" if pairs is not None else ""): note
                for place, item in enumerate((pairs if pairs is not None else (value,))[:MAX_LIST])
                if (note := plain(item, number_of)) is not None
            }
        agreed: dict[str, Note] = {}
        for key, note in told.items():
            agreed.setdefault(key.partition(".")[2], note)
        # Values are compared as text because NaN differs from itself.
        if all(str(agreed[key.partition(".")[2]]) == str(note) for key, note in told.items()):
            notes |= agreed
        else:
            notes |= {f"optimizer.{key}": note for key, note in told.items()}
    return notes


def _adam_step(optimizers: Iterable[Mapping[Any, Any]], number_of: NumberOf) -> int | None:
    """Return the largest count of updates among the parameters: some may have been frozen for a while."""
    states = (states for optimizer in optimizers if isinstance(states := optimizer.get("state"), Mapping))
    each = itertools.islice(itertools.chain.from_iterable(state.values() for state in states), _MAX_STATES)
    told = (whole(plain(state.get("step"), number_of)) for state in each if isinstance(state, Mapping))
    return max((count for count in told if count is not None), default=None)
