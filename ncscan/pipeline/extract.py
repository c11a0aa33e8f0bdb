"""Checkpoints → dumps: each one loaded, traced, replayed over its data set and kept, layer by layer.

In: paths and flags. Out: one dump per checkpoint, and facts.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ncscan import checkpoints
from ncscan.activations import (
    Batch,
    CrossCheck,
    Repeated,
    Trace,
    arithmetic_floor,
    default_batch_size,
    moved,
    pick_device,
    require_repeatable,
    tensors_in,
    trace,
    watch,
)
from ncscan.checkpoints import Checkpoint
from ncscan.config import (
    CONFIG_NAME,
    DATA_CHOICES,
    MODEL_CHOICES,
    Normalisation,
    RunConfig,
    Source,
    nearest_config,
    read_config,
    with_flags,
)
from ncscan.data import HELD_OUT, OUTSIDE, SPLITS, TRAINING, Dataset, open_dataset
from ncscan.dumps import DUMP_SUFFIX, Dump, Gradients, Provenance, SizePlan, finished, plan, remove_partial, write_dump
from ncscan.errors import ModelError, RefusedPlan, TapError, UsageError
from ncscan.layer_graph import Tap, check_selectors, select
from ncscan.metrics.gradients import Objective, measure_gradients
from ncscan.models import LoadedModel, build
from ncscan.pipeline.events import Advanced, Finished, Outcome, Skipped, Tell, writing
from ncscan.pipeline.fit import summed_up
from ncscan.version import __version__

TRACED_SAMPLES = 3
SAME_LOGITS = 1e-2
"""The allowed share of the largest: devices and batch sizes round differently, another model differs by far more."""
_OF_TYPES = re.compile(r"dtype|scalar type|same type|Double|Half|BFloat16")
"""The words that torch's message on a product of two types has."""
PACKAGES = ("torch", "numpy", "h5py")
"""The packages whose versions a dump remembers: they decide its bytes."""


@dataclass(frozen=True)
class Flags:
    """The settings of the command line in place of, or on top of, each run's ncscan.toml."""

    model: str | None = None
    data: str | None = None
    normalize: str | None = None
    test: str | None = None
    ood: str | None = None
    trust_code: bool = False
    allow_partial: bool = False
    layers: tuple[str, ...] = ("all",)
    reduction: str = "mean"
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

    @property
    def label(self) -> str:
        """Return its label in tables and messages."""
        return f"{self.run}/{self.name}" + ("" if self.split == TRAINING else f" ({self.split})")

    @property
    def source(self) -> Source | None:
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
    size: SizePlan


class Targets(NamedTuple):
    """The checkpoints to work on under some paths."""

    targets: list[Target]
    skipped: list[Skipped]
    """Paths, folders and runs that cannot be used."""


def find_targets(paths: Sequence[Path], flags: Flags) -> Targets:
    """The checkpoints under the paths, run by run.

    A run is the nearest folder with an ncscan.toml, else the folder that was named; it is called by its path below
    the folder that was named. A path that holds nothing, a folder that cannot be read and a run whose ncscan.toml is
    wrong are skipped.

    Raises: the first trouble that was met, a CheckpointError or UsageError if it is known, when nothing is left; and
        UsageError when the layers that are asked for mean nothing in any model.
    """
    check_selectors(flags.layers)
    runs: dict[Path, tuple[str, RunConfig] | None] = {}
    folders: dict[str, Path] = {}
    targets: list[Target] = []
    troubles: list[tuple[str, Exception]] = []
    for path in paths:
        try:
            files, unreadable = checkpoints.find(path)
        except Exception as error:
            troubles.append((str(path), error))
            continue
        troubles += [(str(path), error) for error in unreadable]
        root = path if path.is_dir() else path.parent
        for file in files:
            folder = nearest_config(file) or root
            if folder not in runs:
                try:
                    runs[folder] = _run(folder, root, flags, folders)
                except Exception as error:  # an ncscan.toml from a stranger is an input like any other
                    runs[folder] = None
                    troubles.append((f"{folder} (all its checkpoints)", error))
            if (known := runs[folder]) is not None:
                run, config = known
                each = (Target(file, run, file.relative_to(folder).as_posix(), config, split) for split in SPLITS)
                targets += [target for target in each if target.split == TRAINING or target.source is not None]
    if not targets:
        raise troubles[0][1]
    return Targets(targets, [Skipped.because(label, error) for label, error in troubles])


