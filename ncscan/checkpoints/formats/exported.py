"""Read the weights of a torch.export archive (.pt2): bytes of tensors, and a JSON table of their names and shapes.

In: an archive. Out: its tensors by the names that the module's `state_dict()` has. The program is not looked at.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ncscan.checkpoints.formats.archive import Archive
from ncscan.checkpoints.formats.reading import FileContent, StoredState
from ncscan.checkpoints.formats.refusals import RESAVE
from ncscan.checkpoints.formats.storages import Storages
from ncscan.errors import CheckpointError
from ncscan.files import parse_json, zip_archive
from ncscan.pickles import VALUE, BadPickle, Storage, View

WEIGHTS = "data/weights/"
CONFIG = "_weights_config.json"
"""What the name of a table of weights ends with; what it begins with is the name of the model."""
FIRST_STATE = "serialized_state_dict.pt"
"""The state in the archives that torch.export wrote first: a torch.save file in the archive."""
TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    34: "uint32",
    35: "uint64",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
}
"""Types of tensors by the numbers that torch.export gives them (`ScalarType` of its schema)."""


def is_exported(archive: Archive) -> bool:
    """Return whether an archive is one of torch.export."""
    return "archive_format" in archive.members or any(name.startswith("serialized_") for name in archive.members)


def exported(archive: Archive, path: Path) -> FileContent:
    """Return the weights of an archive of torch.export; BadArchive or BadPickle where they cannot be read."""
    if FIRST_STATE in archive.members:
        return Archive(bytes(archive.member(FIRST_STATE))).content("archive", path)
    tables = [name for name in archive.members if name.startswith(WEIGHTS) and name.endswith(CONFIG)]
    whole = [name for name in archive.members if name.startswith(WEIGHTS) and name.endswith(".pt")]
    if len(tables) == 1:
        return _of_table(archive, tables[0], path)
    if len(whole) == 1 and not tables:  # as torch 2.7 wrote it
        return Archive(bytes(archive.member(whole[0]))).content("archive", path)
    count = f"{len(tables)} models" if tables else "a compiled program and no weights"
    raise zip_archive.BadArchive(f"is an archive of torch.export with {count}; {RESAVE}")


def _of_table(archive: Archive, table: str, path: Path) -> FileContent:
    try:
        rows = parse_json(bytes(archive.member(table)))["config"]
        if not isinstance(rows, dict):
            raise TypeError("its config is no table")
    except (ValueError, KeyError, TypeError) as error:
        raise zip_archive.BadArchive(f"has a damaged table of weights ({table!a:.100}: {error!s:.100})") from error
    states = (StoredState((), partial(_tensors, archive, rows, path)),) if rows else ()
    return FileContent(states, {}, holds="an empty table of weights")


def _tensors(archive: Archive, rows: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    storages = Storages(lambda key: archive.member(WEIGHTS + key), little_endian=archive.little_endian)
    try:
        return {name: _tensor(archive, storages, name, row, path) for name, row in rows.items()}
    except (zip_archive.BadArchive, BadPickle) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _tensor(archive: Archive, storages: Storages, name: str, row: Any, path: Path) -> torch.Tensor:
    try:
        key, pickled = str(row["path_name"]), row["use_pickle"] is True
        if pickled:
            [state] = Archive(bytes(archive.member(WEIGHTS + key))).content("value", path).states
            return state.make()[VALUE]
        meta = row["tensor_meta"]
        dtype = TYPES[meta["dtype"]]
        shape, strides = _numbers(meta["sizes"]), _numbers(meta["strides"])
        [offset] = _numbers([meta["storage_offset"]])
        size = archive.members[WEIGHTS + key].size
    except (zip_archive.BadArchive, BadPickle):
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise zip_archive.BadArchive(f"has a damaged table of weights (at {name!a:.100})") from error
    if len(shape) != len(strides):
        raise zip_archive.BadArchive(f"has a damaged table of weights (at {name!a:.100})")
    itemsize = getattr(torch, dtype).itemsize
    if not math.prod(shape) and not size:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    stored = Storage(key, dtype, size // itemsize)
    return storages.tensor(View(stored, dtype, offset, shape, strides, conjugate=False, negative=False))


def _numbers(entries: object) -> tuple[int, ...]:
    """Return whole numbers as the table has them, each in an object of its own."""
    if not isinstance(entries, list) or len(entries) > 64:
        raise TypeError
    found = tuple(entry["as_int"] for entry in entries)
    if not all(type(number) is int and 0 <= number < 2**63 for number in found):
        raise ValueError
    return found
