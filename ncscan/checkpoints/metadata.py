"""Read the metadata of a checkpoint: the plain values that it carries in addition to its tensors.

In: the loaded content of a file, or the strings of a safetensors header. Out: a flat mapping of names to plain
values, and the step and epoch that they, or else the file's name, give. The only file that decides what a key means.
"""

import itertools
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

MetadataValue = str | int | float | bool
"""The types that a note can have: it goes into CSV, JSON and HDF5 as it is."""

MAX_NOTES = 1_000
MAX_TEXT = 1_000
MAX_LIST = 16
"""Lists longer than this are histories or vocabularies, not notes."""
_MAX_VISITS = 20_000
"""The number of values looked at or waiting: seven nested lists of sixteen are 268 million values in a few bytes."""
_MAX_DEPTH = 8
_MAX_STATES = 100_000
"""The number of parameters whose counts of updates are looked at."""

_STEPS = ("global_step", "step", "iteration", "iter", "iter_num", "n_iter", "steps", "num_steps", "train_steps")
_EPOCHS = ("epoch", "current_epoch", "epochs_trained")
_PLACES = ("", "meta.", "trainer.", "info.")
"""The places where training loops leave them; `args.epochs` and its like tell what was planned, not what was done."""
_STEP_IN_NAME = re.compile(r"(?:^|[^a-z])(?:global[_-]?step|steps?|iter(?:ation)?s?)[_=-]?(\d{1,15})(?!\d)", re.I)
_EPOCH_IN_NAME = re.compile(r"(?:^|[^a-z])(?:epochs?|ep)[_=-]?(\d{1,15})(?!\d)", re.I)
_GROUP_NOTES = ("lr", "initial_lr", "weight_decay", "momentum", "nesterov", "dampening", "betas", "eps")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def plain(value: object) -> MetadataValue | None:
    """Return a note's value: a tensor of one element becomes its number, text is cut to 1,000 printable characters.

    None for anything that is no plain value, and for integers that no table holds (beyond 64 bits).
    """
    if isinstance(value, torch.Tensor):
        # Shape first: `numel` overflows, and a meta or sparse tensor has no `item`.
        dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        return plain(value.item()) if dense and math.prod(value.shape) == 1 else None
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, str):
        text = value[: MAX_TEXT + 1]
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return None


def of_content(content: Mapping[object, object], state: object) -> dict[str, MetadataValue]:
    """Return the notes of a loaded file: every plain value outside the model's state, and the optimizer's settings.

    Nested names are joined by dots (`hyper_parameters.lr`); shallow ones come first when there are too many.
    An optimizer's groups that agree give `lr`, `momentum`, `weight_decay`, …; where they differ, each keeps its
    own (`optimizer.0.lr`). Where training was counted by Adam alone, `step` is its count.
    """
    notes: dict[str, MetadataValue] = {}
    optimizers: dict[int, Mapping[object, object]] = {}
    large: set[int] = set()
    waiting: deque[tuple[str, object, int]] = deque([("", content, 0)])
    for _ in range(_MAX_VISITS):
        if not waiting or len(notes) >= MAX_NOTES:
            break
        name, value, depth = waiting.popleft()
        children: Iterable[tuple[object, object]] = ()
        if value is state and isinstance(state, Mapping):
            children = [(key, item) for key, item in state.items() if not isinstance(item, torch.Tensor)][:MAX_NOTES]
        elif isinstance(value, Mapping):
            if isinstance(value.get("param_groups"), list):
                if len(optimizers) < MAX_LIST:
                    optimizers[id(value)] = value
            elif depth < _MAX_DEPTH and id(value) not in large and not _is_tensors(value):
                children = itertools.islice(value.items(), MAX_NOTES)
            if len(value) > MAX_NOTES:  # it can be met again and again, in a few bytes
                large.add(id(value))
        elif isinstance(value, list | tuple) and len(value) <= MAX_LIST and depth < _MAX_DEPTH:
            children = enumerate(value)
        elif name and (note := plain(value)) is not None:
            notes[name] = note
        for key, child in children if len(waiting) < _MAX_VISITS else ():
            if isinstance(part := plain(key), str | int):
                waiting.append((f"{name}.{part}".strip(".")[:MAX_TEXT], child, depth + 1))
    told = _of_optimizers(optimizers.values())
    notes = dict(itertools.islice((told | {n: v for n, v in notes.items() if n not in told}).items(), MAX_NOTES))
    if _first(notes, _STEPS) is None and (step := _adam_step(optimizers.values())) is not None:
        notes["step"] = step
    return notes


