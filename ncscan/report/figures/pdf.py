"""The same PDF for the same picture: its writer (svg2pdf) orders objects and names as a hash table happens to.

In: a PDF as vl-convert writes it. Out: the same objects in the order in which they are met from the catalogue, numbered
anew, and every run of references in a dictionary in alphabetical order.
"""

import re

_OBJECT = re.compile(rb"(?:^|(?<=[\r\n]))(\d+) 0 obj[\r\n]+")
_REFERENCE = re.compile(rb"\b(\d+) 0 R\b")
_ENTRIES = re.compile(rb"(?:^[ ]*/\w+ \d+ 0 R\n){2,}", re.MULTILINE)
_END = b"\nendobj"


def canonical(document: bytes) -> bytes:
    """Return the document with its objects in one order; ValueError when it is none of this writer's."""
    objects = {number: _sorted(body) for number, body in _objects(document)}
    trailer = document[document.rindex(b"trailer") :]
    order: dict[int, int] = {}
    _meet(trailer, objects, order)

    def renumbered(reference: re.Match[bytes]) -> bytes:
        return b"%d 0 R" % order[int(reference.group(1))]

    written = bytearray(document[: document.index(b"\n") + 1] + b"%\x80\x80\x80\x80\n\n")
    starts = []
    for number in order:
        head, stream, rest = _parted(objects[number])
        starts.append(len(written))
        written += b"%d 0 obj\n" % order[number] + _REFERENCE.sub(renumbered, head) + stream + rest + _END + b"\n\n"
    table = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f\r\n" % (len(order) + 1)
    written += b"".join(b"%010d 00000 n\r\n" % start for start in starts)
    facts = re.sub(rb"/Size \d+", b"/Size %d" % (len(order) + 1), trailer[: trailer.index(b"startxref")])
    return bytes(written + _REFERENCE.sub(renumbered, facts) + b"startxref\n%d\n%%%%EOF" % table)


def _objects(document: bytes) -> list[tuple[int, bytes]]:
    """Return number and body of every object, found by the document's own table: streams may hold anything."""
    at = int(document[document.rindex(b"startxref") :].split()[1])
    lines = document[at : document.rindex(b"trailer")].split()
    if lines[0] != b"xref":
        raise ValueError("a PDF without a plain table of its objects")
    starts = sorted(int(offset) for offset, kind in zip(lines[3::3], lines[5::3], strict=True) if kind == b"n")
    found = []
    for start, end in zip(starts, [*starts[1:], at], strict=True):
        head = _OBJECT.match(document, start)
        if head is None:
            raise ValueError("a PDF whose table does not lead to its objects")
        found.append((int(head.group(1)), document[head.end() : document.rindex(_END, start, end)]))
    return found


def _parted(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the text parts of an object, and the bytes of its stream, in which nothing is a reference."""
    head, mark, rest = body.partition(b"stream\n")
    return head, mark, rest


def _sorted(body: bytes) -> bytes:
    head, mark, rest = _parted(body)
    return _ENTRIES.sub(lambda run: b"".join(sorted(run.group().splitlines(keepends=True))), head) + mark + rest


def _meet(text: bytes, objects: dict[int, bytes], order: dict[int, int]) -> None:
    """Number what is met, depth first."""
    for reference in _REFERENCE.findall(text):
        number = int(reference)
        if number not in order:
            order[number] = len(order) + 1
            _meet(_parted(objects[number])[0], objects, order)
