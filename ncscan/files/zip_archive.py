"""Zip archives of unknown origin, read by their directory alone, and only when nothing in them has two readings.

In: the bytes of an archive (a torch.save file, an .npz). Out: its members, and the bytes of each. The only file that
reads a zip. Readers of zips differ: in which directory they believe when there are two, in whether offsets are shifted,
in which of two headers of a member counts. Here an archive is its members one behind the other from the first byte on,
then one directory that names each of them once, then the end; anything else is refused.
"""

import struct
import zlib
from typing import NamedTuple

MAX_RATIO = 200
"""Deflate can reach 1032. Photographs stay below 3, padded tokens below 100; what lies above is made to hurt."""
FREE_INFLATION = 64 * 2**20
"""Below this many bytes nobody is hurt, so the ratio does not matter: an all-zero image set compresses well too."""
MAX_MEMBERS = 300_000
"""The number of members: 100,000 tensors with their Adam states need so many."""

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_WIDE, _SIZES64 = 0xFFFFFFFF, 0x0001
"""A size that does not fit into 32 bits, and the kind of field in which it stands then."""
_ENCRYPTED, _SIZES_BEHIND, _UTF8 = 0x1, 0x8, 0x800
_STORED, _DEFLATED = 0, 8
_BEHIND = (0, 12, 16, 20, 24)
"""Bytes of the sizes that may follow a member: with or without a mark, of 32 or 64 bits."""


class BadArchive(ValueError):  # noqa: N818 - like zipfile.BadZipFile
    """An archive that must not be read; its text gives the reason and stands after the file's name."""


class Member(NamedTuple):
    """One member, as the directory describes it."""

    name: str
    header: int
    """Where its own header begins."""
    begin: int
    """Where its bytes begin."""
    stored: int
    """The number of its bytes as stored."""
    size: int
    """The number of bytes that they unpack to."""
    deflated: bool
    crc: int
    flags: int

    @property
    def end(self) -> int:
        return self.begin + self.stored


def inflates_too_far(stored: int, inflated: int) -> bool:
    """Return whether compressed bytes unfold into more than honest data does."""
    return inflated > FREE_INFLATION and inflated > MAX_RATIO * stored


def members(data: bytes) -> dict[str, Member]:
    """Return the members of an archive by name, in the order of its directory.

    Raises: BadArchive when it is damaged, or not exactly its members and one directory of them, or when a member is
        encrypted, comes twice or inflates too far.
    """
    if data[:4] != b"PK\x03\x04":
        raise BadArchive("does not begin like a zip archive")
    try:
        start, stop, count = _directory(data)
        found = _entries(data, start, stop, count)
        _check_places(data, found, start)
    except (struct.error, UnicodeDecodeError) as error:
        raise BadArchive("is a damaged zip archive") from error
    named = {member.name: member for member in found}
    if len(named) < len(found):
        raise BadArchive("is a zip archive that holds two members of one name")
    return named


def read(data: bytes, member: Member) -> memoryview:
    """Return the bytes of one member, checked against their sum.

    Raises: BadArchive when they do not come to what the directory describes.
    """
    content = memoryview(data)[member.begin : member.end]
    if member.deflated:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            unpacked = unpacker.decompress(content, member.size + 1)
        except (zlib.error, MemoryError) as error:
            raise BadArchive(f"is a damaged zip archive ({member.name!a:.100}: {error})") from error
        if len(unpacked) != member.size or not unpacker.eof or unpacker.unused_data:
            raise BadArchive(f"is a damaged zip archive ({member.name!a:.100} does not inflate to its size)")
        content = memoryview(unpacked)
    # torch can be told to leave the sum out; then it is 0.
    if member.crc and zlib.crc32(content) != member.crc:
        raise BadArchive(f"is a damaged zip archive ({member.name!a:.100} does not have its checksum)")
    return content


def _directory(data: bytes) -> tuple[int, int, int]:
    """Return where the directory begins and ends, and how many entries it has."""
    at = len(data) - _END.size
    if at < 0 or data[at : at + 4] != b"PK\x05\x06" or data[-2:] != b"\0\0":
        raise BadArchive("is a zip archive that is cut off, or has something behind its end")
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(data, at)
    locator = at - _LOCATOR.size
    if locator >= _END64.size and data[locator : locator + 4] == b"PK\x06\x07":
        _, other_disk, place, disks = _LOCATOR.unpack_from(data, locator)
        at = locator - _END64.size
        mark, rest, _, _, disk64, first_disk64, here64, count64, size64, start64 = _END64.unpack_from(data, at)
        wide = ((here, here64, 16), (count, count64, 16), (size, size64, 32), (start, start64, 32))
        if (
            (mark, rest, place, other_disk, disks, disk64, first_disk64)
            != (b"PK\x06\x06", _END64.size - 12, at, 0, 1, 0, 0)
            or any(narrow not in (full, 2**bits - 1) for narrow, full, bits in wide)
            or disk not in (0, 0xFFFF)
            or first_disk not in (0, 0xFFFF)
        ):
            raise BadArchive("is a zip archive with two ends that contradict each other")
        disk, first_disk, here, count, size, start = 0, 0, here64, count64, size64, start64
    if disk or first_disk or here != count:
        raise BadArchive("is one part of a zip archive of several")
    if start + size != at:
        raise BadArchive("is a zip archive whose directory does not end where it says, or that holds a second one")
    if count > MAX_MEMBERS:
        raise BadArchive(f"is a zip archive of {count:,} members; at most {MAX_MEMBERS:,} are read")
    return start, at, count


