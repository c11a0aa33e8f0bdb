"""Merge a LoRA adapter with its base: W + s·B·A for every matrix that it adapts.

In: an adapter as peft saves it, its adapter_config.json, and the base's tensors. Out: the tensors of the merged model,
computed in float64. What is not plain LoRA is refused by name: merged like it, it would be another network.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ncscan.errors import CheckpointError
from ncscan.files import parse_json, read
from ncscan.wording import listed_up_to

CONFIG = "adapter_config.json"
MAX_CONFIG = 2**20
FRONT = "base_model.model."
"""What peft puts in front of the names of the base."""
LORA = re.compile(
    r"(?P<module>.+)\.lora_(?P<kind>embedding_A|embedding_B|A|B)(\.(?!weight$|bias$)[\w-]+)?(\.(?P<leaf>weight|bias))?"
)
"""The names of an adapter's matrices; the name of the adapter may stand in them."""
KNOWN = frozenset(
    (
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "bias"),
        *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
        *(
            "use_rslora",
            "modules_to_save",
            "init_lora_weights",
            "layers_to_transform",
            "layers_pattern",
            "rank_pattern",
        ),
        *("alpha_pattern", "megatron_core", "eva_config", "qalora_group_size", "lora_bias", "ensure_weight_tying"),
        *("runtime_config", "inject_pattern"),
    )
)
"""Settings that are understood here, or change nothing of what a trained adapter computes."""
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to initialise an adapter that leave the base as it is; others save what only fits a changed base."""
SIMPLE = re.compile(r"\^?([\w-]|\\?\.|\.\*|\\d\+?)*\$?", re.A)
"""Patterns of names that are tried: letters, digits, dots, and as many of the next ones as MAX_WILD."""
WILD = re.compile(r"\.\*|\\d\+")
MAX_WILD = 2
HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Adapter:
    """An adapter's settings, and the hash of the file that has them."""

    path: Path
    settings: Mapping[str, Any]
    sha256: str

    @property
    def base(self) -> str:
        """Return what the adapter says of its base."""
        return f"{self.settings.get('base_model_name_or_path') or 'an unnamed model'!s:.100}"

    def scale(self, module: str, rank: int, path: Path) -> float:
        """Return the factor of B·A for a module, of that rank."""
        ranks, alphas = (self.settings.get(f"{of}_pattern") or {} for of in ("rank", "alpha"))
        said = _of_pattern(ranks, module, self.settings.get("r"), self.path)
        alpha = _of_pattern(alphas, module, self.settings.get("lora_alpha"), self.path)
        if type(said) is not int or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise CheckpointError(f"{self.path}: r and lora_alpha must be numbers")
        if said != rank:
            raise CheckpointError(f"{path}: {module} has rank {rank}, and {CONFIG} says {said}")
        return alpha / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)


