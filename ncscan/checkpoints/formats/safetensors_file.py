"""Read safetensors files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ncscan.checkpoints import metadata
from ncscan.checkpoints.formats.reading import FileContent, alone
from ncscan.errors import CheckpointError, one_line
from ncscan.files import parse_json

MAX_HEADER = 32 * 2**20
"""Bytes of a safetensors header: 10,000 tensors take 1.5 MB."""

_MALFORMED = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, MemoryError)
"""The errors that safetensors has been seen to raise on bytes that are not what they claim."""


def safetensors_file(data: bytes, path: Path) -> FileContent:
    """Read the bytes of a safetensors file; CheckpointError when they are damaged or made to harm."""
    try:
        # The library takes the last of two entries of one name, so the header is read here first.
        if (length := header_length(data)) > MAX_HEADER:
            raise ValueError(f"a header of {length:,} bytes; at most {MAX_HEADER:,} are read")
        header = parse_json(data[8 : 8 + length])
        tensors = _loaded(data, header, path)
        told = metadata.of_metadata(header.pop("__metadata__", None) or {})
        if tensors.keys() != header.keys():
            raise ValueError("its header has two readings")
        # The library gives the tensors in an order that differs from run to run; the file's is where their bytes lie.
        ordered = sorted(tensors, key=lambda name: (header[name]["data_offsets"], name))
    except (safetensors.SafetensorError, *_MALFORMED) as error:
        raise CheckpointError(f"{path}: a damaged or hostile safetensors file ({one_line(error)})") from error
    return alone({name: tensors[name] for name in ordered}, told)


def _loaded(data: bytes, header: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(data)
    except KeyError as error:  # a type that the format has, and the library makes no tensor of
        [kind] = error.args
        typed = [name for name, entry in header.items() if isinstance(entry, Mapping) and entry.get("dtype") == kind]
        if not typed:
            raise
        what = f"{typed[0]!a:.100} has numbers of the type {kind!s:.20}, which safetensors does not give to torch"
        raise CheckpointError(f"{path}: {what}; save it as float32, float16 or bfloat16") from error


def header_length(data: bytes) -> int:
    """Return what the first bytes claim that the header has."""
    return int.from_bytes(data[:8], "little")
