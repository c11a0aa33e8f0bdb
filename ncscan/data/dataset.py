"""A dataset's spec → labelled samples in a fixed order, decoded and normalised the same way each time.

In: `npz:FILE`, `idx:DIR` or `module:function`. Out: `Dataset`, with a fingerprint of all it holds. The only file that
judges samples and labels: every sample is looked at once, and what is not finite or changes between readings ends here.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from ncscan import user_code
from ncscan.config import Normalisation
from ncscan.data.sources.mnist_idx import read_idx
from ncscan.data.sources.npz import read_npz
from ncscan.errors import DataError
from ncscan.splits import HELD_OUT, OUTSIDE, TRAINING

Inputs = torch.Tensor | dict[str, torch.Tensor]
"""The input that a model is called with: one tensor, or named ones."""

SURVEYED = 512
"""The number of samples held at once while a dataset is looked through."""
MAX_CLASSES = 100_000
"""A larger label is no class but a mistake, and class means for it would fill the memory."""
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.bool, torch.int64)


class Source(NamedTuple):
    """Samples as they are stored, before anything is known of them."""

    rows: Callable[[int, int], tuple[Inputs, torch.Tensor]]
    """Returns inputs and labels of a range."""
    n_samples: int
    class_names: tuple[str, ...]
    """Empty when the source does not name them."""


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
    source: Source = field(repr=False)
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
            parts = [_named(each) for each in inputs]
            joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            return joined.get("", joined), torch.cat(labels)

        return replace(self, labels=self.labels[rows], source=Source(read, len(rows), self.source.class_names))


def open_dataset(
    spec: str, *, normalize: Normalisation | None = None, base: Path | None = None, split: str = TRAINING
) -> Dataset:
    """Open a dataset and look through all of it once.

    Args:
        spec: `npz:FILE` (one array of inputs, one of labels), `idx:DIR` (MNIST's files: the training split, or the
            test split where it is asked for), or
            `module:function`, which returns (inputs, labels) or a map-style torch dataset of such pairs.
        normalize: means and standard deviations, applied after bytes are scaled to [0, 1].
        split: one of SPLITS; only `idx` has several in one place.
        base: the folder that files and modules are relative to, the current one by default.

    Raises: DataError when it cannot be read, or its samples or labels cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if not rest:
        raise DataError(f"data {spec!a:.200}: expected {', '.join(DATASETS)}")
    path = (base or Path()) / Path(rest).expanduser()
    if kind == "npz":
        source = _of_arrays(*read_npz(path), str(path))
    elif kind == "idx":
        source = _of_arrays(*read_idx(path, IDX_SPLITS[split]), str(path))
    else:
        source = _of_code(spec, base)
    return _surveyed(spec, source, normalize, split)


IDX_SPLITS = {TRAINING: "train", HELD_OUT: "t10k", OUTSIDE: "t10k"}
"""The names that MNIST's files have for their splits."""

DATASETS: tuple[str, ...] = ("npz:FILE", "idx:DIR", "module:function")
"""The forms that a spec can have."""


def from_arrays(
    inputs: object, labels: object, *, class_names: Sequence[str] = (), normalize: Normalisation | None = None
) -> Dataset:
    """Return a dataset of arrays or tensors in memory: (N, …) inputs, or a dict of them, and N class numbers.

    >>> from_arrays(np.eye(3), [0, 1, 1]).n_classes
    2
    """
    return _surveyed("arrays", _of_arrays(inputs, labels, tuple(class_names), "arrays"), normalize)


def _of_code(spec: str, base: Path | None) -> Source:
    returned = user_code.call(spec, base, DataError)
    if isinstance(returned, tuple | list) and len(returned) == 2:
        return _of_arrays(returned[0], returned[1], (), spec)
    if isinstance(returned, torch.utils.data.DataLoader):
        raise DataError(f"{spec}: returned a DataLoader, which may shuffle; return its dataset")
    if not hasattr(returned, "__getitem__") or not hasattr(returned, "__len__") or isinstance(returned, Mapping):
        raise DataError(
            f"{spec}: returned a {type(returned).__name__}; expected (inputs, labels) or a map-style dataset"
        )

    def rows(start: int, stop: int) -> tuple[Inputs, torch.Tensor]:
        inputs: list[Inputs] = []
        labels: list[torch.Tensor] = []
        for row in range(start, stop):
            with user_code.guarded(f"{spec}, row {row}", DataError):
                sample, label = returned[row]
            inputs.append(_tensors(sample, f"{spec}, row {row}"))
            labels.append(_labels(_array(label, f"{spec}, row {row}").reshape(1, -1), f"{spec}, row {row}"))
        return _stacked(inputs, start, spec), torch.cat(labels)

    with user_code.guarded(spec, DataError):
        n_samples = len(returned)
    names = getattr(returned, "classes", ())
    return Source(rows, n_samples, tuple(map(str, names)) if isinstance(names, list | tuple) else ())


