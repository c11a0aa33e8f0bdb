"""A dataset's spec → labelled samples in a fixed order, decoded and normalised the same way each time.

In: `npz:FILE`, `idx:DIR` or `module:function`. Out: `Dataset`, with a fingerprint of all it holds. The only file that
judges samples and labels: every sample is looked at once, and what is not finite or changes between readings ends here.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from ncscan.config import Normalisation
from ncscan.data.convert import DataRequest, Inputs, StoredSamples, named_inputs, of_arrays
from ncscan.errors import DataError, UsageError
from ncscan.sources import DATA_SOURCES, choices, form_of
from ncscan.splits import OUTSIDE, TRAINING
from ncscan.wording import listed_up_to

SURVEYED = 512
"""The number of samples held at once while a dataset is looked through."""
MAX_CLASSES = 100_000
"""A larger label is no class but a mistake, and class means for it would fill the memory."""


@dataclass(frozen=True)
class Dataset:
    """Labelled samples in a fixed order."""

    spec: str
    labels: Int64[np.ndarray, "N"]
    class_names: tuple[str, ...]
    """One for each class; its number where the source does not name it."""
    fingerprint: str
    """The sha256 over shapes, types, values as stored, labels and normalisation: not over names of files or classes."""
    normalize: Normalisation | None
    source: StoredSamples = field(repr=False)
    class_order: tuple[int, ...] = ()
    """The labels as stored, in the order of the numbers that they have here; empty where they are the same."""
    floats: torch.dtype | None = None
    """The type that floating inputs become: that of the model's weights. None leaves them as stored."""

    @property
    def n_samples(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def batch(self, start: int, stop: int) -> Inputs:
        """Return samples start … stop − 1 as a model takes them, in memory that nothing else holds.

        Bytes become float32 in [0, 1], integers (tokens) stay as stored; then comes the normalisation, and last the
        model's floating type.
        """
        inputs, _ = self.source.rows(start, min(stop, self.n_samples))
        if isinstance(inputs, torch.Tensor):
            return _decoded(inputs, self.normalize, self.floats)
        return {name: _decoded(values, self.normalize, self.floats) for name, values in inputs.items()}

    def samples(self, rows: Int64[np.ndarray, "n"]) -> Inputs:
        """Return samples that lie apart as a model takes them, in the order of `rows` (n,), n ≥ 1; see `batch`."""
        return self.chosen(rows).batch(0, len(rows))

    def chosen(self, rows: Int64[np.ndarray, "n"]) -> "Dataset":
        """Return the samples of `rows` (n,), n ≥ 1, in that order, as a dataset of their own; its fingerprint stays."""

        def read(start: int, stop: int) -> tuple[Inputs, torch.Tensor]:
            # A data set is read in ranges; rows that lie apart are ranges of one.
            wanted = rows[start:stop]
            together = bool((np.diff(wanted) == 1).all())
            ranges = [(wanted[0], wanted[-1] + 1)] if together else [(row, row + 1) for row in wanted]
            inputs, labels = zip(*(self.source.rows(int(a), int(b)) for a, b in ranges), strict=True)
            parts = [named_inputs(each) for each in inputs]
            joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            return joined.get("", joined), torch.cat(labels)

        return replace(self, labels=self.labels[rows], source=StoredSamples(read, len(rows), self.source.class_names))


def open_dataset(
    spec: str,
    *,
    normalize: Normalisation | None = None,
    class_order: Sequence[str] = (),
    base: Path | None = None,
    split: str = TRAINING,
) -> Dataset:
    """Open a dataset and look through all of it once.

    Args:
        spec: one of the forms of DATA_SOURCES: `npz:FILE` (one array of inputs, one of labels), `idx:DIR` (MNIST's
            files), or `module:function`, which returns (inputs, labels) or a map-style torch dataset of such pairs.
        normalize: means and standard deviations, applied after bytes are scaled to [0, 1].
        class_order: the classes, by name or number, in the order of the network's outputs: labels are numbered so.
        split: one of SPLITS; only `idx` has several in one place.
        base: the folder that files and modules are relative to, the current one by default.

    Raises: UsageError when it is not there, or cannot be normalised or numbered as asked; DataError when it cannot be
        read, or its samples or labels cannot be used.
    """
    form = form_of(spec, DATA_SOURCES)
    if form is None:
        raise DataError(f"data {spec!a:.200}: expected {choices(DATA_SOURCES)}")
    return _surveyed(spec, form.open()(DataRequest(spec, base, split)), normalize, split, class_order)


def from_arrays(
    inputs: object, labels: object, *, class_names: Sequence[str] = (), normalize: Normalisation | None = None
) -> Dataset:
    """Return a dataset of arrays or tensors in memory: (N, …) inputs, or a dict of them, and N class numbers.

    >>> from_arrays(np.eye(3), [0, 1, 1]).n_classes
    2
    """
    return _surveyed("arrays", of_arrays(inputs, labels, tuple(class_names), "arrays"), normalize)


def _surveyed(
    spec: str,
    source: StoredSamples,
    normalize: Normalisation | None,
    split: str = TRAINING,
    class_order: Sequence[str] = (),
) -> Dataset:
    """Look at every sample once: values, labels, and what identifies them."""
    if source.n_samples < 1:
        raise DataError(f"{spec}: holds no samples")
    labels = np.empty(source.n_samples, dtype=np.int64)
    digests: dict[str, hashlib._Hash] = {}
    forms: dict[str, tuple[str, list[int]]] = {}
    for start in range(0, source.n_samples, SURVEYED):
        inputs, told = source.rows(start, min(start + SURVEYED, source.n_samples))
        labels[start : start + len(told)] = told
        for name, values in named_inputs(inputs).items():
            _check_finite(values, start, name, spec)
            if start == 0:
                _check_repeats(values, named_inputs(source.rows(0, len(values))[0]).get(name), spec)
                _check_normalize(values, name, normalize, spec)
                digests[name] = hashlib.sha256()
                forms[name] = (str(values.dtype), list(values.shape[1:]))
            if forms.get(name) != (str(values.dtype), list(values.shape[1:])):
                raise DataError(f"{spec}: row {start} differs in shape or type from row 0")
            digests[name].update(values.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if split == OUTSIDE:  # its labels say nothing of the network's classes
        labels[:] = 0
        names: tuple[str, ...] = ("none",)
    else:
        names = _class_names(labels, source.class_names, spec)
    order: tuple[int, ...] = ()
    if class_order and split != OUTSIDE:
        order = _order(class_order, names, spec, named=bool(source.class_names))
        labels = np.argsort(order)[labels]
        # The network may know classes that the data neither has nor names.
        names = (*names, *map(str, range(len(names), len(order))))
        names = tuple(names[label] for label in order) if source.class_names else tuple(map(str, range(len(order))))
    header = json.dumps([source.n_samples, sorted(forms.items()), normalize])
    parts = [header.encode(), *(digests[name].digest() for name in sorted(digests)), labels.astype("<i8").tobytes()]
    return Dataset(spec, labels, names, hashlib.sha256(b"".join(parts)).hexdigest(), normalize, source, order)


def _order(given: Sequence[str], names: Sequence[str], spec: str, *, named: bool) -> tuple[int, ...]:
    """Return the labels that classes are given by, a permutation.

    Raises: UsageError when one is no class, or comes twice, or is missing.
    """
    by_name = {name: label for label, name in enumerate(names)} if named else {}
    if len(by_name) < len(names) and named and any(not each.isdecimal() for each in given):
        raise UsageError(f"{spec}: several classes have one name: give the class order in numbers")
    numbers = [int(each) if each.isdecimal() and len(each) < 10 else -1 for each in given]
    order = [by_name.get(each, number) for each, number in zip(given, numbers, strict=True)]
    n_classes, times = max(len(given), len(names)), Counter(order)
    for each, label in zip(given, order, strict=True):
        if not 0 <= label < n_classes:
            some = f" ({listed_up_to(4, names)})" if named else f"; they are 0 … {n_classes - 1}"
            raise UsageError(f"{spec}: the class order has {each!r:.80}, which is no class of the data{some}")
    if twice := [each for each, label in zip(given, order, strict=True) if times[label] > 1]:
        raise UsageError(f"{spec}: the class order has {twice[0]!r:.80} twice; each class comes once")
    if missing := sorted(set(range(n_classes)) - set(order)):
        word = names[missing[0]] if named and missing[0] < len(names) else str(missing[0])
        raise UsageError(f"{spec}: the class order has {len(given)} classes and lacks {word!r:.80}; each comes once")
    return tuple(order)


def _check_finite(values: torch.Tensor, start: int, name: str, spec: str) -> None:
    if values.is_floating_point():
        bad = ~torch.isfinite(values).reshape(len(values), -1).all(dim=1)
        if bad.any():
            row = start + int(bad.nonzero()[0])
            raise DataError(f"{spec}: row {row} holds NaN or inf" + (f" in {name}" if name else ""))


def _check_repeats(values: torch.Tensor, again: torch.Tensor | None, spec: str) -> None:
    """Refuse a dataset that changes between passes: an augmenting one would give other features in each pass."""
    if again is None or values.shape != again.shape or not torch.equal(values, again):
        raise DataError(f"{spec}: the first samples differ when read twice; leave out what augments or draws at random")


def _check_normalize(values: torch.Tensor, name: str, normalize: Normalisation | None, spec: str) -> None:
    if normalize is None:
        return
    means, stds = normalize
    channels = values.shape[1] if values.dim() > 1 else 1
    if name or not (values.is_floating_point() or values.dtype == torch.uint8):
        raise UsageError(f"{spec}: there is nothing to normalise in {name or 'inputs'} of {values.dtype}")
    if len(means) != len(stds) or len(means) not in (1, channels):
        last = "; channels come first: (N, C, H, W)" if values.dim() > 2 and values.shape[-1] == len(means) else ""
        raise UsageError(
            f"{spec}: {len(means)} means and {len(stds)} deviations for {channels} channels of inputs "
            f"{tuple(values.shape[1:])}{last}"
        )
    if not all(map(math.isfinite, (*means, *stds))) or min(stds) <= 0:
        raise UsageError(f"{spec}: cannot normalise with mean {means} and deviation {stds}")


def _class_names(labels: Int64[np.ndarray, "N"], names: tuple[str, ...], spec: str) -> tuple[str, ...]:
    wrong = np.flatnonzero((labels < 0) | (labels >= MAX_CLASSES))
    if len(wrong):
        raise DataError(f"{spec}: label {labels[wrong[0]]} in row {wrong[0]}; classes are numbered 0 … K − 1")
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"{spec}: all {len(labels)} samples are of class {labels[0]}; neural collapse needs two or more"
        )
    largest = int(labels.max())
    if names and largest >= len(names):
        row = int(np.flatnonzero(labels >= len(names))[0])
        raise DataError(f"{spec}: label {labels[row]} in row {row}, but there are {len(names)} class names")
    printable = ("".join(c if c.isprintable() else "\ufffd" for c in name)[:200] for name in names)
    return tuple(printable) or tuple(str(label) for label in range(largest + 1))


def _decoded(values: torch.Tensor, normalize: Normalisation | None, floats: torch.dtype | None) -> torch.Tensor:
    fresh = (
        values.float().div_(255) if values.dtype == torch.uint8 else values.clone(memory_format=torch.contiguous_format)
    )
    if normalize is not None:
        # One number per channel, over all positions: (C,) becomes (C, 1, 1).
        shape = (-1, *(1,) * (fresh.dim() - 2))
        means, stds = (torch.tensor(numbers, dtype=fresh.dtype).reshape(shape) for numbers in normalize)
        fresh.sub_(means).div_(stds)
    return fresh.to(floats) if floats is not None and fresh.is_floating_point() else fresh
