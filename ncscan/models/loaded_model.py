"""Build the network from a model's source and a checkpoint, with every weight filled in.

In: `mlp` or `module:function`, and a `Checkpoint`. Out: `LoadedModel`, in eval mode, without gradients, on the CPU.
The only file that decides which tensor of a checkpoint belongs where; it never leaves a weight as it was
initialised without saying so.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ncscan.checkpoints import Checkpoint
from ncscan.errors import ModelError, one_line
from ncscan.models.names import renamed
from ncscan.models.quantised import FLOAT8, refuse_quantised
from ncscan.models.request import ModelRequest
from ncscan.sources import MODEL_SOURCES, choices, form_of
from ncscan.wording import listed_up_to

CONTAINERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Name parts that data parallelism, compilation and checkpointing add, at the front or around any part of a model."""
SPARE = "num_batches_tracked"
"""BatchNorm's counter, which no forward pass in eval mode reads: old checkpoints lack it, which is allowed."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Floating types that torch computes with; narrower ones it only stores."""
NARROW = (torch.float16, torch.bfloat16, *FLOAT8)
"""Floating types of which every value is a float32."""


@dataclass(frozen=True)
class LoadedModel:
    """A network that holds a checkpoint's weights."""

    module: nn.Module
    """The network in eval mode, without gradients. It shares memory with the checkpoint's tensors."""
    source: str
    prefix_map: tuple[tuple[str, str], ...]
    """(prefix in the checkpoint, prefix in the model); `…` stands for any front: `("….module.", "….")`."""
    matched: int
    """Tensors of the model that the checkpoint filled."""
    total: int
    """Tensors of the model that a checkpoint must fill."""
    unmatched: tuple[str, ...]
    """Tensors of the model that were not filled, each with the reason; empty unless partial loading was allowed."""
    unused: tuple[str, ...]
    """Tensors of the checkpoint for which the model has no place: a loss, the state of a metric, a counter."""
    unused_share: float
    """The share of the checkpoint's numbers that lie in them."""
    stored_dtype: str
    """Types of the weights in the checkpoint, such as `bfloat16`."""
    compute_dtype: str
    """Types of the weights in the model; `float32` when half precision was widened, which changes no value."""


@dataclass(frozen=True)
class Match:
    """One way to lay a checkpoint's names over a model's."""

    prefix_map: tuple[tuple[str, str], ...]
    names: Mapping[str, str]
    """Name in the model for each name in the checkpoint."""


def build(
    source: str,
    checkpoint: Checkpoint,
    *,
    activation: str | None = None,
    linear_head: int | None = None,
    base: Path | None = None,
    allow_partial: bool = False,
    prefix: str | None = None,
    rename: Sequence[tuple[str, str]] = (),
) -> LoadedModel:
    """Build the network of a checkpoint.

    Weights of half precision, and of float8 without scales, are widened to float32 (exactly: every such value is a
    float32), because inputs are float32 and a CPU rounds half products in its own way; a model that is itself built in
    half precision keeps it.

    Args:
        source: one of the forms of MODEL_SOURCES.
        checkpoint: what fills it.
        activation: what stands between the layers of an `mlp`: a name of mlp.ACTIVATIONS.
        linear_head: how many layers at the end of an `mlp` have no activation between them; the last alone is 1.
        base: the folder that `module` is imported from, the current one by default.
        allow_partial: accept that tensors of the model stay as they are; they are listed in `unmatched`.
        prefix: what the names of the model's tensors begin with in the checkpoint; others are not looked at.
        rename: beginnings of names that are replaced, as (in the checkpoint, in the model).

    Raises: ModelError when the network cannot be built, the checkpoint does not fill it, or weights are not finite.
    """
    checkpoint = replace(checkpoint, tensors=renamed(checkpoint.tensors, prefix, rename, checkpoint.path))
    refuse_quantised(checkpoint.tensors, checkpoint.path)
    for name, tensor in checkpoint.tensors.items():
        if tensor.is_floating_point() and tensor.dtype not in (*FLOATS, *FLOAT8):
            raise ModelError(
                f"{checkpoint.path}: {name} is {_form(tensor)}, a type that torch stores but does not compute with; "
                "save the weights as bfloat16 or float32, multiplied by their scales if they have any"
            )
    form = form_of(source, MODEL_SOURCES)
    if form is None:
        raise ModelError(f"model {source!a:.100}: expected {choices(MODEL_SOURCES)}")
    # The names of a checkpoint, less what data parallelism or compilation put around them.
    tensors = {without_containers(name): tensor for name, tensor in checkpoint.tensors.items()}
    module = form.open()(ModelRequest(source, checkpoint.path, tensors, activation, linear_head, base))
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)}
    for name, value in own.items():
        if nn.parameter.is_lazy(value):
            raise ModelError(f"{source}: {name} has no shape yet; run one forward pass inside the function")
    return _fill(module, own, _best_match(checkpoint, own, source), checkpoint, source, allow_partial=allow_partial)