def _run(folder: Path, root: Path, flags: Flags, folders: dict[str, Path]) -> tuple[str, RunConfig]:
    """Return a run's name, which no other of the `folders` may have, and its settings: ncscan.toml and the flags."""
    config = with_flags(
        read_config(folder),
        model=flags.model,
        data=flags.data,
        normalize=flags.normalize,
        test=flags.test,
        ood=flags.ood,
        trust_code=flags.trust_code,
    )
    below = folder != root and folder.is_relative_to(root)
    run = folder.relative_to(root).as_posix() if below else folder.resolve().name
    if folders.setdefault(run, folder.resolve()) != folder.resolve():
        raise UsageError(f"two runs are called {run}: {folders[run]} and {folder}; name the folder above both")
    return run, config


def load(target: Target, flags: Flags) -> Loaded:
    """Load one checkpoint as a traced model, and the data that it will see; nothing is replayed yet."""
    config = target.config
    source = _said(target, config.model, "model", MODEL_CHOICES)
    dataset = _dataset(target)
    checkpoint = checkpoints.load(target.path)
    model = build(
        source.spec,
        checkpoint,
        activation=config.activation,
        linear_head=config.linear_head,
        base=source.base,
        allow_partial=flags.allow_partial,
    )
    floats = (parameter.dtype for parameter in model.module.parameters() if parameter.is_floating_point())
    dataset = replace(dataset, floats=next(floats, None))
    device = pick_device(flags.device)
    model.module.to(device)
    traced = _traced(model.module, dataset)
    taps = select(traced.graph, flags.layers)
    batch_size = flags.batch_size or default_batch_size(device)
    size = plan(traced, taps, dataset.n_samples, reduction=flags.reduction, dtype=flags.dtype, batch_size=batch_size)
    return Loaded(target, checkpoint, model, dataset, device, batch_size, traced, size)


def _traced(model: nn.Module, dataset: Dataset) -> Trace:
    """Return the traced pass of the first samples; TapError where the model does not take them at all."""
    samples = dataset.batch(0, TRACED_SAMPLES)
    try:
        return trace(model, samples)
    except (RuntimeError, ValueError) as error:
        if (mixed := _mixed_types(model)) and _OF_TYPES.search(str(error)):
            raise ModelError(f"the model does not run, because {mixed}; save them in one type") from error
        shapes = ", ".join(str(tuple(values.shape[1:])) for values in tensors_in(samples))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TapError(f"{dataset.spec}: the model does not take samples of shape {shapes}: {reason}") from error


def _mixed_types(model: nn.Module) -> str:
    """Return in words the first weight of another floating type than the one before it; empty where none is."""
    floats = [(name, parameter.dtype) for name, parameter in model.named_parameters() if parameter.is_floating_point()]
    for (one, dtype), (other, its) in pairwise(floats):
        if dtype != its:
            types = [str(each).removeprefix("torch.") for each in (dtype, its)]
            return f"{other} is {types[1]} and {one} is {types[0]}"
    return ""


def extract(targets: Sequence[Target], flags: Flags, out: Path, tell: Tell) -> Outcome:
    """Replay the data set through every checkpoint and keep each layer's activations below `out`.

    A checkpoint that cannot be used is skipped, and so are all of a run without model or data.

    Raises: RefusedPlan when the disk cannot hold the dumps, UsageError when there is no such device; what is complete
    by then stays, and the same call goes on from there.
    """
    pick_device(flags.device)
    with writing(out):
        outcome = Outcome()
    usable: dict[tuple[str, str], bool] = {}
    try:
        for number, target in enumerate(targets):
            if (each := (target.run, target.split)) not in usable:
                # What no checkpoint of a run can do without is said once.
                usable[each] = False
                with outcome.guarding(f"{target.run} (all its checkpoints, {target.split})", tell):
                    _said(target, target.config.model, "model", MODEL_CHOICES)
                    _dataset(target)
                    usable[each] = True
            if usable[each]:
                with outcome.counting(target.label, tell):
                    tell(_extract_one(target, flags, out, len(targets) - number, tell))
    finally:
        outcome.settle(tell)
    return outcome


