"""Read .npz files: arrays by their names, nothing of which is unpickled.

A size that a header claims is believed only when the bytes for it are there.
"""

import io
import math
import os
import re
import sys
import tokenize
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ncscan import files
from ncscan.data.convert import Arrays, DataRequest, StoredSamples, of_arrays
from ncscan.errors import DataError, UsageError
from ncscan.files import zip_archive

INPUT_KEYS = ("inputs", "input", "x", "images", "image", "data", "features")
LABEL_KEYS = ("labels", "label", "y", "targets", "target")
"""Names of arrays in an .npz, in any case, alone or with `train` (`X_train`, `train_images`)."""


def from_npz(request: DataRequest) -> StoredSamples:
    """Return the samples of an .npz file."""
    if not os.path.lexists(request.path):
        raise UsageError(f"{request.path}: there is no such file")
    return of_arrays(*read_npz(request.path), str(request.path))


def read_npz(path: Path) -> Arrays:
    """Return the one array of inputs, the one of labels and, if there, the `class_names` of an .npz file.

    Raises: DataError when the file is damaged or hostile, holds Python objects, or does not tell which arrays to use.
    """
    try:
        data = files.read(path, DataError)
        found = zip_archive.members(data)
        members = {name.removesuffix(".npy"): member for name, member in found.items()}
        if len(members) < len(found):
            raise zip_archive.BadArchive("is a zip archive that holds two members of one name")
        chosen = [_only(members, INPUT_KEYS, "inputs"), _only(members, LABEL_KEYS, "labels")]
        if any(key.casefold() == "class_names" for key in members):
            chosen.append(_only(members, ("class_names",), "class names"))
        arrays = [_array(key, zip_archive.read(data, members[key])) for key in chosen]
        return Arrays(arrays[0], arrays[1], _texts(arrays[2]) if len(arrays) > 2 else ())
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _texts(names: np.ndarray) -> tuple[str, ...]:
    if names.dtype.kind != "U" or names.ndim != 1:
        raise ValueError(f"class_names is {names.dtype!s:.100} of shape {names.shape}; expected a list of strings")
    if names.size and names.astype(names.dtype.newbyteorder("="), copy=True).view(np.uint32).max() > sys.maxunicode:
        raise ValueError("class_names holds characters beyond Unicode; is it damaged?")
    return tuple(names.tolist())


def _only(names: Iterable[str], wanted: tuple[str, ...], what: str) -> str:
    names = list(names)
    found = [name for name in names if re.sub(r"^train_|_?train$", "", name.casefold()) in wanted]
    if len(found) == 1:
        return found[0]
    told = ", ".join(f"{name!a:.60}" for name in (found or names)[:8])
    if found:
        raise ValueError(f"several arrays could be the {what} ({told}); keep one of them, under {wanted[0]!r}")
    raise ValueError(f"no array of {what} (it has {told or 'none'}); name it one of {', '.join(wanted)}")


def _array(name: str, data: memoryview) -> np.ndarray:
    """Return one .npy member; its header is judged before numpy allocates what it claims."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote, which are read all the same
            shape, _, dtype = read_header(stream)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"array {name!a:.60} has a damaged header") from error
    if dtype.hasobject:
        raise ValueError(f"array {name!a:.60} holds Python objects, which could run anything; save it as plain numbers")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell() or min(shape, default=0) < 0:
        raise ValueError(f"array {name!a:.60} claims shape {shape!s:.80} of {dtype!s:.80}, which its bytes do not hold")
    stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.read_array(stream, allow_pickle=False)
