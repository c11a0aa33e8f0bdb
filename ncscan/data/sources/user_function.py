"""Data that a function of the user's returns: `module:function`, called without arguments."""

from collections.abc import Mapping

import torch

from ncscan import user_code
from ncscan.data.convert import (
    DataRequest,
    Inputs,
    StoredSamples,
    of_arrays,
    stacked,
    to_array,
    to_labels,
    to_tensors,
)
from ncscan.errors import DataError


def from_function(request: DataRequest) -> StoredSamples:
    """Return the function's (inputs, labels), or its map-style dataset, read row by row as rows are asked for."""
    spec = request.spec
    returned = user_code.call(spec, request.base, DataError)
    if isinstance(returned, tuple | list) and len(returned) == 2:
        return of_arrays(returned[0], returned[1], (), spec)
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
            inputs.append(to_tensors(sample, f"{spec}, row {row}"))
            labels.append(to_labels(to_array(label, f"{spec}, row {row}").reshape(1, -1), f"{spec}, row {row}"))
        return stacked(inputs, start, spec), torch.cat(labels)

    with user_code.guarded(spec, DataError):
        n_samples = len(returned)
    names = getattr(returned, "classes", ())
    return StoredSamples(rows, n_samples, tuple(map(str, names)) if isinstance(names, list | tuple) else ())
