"""Find the model's tensors in what a file holds, and refuse those that show more than is there.

In: content that a format has read. Out: tensors by their names, and a digest of them.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ncscan.checkpoints.formats.refusals import RESAVE, listed
from ncscan.checkpoints.formats.storages import shape_words
from ncscan.checkpoints.metadata import MAX_TEXT
from ncscan.errors import CheckpointError

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "params_ema", "ema"),
)
"""Keys under which training loops keep the model's tensors; plain weights come before averaged ones."""
MAX_SHARING = 64
"""How many times over the tensors may show the bytes of the file: tied layers do, a little."""
MAX_WRAPPERS = 3
"""How deep a state may lie in others."""


def model_state(
    content: Mapping[object, Any], path: Path, above: tuple[str, ...] = ()
) -> tuple[str, Mapping[object, object], tuple[str, ...]]:
    """Return the wrapper, the model's state, and the names of other states that were passed over."""
    if len(above) > MAX_WRAPPERS:
        raise CheckpointError(f"{path}: wraps its tensors more than {MAX_WRAPPERS} times; {RESAVE}")
    looked: dict[tuple[int, int], bool] = {}
    inner = [key for key, value in content.items() if isinstance(key, str) and _holds_tensors(value, looked)]
    known = [key for key in WRAPPERS if key in inner]
    if not known and _is_state(content):
        return ".".join(above), content, ()
    # An unknown name is taken when nothing else could be meant; it is recorded like a known one.
    choice = known or [key for key in inner if "optim" not in key.lower()]
    if not choice:
        raise CheckpointError(f"{path}: holds no tensors of a model (it has: {listed(content) or 'nothing'}); {RESAVE}")
    if not known and len(choice) > 1:
        raise CheckpointError(
            f"{path}: holds several states ({listed(choice)}), none under a usual name; "
            "save the one that is meant under 'state_dict'"
        )
    wrapper, state, others = model_state(content[choice[0]], path, (*above, choice[0]))
    return wrapper, state, (*others, *(".".join((*above, key)) for key in choice[1:]))


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, torch.Tensor) and v.dim() for v in value.values())


def _holds_tensors(value: object, looked: dict[tuple[int, int], bool], depth: int = MAX_WRAPPERS) -> bool:
    """Return whether a state lies here or under wrappers further in, each looked at once: a dict can hold itself."""
    if not isinstance(value, Mapping) or not depth:
        return False
    place = (id(value), depth)
    if place not in looked:
        looked[place] = False
        inner = (value.get(key) for key in WRAPPERS)
        looked[place] = _is_state(value) or any(_holds_tensors(each, looked, depth - 1) for each in inner)
    return looked[place]


def named_tensors(state: Mapping[str, torch.Tensor] | Mapping[object, object], path: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_TEXT:
                raise CheckpointError(f"{path}: a tensor's name is no name ({name!a:.100}); {RESAVE}")
            tensors[name] = tensor.detach()
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
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