def dump_of(target: Target, out: Path) -> Path:
    """Return where the dump of a checkpoint is kept below a folder."""
    suffix = DUMP_SUFFIX if target.split == TRAINING else f".{target.split}{DUMP_SUFFIX}"
    return out / target.run / (target.name + suffix)


def _extract_one(target: Target, flags: Flags, out: Path, left: int, tell: Tell) -> Finished:
    loaded = load(target, flags)
    provenance = _provenance(loaded, flags)
    path = dump_of(target, out)
    # What was minimised was the loss of the training set: of no other do gradients say anything here.
    wanted = flags.gradients is not None and target.split == TRAINING
    n_gradients = min(flags.gradients or 0, loaded.dataset.n_samples) if wanted else None
    kept = finished(path, provenance, loaded.trace.graph, gradients=n_gradients, force=flags.force) and _is_unchanged(
        path, loaded, force=flags.force
    )
    if kept:
        remove_partial(path)
    else:
        loaded.size.check(path, dumps=left)
        taps = [layer.tap for layer, _ in loaded.size.layers]
        repeated = Repeated()
        if target.split == TRAINING:
            repeated = require_repeatable(loaded.model.module, loaded.dataset, loaded.trace, taps, loaded.device)
        # Before the rows: a dump is described and laid out before its first row comes.
        gradients = None if n_gradients is None else _gradients(loaded, n_gradients)
        with writing(path.parent):
            _keep(path, provenance, loaded, gradients, repeated, flags, tell)
    with Dump(path) as dump:
        layers = f"{len(dump.layers)} layers, {path.stat().st_size / 1e6:,.1f} MB"
        details = f"{_fit(provenance)}; {layers}{', complete before' if kept else ''}"
        return summed_up(dump, details)


def _is_unchanged(path: Path, loaded: Loaded, *, force: bool) -> bool:
    """Return whether the model still gives the logits of a dump.

    Its code can change under one name and one traced pass.

    Raises: RefusedPlan when it does not, and `force` does not allow the dump to be replaced.
    """
    with watch(loaded.model.module, loaded.trace, (), lambda _index, _value: None) as forward, torch.no_grad():
        now = forward(moved(loaded.dataset.batch(0, TRACED_SAMPLES), loaded.device)).double().cpu().numpy()
    with Dump(path) as dump:
        then = np.asarray(dump.logits[:TRACED_SAMPLES], np.float64)
    size = np.abs(np.nan_to_num(then)).max()
    if np.allclose(now, then, rtol=0, atol=SAME_LOGITS * size, equal_nan=True):
        return True
    if force:
        return False
    raise RefusedPlan(
        f"{path} holds other logits than the model gives now: its code has changed; "
        "choose another --out, or replace it with --force"
    )


def _gradients(loaded: Loaded, n_samples: int) -> Gradients:
    return measure_gradients(
        loaded.model.module,
        loaded.trace,
        loaded.dataset,
        Objective(loaded.target.config.train, loaded.checkpoint.notes, loaded.checkpoint.step),
        n_samples=n_samples,
        device=loaded.device,
        batch_size=loaded.batch_size,
    )


def _keep(
    path: Path,
    provenance: Provenance,
    loaded: Loaded,
    gradients: Gradients | None,
    repeated: Repeated,
    flags: Flags,
    tell: Tell,
) -> None:
    """Write the dump, with what is doubtful about the replay. Of a model that is refused in it nothing is left."""
    taps = [layer.tap for layer, _ in loaded.size.layers]
    checked = CrossCheck(
        loaded.model.module,
        loaded.dataset,
        loaded.trace,
        taps,
        reduction=flags.reduction,
        device=loaded.device,
        batch_size=loaded.batch_size,
        changes=repeated.changes,
    )

    def batches(start: int) -> Iterator[Batch]:
        for batch in checked.batches(start):
            yield batch
            tell(Advanced(loaded.target.label, batch.start + len(batch.logits), loaded.dataset.n_samples))

    try:
        write_dump(
            path,
            provenance,
            loaded.trace,
            taps,
            loaded.dataset.labels,
            batches,
            gradients=gradients,
            rounding=_rounding(loaded, taps, flags),
            doubts=lambda: [doubt for doubt in (repeated.doubt, *checked.doubts) if doubt],
            compress=flags.compress,
        )
    except ModelError:
        remove_partial(path)
        raise


