"""Know checkpoints that lie in several files: which files are parts of one, and by which it is named.

In: paths. Out: the parts that belong together, and for a part that cannot stand alone the line that says so.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ncscan.checkpoints.file_kinds import INDEX
from ncscan.errors import CheckpointError
from ncscan.files import parse_json, read

DCP_METADATA = ".metadata"
"""The file that describes the others in a folder of torch.distributed.checkpoint."""
DCP_PART = re.compile(r".+\.distcp")
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5}\.[a-z]+)")
"""The names that Hugging Face gives to shards."""
ZERO_3 = re.compile(r"(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
"""DeepSpeed's ZeRO stage 3: a model whose weights lie in the files of the optimizer, a piece in each."""
MODEL_PARALLEL = re.compile(r"mp_rank_(\d+)_model_states\.pt")
"""DeepSpeed's model states; of several each has a part of every matrix."""
MAX_FILE_NAME = 255
"""Bytes of a file's name."""
MAX_INDEX = 32 * 2**20
"""Bytes of an index: 100,000 tensors take 10 MB."""


def is_distributed(folder: Path) -> bool:
    """Return whether a folder is one checkpoint of torch.distributed.checkpoint."""
    try:
        with (folder / DCP_METADATA).open("rb") as file:
            return (folder / DCP_METADATA).is_file() and file.read(1) == b"\x80"
    except OSError:
        return False


def lies_beside(name: str) -> bool:
    """Return whether a name that a file gives is one of a file beside it, and not the way to another folder.

    >>> [lies_beside(name) for name in ("a.bin", "../a.bin", "/a.bin", "a/b", "..", "", "a" * 300)]
    [True, False, False, False, False, False, False]
    """
    plain = PurePosixPath(name).name == name and "\\" not in name and name.isprintable()
    return plain and name not in ("", ".", "..") and len(name.encode(errors="replace")) <= MAX_FILE_NAME


def weight_map(data: bytes) -> Mapping[str, str] | None:
    """Return which shard an index names for each tensor, None where JSON is no index of shards.

    A shard must lie beside its index: a name with a folder in it could lead anywhere.

    Raises: ValueError when the bytes are no JSON, or name what is no file beside the index.

    >>> weight_map(b'{"weight_map": {"w": "../a.bin"}}')
    Traceback (most recent call last):
        ...
    ValueError: it names '../a.bin', which is no file beside it
    """
    content = parse_json(data)
    if not isinstance(content, dict) or "weight_map" not in content:
        return None
    found = content["weight_map"]
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise ValueError("its weight_map is no table of tensors and files")
    for name in dict.fromkeys(found.values()):
        if not lies_beside(name):
            raise ValueError(f"it names {name!a:.100}, which is no file beside it")
    return found


def read_index(path: Path) -> Mapping[str, str] | None:
    """Return the weight map of a file, None where it is no index; CheckpointError where it cannot be used."""
    return index_of(read(path, CheckpointError, MAX_INDEX), path)


def index_of(data: bytes, path: Path) -> Mapping[str, str] | None:
    """Return the weight map in the bytes of a file, as `read_index` does."""
    try:
        return weight_map(data)
    except ValueError as error:
        raise CheckpointError(f"{path}: an index of shards that cannot be used: {error}") from error


def target_within(path: Path, root: Path) -> Path | None:
    """Return where a path leads, None where that is outside of a folder.

    A folder of Hugging Face's cache (`models--…/snapshots/…`) has links to the blobs beside it: it reaches that far.
    """
    target = path.resolve()
    reach = [root.resolve(), *(above for above in root.resolve().parents if above.name.startswith("models--"))]
    return target if any(target.is_relative_to(folder) for folder in reach) else None


class Part(NamedTuple):
    """A file that is one of several which together are a checkpoint."""

    whole: str
    """The same for all parts of one whole."""
    why: str
    """Says that it cannot stand alone, and what to name instead."""


def as_part(path: Path) -> Part | None:
    """Return of what a file is a part, None where it is a checkpoint by itself.

    Told by the names that the libraries give to parts: their bytes are those of any checkpoint.
    """
    folder = path.parent
    if (match := SHARD.fullmatch(path.name)) and not match[2].startswith("00001."):  # one of one is the whole
        return Part(f"{folder}/{match[1]}-{match[2]}", f"one shard of several; {_whole_of_shard(path)}")
    if DCP_PART.fullmatch(path.name):
        beside = f"name the folder, {folder}" if is_distributed(folder) else f"its {DCP_METADATA} is not beside it"
        return Part(f"{folder}/dcp", f"one part of a checkpoint of torch.distributed.checkpoint; {beside}")
    if ZERO_3.fullmatch(path.name):
        why = (
            "of DeepSpeed's ZeRO stage 3, whose weights lie in pieces in the files of the optimizer; have whoever "
            "trained it save them whole (stage3_gather_16bit_weights_on_model_save, or their own zero_to_fp32)"
        )
        return Part(f"{folder}/zero", why)
    if (match := MODEL_PARALLEL.fullmatch(path.name)) and (others := _ranks(folder) - {match[1]}):
        why = (
            f"one of {len(others) + 1} parts of a model (mp_rank_…), each of which has a part of every matrix; have "
            "whoever trained it merge them into one file"
        )
        return Part(f"{folder}/mp", why)
    return None


def _ranks(folder: Path) -> set[str]:
    files = folder.iterdir() if folder.is_dir() else ()
    return {match[1] for file in files if (match := MODEL_PARALLEL.fullmatch(file.name))}


def _whole_of_shard(path: Path) -> str:
    """Return what to name in the place of a shard."""
    for index in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        try:
            if INDEX.fullmatch(index.name) and path.name in (read_index(index) or {}).values():
                return f"name their index, {index}"
        except CheckpointError:
            continue
    return "no index beside it names it, so the others are unknown; merge them into one file, or fetch the index"
