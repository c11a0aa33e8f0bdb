"""Data files made to harm: each ends in one line, quickly, with nothing executed and nothing allocated."""

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_files import Content, idx, idx_bomb, made, npy, npz, npz_of

from ncscan.data.dataset import open_dataset
from ncscan.errors import DataError, UsageError

SECONDS = 60.0
"""Of the processor, so that a busy machine does not matter; nothing here takes one."""
LABELS = np.arange(8) % 2
Y = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (8,), }", bytes(8))
GOOD = npz(x=np.zeros((8, 2)), y=LABELS)


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch marker",)


def shape(claim: str, kind: str = "<f4") -> bytes:
    return npz_of(
        {"x.npy": npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {claim}, }}", bytes(32)), "y.npy": Y}
    )


NPZ: dict[str, tuple[Content, str]] = {
    "objects": (npz(x=np.array([Harm()] * 8), y=LABELS), "'x' holds Python objects"),
    "labels-objects": (npz(x=np.zeros((8, 2)), y=np.array([Harm()] * 8)), "'y' holds Python objects"),
    "names-objects": (npz(x=np.zeros((8, 2)), y=LABELS, class_names=np.array([Harm()])), "holds Python objects"),
    "names-numbers": (npz(x=np.zeros((8, 2)), y=LABELS, class_names=[1, 2]), "class_names is int64"),
    "shape-bomb": (shape("(1000000, 1000000)"), "claims shape"),
    "shape-negative": (shape("(-8,)"), "claims shape|damaged header"),
    "shape-code": (shape("__import__('os').system('touch marker')"), "damaged header"),
    "shape-deep": (shape("(" * 5000), "damaged header"),
    "dtype-bomb": (shape("(8,)", "V1000000000"), "claims shape"),
    "header-only": (npz_of({"x.npy": b"\x93NUMPY\x01\x00", "y.npy": Y}), "damaged header"),
    "version-9": (npz_of({"x.npy": b"\x93NUMPY\x09\x00" + bytes(20), "y.npy": Y}), "damaged header"),
    "pickle-inside": (npz_of({"x.npy": b"\x80\x02cposix\nsystem\n.", "y.npy": Y}), "damaged header"),
    "zip-bomb": (lambda: npz_of({"x.npy": bytes(80 * 2**20), "y.npy": Y}, zipfile.ZIP_DEFLATED), "zip bomb"),
    "cut-off": (GOOD[:-30], "cut off"),
    "polyglot": (GOOD + b"x", "behind its end"),
    "pickle": (b"\x80\x02cposix\nsystem\n(X\x0c\x00\x00\x00touch markertR.", "does not begin like a zip"),
    "empty": (b"", "does not begin like a zip"),
    "two-inputs": (npz(x=LABELS, images=LABELS, y=LABELS), "several arrays could be the inputs .'x', 'images'"),
    "two-inputs-by-case": (npz(x=LABELS, X=LABELS, y=LABELS), "several arrays could be the inputs .'x', 'X'"),
    "two-class-names": (npz(x=LABELS, y=LABELS, class_names=["a"], CLASS_NAMES=["b"]), "several arrays"),
    "two-labels": (npz(x=LABELS, y=LABELS, Y_train=LABELS), "several arrays could be the labels"),
    "no-labels": (npz(x=LABELS), "no array of labels .it has 'x'"),
    "one-name-twice": (npz_of({"x.npy": Y, "x": Y, "y.npy": Y}), "two members of one name"),
    "names-beyond-unicode": (
        npz_of(
            {
                "x.npy": Y,
                "y.npy": Y,
                "class_names.npy": npy(
                    "{'descr': '<U1', 'fortran_order': False, 'shape': (2,), }", b"a\0\0\0\0\0\x11\0"
                ),
            }
        ),
        "characters beyond Unicode",
    ),
    "no-arrays": (npz_of({}), "does not begin like a zip"),
    "no-samples": (npz(x=np.zeros((0, 2)), y=np.zeros(0, dtype=int)), "no samples"),
    "one-class": (npz(x=np.zeros((8, 2)), y=np.zeros(8, dtype=int)), "all 8 samples are of class 0"),
    "rows": (npz(x=np.zeros((9, 2)), y=LABELS), "8 labels, but inputs of shape"),
    "nan": (npz(x=np.full((8, 2), np.nan), y=LABELS), "row 0 holds NaN"),
}


@pytest.mark.parametrize("name", NPZ)
def test_a_hostile_npz_ends_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npz").write_bytes(made(NPZ[name][0]))
    started = time.process_time()
    with pytest.raises(DataError, match=NPZ[name][1]) as caught:
        open_dataset("npz:x.npz")
    assert time.process_time() - started < SECONDS
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


IDX: dict[str, tuple[Content, str]] = {
    "cut-header": (idx((8, 2, 2), b"")[:9], "damaged or cut off"),
    "cut-values": (idx((8, 2, 2), bytes(31)), "promises 32 values, but the file holds only 31"),
    "more-values": (idx((8, 2, 2), bytes(33)), "promises 32 values, but the file holds more"),
    "claims-all": (idx((2**32 - 1,) * 3, bytes(32)), "which 48 bytes do not hold"),
    "other-kind": (idx((8, 2, 2), bytes(32), kind=13), "not an idx file of bytes"),
    "other-dimensions": (idx((8, 4), bytes(32)), "not an idx file of bytes with 3 dimensions"),
    "bomb": (idx_bomb, "claims 235,200,000 values"),
    "gzip-cut": (lambda: idx_bomb()[:50], "damaged or cut off|claims"),
    "gzip-noise": (b"\x1f\x8b" + bytes(range(100)), "damaged or cut off"),
    "empty": (b"", "damaged or cut off"),
    "no-images": (idx((0, 2, 2), b""), "8 labels, but inputs of shape"),
}


@pytest.mark.parametrize("name", IDX)
def test_hostile_images_end_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(made(IDX[name][0]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx((8,), bytes([0, 1] * 4)))
    started = time.process_time()
    with pytest.raises(DataError, match=IDX[name][1]):
        open_dataset(f"idx:{tmp_path}")
    assert time.process_time() - started < SECONDS


def test_names_that_are_half_a_character_are_shown(tmp_path: Path) -> None:
    names = npy("{'descr': '<U1', 'fortran_order': False, 'shape': (2,), }", b"\0\xd8\0\0b\0\0\0")
    labels = Y[:-8] + bytes([0, 1] * 4)
    (tmp_path / "x.npz").write_bytes(npz_of({"x.npy": Y, "y.npy": labels, "class_names.npy": names}))
    assert open_dataset("npz:x.npz", base=tmp_path).class_names == ("\ufffd", "b")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        open_dataset("idx:absent", base=tmp_path)
    with pytest.raises(DataError, match="no file train-images-idx3-ubyte"):
        open_dataset("idx:.", base=tmp_path)
    with pytest.raises(UsageError, match="there is no such file"):
        open_dataset("npz:absent.npz", base=tmp_path)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match="not a regular file"):
        open_dataset("npz:pipe.npz", base=tmp_path)
