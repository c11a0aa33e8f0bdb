"""Read what torch.save writes: a zip archive of one pickle and the bytes of its tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ncscan.checkpoints import metadata
from ncscan.checkpoints.formats import pickle_reader
from ncscan.checkpoints.formats.pickle_values import BadPickle
from ncscan.checkpoints.formats.reading import FileContent
from ncscan.checkpoints.formats.refusals import RESAVE, refused
from ncscan.checkpoints.formats.storages import Storages
from ncscan.checkpoints.state_dict import model_state, named_tensors
from ncscan.errors import CheckpointError, one_line
from ncscan.files import zip_archive


def torch_zip(data: bytes, path: Path) -> FileContent:
    """Read the bytes of a torch.save file; CheckpointError when they hold anything but tensors and plain values."""
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
    except (zip_archive.BadArchive, BadPickle) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path}: torch cannot make its tensors ({one_line(error)})") from error
    if foreign:
        raise CheckpointError(f"{path}: {refused(foreign)}")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state_dict; {RESAVE}")
    wrapper, found, others = model_state(content, path)
    told = metadata.of_content(content, found)
    if others:
        told.setdefault("other_states", ", ".join(others)[: metadata.MAX_TEXT])
    return FileContent(wrapper, named_tensors(found, path), told)


def _folder(names: Iterable[str]) -> str:
    """Return the one folder in which everything lies in a torch.save archive."""
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
