"""Small files made to harm a reader: what a folder from a stranger may hold."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch

STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
"""The opcodes of a storage of six floats, which `archive` stores with every pickle."""
DEEP = 200_000


Content = bytes | Callable[[], bytes]
"""A file, or what makes it: what takes long to make is made where it is used, not where tests are collected."""


def made(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content()


def archive(pickled: bytes, **members: bytes) -> bytes:
    """A torch.save archive around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as contents:
        for name, data in {"data.pkl": pickled, "data/0": bytes(24), "version": b"3\n", **members}.items():
            contents.writestr(f"archive/{name}", data)
    return stream.getvalue()


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def call(name: str, argument: str) -> bytes:
    """A pickle that calls a function when it is loaded."""
    module, _, function = name.rpartition(".")
    text = argument.encode()
    return b"\x80\x02c%s\n%s\nX%s%s\x85R." % (module.encode(), function.encode(), struct.pack("<I", len(text)), text)


def whole(number: int, n_bytes: int = 9) -> bytes:
    """The opcode of an integer of any size."""
    return b"\x8a" + bytes([n_bytes]) + number.to_bytes(n_bytes, "little", signed=True)


def view(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """A state_dict with one tensor: a view of six floats."""
    sizes, steps = (b"(" + b"".join(map(whole, numbers)) + b"t" for numbers in (shape, strides))
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + whole(offset) + sizes + steps
    return archive(b"\x80\x02}X\x01\x00\x00\x00w" + rebuild + b"\x89ccollections\nOrderedDict\n)RtRs.")


def safetensors(header: Mapping[str, object] | bytes, data: bytes = b"", claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def entry(start: int, stop: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def rezipped(data: bytes, method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def bomb() -> bytes:
    """262 kB that inflate to 268 MB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as contents:
        contents.writestr("archive/data.pkl", b"\x80\x02}.")
        with contents.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(bytes(2**20))
    return stream.getvalue()


def twice(name: str, again: str) -> bytes:
    """A member that comes twice, the second time perhaps in other letters."""
    placeholder = "?" * len(again)
    data = archive(b"\x80\x02}.", **{name: b"1", placeholder: b"2"})
    return data.replace(placeholder.encode(), again.encode())


def flagged(bit: int) -> bytes:
    """The first member's flag set in the directory: 1 says that it is encrypted."""
    data = bytearray(archive(b"\x80\x02}."))
    data[data.index(b"PK\x01\x02") + 8] |= bit
    return bytes(data)


def overlapping() -> bytes:
    """Many members that are all the same bytes: each entry of the directory points to the first."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as contents:
        contents.writestr("archive/data.pkl", b"\x80\x02}.")
        contents.writestr("archive/data/0", bytes(100_000))
        first = contents.infolist()[1]
        for number in range(1, 50):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            again.file_size = again.compress_size = 100_000
            again.CRC, again.header_offset = first.CRC, first.header_offset
            contents.filelist.append(again)
            contents.NameToInfo[again.filename] = again
    return stream.getvalue()


def two_directories(seen: bytes, loaded: bytes) -> bytes:
    """One file, two archives: a reader that believes the offset at the end finds the second, others the first.

    Both are of the same members in the same lengths but for `data.pkl`, which comes in the file one after the other.
    """
    first, second = (archive(pickled) for pickled in (seen, loaded))
    start, size = (struct.unpack("<L", first[at : at + 4])[0] for at in (len(first) - 6, len(first) - 10))
    other = struct.unpack("<L", second[-6:-2])[0]
    assert size == struct.unpack("<L", second[-10:-6])[0]
    return second[:other] + second[other : other + size] + first[start : start + size] + second[-22:]


def wide(data: bytes) -> bytes:
    """The same archive with an end of 64 bits before its end, as archives above 4 GB have it."""
    count, size, start = struct.unpack("<H2L", data[-12:-2])
    at = len(data) - 22
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:at] + end64 + locator + end


def text(value: str) -> bytes:
    """The opcode of a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def doubled(times: int) -> bytes:
    """1 kB of text that the pickle encodes as hexadecimal digits again and again."""
    value = b"c_codecs\nencode\n(" + text("A" * 1000) + text("latin1") + b"tR"
    for _ in range(times):
        value = b"c_codecs\nencode\n(" + value + text("hex_codec") + b"tR"
    return value


def tarred(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as contents:
        info = tarfile.TarInfo("pickle")
        info.size = len(data)
        contents.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def laughs(levels: int) -> bytes:
    """Lists that each hold the one before sixteen times: 16^levels values in a few hundred bytes."""
    value: list[object] = [1]
    for _ in range(levels):
        value = [value] * 16
    return saved({"laughs": value, "state_dict": {"w": torch.zeros(2)}})


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(**arrays: object) -> bytes:
    members: dict[str, bytes] = {}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, np.asarray(array))
        members[f"{name}.npy"] = stream.getvalue()
    return npz_of(members)


def npz_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as contents:
        for name, data in members.items():
            contents.writestr(name, data)
    return stream.getvalue()


def idx(shape: tuple[int, ...], data: bytes, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + data


@cache
def idx_bomb() -> bytes:
    return gzip.compress(idx((300_000, 28, 28), bytes(300_000 * 784)))
