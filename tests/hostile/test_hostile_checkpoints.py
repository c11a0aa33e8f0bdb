"""Checkpoints made to harm: each ends in one line, quickly, in little memory, with nothing executed."""

import io
import os
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from hostile_files import (
    DEEP,
    Content,
    archive,
    bomb,
    call,
    doubled,
    entry,
    flagged,
    laughs,
    made,
    npz,
    overlapping,
    rezipped,
    safetensors,
    saved,
    tarred,
    text,
    twice,
    two_directories,
    view,
    whole,
    wide,
)

from ncscan.checkpoints import find, load
from ncscan.errors import CheckpointError

GOOD = view((6,), (1,))
SMALL_ZIP = saved({"w": torch.rand(40), "epoch": 3})
SMALL_SAFETENSORS = safetensors({"a": entry(0, 8, [2])}, bytes(8))
KEY = b"X\x01\x00\x00\x00w"
SECONDS = 60.0
"""Of the processor, so that a busy machine does not matter; nothing here takes one."""
STRIDE = 3
"""Places tried in a file of 1,500 bytes; coprime to its alignment of 64, so every kind of place is met."""
GROWTH = 300 * 2**20
"""Bytes that reading all of them may add: the bomb alone would be 268 MB, a stride-0 tensor 4 TB."""


def legacy() -> bytes:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def exported() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as contents:
        contents.writestr("model/archive_format", "pt2")
        contents.writestr("model/models/model.json", "{}")
    return stream.getvalue()


def bare(pickled: bytes) -> bytes:
    return archive(b"\x80\x02" + pickled + b".")


