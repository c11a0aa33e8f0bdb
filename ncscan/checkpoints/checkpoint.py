"""Checkpoint files → tensors and plain notes.

In: a file or a folder of files, from anybody. Out: `Checkpoint`. The only file that reads model files: the bytes
are read once, and what zip_archive.py and pickle_reader.py make of those bytes is what is used; no second reader sees
them, and nothing in them is ever executed.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch

from ncscan.checkpoints import metadata as notes
from ncscan.checkpoints.formats import pickle_reader
from ncscan.checkpoints.formats.storages import Storages, shape_words
from ncscan.checkpoints.metadata import Plain
from ncscan.errors import CheckpointError
from ncscan.files import reading as files
from ncscan.files import zip_archive

ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""What a folder is searched for; a file that is named directly may have any ending."""
NO_MODEL = re.compile(r"(optimizer|optim|scheduler|scaler|rng_state.*|training_args)\.(pt|pth|bin)")
"""What trainers leave beside the model, under the same endings."""
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "params_ema", "ema"),
)
"""Keys under which training loops keep the model's tensors; plain weights come before averaged ones."""
MAX_SHARING = 64
"""How many times over the tensors may show the bytes of the file: tied layers do, a little."""
MAX_HEADER = 32 * 2**20
"""Bytes of a safetensors header: 10,000 tensors take 1.5 MB."""
MAX_WRAPPERS = 3
"""How deep a state may lie in others."""

RESAVE = "save the weights alone: torch.save(model.state_dict(), …) or safetensors.torch.save_file(…)"


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds."""

    path: Path
    sha256: str
    """Of the very bytes that were parsed."""
    n_bytes: int
    format: str
    """`torch-zip` or `safetensors`."""
    wrapper: str
    """The key under which the tensors were found (`state_dict`, `model`, …), with dots when nested, else empty."""
    tensors: Mapping[str, torch.Tensor]
    """On the CPU, as stored, names untouched, in the file's order."""
    tensors_sha256: str
    """Over names, types, shapes and values: equal for two files that hold the same tensors."""
    notes: Mapping[str, Plain]
    step: int | None
    epoch: int | None
    file_number: int | None
    """The last number in the file's name, whatever it counts."""


class Found(NamedTuple):
    """What a reader makes of a file's bytes."""

    wrapper: str
    tensors: Mapping[str, torch.Tensor]
    notes: Mapping[str, Plain]


class Listing(NamedTuple):
    """The checkpoint files at a path."""

    files: list[Path]
    """In numeric order."""
    unreadable: list[CheckpointError]
    """Folders below the path that cannot be read, and links that lead to nothing or out of it."""


