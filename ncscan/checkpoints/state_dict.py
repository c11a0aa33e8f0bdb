"""Choose the model's tensors among the states in a file, and refuse those that show more than is there.

In: content that a format has read. Out: tensors by their names, and a digest of them.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ncscan.checkpoints.formats.reading import FileContent, StoredState
from ncscan.checkpoints.formats.refusals import RESAVE
from ncscan.checkpoints.formats.storages import shape_words
from ncscan.errors import CheckpointError
from ncscan.pickles import MAX_TEXT, WRAPPERS
from ncscan.wording import listed_up_to

MAX_SHARING = 64
"""How many times over the tensors may show the bytes of the file: tied layers do, a little."""
AVERAGED = re.compile(r"(^|[_.-])(ema|swa|averaged?|shadow)([_.-]|$)|_ema$|^ema", re.I)
"""A key under which averages of the weights lie."""
OPTIMIZER = "optim"
"""A part of the keys under which optimizers keep their tensors."""
WEIGHTS = ("raw", "ema")


@dataclass(frozen=True)
class StateChoice:
    """Which of the states in a file is meant, where the user says so."""

    state: str | None = None
    """Keys of the file, `student` or `model.encoder`; several, divided by commas, are parts of one network."""
    weights: str | None = None
    """`raw` for the weights as trained, `ema` for averages of them; None takes raw ones where there are some."""


@dataclass(frozen=True)
class ChosenState:
    """The state that is taken for the model."""

    wrapper: str
    """Its keys, joined by dots; parts of one network by ` + `."""
    tensors: dict[str, torch.Tensor]
    others: tuple[str, ...]
    """The wrappers of the states that were passed over."""


def chosen_state(content: FileContent, choice: StateChoice, path: Path) -> ChosenState:
    """Return the tensors of the state that is meant.

    A state under a usual name (`state_dict`, `model`, …) comes before others, weights before averages of them. States
    under other names are parts of one network (`{'backbone': …, 'head': …}`) and joined by their keys.

    Raises: CheckpointError when there is none, or none of those that are asked for.
    """
    states = [state for state in content.states if not any(OPTIMIZER in key.lower() for key in state.wrapper)]
    if not states:
        raise CheckpointError(f"{path}: holds no tensors of a model (it has: {content.holds}); {RESAVE}")
    if choice.state is not None:
        taken = [part for name in choice.state.split(",") for part in _asked(states, name.strip(), path)]
        prefixes = [""] if len(taken) == 1 else [f"{state.wrapper[-1]}." if state.wrapper else "" for state in taken]
        meant = list(zip(prefixes, taken, strict=True))
    else:
        averages = {name for state in states if AVERAGED.search(name := ".".join(state.wrapper))}
        kept = [state for state in states if (".".join(state.wrapper) in averages) == (choice.weights == "ema")]
        if not kept and choice.weights is not None:
            what = "averages of the weights" if choice.weights == "ema" else "weights other than averages"
            raise CheckpointError(f"{path}: holds no {what}; it has: {_words(states)}; --state names one of them")
        meant = _meant(kept or states)
    tensors = {prefix + name: tensor for prefix, state in meant for name, tensor in _named(state, path).items()}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    used = [state for _, state in meant]
    return ChosenState(
        wrapper=" + ".join(".".join(state.wrapper) for state in used),
        tensors=tensors,
        others=tuple(".".join(state.wrapper) or "(the file itself)" for state in states if state not in used),
    )


def _meant(states: Sequence[StoredState], depth: int = 0) -> list[tuple[str, StoredState]]:
    """Return the states that make up the network, each with the prefix that its names get."""
    outer = list(dict.fromkeys(state.wrapper[depth] for state in states if len(state.wrapper) > depth))
    known = [key for key in WRAPPERS if key in outer]
    here = [state for state in states if len(state.wrapper) == depth]
    if known:
        return _meant([s for s in states if len(s.wrapper) > depth and s.wrapper[depth] == known[0]], depth + 1)
    if here:
        return [("", here[0])]
    parts = [_meant([s for s in states if s.wrapper[depth] == key], depth + 1) for key in outer]
    if len(parts) == 1:
        return parts[0]
    return [(f"{key}.{prefix}", state) for key, part in zip(outer, parts, strict=True) for prefix, state in part]


def _asked(states: Sequence[StoredState], name: str, path: Path) -> list[StoredState]:
    """Return the state of that name, or its parts."""
    keys = tuple(name.split("."))
    below = [state for state in states if state.wrapper[: len(keys)] == keys]
    ends = [state for state in states if state.wrapper[-len(keys) :] == keys]
    found = [state for _, state in _meant(below, len(keys))] if below else ends
    if not found:
        raise CheckpointError(f"{path}: holds no state {name!a:.60}; it has: {_words(states)}")
    if not below and len(found) > 1:
        raise CheckpointError(f"{path}: holds several states {name!a:.60}: {_words(found)}; give all keys of one")
    return found


def _words(states: Sequence[StoredState]) -> str:
    return listed_up_to(8, [f"{'.'.join(s.wrapper):.60}" or "tensors without a key of their own" for s in states])


def _named(state: StoredState, path: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state.make().items():
        if not name.isprintable() or not 0 < len(name) <= MAX_TEXT:
            raise CheckpointError(f"{path}: a tensor's name is no name ({name!a:.100}); {RESAVE}")
        tensors[name] = tensor.detach()
    return tensors


def check_tensors(tensors: Mapping[str, torch.Tensor], n_bytes: int, path: Path) -> None:
    """Refuse tensors that show more than the file holds, before anything copies or hashes them."""
    shown = 0
    stored: dict[int, int] = {}
    for name, tensor in tensors.items():
        dense = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
        if not dense:
            raise CheckpointError(f"{path}: tensor {name!a:.100} is not dense; make it dense before saving")
        storage = tensor.untyped_storage()
        # Python's integers do not overflow, `numel` does.
        claimed = math.prod(tensor.shape) * tensor.itemsize
        if claimed > storage.nbytes():
            raise CheckpointError(
                f"{path}: tensor {name!a:.100} of shape {shape_words(tensor.shape)} shows {claimed:,} bytes of which "
                f"{storage.nbytes():,} are stored; save a .contiguous() copy of it"
            )
        shown += claimed
        stored[storage.data_ptr()] = storage.nbytes()
    if sum(stored.values()) > n_bytes or shown > MAX_SHARING * n_bytes:
        raise CheckpointError(f"{path}: its tensors show {shown:,} bytes, the file has {n_bytes:,}; {RESAVE}")


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        # The header ends where its bytes begin and tells how many follow: no two sets of tensors share a digest.
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        plain = tensor.resolve_conj().resolve_neg().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
