"""Data files → arrays of samples and labels.

In: an .npz file, or a folder of MNIST's idx files. Out: numpy arrays, as stored. The only file that reads data
files; a size that a header claims is believed only when the bytes for it are there.
"""

import gzip
import io
import math
import re
import struct
import sys
import tokenize
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ncscan import files
from ncscan.errors import DataError
from ncscan.files import zip_archive

INPUT_KEYS = ("inputs", "input", "x", "images", "image", "data", "features")
LABEL_KEYS = ("labels", "label", "y", "targets", "target")
"""Names of arrays in an .npz, in any case, alone or with `train` (`X_train`, `train_images`)."""


class Arrays(NamedTuple):
    """The content of data files, still to be judged."""

    inputs: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


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


def read_idx(folder: Path, split: str = "train") -> Arrays:
    """Return the images, with one channel, and the labels of a folder of MNIST's files, plain or .gz.

    Raises: DataError when they are missing, damaged, or not what their headers describe.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    images = _idx(_idx_path(folder, f"{split}-images", 3), 3)
    labels = _idx(_idx_path(folder, f"{split}-labels", 1), 1)
    return Arrays(images[:, np.newaxis], labels, ())


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


def _idx_path(folder: Path, name: str, n_dims: int) -> Path:
    pattern = re.compile(rf"(.+-)?{name}[-.]idx{n_dims}-ubyte(\.gz)?")
    try:
        found = sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    # The same file may lie there twice, packed and unpacked.
    found = [file for file in found if file.suffix != ".gz" or file.with_suffix("") not in found]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{folder}: several files could be used: {', '.join(file.name for file in found)}")
    raise DataError(f"{folder}: no file {name}-idx{n_dims}-ubyte (or .gz) here")


def _idx(path: Path, n_dims: int) -> np.ndarray:
    data = files.read(path, DataError)
    stored = len(data)
    try:
        with gzip.open(io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data) as stream:
            zero, kind, dims, *shape = struct.unpack(f">HBB{n_dims}I", stream.read(4 + 4 * n_dims))
            if (zero, kind, dims) != (0, 8, n_dims):
                raise DataError(f"{path}: not an idx file of bytes with {n_dims} dimensions")
            claimed = math.prod(shape)
            if claimed > 1032 * stored or zip_archive.inflates_too_far(stored, claimed):
                raise DataError(f"{path}: claims {claimed:,} values, which {stored:,} bytes do not hold")
            values = bytearray(stream.read(claimed + 1))
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: damaged or cut off ({error})") from error
    if len(values) != claimed:
        more = "more" if len(values) > claimed else f"only {len(values):,}"
        raise DataError(f"{path}: its header promises {claimed:,} values, but the file holds {more}")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
