"""Define what a source of data is given and returns, and convert arrays of any kind to its tensors.

In: arrays, lists or tensors as strangers store them. Out: `StoredSamples`. The only file that decides which types and
shapes are taken.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ncscan.errors import DataError

Inputs = torch.Tensor | dict[str, torch.Tensor]
"""The input that a model is called with: one tensor, or named ones."""

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.bool, torch.int64)


class DataRequest(NamedTuple):
    """Samples that are asked for."""

    spec: str
    """The source as the user wrote it."""
    base: Path | None
    """The folder that files and modules are relative to, the current one by default."""
    split: str
    """One of SPLITS, for sources that have several."""

    @property
    def path(self) -> Path:
        """Return the file or folder that the text after the colon names."""
        return (self.base or Path()) / Path(self.spec.partition(":")[2]).expanduser()


class Arrays(NamedTuple):
    """The content of data files, still to be judged."""

    inputs: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


class StoredSamples(NamedTuple):
    """Samples as they are stored, before anything is known of them."""

    rows: Callable[[int, int], tuple[Inputs, torch.Tensor]]
    """Returns inputs and labels of a range."""
    n_samples: int
    class_names: tuple[str, ...]
    """Empty when the source does not name them."""


def of_arrays(inputs: object, labels: object, class_names: tuple[str, ...], where: str) -> StoredSamples:
    x = to_tensors(inputs, where)
    y = to_labels(labels, where)
    for name, values in named_inputs(x).items():
        if values.dim() == 0 or len(values) != len(y):
            raise DataError(
                f"{where}: {len(y)} labels, but inputs {name}".rstrip() + f" of shape {tuple(values.shape)}"
            )
    if isinstance(x, torch.Tensor):
        return StoredSamples(lambda start, stop: (x[start:stop], y[start:stop]), len(y), class_names)
    return StoredSamples(lambda a, b: ({name: values[a:b] for name, values in x.items()}, y[a:b]), len(y), class_names)


def to_tensors(values: object, where: str) -> Inputs:
    """Return arrays as tensors: integers as int64, whatever their width, since embeddings take nothing narrower."""
    if isinstance(values, Mapping):
        return {str(name): _tensor(item, f"{where}, {name}") for name, item in values.items()}
    return _tensor(values, where)


def _tensor(values: object, where: str) -> torch.Tensor:
    if isinstance(values, np.ndarray | np.generic | list | tuple):
        array = to_array(values, where)
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


def to_array(values: object, where: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: the rows do not have one length ({error})") from error


def to_labels(labels: object, where: str) -> torch.Tensor:
    """Return class numbers as int64, or raise the reason why they are none."""
    array = to_array(labels, where)
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


def stacked(samples: list[Inputs], start: int, spec: str) -> Inputs:
    first = named_inputs(samples[0])
    for row, sample in enumerate(samples, start):
        forms = {name: (values.shape, values.dtype) for name, values in named_inputs(sample).items()}
        if forms != {name: (values.shape, values.dtype) for name, values in first.items()}:
            raise DataError(
                f"{spec}: row {row} differs in shape or type from row {start}; resize or pad in the dataset"
            )
    stacked = {name: torch.stack([named_inputs(sample)[name] for sample in samples]) for name in first}
    return stacked[""] if isinstance(samples[0], torch.Tensor) else stacked


def named_inputs(inputs: Inputs) -> dict[str, torch.Tensor]:
    return {"": inputs} if isinstance(inputs, torch.Tensor) else inputs