HOSTILE: dict[str, tuple[Content, str]] = {
    "system": (archive(call("posix.system", "touch marker")), "posix.system"),
    "system-os": (archive(call("os.system", "touch marker")), "os.system"),
    "import": (archive(call("importlib.import_module", "antigravity")), "importlib.import_module"),
    "resolve": (archive(call("pkgutil.resolve_name", "os:system")), "pkgutil.resolve_name"),
    "eval": (archive(call("builtins.eval", "open('marker', 'w')")), "builtins.eval"),
    "torch-load": (archive(call("torch.serialization.load", "other.pt")), "torch.serialization.load"),
    "getattr-chain": (bare(b"cbuiltins\ngetattr\n(cos\nsystem\nX\x01\x00\x00\x00atR"), "would run 'os.system'"),
    "protocol-4": (archive(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01a\x85R."), "posix.system"),
    "old-instance": (archive(b"(X\x05\x00\x00\x00lsmarios\nsystem\n."), "INST"),
    "bytearray": (
        bare(b"}" + KEY + b"c__builtin__\nbytearray\n" + whole(10**12) + b"\x85Rs"),
        "makes bytes of what is no text",
    ),
    "tensor-of-size": (bare(b"}" + KEY + b"ctorch\nTensor\n" + whole(10**10) + b"\x85Rs"), "holds no tensors"),
    "tensor-of-chance": (bare(b"}" + KEY + b"ctorch\nTensor\n" + whole(1000) + b"\x85Rs"), "holds no tensors"),
    "storage-of-size": (
        bare(b"}" + KEY + b"ctorch.storage\nUntypedStorage\n" + whole(10**11) + b"\x85Rs"),
        "holds no tensors",
    ),
    "deep-tuple": (bare(b")" + b"\x85" * DEEP), "it has: a tuple"),
    "deep-key": (bare(b"})" + b"\x85" * DEEP + b"K\x01s"), "nests tuples"),
    "deep-list": (bare(b"]" * DEEP + b"a" * (DEEP - 1)), "it has: a list"),
    "deep-dict": (bare(b"}" + b"K\x01}" * DEEP + b"s" * DEEP), "holds no tensors"),
    "shared-key": (bare(b"}(" + b")q\x01" + b"h\x01h\x01\x86q\x01" * 90 + b"tK\x01s"), "nests tuples"),
    "keys-of-one-hash": (
        bare(b"}(" + b"".join(whole(n * (2**61 - 1), 10) + b"N" for n in range(1, 12_000)) + b"u"),
        "more than 10,000 keys",
    ),
    "long-number-in-a-key": (
        bare(b"}\x8b" + struct.pack("<i", 3000) + bytes(2999) + b"\x01\x85Ns"),
        "more than 1,000 bits",
    ),
    "long-key": (bare(b"}\x8b" + struct.pack("<i", 10**6) + bytes(10**6 - 1) + b"\x01Ns"), "more than 1,000 bits"),
    "encodes-its-text": (bare(b"}" + KEY + doubled(36) + b"s"), "makes bytes of what is no text"),
    "encodes-as-punycode": (
        bare(b"}" + KEY + b"c_codecs\nencode\n" + text("a" * 10**6 + "ü") + text("punycode") + b"\x86Rs"),
        "encodes a text",
    ),
    "attribute-of-a-dict": (bare(b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01sb"), "holds no tensors"),
    "long-name": (bare(text("m" * 2000) + text("f") + b"\x93"), "imports a name of 2,001 characters"),
    "pairs-again-and-again": (
        bare(b"](" + b"NN\x86" * 10_000 + b"e\x85q\x01" + b"ccollections\nOrderedDict\nq\x02h\x01R" * 900),
        "more than 10,000 keys",
    ),
    "behind-the-end": (bare(b"}.}"), "something behind its end"),
    "no-end": (archive(b"\x80\x02}"), "damaged pickle"),
    "storage-of-another-size": (GOOD.replace(b"cpuK\x06", b"cpuK\x05"), "does not have its checksum"),
    "long-pickle": (bare(b"N0" * 1000 + b"]" * (33 * 2**20)), "far more than any state_dict"),
    "holds-itself": (bare(b"}q\x00X\x05\x00\x00\x00modelh\x00s"), "holds no tensors"),
    "damaged-pickle": (archive(b"\x80\x02}q"), "damaged pickle"),
    "empty-stack": (bare(b"\x85"), "damaged pickle"),
    "no-such-memo": (bare(b"h\x07"), "damaged pickle"),
    "stride-0": (view((10**6, 10**6), (0, 0)), "of shape 1000000×1000000 shows 4,000,000,000,000 bytes of which 24"),
    "overflowing-shape": (view((2**32, 2**32), (0, 0)), "reaches beyond the 24 bytes"),
    "beyond-storage": (view((6,), (1,), 3), "reaches beyond the 24 bytes"),
    "negative-offset": (view((1,), (1,), -3), "at the offset -3"),
    "negative-shape": (view((-1,), (1,)), "of the size -1"),
    "sparse": (saved({"w": torch.eye(3).to_sparse()}), "not dense"),
    "meta": (saved({"w": torch.zeros(3, device="meta")}), "not dense"),
    "zip-bomb": (bomb, "inflates from 260,916 to 268,435,456"),
    "compressed": (rezipped(GOOD, zipfile.ZIP_DEFLATED), "was compressed"),
    "member-twice": (twice("data.twi", "data.twi"), "two members of one name"),
    "member-in-capitals": (twice("data.twi", "DATA.TWI"), "two members of one name"),
    "encrypted": (flagged(1), "encrypted"),
    "overlapping": (overlapping(), "overlap"),
    "two-directories": (two_directories(b"\x80\x02}.", b"\x80\x02]."), "or that holds a second one"),
    "two-ends": (wide(GOOD)[:-22] + GOOD[-22:-6] + b"\1\0\0\0\0\0", "two ends that contradict"),
    "hidden-before-a-member": (GOOD[:-22] + b"x" + GOOD[-22:], "second one"),
    "two-folders": (GOOD.replace(b"archive/version", b"brchive/version"), "not one that torch.save wrote"),
    "tar": (tarred(GOOD), "tar archive"),
    "polyglot-front": (b"GIF89a" + GOOD, "neither a torch.save file nor safetensors"),
    "polyglot-behind": (GOOD + b"<script>", "behind its end"),
    "polyglot-comment": (GOOD[:-2] + b"\x01\x00x", "behind its end"),
    "polyglot-safetensors": (safetensors({"a": entry(0, 4, [1])}, bytes(4) + GOOD), "not fully covered"),
    "legacy-cut-off": (legacy()[:-4], "cut off within its tensors"),
    "legacy-longer": (legacy() + b"more", "behind its tensors"),
    "legacy-storage": (legacy()[:-20] + b"\xff" * 20, "cut off within its tensors"),
    "pickle": (call("posix.system", "touch marker"), "would run 'posix.system'"),
    "torchscript": (
        rezipped(archive(b"\x80\x02}.", **{"constants.pkl": b"\x80\x02)."}), zipfile.ZIP_STORED),
        "TorchScript",
    ),
    "exported": (exported(), "torch.export"),
    "npz": (npz(a=[1]), "NumPy archive"),
    "gzip": (b"\x1f\x8b" + bytes(30), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(30), "HDF5"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "web-page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "empty": (b"", "0 bytes"),
    "noise": (bytes(range(255, 0, -1)), "neither a torch.save file nor safetensors"),
    "safetensors-2GB-header": (safetensors(b"{}", claimed=2**31), "claims 2,147,483,648 bytes"),
    "safetensors-2^63-header": (safetensors(b"{}", claimed=2**63), "more than the file has"),
    "safetensors-overlap": (
        safetensors({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)),
        "damaged or hostile",
    ),
    "safetensors-beyond": (safetensors({"a": entry(0, 800, [200])}, bytes(12)), "damaged or hostile"),
    "safetensors-hole": (safetensors({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12)), "damaged or hostile"),
    "safetensors-shape": (safetensors({"a": entry(0, 4, [2**40])}, bytes(4)), "damaged or hostile"),
    "safetensors-type": (safetensors({"a": entry(0, 8, [2], "F77")}, bytes(8)), "F77"),
    "safetensors-deep": (safetensors(b'{"a":' + b"[" * 50_000), "nested too deep"),
    "safetensors-no-json": (safetensors(b"{" + b"\xff" * 20), "damaged or hostile"),
    "safetensors-notes": (safetensors({"a": entry(0, 4, [1]), "__metadata__": {"a": {}}}, bytes(4)), "damaged or host"),
    "safetensors-nothing": (safetensors({}), "no tensors"),
    "name-of-control-characters": (saved({"a\0b\x1b[2J": torch.zeros(2)}), "is no name"),
    "name-of-kilobytes": (saved({"a" * 2000: torch.zeros(2)}), "is no name"),
    "name-of-numbers": (saved({"state_dict": {3: torch.zeros(2)}}), "is no name"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    for name, (content, _) in HOSTILE.items():
        (place / f"{name}.pt").write_bytes(made(content))
    return place


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_one_line(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = folder / f"{name}.pt"
    started = time.process_time()
    with pytest.raises(CheckpointError, match=HOSTILE[name][1].replace("^", r"\^")) as caught:
        load(path)
    assert time.process_time() - started < SECONDS
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 600 + len(str(path))
    assert "weights_only" not in line
    assert not (folder / "marker").exists()


def test_reading_hostile_files_takes_little_memory_and_does_not_crash(folder: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from ncscan.checkpoints import find, load
from ncscan.errors import CheckpointError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for path in find(Path(sys.argv[1])).files:
    try:
        load(path)
    except CheckpointError:
        refused += 1
print(refused, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    refused, grown = map(int, done.stdout.split())
    assert refused == len(HOSTILE)
    assert grown < GROWTH


@pytest.mark.parametrize("whole_file", [SMALL_ZIP, SMALL_SAFETENSORS])
def test_a_file_cut_off_anywhere_is_refused(whole_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    for length in range(0, len(whole_file), STRIDE):
        path.write_bytes(whole_file[:length])
        with pytest.raises(CheckpointError):
            load(path)


@pytest.mark.parametrize("whole_file", [SMALL_ZIP, SMALL_SAFETENSORS])
def test_a_file_with_any_byte_changed_is_read_or_refused(whole_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "changed.pt"
    outcomes = set()
    for place in range(0, len(whole_file), STRIDE):
        changed = bytearray(whole_file)
        changed[place] ^= 0xA5
        path.write_bytes(changed)
        try:
            load(path)
            outcomes.add("read")
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_an_archive_with_an_end_of_64_bits_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(wide(GOOD))
    assert list(load(tmp_path / "a.pt").tensors) == ["w"]


def test_attributes_of_a_dictionary_do_not_stand_in_its_way(tmp_path: Path) -> None:
    """BUILD sets attributes; one called `items` would be found in the place of the method."""
    tensor = GOOD[GOOD.index(b"ctorch._utils") : GOOD.index(b"Rs.")] + b"R"
    shadows = b"}" + text("items") + b"K\x01sb"
    (tmp_path / "a.pt").write_bytes(bare(b"ccollections\nOrderedDict\n)R" + KEY + tensor + shadows + b"s" + shadows))
    assert list(load(tmp_path / "a.pt").tensors) == ["w"]


def test_another_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "a.pt").open("wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match="is an HDF5 file"):
        load(tmp_path / "a.pt")


def test_a_file_larger_than_the_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.pt").open("wb") as file:
        file.write(GOOD[:100])
        file.truncate(2**42)
    with pytest.raises(CheckpointError, match="do not fit into memory"):
        load(tmp_path / "a.pt")


def test_lists_that_multiply_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "laughs.pt"
    path.write_bytes(laughs(7))
    started = time.process_time()
    assert len(load(path).notes) <= 1000
    assert time.process_time() - started < SECONDS


def test_a_thousand_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "views.pt"
    base = torch.zeros(100_000)
    torch.save({f"w{i}": base for i in range(1000)}, path)
    with pytest.raises(CheckpointError, match="its tensors show 400,000,000 bytes"):
        load(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load(tmp_path / "pipe.pt")
    with pytest.raises(CheckpointError, match="no checkpoint among the 1 files"):
        find(tmp_path)


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.pt").write_bytes(GOOD)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.pt").symlink_to(tmp_path / "secret.pt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop.pt").symlink_to(folder / "loop.pt")
    with pytest.raises(CheckpointError, match="1 links lead out of it"):
        find(folder)