def find(path: Path) -> Listing:
    """The checkpoint files at a path: the file itself, or those of a folder and its folders.

    Hidden and `.partial` files are passed over. Links that lead out of the folder are not followed.

    Raises: CheckpointError when there is nothing at the path, or no checkpoint in the folder.
    """
    try:
        return _found(path)
    except (OSError, ValueError) as error:  # a name that is too long, or that no file can have
        raise CheckpointError(f"{path!s:.200}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _found(path: Path) -> Listing:
    if path.is_file():
        return Listing([path], [])
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such file or folder")
    root = path.resolve()
    found: dict[Path, Path] = {}
    unreadable: list[CheckpointError] = []
    seen = outside = 0

    def note(error: OSError) -> None:
        unreadable.append(CheckpointError(f"{error.filename!s:.200}: cannot be read ({error.strerror})"))

    for file in files.in_sight(path, note):
        seen += not file.name.endswith(".partial")
        if not file.name.endswith(ENDINGS) or NO_MODEL.fullmatch(file.name):
            continue
        try:
            if not file.is_file():
                if not file.exists():
                    unreadable.append(CheckpointError(f"{file}: a link to a file that is not there"))
                continue
            target = file.resolve()
        except OSError as error:
            note(error)
            continue
        if not target.is_relative_to(root):
            outside += 1
            unreadable.append(CheckpointError(f"{file}: a link out of the folder, not followed; name its target"))
        elif target not in found or found[target].is_symlink():
            found[target] = file
    if not found and unreadable and not outside:
        raise unreadable[0]
    if not found:
        links = f" ({outside} links lead out of it and are not followed: name their targets)" if outside else ""
        what = f"no checkpoint among the {seen} files of this folder{links}" if seen else "this folder is empty"
        raise CheckpointError(f"{path}: {what}; looked for files ending in {', '.join(ENDINGS)}")
    return Listing(sorted(found.values(), key=lambda file: natural(file.relative_to(path).as_posix())), unreadable)


def natural(text: str) -> list[tuple[int, str]]:
    """A sorting key that puts 9 before 10.

    >>> sorted(["step_10.pt", "step_9.pt"], key=natural)
    ['step_9.pt', 'step_10.pt']
    """
    parts = re.split(r"([0-9]+)", text)
    # The text itself comes last, so that 07 and 7 have one order too.
    return [(int(p[-18:]), "") if i % 2 else (-1, p) for i, p in enumerate(parts)] + [(-1, text)]


def load(path: Path) -> Checkpoint:
    """Read one checkpoint file.

    Raises: CheckpointError when it cannot be read, is of no known format, holds anything but tensors and plain
    values, or is made to harm.
    """
    data, form = _read(path)
    wrapper, tensors, told = form.read(data, path)
    _check_tensors(tensors, len(data), path)
    step, epoch = notes.step_and_epoch(told, path)
    return Checkpoint(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=len(data),
        format=form.name,
        wrapper=wrapper,
        tensors=tensors,
        tensors_sha256=_tensors_sha256(tensors),
        notes=told,
        step=step,
        epoch=epoch,
        file_number=notes.last_number(path),
    )


def _torch_zip(data: bytes, path: Path) -> Found:
    try:
        members = zip_archive.members(data)
        # Readers of zips differ in whether `DATA.PKL` is `data.pkl`.
        if len({name.casefold() for name in members}) < len(members):
            raise zip_archive.BadArchive("is a zip archive that holds two members of one name")
        folder = _folder(members)
        if any(member.deflated for member in members.values()):
            raise zip_archive.BadArchive(f"was compressed after torch.save; {RESAVE}")
        storages = Storages(data, {name.removeprefix(f"{folder}/"): member for name, member in members.items()})
        content, foreign = pickle_reader.read(bytes(storages.member("data.pkl")), storages.tensor)
    except (zip_archive.BadArchive, pickle_reader.BadPickle) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path}: torch cannot make its tensors ({_one_line(error)})") from error
    if foreign:
        raise CheckpointError(f"{path}: {_refused(foreign)}")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state_dict; {RESAVE}")
    wrapper, state, others = _state(content, path)
    told = notes.of_content(content, state)
    if others:
        told.setdefault("other_states", ", ".join(others)[: notes.MAX_TEXT])
    return Found(wrapper, _named_tensors(state, path), told)


def _safetensors(data: bytes, path: Path) -> Found:
    try:
        # The library takes the last of two entries of one name, so the header is read here first.
        if (length := _header_length(data)) > MAX_HEADER:
            raise ValueError(f"a header of {length:,} bytes; at most {MAX_HEADER:,} are read")
        header = files.parse_json(data[8 : 8 + length])
        tensors = _loaded(data, header, path)
        told = notes.of_metadata(header.pop("__metadata__", None) or {})
        if tensors.keys() != header.keys():
            raise ValueError("its header has two readings")
        # The library gives the tensors in an order that differs from run to run; the file's is where their bytes lie.
        ordered = sorted(tensors, key=lambda name: (header[name]["data_offsets"], name))
    except (safetensors.SafetensorError, *_MALFORMED) as error:
        raise CheckpointError(f"{path}: a damaged or hostile safetensors file ({_one_line(error)})") from error
    return Found("", _named_tensors({name: tensors[name] for name in ordered}, path), told)


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


