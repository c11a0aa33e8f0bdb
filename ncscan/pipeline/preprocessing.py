"""Try the usual preprocessings on a sample of the data: which one does a checkpoint decide best with?

In: targets and flags. Out: a `Trial` of the last checkpoint of each run. Nothing is written, and no replay is changed:
what a trial shows is for the user to ask for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ncscan.activations import replay, spread
from ncscan.config import Normalisation
from ncscan.data import Dataset, StoredSamples
from ncscan.errors import DataError
from ncscan.pipeline.events import OnEvent, Outcome
from ncscan.pipeline.load import Flags, Loaded, Target, load
from ncscan.splits import TRAINING
from ncscan.statistics import renumbering

TRIED = 256
"""Samples that every preprocessing is tried on, spread over the data."""
LOOKED_AT = 2000
"""Samples from which the mean and the deviation of the data are taken."""
MOST_CHANNELS = 4
IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the colours of ImageNet, of values from 0 to 1."""
BYTE = 255.0
SAME = 0.01
"""A difference in accuracy that says nothing of two preprocessings."""
FITS = 0.5
"""The share of the way from chance to 1 from which on a preprocessing fits: stranger ones are not tried then."""


class Recipe(NamedTuple):
    """One preprocessing."""

    name: str
    normalize: Normalisation | None
    change: Callable[[torch.Tensor], torch.Tensor] | None = None
    """What is done to the stored values before; no option does it, the user's own data has to."""

    @property
    def option(self) -> str:
        """Return what asks for it on the command line, in words where no option does."""
        if self.change is not None:
            return "change the data"
        if self.normalize is None:
            return "no --normalize"
        return "--normalize " + ",".join("/".join(f"{number:.6g}" for number in part) for part in self.normalize)


@dataclass(frozen=True)
class Tried:
    """One preprocessing, and what came of it."""

    recipe: Recipe
    accuracy: float
    loss: float
    """The cross-entropy, which training made small."""
    renumbered: float | None
    """The share of decisions that match after one renumbering of the classes, where that is certain."""

    @property
    def fit(self) -> float:
        """Return the share of decisions that match, under the numbers that the labels mean."""
        return self.accuracy if self.renumbered is None else self.renumbered


@dataclass(frozen=True)
class Trial:
    """What a checkpoint decides with each preprocessing."""

    label: str
    n_samples: int
    chance: float
    """The share of the largest class among them."""
    tried: tuple[Tried, ...]
    """What is asked for now comes first."""

    @property
    def best(self) -> list[Tried]:
        """Return those that fit best, by their loss: what this many samples tell apart, and no more."""
        most = max(each.fit for each in self.tried)
        return sorted((each for each in self.tried if each.fit >= most - SAME), key=lambda each: each.loss)


def try_preprocessings(targets: Sequence[Target], flags: Flags, on_event: OnEvent, outcome: Outcome) -> Iterator[Trial]:
    """Yield the trial of the last checkpoint of each run that can be used; `outcome` keeps count of the others."""
    runs: dict[str, list[Target]] = {}
    for target in targets:
        if target.split == TRAINING:
            runs.setdefault(target.run, []).append(target)
    for own in runs.values():
        for target in reversed(own):
            before = outcome.done
            with outcome.counting(target.label, on_event):
                yield _trial(load(target, flags))
            if outcome.done > before:
                break


def _trial(loaded: Loaded) -> Trial:
    dataset = loaded.dataset
    values = _stored(dataset.chosen(spread(dataset.n_samples, LOOKED_AT)))
    sample = dataset.chosen(spread(dataset.n_samples, TRIED))
    chance = float(np.bincount(sample.labels).max() / sample.n_samples)
    recipes = list(_recipes(dataset.normalize, values))
    tried = [_tried(loaded, sample, recipe) for recipe in recipes]
    if max(each.fit for each in tried) < chance + FITS * (1 - chance):
        tried += [_tried(loaded, sample, changed) for recipe in recipes for changed in _changes(recipe, values)]
    return Trial(loaded.target.label, sample.n_samples, chance, tuple(tried))


def _changes(recipe: Recipe, values: torch.Tensor) -> Iterator[Recipe]:
    """Yield what else can have been otherwise in training, with the same normalisation."""
    if values.ndim > 2 and values.shape[1] == 3:
        yield Recipe(f"{recipe.name}, channels reversed", recipe.normalize, lambda each: each.flip(1))
    most = _size(values) if values.min() >= 0 else 0.0
    yield Recipe(f"{recipe.name}, values inverted", recipe.normalize, lambda each: most - each)