def _best_match(checkpoint: Checkpoint, own: Mapping[str, torch.Tensor], source: str) -> Match:
    """Return the way to lay names over names that fills most tensors; the plainest one when several fill as many.

    A wrapper adds a prefix to every name, so one pair of prefixes covers them all: those with which some name of the
    checkpoint ends like some name of the model are tried. Containers inside a model are dropped on both sides.
    """
    tensors = checkpoint.tensors
    best: list[Match] = []
    best_score = 0
    for theirs, ours, inner in _spellings(tensors, own):
        for prefix, ours_prefix in _prefixes(theirs, ours):
            names = {
                name: ours[ours_prefix + spelled.removeprefix(prefix)]
                for spelled, name in theirs.items()
                if spelled.startswith(prefix) and ours_prefix + spelled.removeprefix(prefix) in ours
            }
            score = sum(tensors[name].shape == own[target].shape for name, target in names.items())
            outer = ((prefix, ours_prefix),) if prefix or ours_prefix else ()
            if score > best_score:
                best, best_score = [], score
            if score == best_score and score:
                best.append(Match(outer + inner, names))
    if not best:
        raise ModelError(
            f"{checkpoint.path}: no tensor fits {source}: the checkpoint has {_few(tensors)}, the model {_few(own)}"
        )
    plainest = min(best, key=lambda match: sum(len(a) + len(b) for a, b in match.prefix_map))
    rivals = {match.prefix_map for match in best if match.names.keys() != plainest.names.keys()}
    if plainest.prefix_map and rivals:
        fronts = sorted({pairs[0][0] for pairs in (plainest.prefix_map, *rivals) if pairs})
        raise ModelError(
            f"{checkpoint.path}: holds several states that fit {source} ({_few(fronts)}); "
            "name the one that is meant: --state, or --prefix with the beginning of its names"
        )
    return plainest


def _spellings(
    theirs: Iterable[str], ours: Iterable[str]
) -> list[tuple[dict[str, str], dict[str, str], tuple[tuple[str, str], ...]]]:
    """Return names by spelling on both sides, with what the spelling dropped: as they are, and without containers."""
    plain = ({name: name for name in theirs}, {name: name for name in ours}, ())
    bare = tuple({without_containers(name): name for name in side} for side in plain[:2])
    dropped = tuple(
        (f"….{part}." if _inside(part, plain[0]) else "….", f"….{part}." if _inside(part, plain[1]) else "….")
        for part in CONTAINERS
        if _inside(part, plain[0]) != _inside(part, plain[1])
    )
    one_to_one = all(len(short) == len(full) for short, full in zip(bare, plain[:2], strict=True))
    return [plain, (bare[0], bare[1], dropped)] if dropped and one_to_one else [plain]


def without_containers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in CONTAINERS)


def _inside(part: str, names: Iterable[str]) -> bool:
    return any(part in name.split(".") for name in names)