def of_metadata(metadata: Mapping[str, str]) -> dict[str, MetadataValue]:
    """Return the notes of a safetensors header, which knows only text: what is written like a number is one."""
    notes: dict[str, MetadataValue] = {}
    for name, text in list(metadata.items())[:MAX_NOTES]:
        value: object = text
        if len(text) < 30 and _NUMBER.fullmatch(text):
            value = int(text) if text.lstrip("+-").isdigit() else float(text)
        if (key := plain(name)) and (note := plain(value)) is not None:
            notes[str(key)] = note
    return notes


def step_and_epoch(notes: Mapping[str, MetadataValue], path: Path) -> tuple[int | None, int | None]:
    """Return iteration and epoch: from the notes, else the file's name, else its folder's (`step1000/x.bin`)."""
    step, epoch = _first(notes, _STEPS), _first(notes, _EPOCHS)
    for name in (path.stem, path.parent.name):
        if step is None and (found := _STEP_IN_NAME.findall(name)):
            step = int(found[-1])
        if epoch is None and (found := _EPOCH_IN_NAME.findall(name)):
            epoch = int(found[-1])
    return step, epoch


def last_number(path: Path) -> int | None:
    """Return the last number in a file's name.

    >>> last_number(Path("resnet18_seed2-0350.pt"))
    350
    """
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= 15 else None


def _is_tensors(value: Mapping[object, object]) -> bool:
    """Return whether a value is another state, whose scalars are buffers, not notes.

    Examples are an average of the weights, or a second network.
    """
    return any(isinstance(item, torch.Tensor) and item.dim() > 0 for item in value.values()) and not any(
        isinstance(item, Mapping | str | int | float) for item in value.values()
    )


def _of_optimizers(optimizers: Iterable[Mapping[object, object]]) -> dict[str, MetadataValue]:
    groups: list[Mapping[object, object]] = []
    for optimizer in optimizers:
        listed = optimizer["param_groups"]
        if isinstance(listed, list):
            found = (group for group in listed if isinstance(group, Mapping))
            groups += itertools.islice(found, MAX_LIST - len(groups))
    notes: dict[str, MetadataValue] = {}
    for name in _GROUP_NOTES:
        told: dict[str, MetadataValue] = {}
        for index, group in enumerate(groups):
            value = group.get(name)
            pairs = value if isinstance(value, tuple | list) else None
            told |= {
                f"{index}.{name}" + (f".{place}" if pairs is not None else ""): note
                for place, item in enumerate((pairs if pairs is not None else (value,))[:MAX_LIST])
                if (note := plain(item)) is not None
            }
        agreed: dict[str, MetadataValue] = {}
        for key, note in told.items():
            agreed.setdefault(key.partition(".")[2], note)
        # Values are compared as text because NaN differs from itself.
        if all(str(agreed[key.partition(".")[2]]) == str(note) for key, note in told.items()):
            notes |= agreed
        else:
            notes |= {f"optimizer.{key}": note for key, note in told.items()}
    return notes


def _adam_step(optimizers: Iterable[Mapping[object, object]]) -> int | None:
    """Return the largest count of updates among the parameters: some may have been frozen for a while."""
    states = (states for optimizer in optimizers if isinstance(states := optimizer.get("state"), Mapping))
    each = itertools.islice(itertools.chain.from_iterable(state.values() for state in states), _MAX_STATES)
    told = (_whole(plain(state.get("step"))) for state in each if isinstance(state, Mapping))
    return max((count for count in told if count is not None), default=None)


def _first(notes: Mapping[str, MetadataValue], names: tuple[str, ...]) -> int | None:
    for place in _PLACES:
        for name in names:
            if (count := _whole(notes.get(place + name))) is not None:
                return count
    return None


def _whole(value: MetadataValue | None) -> int | None:
    """Return a count; `True` is none, 3.0 is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return int(value) if value == int(value) and value < 2**63 else None
