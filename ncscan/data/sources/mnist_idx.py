"""Read folders in the format of MNIST.

A size that a header claims is believed only when the bytes for it are there.
"""

import gzip
import io
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from ncscan import files
from ncscan.data.convert import Arrays, DataRequest, StoredSamples, of_arrays
from ncscan.errors import DataError, UsageError
from ncscan.files import zip_archive
from ncscan.splits import HELD_OUT, OUTSIDE, TRAINING

SPLITS = {TRAINING: "train", HELD_OUT: "t10k", OUTSIDE: "t10k"}
"""The names that MNIST's files have for their splits."""


def from_idx(request: DataRequest) -> StoredSamples:
    """Return the samples of MNIST's files: the training split, or the test split where another is asked for."""
    return of_arrays(*read_idx(request.path, SPLITS[request.split]), str(request.path))


def read_idx(folder: Path, split: str = "train") -> Arrays:
    """Return the images, with one channel, and the labels of a folder of MNIST's files, plain or .gz.

    Raises: UsageError when there is no folder; DataError when they are missing, damaged, or not what their headers
        describe.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    images = _idx(_idx_path(folder, f"{split}-images", 3), 3)
    labels = _idx(_idx_path(folder, f"{split}-labels", 1), 1)
    return Arrays(images[:, np.newaxis], labels, ())


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