def adapter_at(path: Path, names: Mapping[str, object]) -> Adapter | None:
    """Return the adapter that a checkpoint is, told by its names or the file beside it; None for a whole model.

    Raises: CheckpointError when it is one that cannot be merged, or its settings cannot be read.
    """
    lora = any(LORA.fullmatch(name) for name in names) and not any(
        name.endswith(".base_layer.weight") for name in names
    )
    beside = path.with_name(CONFIG)
    if not lora and not (path.name.startswith("adapter_model") and beside.is_file()):
        return None
    if not beside.is_file():
        raise CheckpointError(f"{path}: a LoRA adapter without its {CONFIG} beside it, which has its scales")
    data = read(beside, CheckpointError, MAX_CONFIG)
    try:
        settings = parse_json(data)
        if not isinstance(settings, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise CheckpointError(f"{beside}: not valid JSON: {error!s:.200}") from error
    adapter = Adapter(beside, settings, hashlib.sha256(data).hexdigest())
    if settings.get("peft_type") != "LORA":
        kind = f"{settings.get('peft_type')!a:.40}"
        raise CheckpointError(f"{path}: an adapter of the kind {kind}, which is not merged here; {_merge_it(adapter)}")
    other = [key for key, value in settings.items() if key not in KNOWN and value]
    start = settings.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        other.append(f"init_lora_weights = {start!a:.40}")
    if other:
        words = listed_up_to(4, [f"{each:.60}" for each in other])
        raise CheckpointError(f"{path}: a LoRA adapter with {words}, which is not merged here; {_merge_it(adapter)}")
    return adapter


def needs_base(path: Path, adapter: Adapter) -> CheckpointError:
    """Return the error for an adapter whose base is not given."""
    return CheckpointError(
        f"{path}: a LoRA adapter, a change to {adapter.base} and not a model; give the base's file or folder with "
        "--base (in ncscan.toml: [model] base)"
    )


def merged(
    adapter: Adapter, changes: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """Return the base's tensors with the adapter's changes in them; those of half precision become float32.

    Raises: CheckpointError where the two do not fit.
    """
    factors: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    for name, tensor in changes.items():
        short = name.removeprefix(FRONT)
        if match := LORA.fullmatch(short):  # the name of the adapter is left out by peft, not by torch.save
            kind = match["kind"].removeprefix("embedding_") + (" bias" if match["leaf"] == "bias" else "")
            own = factors.setdefault(match["module"], {})
            if kind in own:
                raise CheckpointError(f"{path}: holds two adapters of {match['module']:.100}; save one of them")
            own[kind] = tensor
            own |= {"embedding": tensor} if "embedding" in match["kind"] else {}
        elif "lora_" in short or "adapter" in short.rpartition(".")[0].split("."):
            raise CheckpointError(f"{path}: holds {short:.100}, which is not plain LoRA; {_merge_it(adapter)}")
        else:
            whole[short.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")] = tensor
    front = _front([f"{module}.weight" for module in factors] or list(whole), base, path)
    result = dict(base)
    for module, own in factors.items():
        name = front(f"{module}.weight")
        if name not in result:
            raise CheckpointError(f"{path}: adapts {module:.100}, and its base has no {name:.100}; is it another base?")
        delta = _delta(adapter, module, own, result[name], path)
        result[name] = _sum(result[name], delta)
        if "B bias" in own:
            if (bias := front(f"{module}.bias")) not in result:
                raise CheckpointError(f"{path}: adds a bias to {module:.100}, which has none in its base")
            scale = adapter.scale(module, own["A"].shape[0], path)
            result[bias] = _sum(result[bias], scale * own["B bias"].double())
    for name, tensor in whole.items():
        result[front(name)] = tensor
    return result


def _sum(weight: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    dtype = torch.float32 if weight.dtype in HALVES else weight.dtype
    return (weight.double() + delta).to(dtype)


def _delta(
    adapter: Adapter, module: str, own: Mapping[str, torch.Tensor], weight: torch.Tensor, path: Path
) -> torch.Tensor:
    """Return s·B·A in the layout of the weight."""
    lacking = [part for part in ("A", "B") if part not in own]
    if lacking:
        raise CheckpointError(f"{path}: lacks lora_{lacking[0]} of {module:.100}; is it damaged?")
    down, up = own["A"], own["B"]
    shapes = f"{tuple(up.shape)}·{tuple(down.shape)} for a weight {tuple(weight.shape)}"
    if not (weight.is_floating_point() and down.is_floating_point() and up.is_floating_point()):
        raise CheckpointError(f"{path}: {module:.100} is not of floating numbers; is its base quantised?")
    if min(down.dim(), up.dim()) < 2 or up.shape[1] != down.shape[0]:
        raise CheckpointError(f"{path}: does not fit its base at {module:.100}: {shapes}")
    product = up.double().flatten(1) @ down.double().flatten(1)
    turned = "embedding" in own or bool(adapter.settings.get("fan_in_fan_out"))
    if turned and down.dim() == 2:
        product = product.T
    elif down.dim() > 2 and weight.dim() == down.dim() and set(up.shape[2:]) == {1}:
        product = product.reshape(-1, *down.shape[1:])
    if product.shape != weight.shape:
        raise CheckpointError(f"{path}: does not fit its base at {module:.100}: {shapes}")
    return product * adapter.scale(module, down.shape[0], path)


def _front(names: list[str], base: Mapping[str, torch.Tensor], path: Path) -> "_Front":
    """Return what makes the base's names of those in an adapter: the same pair of prefixes for all.

    The base may have been saved from a model that has it as a part, or be that part.
    """
    if all(name in base for name in names):
        return _Front("", "")
    pairs: set[tuple[str, str]] | None = None
    for name in names:
        fits = {(name.removesuffix(other), "") for other in base if name.endswith(f".{other}")}
        fits |= {("", other.removesuffix(name)) for other in base if other.endswith(f".{name}")}
        fits |= {("", "")} if name in base else set()
        pairs = fits if pairs is None else pairs & fits
    if pairs is None or len(pairs) != 1:
        raise CheckpointError(
            f"{path}: its names do not fit those of its base ({listed_up_to(2, names)}; "
            f"{listed_up_to(2, list(base))}); is it another base?"
        )
    return _Front(*pairs.pop())


@dataclass(frozen=True)
class _Front:
    """Replaces the beginning of a name."""

    old: str
    new: str

    def __call__(self, name: str) -> str:
        return self.new + name.removeprefix(self.old)


def _of_pattern(patterns: object, module: str, default: object, where: Path) -> object:
    """Return the setting of a module: that of the first pattern with which its name ends, as peft matches it.

    The patterns are regular expressions of a stranger: only those that cannot take long are tried.
    """
    for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
        if not SIMPLE.fullmatch(pattern) or len(WILD.findall(pattern)) > MAX_WILD:
            raise CheckpointError(f"{where}: the pattern {pattern!a:.60} is not read; name the modules without it")
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _merge_it(adapter: Adapter) -> str:
    return f"have it merged into {adapter.base} (peft: merge_and_unload) and the whole model saved"
