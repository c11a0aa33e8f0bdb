"""Zip archives of unknown origin: their structure is checked before anything inside is read.

In: the bytes of an archive (a torch.save file, an .npz). Out: an open `zipfile.ZipFile` whose members are unique,
not encrypted, disjoint and of bounded size. The only file that opens a zip.
"""

import io
import struct
import zipfile

MAX_RATIO = 200
"""Deflate can reach 1032. Photographs stay below 3, padded tokens below 100; what lies above is made to hurt."""
FREE_INFLATION = 64 * 2**20
"""Below this many bytes nobody is hurt, so the ratio does not matter: an all-zero image set compresses well too."""

_END = struct.Struct("<4s4H2LH")
_MALFORMED = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error)
"""What zipfile raises on bytes that are not what they claim."""


class BadArchive(ValueError):  # noqa: N818 - like zipfile.BadZipFile
    """An archive that must not be read; its text says why and stands after the file's name."""


def inflates_too_far(stored: int, inflated: int) -> bool:
    """Whether compressed bytes unfold into more than honest data does."""
    return inflated > FREE_INFLATION and inflated > MAX_RATIO * stored


def open_archive(data: bytes) -> zipfile.ZipFile:
    """The archive that these bytes are, or BadArchive.

    It must begin with its first member and end with its directory: then no second parser can see another archive
    in the same bytes, and nothing is hidden before, behind or between.
    """
    if data[:4] != b"PK\x03\x04":
        raise BadArchive("does not begin like a zip archive")
    if len(data) < _END.size or data[-_END.size :][:4] != b"PK\x05\x06" or data[-2:] != b"\0\0":
        raise BadArchive("is a zip archive that is cut off, or has something behind its end")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _MALFORMED as error:
        raise BadArchive(f"is a damaged zip archive ({error})") from error
    members = archive.infolist()
    # Case is folded because zip readers differ in whether `DATA.PKL` is `data.pkl`.
    if len({member.filename.casefold() for member in members}) < len(members):
        raise BadArchive("is a zip archive that holds two members of one name")
    for member in members:
        if member.flag_bits & 0x1:
            raise BadArchive(f"is a zip archive with an encrypted member ({member.filename!a:.100})")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise BadArchive(f"is a zip archive with contradictory sizes ({member.filename!a:.100})")
        if inflates_too_far(member.compress_size, member.file_size):
            raise BadArchive(
                f"is a zip bomb: {member.filename!a:.100} inflates from {member.compress_size:,} "
                f"to {member.file_size:,} bytes"
            )
    # Members that overlap can each be small and honest, and together be anything.
    if sum(member.compress_size for member in members) > len(data):
        raise BadArchive("is a zip archive whose members overlap")
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member, or BadArchive."""
    try:
        return archive.read(name)
    except (*_MALFORMED, KeyError, RuntimeError) as error:
        raise BadArchive(f"is a damaged zip archive ({error})") from error
