"""Write the id of a report into the metadata of each of its pictures.

In: a picture and an id. Out: the same picture, which shows nothing else. Tables have no metadata that every reader
skips: report.json names them with their checksums.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePath

MARK = b"ncscan report "
"""The beginning of an id wherever it is text."""


def stamped(name: str, content: bytes, report_id: str) -> bytes:
    """Return a picture with the id of its report; the ending of `name` gives its format."""
    return _STAMPS[PurePath(name).suffix.lower()](content, MARK + report_id.encode())


def _svg(content: bytes, text: bytes) -> bytes:
    head, end, rest = content.partition(b"</title>")
    return head + end + b"<metadata>" + text + b"</metadata>" + rest


def _png(content: bytes, text: bytes) -> bytes:
    """Return a PNG with the id in a text chunk after the header, which has 8 + 25 bytes."""
    body = b"tEXtComment\x00" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:33] + chunk + content[33:]


def _pdf(content: bytes, text: bytes) -> bytes:
    """Return a PDF with the id as a keyword in the trailer, which no offset points behind.

    The key is our own, as the format allows any program.
    """
    at = content.rindex(b"trailer")
    head, start, rest = content[at:].partition(b"<<")
    return content[:at] + head + start + b"\n  /NcscanReport (" + text + b")" + rest


def _gif(content: bytes, text: bytes) -> bytes:
    """Return a GIF with the id in a comment, the last block before the trailer."""
    return content[:-1] + b"!\xfe" + bytes([len(text)]) + text + b"\x00" + content[-1:]


_STAMPS: Mapping[str, Callable[[bytes, bytes], bytes]] = {".svg": _svg, ".png": _png, ".pdf": _pdf, ".gif": _gif}