def _entries(data: bytes, start: int, stop: int, count: int) -> list[Member]:
    found = []
    at = start
    for _ in range(count):
        entry = _ENTRY.unpack_from(data, at)
        mark, _, _, flags, method, _, _, crc, stored, size, n_name, n_extra, n_comment, disk, _, _, header = entry
        begin = at + _ENTRY.size
        at = begin + n_name + n_extra + n_comment
        if mark != b"PK\x01\x02" or at > stop:
            raise BadArchive("is a zip archive with a damaged directory")
        name = _name(data[begin : begin + n_name], flags)
        size, stored, header = _wide(data[begin + n_name : begin + n_name + n_extra], size, stored, header)
        _check_entry(name, flags, method, stored, size, len(data))
        if disk not in (0, 0xFFFF):
            raise BadArchive("is one part of a zip archive of several")
        own = _LOCAL.unpack_from(data, header) if header + _LOCAL.size <= start else (b"",) * 11
        if own[0] != b"PK\x03\x04":
            raise BadArchive(f"is a damaged zip archive ({name!a:.100} is not where its directory says)")
        begin = header + _LOCAL.size + own[9] + own[10]
        found.append(Member(name, header, begin, stored, size, method == _DEFLATED, crc, flags))
    if at != stop:
        raise BadArchive("is a zip archive with a damaged directory")
    return found


def _wide(extra: bytes, *narrow: int) -> tuple[int, int, int]:
    """Return sizes and offset of an entry, with those of 64 bits in the place of the ones that do not fit into 32."""
    values = list(narrow)
    wanted = [i for i, value in enumerate(values) if value == _WIDE]
    at = 0
    while wanted and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _SIZES64:
            for place, i in enumerate(wanted):
                (values[i],) = struct.unpack_from("<Q", extra[at + 4 : at + 4 + length], 8 * place)
            break
        at += 4 + length
    return values[0], values[1], values[2]


def _check_entry(name: str, flags: int, method: int, stored: int, size: int, n_bytes: int) -> None:
    if flags & _ENCRYPTED:
        raise BadArchive(f"is a zip archive with an encrypted member ({name!a:.100})")
    if method not in (_STORED, _DEFLATED):
        raise BadArchive(f"is a zip archive with a member that is packed by method {method} ({name!a:.100})")
    if method == _STORED and size != stored:
        raise BadArchive(f"is a zip archive with contradictory sizes ({name!a:.100})")
    if stored > n_bytes:
        raise BadArchive(f"is a zip archive that is cut off ({name!a:.100} is larger than the file)")
    if inflates_too_far(stored, size):
        raise BadArchive(f"is a zip bomb: {name!a:.100} inflates from {stored:,} to {size:,} bytes")


def _check_places(data: bytes, found: list[Member], directory: int) -> None:
    """Check that every byte before the directory is one member's, and every member's header agrees with its entry."""
    end = 0
    gaps: tuple[int, ...] = (0,)
    for member in sorted(found, key=lambda member: member.begin):
        if member.begin < end or member.end > directory:
            raise BadArchive(f"is a zip archive whose members overlap ({member.name!a:.100})")
        if not _agrees(data, member):
            raise BadArchive(f"is a zip archive with a member of two descriptions ({member.name!a:.100})")
        if member.header - end not in gaps:
            raise BadArchive(f"is a zip archive with something hidden before {member.name!a:.100}")
        end, gaps = member.end, _BEHIND if member.flags & _SIZES_BEHIND else (0,)
    if directory - end not in gaps:
        raise BadArchive("is a zip archive with something hidden before its directory")


def _agrees(data: bytes, member: Member) -> bool:
    """Return whether a member's header agrees with the directory; sizes may stand behind it, or be wide ones."""
    _, _, flags, method, _, _, _, stored, size, n_name, _ = _LOCAL.unpack_from(data, member.header)
    name = data[member.header + _LOCAL.size : member.header + _LOCAL.size + n_name]
    sizes = flags & _SIZES_BEHIND or (stored in (member.stored, _WIDE) and size in (member.size, _WIDE))
    return bool(sizes) and (flags, method == _DEFLATED, _name(name, flags)) == (
        member.flags,
        member.deflated,
        member.name,
    )


def _name(raw: bytes, flags: int) -> str:
    return raw.decode("utf-8" if flags & _UTF8 else "cp437")
