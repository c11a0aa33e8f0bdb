"""Paths and flags → checkpoints that stand as traced models over their data, before the first batch.

In: what the command line names, and each run's ncscan.toml. Out: targets, and what cannot be used; each target loaded.
"""

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ncscan import checkpoints, user_code
from ncscan.activations import AUTO, Trace, default_batch_size, pick_device, tensors_in, trace
from ncscan.checkpoints import Checkpoint, StateChoice
from ncscan.config import (
    CONFIG_NAME,
    Normalisation,
    RunConfig,
    SourceSpec,
    nearest_config,
    read_config,
    with_flags,
)
from ncscan.data import Dataset, open_dataset
from ncscan.dumps import SizePlan, plan
from ncscan.errors import ModelError, NcscanError, TapError, UsageError, named, one_line
from ncscan.layer_graph import check_selectors, select
from ncscan.models import LoadedModel, build
from ncscan.pipeline.events import Skipped
from ncscan.sources import DATA_SOURCES, MODEL_SOURCES, choices
from ncscan.splits import HELD_OUT, OUTSIDE, SPLITS, TRAINING

TRACED_SAMPLES = 3
_OF_TYPES = re.compile(r"dtype|scalar type|same type|Double|Half|BFloat16")
"""The words that torch's message on a product of two types has."""


@dataclass(frozen=True)
class Flags:
    """The settings of the command line that replace or complete those of each run's ncscan.toml."""

    model: str | None = None
    data: str | None = None
    normalize: str | None = None
    class_order: str | None = None
    test: str | None = None
    ood: str | None = None
    state: str | None = None
    weights: str | None = None
    prefix: str | None = None
    rename: tuple[str, ...] = ()
    base: Path | None = None
    logits: str | None = None
    order: str | None = None
    trust_code: bool = False
    allow_partial: bool = False
    layers: tuple[str, ...] = ("all",)
    reduction: str = AUTO
    dtype: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    compress: bool = False
    gradients: int | None = None
    """The number of samples to measure gradients on; None leaves them."""
    force: bool = False


@dataclass(frozen=True)
class Target:
    """One checkpoint to work on, with one of its run's data sets."""

    path: Path
    run: str
    name: str
    """Its path within the folder of its run."""
    config: RunConfig
    split: str = TRAINING
    order: int | None = None
    """Its place where the user orders the run by time, in nanoseconds, or by a file, its line."""

    @property
    def label(self) -> str:
        """Return its label in tables and messages."""
        return f"{self.run}/{self.name}" + ("" if self.split == TRAINING else f" ({self.split})")

    @property
    def source(self) -> SourceSpec | None:
        """Return the source of its samples."""
        config = self.config
        return {TRAINING: config.data, HELD_OUT: config.test, OUTSIDE: config.ood}[self.split]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that stands as a traced model, before its first batch."""

    target: Target
    checkpoint: Checkpoint
    model: LoadedModel
    dataset: Dataset
    device: torch.device
    batch_size: int
    trace: Trace
    reduction: str
    """`auto` where the head is followed to a token, or a way in which feature maps become vectors."""
    size: SizePlan


class Targets(NamedTuple):
    """The checkpoints to work on under some paths."""

    targets: list[Target]
    skipped: list[Skipped]
    """Paths, folders and runs that cannot be used."""
    unused: list[str]
    """A line for each path on what was seen there and is no checkpoint."""


def find_targets(paths: Sequence[Path], flags: Flags) -> Targets:
    """Find the checkpoints under the paths, run by run.

    A run is the nearest folder with an ncscan.toml, else the folder that was named; it is called by its path below
    the folder that was named. A path that holds nothing, a folder that cannot be read and a run whose ncscan.toml is
    wrong are skipped.

    Raises: the first trouble that was met, a CheckpointError or UsageError if it is known, when nothing is left; and
        UsageError when the layers that are asked for mean nothing in any model, or there is no such device.
    """
    check_selectors(flags.layers)
    pick_device(flags.device)
    runs: dict[Path, tuple[str, RunConfig] | None] = {}
    folders: dict[str, Path] = {}
    targets: list[Target] = []
    unused: dict[Path, list[tuple[str, Path]]] = {}
    troubles: list[tuple[str, Exception]] = []
    for path in paths:
        try:
            found = checkpoints.find(path, (CONFIG_NAME,))
        except Exception as error:
            troubles.append((str(path), error))
            continue
        troubles += [(str(path), error) for error in found.unreadable]
        unused[path] = found.unused
        # A folder can be one checkpoint itself.
        root = path if path.is_dir() and path not in found.files else path.parent
        for file in found.files:
            folder = nearest_config(file) or root
            if folder not in runs:
                try:
                    run, config = _run(folder, root, flags)
                    if (other := folders.get(run, folder.resolve())) != folder.resolve():
                        said = f"two runs are called {run}: {other} and {folder}"
                        raise UsageError(f"{said}; name the folder above both")
                    folders[run], runs[folder] = folder.resolve(), (run, config)
                except Exception as error:  # an ncscan.toml from a stranger is an input like any other
                    runs[folder] = None
                    troubles.append((f"{folder} (all its checkpoints)", error))
            if (known := runs[folder]) is not None:
                run, config = known
                name = file.relative_to(folder).as_posix() if file != folder else file.name
                each = (Target(file, run, name, config, split) for split in SPLITS)
                targets += [target for target in each if target.split == TRAINING or target.source is not None]
    targets = [target for run in runs.values() if run for target in _ordered(*run, targets, troubles)]
    if not targets:
        raise troubles[0][1]
    return Targets(targets, [Skipped.because(label, error) for label, error in troubles], _unused(unused, targets))


def _ordered(
    run: str, config: RunConfig, targets: Sequence[Target], troubles: list[tuple[str, Exception]]
) -> list[Target]:
    """Return the targets of a run, each with its place by the user's order; none where that does not name them all."""
    own, given = [target for target in targets if target.run == run], config.order
    if given is None or given.by == "name":
        return own
    try:
        if given.by == "mtime":
            return [replace(target, order=target.path.stat().st_mtime_ns) for target in own]
        lines = given.lines_of(run, list(dict.fromkeys(target.name for target in own)))
        return [replace(target, order=lines[target.name]) for target in own]
    except (UsageError, OSError) as error:
        troubles.append((f"{run} (all its checkpoints)", error))
        return []


