"""Tell by its first bytes whether a file could be a checkpoint, and what it is where it could not.

In: a path. Out: a kind in words for the line on what was seen and not used, empty where the file is worth a try. An
ending never rules a file out; it can only add one, so that a `model.pt` that is a failed download is an error.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ncscan.errors import CheckpointError
from ncscan.files import opened

HEAD = 512
"""Bytes that tell the kind of a file."""
PICKLE_HEAD = 2**20
"""Bytes of a pickle in which tensors or arrays are named, if there are any."""

CLAIMS = re.compile(r".*\.(pt|pth|ckpt|safetensors|th|pt2|pth\.tar|distcp)|.*model.*\.bin", re.I)
"""Names of files that say they are checkpoints: they are tried whatever their bytes are."""
OF_TRAINER = re.compile(
    r"(optimizer|optim|(lr_|grad_)?(scheduler|scaler)|sampler|random_states|rng_state|training_args|dl_state_dict|"
    r"custom_checkpoint)([_-]?\d+)*\.(pt|pth|bin|pkl|ckpt|safetensors)|.*_optim_states\.pt",
)
"""The names of what trainers leave beside the model: states of optimizers, schedules, generators of random numbers."""
INDEX = re.compile(r".+\.index(\.[\w-]+)?\.json")
"""The names of what lists the shards of a model."""
LARGEST_HEADER = 2**32
"""A text has bytes of letters where safetensors keeps the length of its header."""

_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89HDF", "HDF5 files"),
    (0, b"\x93NUMPY", "NumPy arrays"),
    (0, b"\x89PNG", "images"),
    (0, b"\xff\xd8\xff", "images"),
    (0, b"GIF8", "images"),
    (0, b"BM", "images"),
    (0, b"II*\x00", "images"),
    (0, b"MM\x00*", "images"),
    (8, b"WEBP", "images"),
    (0, b"%PDF", "documents"),
    (0, b"PAR1", "tables"),
    (0, b"GGUF", "models of other libraries"),
    (0, b"\x1f\x8b", "packed files"),
    (0, b"\x28\xb5\x2f\xfd", "packed files"),
    (0, b"\xfd7zXZ", "packed files"),
    (0, b"BZh", "packed files"),
    (257, b"ustar", "packed files"),
)
_NAMES: tuple[tuple[str, str], ...] = (
    (r".*\.tfevents\..*", "training logs"),
    (r".*\.(log|out|err)|log.*\.(txt|jsonl?)", "training logs"),
    (r".*\.(onnx|tflite|pb|msgpack|mlmodel)", "models of other libraries"),
    (r".*\.(csv|tsv|parquet|arrow)", "tables"),
    (r".*\.(jsonl?|ya?ml|toml|cfg|ini)", "settings"),
    (r".*\.(py|sh|ipynb)", "scripts"),
    (r".*\.(incomplete|tmp|partial|part|crdownload)", "unfinished files"),
)
_SVG = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.S)
_OF_TORCH = re.compile(
    r"data\.pkl|constants\.pkl|version|byteorder|archive_format|archive_version|\.format_version|\.storage_alignment|"
    r"(\.data|data|code|constants|models|extra|traced_inputs)/.*|serialized_.*"
)
"""Names in an archive of torch, less the folder in which they lie."""


def kind_of_file(path: Path) -> str:
    """Return what a file is where it could be no checkpoint, else an empty text.

    Raises: CheckpointError when a file cannot be opened that says it is a checkpoint.
    """
    claims = CLAIMS.fullmatch(path.name) is not None
    if OF_TRAINER.fullmatch(path.name):
        return "states of a trainer"
    try:
        with opened(path, CheckpointError) as (file, size):
            head = file.read(HEAD)
            if INDEX.fullmatch(path.name) and head.lstrip()[:1] == b"{":
                return ""
            if claims or _could_be(head):
                return ""
            if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
                more = head + file.read(PICKLE_HEAD - len(head))
                named = b"torch" in more or b"numpy" in more or size > PICKLE_HEAD
                return "" if named else "pickles without tensors"
            return _kind(path, head)
    except CheckpointError:
        if claims:
            raise
        return "files that cannot be opened"


def _could_be(head: bytes) -> bool:
    """Return whether a file begins like an archive of torch, or like a safetensors file."""
    if head[:4] == b"PK\x03\x04":
        return _OF_TORCH.fullmatch(_first_member(head).partition("/")[2]) is not None
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LARGEST_HEADER


def _first_member(head: bytes) -> str:
    """Return the name of the first member of a zip archive."""
    return head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")


def _kind(path: Path, head: bytes) -> str:
    for offset, mark, kind in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return kind
    if head[:4] == b"PK\x03\x04":
        return "NumPy arrays" if _first_member(head).endswith(".npy") else "packed files"
    if _SVG.match(head):
        return "images"
    for pattern, kind in _NAMES:
        if re.fullmatch(pattern, path.name, re.I):
            return kind
    if not head:
        return "empty files"
    return "files of no known kind" if b"\x00" in head or not _is_text(head) else "texts"


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a character cut in two
    return True


def unused_words(unused: Iterable[tuple[str, Path]], folder: Path) -> str:
    """Return in one line what was seen in a folder and not used, by kind: how many, and an example.

    >>> here = Path("runs")
    >>> unused_words([("images", here / "a.png"), ("training logs", here / "b.log"), ("images", here / "c.png")], here)
    '2 images (a.png, …), 1 training logs (b.log)'
    """
    kinds: dict[str, list[Path]] = {}
    for kind, path in unused:
        kinds.setdefault(kind, []).append(path)
    by_number = sorted(kinds.items(), key=lambda item: -len(item[1]))
    words = ((kind, len(files), min(files).relative_to(folder).as_posix()) for kind, files in by_number)
    return ", ".join(f"{n:,} {kind} ({first}{', …' if n > 1 else ''})" for kind, n, first in words)