def _rounding(loaded: Loaded, taps: Sequence[Tap], flags: Flags) -> dict[str, np.ndarray]:
    """Return what the forward pass rounds, by tap.

    For a model that does not run in float64 it is nothing: floors are of storage.
    """
    if loaded.target.split != TRAINING:
        return {}
    try:
        found = arithmetic_floor(
            loaded.model.module,
            loaded.dataset,
            loaded.trace,
            taps,
            reduction=flags.reduction,
            device=loaded.device,
        )
    except Exception:  # the model's own code may raise anything in float64
        return {}
    return {name: noise for name, noise in found.items() if np.isfinite(noise).all()}


def _fit(provenance: Provenance) -> str:
    """Return how the checkpoint's names fitted the model's, in words."""
    share = f"{provenance.matched} of {provenance.total} tensors ({provenance.matched / provenance.total:.0%})"
    prefixes = ", ".join(f"{theirs or '(none)'} → {ours or '(none)'}" for theirs, ours in provenance.prefix_map)
    return f"{share}, prefix {prefixes}" if prefixes else share


def _dataset(target: Target) -> Dataset:
    training = _said(target, target.config.data, "data", DATA_CHOICES)
    known = _open(training.spec, training.base, target.config.normalize, TRAINING)
    if target.source is None or target.split == TRAINING:
        return known
    other = _open(target.source.spec, target.source.base, target.config.normalize, target.split)
    if target.split == OUTSIDE:
        return other
    # Which labels the network has outputs for is seen in the replay; a split may have others than the training set.
    return replace(other, class_names=(*known.class_names, *other.class_names[known.n_classes :]))


def _said(target: Target, source: Source | None, section: str, choices: str) -> Source:
    if source is None:
        raise UsageError(
            f"{target.run}: nothing says the {section}; pass --{section} ({choices}), "
            f"or write [{section}] source = … into {target.config.folder / CONFIG_NAME}"
        )
    return source


@lru_cache(maxsize=4)  # the checkpoints of a run share their data, and it is looked through when it is opened
def _open(spec: str, base: Path, normalize: Normalisation | None, split: str) -> Dataset:
    return open_dataset(spec, normalize=normalize, base=base, split=split)


def _provenance(loaded: Loaded, flags: Flags) -> Provenance:
    target, checkpoint, model, dataset = loaded.target, loaded.checkpoint, loaded.model, loaded.dataset
    return Provenance(
        run=target.run,
        group=target.config.group or target.run,
        checkpoint=target.name,
        checkpoint_sha256=checkpoint.sha256,
        tensors_sha256=checkpoint.tensors_sha256,
        checkpoint_format=checkpoint.format,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        file_number=checkpoint.file_number,
        notes=checkpoint.notes,
        model_source=model.source,
        activation=target.config.activation or "",
        linear_head=target.config.linear_head,
        prefix_map=model.prefix_map,
        matched=model.matched,
        total=model.total,
        unmatched=model.unmatched,
        stored_dtype=model.stored_dtype,
        compute_dtype=model.compute_dtype,
        dataset=dataset.spec,
        dataset_fingerprint=dataset.fingerprint,
        split=target.split,
        class_names=dataset.class_names,
        selectors=flags.layers,
        reduction=flags.reduction,
        dtype=flags.dtype or "as computed",
        device=loaded.device.type,
        batch_size=loaded.batch_size,
        versions={"ncscan": __version__, **{package: version(package) for package in PACKAGES}},
        train=target.config.train,
    )