class Format(NamedTuple):
    """One kind of file."""

    name: str
    recognise: Callable[[bytes, int], bool]
    """From the first bytes, `HEAD` of them, and the size of the file."""
    read: Callable[[bytes, Path], Found]


FORMATS: tuple[Format, ...] = (
    Format("torch-zip", lambda head, _: head[:4] == b"PK\x03\x04", _torch_zip),
    Format("safetensors", lambda head, size: head[8:9] == b"{" and _header_length(head) <= size - 8, _safetensors),
)
"""The formats that are read, told apart by their first bytes, never by their names."""

NO_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", f"in the format of torch before 1.6, a bare pickle; {RESAVE}"),
    (0, b"\x80", f"a bare pickle, which could run anything; {RESAVE}"),
    (257, b"ustar", "a tar archive; unpack it and name the checkpoint inside, or, if torch wrote it, " + RESAVE),
    (0, b"\x89HDF", f"an HDF5 file, not a torch checkpoint; {RESAVE}"),
    (0, b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (0, b"<", "a web page, perhaps the answer of a failed download; fetch the file again"),
)
"""What is met under a checkpoint's name: where its mark lies, the mark, what to say."""

_MALFORMED = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, MemoryError)
"""What safetensors has been seen to raise on bytes that are not what they claim."""

HEAD = 512
"""Bytes that are looked at before a file is read: a file of another kind may be large."""


def _read(path: Path) -> tuple[bytes, Format]:
    if re.search(r"-\d{5}-of-\d{5}\.", path.name):
        raise CheckpointError(f"{path}: one shard of several; merge them into one file first")
    with files.opened(path, CheckpointError) as (file, size):
        head = file.read(HEAD)
        if not head:
            raise CheckpointError(f"{path}: is empty, 0 bytes; was it cut off?")
        form = next((form for form in FORMATS if form.recognise(head, size)), None)
        if form is None:
            raise CheckpointError(f"{path}: {_no_format(head)}")
        data = files.read_rest(path, file, size, CheckpointError)
        if data[:HEAD] != head:
            raise CheckpointError(f"{path}: was changed while it was read")
        return data, form


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _no_format(data: bytes) -> str:
    for offset, mark, what in NO_FORMATS:
        if data[offset : offset + len(mark)] == mark:
            return f"is {what}"
    if data[8:9] == b"{":
        return f"its safetensors header claims {_header_length(data):,} bytes, more than the file has; is it cut off?"
    return f"neither a torch.save file nor safetensors, or cut off at the start; {RESAVE}"


def _folder(names: Iterable[str]) -> str:
    """The one folder in which everything lies in a torch.save archive."""
    names = list(names)
    tails = {name.partition("/")[2] for name in names}
    if any(tail == "constants.pkl" or tail.startswith("code/") for tail in tails):
        raise zip_archive.BadArchive(
            f"is a TorchScript program, which shows no layers; load it with torch.jit and {RESAVE}"
        )
    if tails & {"archive_format", "models/model.json"} or "serialized_exported_program.json" in names:
        raise zip_archive.BadArchive(f"is a program of torch.export; load it with torch.export.load and {RESAVE}")
    if any(name.endswith(".npy") for name in names):
        raise zip_archive.BadArchive("is a NumPy archive, not a checkpoint")
    folders = {name.partition("/")[0] for name in names}
    if "data.pkl" not in tails or len(folders) != 1:
        raise zip_archive.BadArchive(f"is a zip archive, but not one that torch.save wrote; {RESAVE}")
    return folders.pop()


def _refused(foreign: tuple[str, ...]) -> str:
    named = _listed(foreign).replace("'", "")
    if any(name.startswith("torch.nn.") for name in foreign):
        return f"holds a whole pickled model ({named}), and loading it would run its code; {RESAVE}"
    if any(re.fullmatch(r"torch\._utils\._rebuild_(sparse|qtensor|nested|meta|wrapper).*", name) for name in foreign):
        return f"holds tensors that are not dense ({named}); make them dense before saving"
    return f"its pickle holds more than tensors and plain values ({named}), and loading it could run code; {RESAVE}"


