"""Read what torch.save writes: a zip archive of one pickle and the bytes of its tensors."""

from collections.abc import Iterable
from pathlib import Path

from ncscan import pickles
from ncscan.checkpoints.formats.pickled import file_content
from ncscan.checkpoints.formats.reading import FileContent
from ncscan.checkpoints.formats.refusals import RESAVE
from ncscan.checkpoints.formats.storages import Storages
from ncscan.errors import CheckpointError
from ncscan.files import zip_archive
from ncscan.pickles import BadPickle

MAX_PICKLE = 32 * 2**20
"""A pickle describes tensors, their bytes lie elsewhere: 10,000 tensors with their Adam states take 4 MB."""
SMALL = 16
"""Bytes of a storage that can hold one number among the notes."""


def torch_zip(data: bytes, path: Path) -> FileContent:
    """Read the bytes of a torch.save file; CheckpointError when they are damaged or made to harm."""
    try:
        members = zip_archive.members(data)
        # Readers of zips differ in whether `DATA.PKL` is `data.pkl`.
        if len({name.casefold() for name in members}) < len(members):
            raise zip_archive.BadArchive("is a zip archive that holds two members of one name")
        folder = _folder(members)
        if any(member.deflated for member in members.values()):
            raise zip_archive.BadArchive(f"was compressed after torch.save; {RESAVE}")
        inside = {name.removeprefix(f"{folder}/"): member for name, member in members.items()}

        def member(name: str) -> memoryview:
            if name not in inside:
                raise BadPickle(f"lacks {name!a:.100}; is it damaged?")
            return zip_archive.read(data, inside[name])

        order = bytes(member("byteorder")) if "byteorder" in inside else b"little"
        if order not in (b"little", b"big"):
            raise BadPickle(f"has bytes in an unknown order ({order!a:.40})")
        pickle = bytes(member("data.pkl"))
        if len(pickle) > MAX_PICKLE:
            raise BadPickle(f"describes its tensors in {len(pickle):,} bytes, far more than any state_dict needs")
        stored = (name for name, entry in inside.items() if name.startswith("data/") and entry.size <= SMALL)
        small = {name.removeprefix("data/"): bytes(member(name)) for name in stored}
        content = pickles.read(pickle, "archive", small, big_endian=order == b"big")
        storages = Storages(lambda key: member(f"data/{key}"), content.pieces, little_endian=order == b"little")
        return file_content(content, storages, path)
    except (zip_archive.BadArchive, BadPickle) as error:
        raise CheckpointError(f"{path}: {error}") from error


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