def _size(values: torch.Tensor) -> float:
    """Return the value that stands for white, of grey values or colours as they are stored."""
    high = float(values.max())
    if values.dtype == torch.uint8:
        return BYTE
    return 1.0 if high <= 1 else BYTE if high <= BYTE else high


def _recipes(asked: Normalisation | None, inputs: torch.Tensor) -> Iterator[Recipe]:
    """Yield the preprocessings that make sense for some stored inputs, each once, what is asked for now first.

    Values that are bytes are in [0, 1] when a normalisation sees them.
    """
    values = inputs.double() / (BYTE if inputs.dtype == torch.uint8 else 1)
    low, high, size = float(values.min()), float(values.max()), _size(values)
    unit = low >= 0  # grey values or colours, not yet standardised
    own, stored = _mean_and_deviation(values), "from 0 to 1" if unit and size == 1 else "as stored"
    wanted: list[tuple[str, Normalisation | None]] = [
        ("as asked" if asked else f"as asked, {stored}", asked),
        (stored, None),
        ("standardised by the data's own mean and deviation", own),
    ]
    if unit:
        wanted.append(("from −1 to 1", ((size / 2,), (size / 2,))))
        wanted.append(("from 0 to 255", ((0.0,), (1 / BYTE,))) if size == 1 else ("from 0 to 1", ((0.0,), (size,))))
    elif high > low:
        wanted.append(("from 0 to 1", ((_digits(low),), (_digits(high - low),))))
    if unit and values.ndim > 2 and values.shape[1] == 3:
        mean, deviation = ([number * size for number in part] for part in IMAGENET)
        wanted.append(("as ImageNet", (tuple(mean), tuple(deviation))))
    seen: list[Normalisation | None] = []
    for name, normalize in wanted:
        if normalize not in seen:
            seen.append(normalize)
            yield Recipe(name, normalize)


def _mean_and_deviation(values: torch.Tensor) -> Normalisation:
    """Return those of each channel of images, of everything else those of all values, in a few digits."""
    by_channel = values.ndim > 3 and values.shape[1] <= MOST_CHANNELS
    rows = values.movedim(1, 0).flatten(1) if by_channel else values.reshape(1, -1)
    mean = tuple(_digits(float(row.mean())) for row in rows)
    deviation = tuple(_digits(float(row.std(correction=0))) or 1.0 for row in rows)
    return mean, deviation


def _digits(number: float) -> float:
    return float(f"{number:.4g}")


def _stored(dataset: Dataset) -> torch.Tensor:
    """Return the values of a data set as they are stored; DataError where they cannot be normalised."""
    inputs, _ = dataset.source.rows(0, dataset.n_samples)
    if isinstance(inputs, Mapping) or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        raise DataError(f"{dataset.spec}: its inputs are no images or features: there is no preprocessing to try")
    return inputs


def _tried(loaded: Loaded, sample: Dataset, recipe: Recipe) -> Tried:
    """Return what the checkpoint decides with a preprocessing."""
    changed = sample if recipe.change is None else replace(sample, source=_changed(sample.source, recipe.change))
    batches = replay(
        loaded.model.module,
        replace(changed, normalize=recipe.normalize),
        loaded.trace,
        (),
        device=loaded.device,
        batch_size=loaded.batch_size,
    )
    logits = torch.cat([batch.logits.float().cpu() for batch in batches])
    labels, decisions = torch.from_numpy(sample.labels), logits.argmax(1).numpy()
    loss = float(nn.functional.cross_entropy(logits, labels).nan_to_num(torch.inf))
    found = renumbering(sample.labels, decisions, logits.shape[1]) if bool(logits.isfinite().all()) else None
    return Tried(recipe, float(np.mean(decisions == sample.labels)), loss, None if found is None else found.after)


def _changed(source: StoredSamples, change: Callable[[torch.Tensor], torch.Tensor]) -> StoredSamples:
    def rows(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, labels = source.rows(start, stop)
        assert isinstance(inputs, torch.Tensor)  # noqa: S101
        changed: torch.Tensor = change(inputs)
        return changed.to(inputs.dtype), labels

    return source._replace(rows=rows)