def _unused(seen: Mapping[Path, Sequence[tuple[str, Path]]], targets: Sequence[Target]) -> list[str]:
    """Return a line for each path on what is no checkpoint there, and no data of a run either."""
    sources = {source for target in targets if (source := target.source) is not None and not source.is_code}
    data = [(source.base / source.spec.partition(":")[2]).resolve() for source in sources]
    left = {
        path: [(kind, file) for kind, file in unused if not any(file.resolve().is_relative_to(d) for d in data)]
        for path, unused in seen.items()
    }
    return [f"{path}: {checkpoints.unused_words(unused, path)}" for path, unused in left.items() if unused]


def _run(folder: Path, root: Path, flags: Flags) -> tuple[str, RunConfig]:
    """Return a run's name and its settings: ncscan.toml and the flags."""
    config = with_flags(
        read_config(folder),
        model=flags.model,
        data=flags.data,
        normalize=flags.normalize,
        class_order=flags.class_order,
        test=flags.test,
        ood=flags.ood,
        state=flags.state,
        weights=flags.weights,
        prefix=flags.prefix,
        base=flags.base,
        rename=flags.rename,
        logits=flags.logits,
        order=flags.order,
        trust_code=flags.trust_code,
    )
    below = folder != root and folder.is_relative_to(root)
    run = folder.relative_to(root).as_posix() if below else folder.resolve().name
    return run, config


