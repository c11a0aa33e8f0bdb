"""Open a zip archive of torch: one folder of members, of which one is a pickle and others are bytes of tensors.

In: the bytes of an archive. Out: its members, and the content of its pickle, made by a process of its own.
"""

from collections.abc import Iterable
from pathlib import Path

from ncscan import pickles
from ncscan.checkpoints.formats.pickled import file_content
from ncscan.checkpoints.formats.reading import FileContent
from ncscan.checkpoints.formats.refusals import RESAVE
from ncscan.checkpoints.formats.storages import Storages
from ncscan.files import zip_archive
from ncscan.pickles import BadPickle

MAX_PICKLE = 32 * 2**20
"""A pickle describes tensors, their bytes lie elsewhere: 10,000 tensors with their Adam states take 4 MB."""
SMALL = 16
"""Bytes of a storage that can hold one number among the notes."""
CODE = "code/"
"""The folder of a TorchScript program's source, which nothing reads here."""


class Archive:
    """A zip archive that torch wrote.

    Raises: BadArchive, from everything here, where it is damaged, has two readings, or another library wrote it.
    """

    def __init__(self, data: bytes) -> None:
        members = zip_archive.members(data)
        # Readers of zips differ in whether `DATA.PKL` is `data.pkl`.
        if len({name.casefold() for name in members}) < len(members):
            raise zip_archive.BadArchive("is a zip archive that holds two members of one name")
        folder = _folder(members)
        if any(member.deflated and not name.startswith(f"{folder}{CODE}") for name, member in members.items()):
            raise zip_archive.BadArchive(f"was compressed after torch.save; {RESAVE}")
        self._data = data
        self.members = {name.removeprefix(folder): member for name, member in members.items()}
        order = bytes(self.member("byteorder")) if "byteorder" in self.members else b"little"
        if order not in (b"little", b"big"):
            raise zip_archive.BadArchive(f"has bytes in an unknown order ({order!a:.40})")
        self.little_endian = order == b"little"

    def member(self, name: str) -> memoryview:
        """Return the bytes of a member, by its name in the archive's folder."""
        if name not in self.members:
            raise zip_archive.BadArchive(f"lacks {name!a:.100}; is it damaged?")
        return zip_archive.read(self._data, self.members[name])

    def content(self, reading: str, path: Path) -> FileContent:
        """Return what the pickle of the archive holds, made of it by a reading of `ncscan.pickles`; BadPickle too."""
        pickle = bytes(self.member("data.pkl"))
        if len(pickle) > MAX_PICKLE:
            raise BadPickle(f"describes its tensors in {len(pickle):,} bytes, far more than any state_dict needs")
        stored = (name for name, entry in self.members.items() if name.startswith("data/") and entry.size <= SMALL)
        small = {name.removeprefix("data/"): bytes(self.member(name)) for name in stored}
        content = pickles.read(pickle, reading, small, big_endian=not self.little_endian)
        storages = Storages(lambda key: self.member(f"data/{key}"), content.pieces, little_endian=self.little_endian)
        return file_content(content, storages, path)


def _folder(names: Iterable[str]) -> str:
    """Return the one folder in which everything lies, with a slash; empty for archives of the first torch.export."""
    names = list(names)
    if any(name.endswith(".npy") for name in names):
        raise zip_archive.BadArchive("is a NumPy archive, not a checkpoint")
    if any(name.startswith("serialized_") for name in names):
        return ""
    folders = {name.partition("/")[0] for name in names}
    tails = {name.partition("/")[2] for name in names}
    if not tails & {"data.pkl", "archive_format"} or len(folders) != 1:
        raise zip_archive.BadArchive(f"is a zip archive, but not one that torch.save wrote; {RESAVE}")
    return folders.pop() + "/"