def _prefixes(theirs: Iterable[str], ours: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of prefixes under which names end alike, most frequent first, from a few names of the model."""
    probes = [name.split(".") for name in list(ours)[:: max(1, len(ours) // 16)]]
    votes: Counter[tuple[str, str]] = Counter({("", ""): 1})
    for name in theirs:
        parts = name.split(".")
        for probe in probes:
            ends = zip(reversed(parts), reversed(probe), strict=False)
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
            if same:
                fronts = (parts[: len(parts) - same], probe[: len(probe) - same])
                votes["".join(f"{p}." for p in fronts[0]), "".join(f"{p}." for p in fronts[1])] += same
    return [pair for pair, _ in votes.most_common(64)]


def _fill(
    module: nn.Module,
    own: Mapping[str, torch.Tensor],
    match: Match,
    checkpoint: Checkpoint,
    source: str,
    *,
    allow_partial: bool,
) -> LoadedModel:
    values: dict[str, torch.Tensor] = {}
    unmatched: list[str] = []
    for name, target in match.names.items():
        tensor, place = checkpoint.tensors[name], own[target]
        if tensor.shape != place.shape or _sort(tensor) != _sort(place):
            unmatched.append(f"{target} is {_form(place)} in the model, {_form(tensor)} in the checkpoint")
        else:
            values[target] = _widened(tensor, place.dtype)
    # What may be missing: tied weights, counters that eval mode does not read, constants that the module made itself.
    _fill_ties(values, own, checkpoint)
    optional = {name for name in own if name.endswith(SPARE) and name not in values}
    constants = dict(module.named_buffers())
    named = set(match.names.values())
    unmatched += [f"{n} is missing in the checkpoint" for n in own if n not in values and n not in named | optional]
    unused = {
        name: tensor.numel()
        for name, tensor in checkpoint.tensors.items()
        if name not in match.names and not name.endswith(SPARE) and _constant(name, match, constants) is None
    }
    unmatched += [
        f"{name} differs from what the model makes for itself"
        for name, tensor in checkpoint.tensors.items()
        if name not in match.names
        and (constant := _constant(name, match, constants)) is not None
        and not (constant.shape == tensor.shape and bool((constant == tensor).all()))
    ]
    total = len(own) - len(optional)
    if unmatched and not allow_partial:
        raise ModelError(
            f"{checkpoint.path}: fills {len(values)} of the {total} tensors of {source}"
            f"{_arrows(match.prefix_map)}; {len(unmatched)} do not fit: {'; '.join(unmatched[:4])}"
            f"{'; …' if len(unmatched) > 4 else ''}{_left(unused)}{_others(checkpoint)}{_partial(len(values), total)}"
        )
    # Assigned, not copied: the module shares the checkpoint's memory.
    try:
        module.load_state_dict({**module.state_dict(), **values}, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{checkpoint.path}: {source} refuses its tensors ({one_line(error)})") from error
    _check_values(module, checkpoint, source)
    return LoadedModel(
        module=module.eval().requires_grad_(requires_grad=False),
        source=source,
        prefix_map=match.prefix_map,
        matched=len(values),
        total=total,
        unmatched=tuple(unmatched),
        unused=tuple(unused),
        unused_share=sum(unused.values()) / max(1, sum(tensor.numel() for tensor in checkpoint.tensors.values())),
        stored_dtype=_dtypes(checkpoint.tensors.values()),
        compute_dtype=_dtypes(module.state_dict().values()),
    )


def _left(unused: Mapping[str, int]) -> str:
    return f"; the model has no place for {_few(unused)}" if unused else ""


def _others(checkpoint: Checkpoint) -> str:
    others = checkpoint.notes.get("other_states")
    return f"; the file also holds {others}: --state takes one, or several as parts" if others else ""


def _partial(filled: int, total: int) -> str:
    """Return the advice to go on without what is missing, where more than half of the model is filled."""
    return "; --allow-partial goes on without them" if 2 * filled > total else ""


def _check_values(module: nn.Module, checkpoint: Checkpoint, source: str) -> None:
    for name, value in itertools.chain(module.named_parameters(), module.named_buffers()):
        if value.is_meta:
            raise ModelError(f"{checkpoint.path}: {name} of {source} is on the meta device and was not filled")
        if value.is_quantized or value.is_nested or (value.is_floating_point() and value.dtype not in FLOATS):
            raise ModelError(
                f"{source}: {name} is {_form(value)}; build the model of float16, bfloat16, float32 or float64"
            )
        if _sort(value) == "integer":
            continue
        stored = value.coalesce() if value.is_sparse else value
        entries = stored if stored.layout == torch.strided else stored.values()
        # A mask is a buffer and may well hold -inf; no weight may, and nothing may be NaN.
        wrong = ~torch.isfinite(entries) if isinstance(value, nn.Parameter) else torch.isnan(entries)
        if wrong.any():
            raise ModelError(f"{checkpoint.path}: {name} of {source} holds NaN or inf; this training had diverged")


def _fill_ties(values: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> None:
    """Fill names that share one parameter: it may be stored under one name (safetensors) or both, but not as two."""
    first: dict[int, str] = {}
    for name in (name for name in own if name in values):
        holder = first.setdefault(id(own[name]), name)
        if holder != name and not torch.equal(values[holder], values[name]):
            raise ModelError(f"{checkpoint.path}: {holder} and {name} are one tensor in the model, but differ here")
    for name in own:
        if name not in values and id(own[name]) in first:
            values[name] = values[first[id(own[name])]]


def _constant(name: str, match: Match, constants: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Return what the model makes for itself under that name: older versions of a model stored such buffers."""
    theirs, ours = next(iter(match.prefix_map), ("", ""))
    return constants.get(ours + name.removeprefix(theirs)) if name.startswith(theirs) else None


def _widened(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.float() if tensor.dtype in NARROW and tensor.dtype != dtype else tensor


def _sort(tensor: torch.Tensor) -> str:
    """Return the sort of a tensor's numbers: those of one sort, in any precision, may replace each other."""
    return "floating" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "integer"


def _form(tensor: torch.Tensor) -> str:
    return f"{'×'.join(map(str, tensor.shape)) or 'scalar'} {str(tensor.dtype).removeprefix('torch.')}"


def _dtypes(tensors: Iterable[torch.Tensor]) -> str:
    floats = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    return ", ".join(sorted(floats)) or "no floating-point type"


def _arrows(prefix_map: Iterable[tuple[str, str]]) -> str:
    return "".join(f", with {theirs!r} → {ours!r}" for theirs, ours in prefix_map)


def _few(names: Iterable[str]) -> str:
    return listed_up_to(3, list(names))