def load(target: Target, flags: Flags) -> Loaded:
    """Load one checkpoint as a traced model, and the data that it will see; nothing is replayed yet."""
    config = target.config
    source = _require_source(target, config.model, "model", choices(MODEL_SOURCES))
    dataset = _dataset(target)
    checkpoint = checkpoints.load(target.path, StateChoice(config.state, config.weights), config.base)
    model = build(
        source.spec,
        checkpoint,
        activation=config.activation,
        linear_head=config.linear_head,
        base=source.base,
        allow_partial=flags.allow_partial,
        prefix=config.prefix,
        rename=config.rename,
    )
    floats = (parameter.dtype for parameter in model.module.parameters() if parameter.is_floating_point())
    dataset = replace(dataset, floats=next(floats, None))
    device = pick_device(flags.device)
    model.module.to(device)
    traced = _traced(model.module, dataset, _training(target).n_classes, config.logits)
    taps = select(traced.graph, flags.layers)
    batch_size = flags.batch_size or default_batch_size(device)
    # Where the head reads no token, following it is the mean.
    follows = flags.reduction == AUTO and any(traced.how(tap, AUTO) != "mean" for tap in traced.graph.taps)
    reduction = "mean" if flags.reduction == AUTO and not follows else flags.reduction
    size = plan(traced, taps, dataset.n_samples, reduction=reduction, dtype=flags.dtype, batch_size=batch_size)
    return Loaded(target, checkpoint, model, dataset, device, batch_size, traced, reduction, size)


def _traced(model: nn.Module, dataset: Dataset, n_classes: int, logits: str | None) -> Trace:
    """Return the traced pass of the first samples; TapError where the model does not take them at all."""
    samples = dataset.batch(0, TRACED_SAMPLES)
    try:
        return trace(model, samples, n_classes=n_classes, logits=logits)
    except NcscanError:
        raise
    except Exception as error:  # the model's own code may raise anything
        if not _raised_in_a_module(error):
            raise
        if (mixed := _mixed_types(model)) and _OF_TYPES.search(str(error)):
            raise ModelError(f"the model does not run, because {mixed}; save them in one type") from error
        shapes = ", ".join(str(tuple(values.shape[1:])) for values in tensors_in(samples))
        # Of torch's own errors the text is enough; a KeyError or an AssertionError may have none.
        reason = one_line(error) if isinstance(error, RuntimeError | ValueError) else named(error)
        raise TapError(f"{dataset.spec}: the model does not take samples of shape {shapes}: {reason}") from error


def _raised_in_a_module(error: Exception) -> bool:
    """Return whether a model was being called when an exception was raised; else it is one of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename) == Path(nn.modules.module.__file__) for frame in frames)


def _mixed_types(model: nn.Module) -> str:
    """Return in words the first weight of another floating type than the one before it; empty where none is."""
    floats = [(name, parameter.dtype) for name, parameter in model.named_parameters() if parameter.is_floating_point()]
    for (one, dtype), (other, its) in pairwise(floats):
        if dtype != its:
            types = [str(each).removeprefix("torch.") for each in (dtype, its)]
            return f"{other} is {types[1]} and {one} is {types[0]}"
    return ""


def require_sources(target: Target) -> None:
    """Refuse a run that lacks what none of its checkpoints can do without.

    Raises: UsageError when nothing names a model or data, or what is named is not there; DataError when the data cannot
        be used.
    """
    model = _require_source(target, target.config.model, "model", choices(MODEL_SOURCES))
    if model.is_code:
        user_code.find(model.spec, model.base, ModelError)
    _dataset(target)


def _dataset(target: Target) -> Dataset:
    known = _training(target)
    if target.source is None or target.split == TRAINING:
        return known
    other = _open(
        target.source.spec, target.source.base, target.config.normalize, target.config.class_order, target.split
    )
    if target.split == OUTSIDE:
        return other
    # Which labels the network has outputs for is seen in the replay; a split may have others than the training set.
    return replace(other, class_names=(*known.class_names, *other.class_names[known.n_classes :]))


def _training(target: Target) -> Dataset:
    source = _require_source(target, target.config.data, "data", choices(DATA_SOURCES))
    return _open(source.spec, source.base, target.config.normalize, target.config.class_order, TRAINING)


def _require_source(target: Target, source: SourceSpec | None, section: str, choices: str) -> SourceSpec:
    """Return the source of the model or data; UsageError where neither option nor ncscan.toml gives one."""
    if source is None:
        raise UsageError(
            f"{target.run}: nothing says the {section}; pass --{section} ({choices}), "
            f"or write [{section}] source = … into {target.config.folder / CONFIG_NAME}"
        )
    return source


@lru_cache(maxsize=4)  # the checkpoints of a run share their data, and it is looked through when it is opened
def _open(spec: str, base: Path, normalize: Normalisation | None, class_order: tuple[str, ...], split: str) -> Dataset:
    return open_dataset(spec, normalize=normalize, class_order=class_order, base=base, split=split)