def _state(
    content: Mapping[object, Any], path: Path, above: tuple[str, ...] = ()
) -> tuple[str, Mapping[object, object], tuple[str, ...]]:
    """The wrapper, the model's state, and the names of other states that were passed over."""
    if len(above) > MAX_WRAPPERS:
        raise CheckpointError(f"{path}: wraps its tensors more than {MAX_WRAPPERS} times; {RESAVE}")
    looked: dict[tuple[int, int], bool] = {}
    inner = [key for key, value in content.items() if isinstance(key, str) and _holds_tensors(value, looked)]
    known = [key for key in WRAPPERS if key in inner]
    if not known and _is_state(content):
        return ".".join(above), content, ()
    # An unknown name is taken when nothing else could be meant; it is recorded like a known one.
    choice = known or [key for key in inner if "optim" not in key.lower()]
    if not choice:
        raise CheckpointError(
            f"{path}: holds no tensors of a model (it has: {_listed(content) or 'nothing'}); {RESAVE}"
        )
    if not known and len(choice) > 1:
        raise CheckpointError(
            f"{path}: holds several states ({_listed(choice)}), none under a usual name; "
            "save the one that is meant under 'state_dict'"
        )
    wrapper, state, others = _state(content[choice[0]], path, (*above, choice[0]))
    return wrapper, state, (*others, *(".".join((*above, key)) for key in choice[1:]))


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, torch.Tensor) and v.dim() for v in value.values())


def _holds_tensors(value: object, looked: dict[tuple[int, int], bool], depth: int = MAX_WRAPPERS) -> bool:
    """Whether a state lies here or under wrappers further in, each looked at once: a dict can hold itself."""
    if not isinstance(value, Mapping) or not depth:
        return False
    place = (id(value), depth)
    if place not in looked:
        looked[place] = False
        inner = (value.get(key) for key in WRAPPERS)
        looked[place] = _is_state(value) or any(_holds_tensors(each, looked, depth - 1) for each in inner)
    return looked[place]


def _named_tensors(state: Mapping[str, torch.Tensor] | Mapping[object, object], path: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= notes.MAX_TEXT:
                raise CheckpointError(f"{path}: a tensor's name is no name ({name!a:.100}); {RESAVE}")
            tensors[name] = tensor.detach()
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return tensors


def _check_tensors(tensors: Mapping[str, torch.Tensor], n_bytes: int, path: Path) -> None:
    """Refuse tensors that show more than the file holds, before anything copies or hashes them."""
    shown = 0
    stored: dict[int, int] = {}
    for name, tensor in tensors.items():
        dense = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
        if not dense:
            raise CheckpointError(f"{path}: tensor {name!a:.100} is not dense; make it dense before saving")
        storage = tensor.untyped_storage()
        # Python's integers do not overflow, `numel` does.
        claimed = math.prod(tensor.shape) * tensor.itemsize
        if claimed > storage.nbytes():
            raise CheckpointError(
                f"{path}: tensor {name!a:.100} of shape {shape_words(tensor.shape)} shows {claimed:,} bytes of which "
                f"{storage.nbytes():,} are stored; save a .contiguous() copy of it"
            )
        shown += claimed
        stored[storage.data_ptr()] = storage.nbytes()
    if sum(stored.values()) > n_bytes or shown > MAX_SHARING * n_bytes:
        raise CheckpointError(f"{path}: its tensors show {shown:,} bytes, the file has {n_bytes:,}; {RESAVE}")


def _tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        # The header ends where its bytes begin and tells how many follow: no two sets of tensors share a digest.
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        plain = tensor.resolve_conj().resolve_neg().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _listed(names: Iterable[object]) -> str:
    """The first few names of a file, safe to print."""
    shown = [f"{name!a:.60}" for name in itertools.islice(names, 9)]
    return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")


def _one_line(error: BaseException) -> str:
    """The heart of a library's message."""
    return " ".join(str(error).partition("\n\n")[0].split())[:200] or type(error).__name__