def _of_arrays(inputs: object, labels: object, class_names: tuple[str, ...], where: str) -> Source:
    x = _tensors(inputs, where)
    y = _labels(labels, where)
    for name, values in _named(x).items():
        if values.dim() == 0 or len(values) != len(y):
            raise DataError(
                f"{where}: {len(y)} labels, but inputs {name}".rstrip() + f" of shape {tuple(values.shape)}"
            )
    if isinstance(x, torch.Tensor):
        return Source(lambda start, stop: (x[start:stop], y[start:stop]), len(y), class_names)
    return Source(lambda a, b: ({name: values[a:b] for name, values in x.items()}, y[a:b]), len(y), class_names)


def _tensors(values: object, where: str) -> Inputs:
    """Return arrays as tensors: integers as int64, whatever their width, since embeddings take nothing narrower."""
    if isinstance(values, Mapping):
        return {str(name): _tensor(item, f"{where}, {name}") for name, item in values.items()}
    return _tensor(values, where)


def _tensor(values: object, where: str) -> torch.Tensor:
    if isinstance(values, np.ndarray | np.generic | list | tuple):
        array = _array(values, where)
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise DataError(f"{where}: inputs are {array.dtype}; save them as float32, uint8 or int64")
        wide = array.dtype.kind in "iu" and array.dtype != np.uint8
        dtype = np.dtype(np.int64) if wide else array.dtype.newbyteorder("=")
        values = torch.from_numpy(np.require(array, dtype, ["C", "W"]))
    if not isinstance(values, torch.Tensor):
        raise DataError(f"{where}: a {type(values).__name__}, not a tensor; add a transform that makes one")
    values = values.detach().cpu()
    if not values.is_floating_point() and values.dtype not in _DTYPES and not values.is_complex():
        values = values.long()
    if values.dtype not in _DTYPES or values.layout != torch.strided:
        raise DataError(f"{where}: inputs are {values.dtype}; give dense float32, uint8 or int64")
    return values


def _array(values: object, where: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: the rows do not have one length ({error})") from error


def _labels(labels: object, where: str) -> torch.Tensor:
    """Return class numbers as int64, or raise the reason why they are none."""
    array = _array(labels, where)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{where}: labels of shape {array.shape}; expected one class number each (one-hot: .argmax(1))")
    if array.dtype.kind == "f" and bool((array == np.floor(array)).all()):
        raise DataError(f"{where}: labels are {array.dtype}, though whole numbers; convert them: .astype('int64')")
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: labels are {array.dtype}, not class numbers")
    if array.dtype.kind == "u" and array.size and (largest := array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: label {largest} in row {array.argmax()}; classes are numbered 0 … K − 1")
    return torch.from_numpy(array.astype(np.int64))


def _stacked(samples: list[Inputs], start: int, spec: str) -> Inputs:
    first = _named(samples[0])
    for row, sample in enumerate(samples, start):
        forms = {name: (values.shape, values.dtype) for name, values in _named(sample).items()}
        if forms != {name: (values.shape, values.dtype) for name, values in first.items()}:
            raise DataError(
                f"{spec}: row {row} differs in shape or type from row {start}; resize or pad in the dataset"
            )
    stacked = {name: torch.stack([_named(sample)[name] for sample in samples]) for name in first}
    return stacked[""] if isinstance(samples[0], torch.Tensor) else stacked


def _named(inputs: Inputs) -> dict[str, torch.Tensor]:
    return {"": inputs} if isinstance(inputs, torch.Tensor) else inputs


def _surveyed(spec: str, source: Source, normalize: Normalisation | None, split: str = TRAINING) -> Dataset:
    """Look at every sample once: values, labels, and what identifies them."""
    if source.n_samples < 1:
        raise DataError(f"{spec}: holds no samples")
    labels = np.empty(source.n_samples, dtype=np.int64)
    digests: dict[str, hashlib._Hash] = {}
    forms: dict[str, tuple[str, list[int]]] = {}
    for start in range(0, source.n_samples, SURVEYED):
        inputs, told = source.rows(start, min(start + SURVEYED, source.n_samples))
        labels[start : start + len(told)] = told
        for name, values in _named(inputs).items():
            _check_finite(values, start, name, spec)
            if start == 0:
                _check_repeats(values, _named(source.rows(0, len(values))[0]).get(name), spec)
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
    header = json.dumps([source.n_samples, sorted(forms.items()), normalize])
    parts = [header.encode(), *(digests[name].digest() for name in sorted(digests)), labels.astype("<i8").tobytes()]
    return Dataset(spec, labels, names, hashlib.sha256(b"".join(parts)).hexdigest(), normalize, source)


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
        raise DataError(f"{spec}: there is nothing to normalise in {name or 'inputs'} of {values.dtype}")
    if len(means) != len(stds) or len(means) not in (1, channels):
        last = "; channels come first: (N, C, H, W)" if values.dim() > 2 and values.shape[-1] == len(means) else ""
        raise DataError(
            f"{spec}: {len(means)} means and {len(stds)} deviations for {channels} channels of inputs "
            f"{tuple(values.shape[1:])}{last}"
        )
    if not all(map(math.isfinite, (*means, *stds))) or min(stds) <= 0:
        raise DataError(f"{spec}: cannot normalise with mean {means} and deviation {stds}")


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
