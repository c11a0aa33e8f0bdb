"""A file from a stranger is looked at before it is read; what it claims must be there."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncscan.dumps import hdf5
from ncscan.errors import DumpError

ROWS = np.arange(35.0, dtype=np.float32).reshape(7, 5)


def made(path: Path, write: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        write(file)
    return path


def refused(path: Path) -> str:
    """The one line that says why."""
    with pytest.raises(DumpError) as caught:
        hdf5.open_safely(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def all_rows(path: Path, name: str = "x") -> np.ndarray:
    with hdf5.open_safely(path) as file:
        parts = list(hdf5.read_rows(hdf5.dataset(file, name)))
    assert [0, *np.cumsum([len(rows) for _, rows in parts])[:-1]] == [start for start, _ in parts]
    return np.concatenate([rows for _, rows in parts])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (2, 5)},
        {"chunks": (3, 2)},
        {"chunks": (2, 5), "compression": "gzip"},
        {"chunks": (2, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (2, 5), "fletcher32": True},
        {"dtype": ">f8"},
        {"chunks": (2, 5), "dtype": ">i2"},
    ],
    ids=str,
)
def test_rows_read_back_however_they_are_stored(
    tmp_path: Path, how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "READ_AT_ONCE", 50)  # several pieces of this small file
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("x", data=ROWS, **how))
    assert np.array_equal(ROWS, all_rows(path))


def test_rows_are_memory_of_their_own(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("x", data=ROWS, chunks=(2, 5)))
    with hdf5.open_safely(path) as file:
        first, second = (next(hdf5.read_rows(hdf5.dataset(file, "x")))[1] for _ in range(2))
    first[:] = 0
    assert np.array_equal(ROWS, second)


def test_soft_link_is_refused(tmp_path: Path) -> None:
    assert "link to elsewhere" in refused(made(tmp_path / "a.h5", lambda f: f.update({"x": h5py.SoftLink("/y")})))


def test_external_link_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "secret.h5", lambda f: f.create_dataset("x", data=ROWS))
    link = h5py.ExternalLink("secret.h5", "x")
    assert "'x' is a link to elsewhere" in refused(made(tmp_path / "a.h5", lambda f: f.update({"x": link})))


def test_external_storage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"a password" * 10)
    outside = [(str(tmp_path / "secret"), 0, 100)]
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("x", (100,), "u1", external=outside))
    assert "takes its data from other files" in refused(path)


def test_virtual_dataset_is_refused(tmp_path: Path) -> None:
    secret = made(tmp_path / "secret.h5", lambda f: f.create_dataset("x", data=ROWS))
    layout = h5py.VirtualLayout(ROWS.shape, "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", ROWS.shape)
    assert "other files" in refused(made(tmp_path / "a.h5", lambda f: f.create_virtual_dataset("x", layout)))


@pytest.mark.parametrize("chunks", [None, (1024, 1024)])
def test_shape_without_the_bytes_is_refused(tmp_path: Path, chunks: tuple[int, int] | None) -> None:
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("x", (10**8, 10**5), "f8", chunks=chunks))
    assert path.stat().st_size < 10_000
    message = refused(path)
    assert "(100000000, 100000)" in message


def test_missing_chunk_is_refused(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("x", (7, 5), "f4", chunks=(2, 5))[:5] = ROWS[:5]

    assert "has 3 of the 4 chunks" in refused(made(tmp_path / "a.h5", write))


def test_huge_chunk_is_refused(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("x", (2**16, 2**13), "u1", chunks=(2**16, 2**13), compression="gzip")[0, 0] = 1

    assert "has chunks of 536870912 bytes" in refused(made(tmp_path / "a.h5", write))


def test_chunk_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(50_000_000))

    def write(file: h5py.File) -> None:
        x = file.create_dataset("x", (100, 1000), "u1", chunks=(100, 1000), compression="gzip")
        x.id.write_direct_chunk((0, 0), bomb)

    path = made(tmp_path / "a.h5", write)
    assert path.stat().st_size < 100_000
    with pytest.raises(DumpError, match="a chunk unpacks to more than its 100000 bytes"):
        all_rows(path)
    with hdf5.open_safely(path) as file, pytest.raises(DumpError, match="unpacks to more"):
        hdf5.read_array(hdf5.dataset(file, "x"))


def test_array_that_unpacks_to_more_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_INFLATED", 1000)
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("x", data=np.zeros(10**4), compression="gzip"))
    with hdf5.open_safely(path) as file, pytest.raises(DumpError, match="unpacks to more than 1000 bytes"):
        hdf5.read_array(hdf5.dataset(file, "x"))


def test_row_larger_than_memory_should_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_CHUNK", 16)
    with pytest.raises(DumpError, match="has rows of 20 bytes; at most 16"):
        all_rows(made(tmp_path / "a.h5", lambda f: f.create_dataset("x", data=ROWS)))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["a", "bc"], h5py.string_dtype()),
        ([(1, 2.0)], np.dtype([("a", "i4"), ("b", "f8")])),
        ([1j], np.dtype("c16")),
        ([np.arange(3)], h5py.vlen_dtype(np.dtype("i4"))),
    ],
    ids=["text", "compound", "complex", "ragged"],
)
def test_anything_but_plain_numbers_is_refused(tmp_path: Path, values: list[object], dtype: np.dtype) -> None:
    path = tmp_path / "a.h5"

    def write(file: h5py.File) -> None:
        file.create_dataset("x", (len(values),), dtype)[:] = np.array(values, dtype)

    assert "not plain numbers" in refused(made(path, write))


def test_reference_is_refused(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("x", (1,), h5py.ref_dtype)[0] = file.ref

    assert "not plain numbers" in refused(made(tmp_path / "a.h5", write))


def test_filter_that_would_load_code_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("x", data=ROWS, compression="lzf"))
    assert "packed with filter 32000" in refused(path)


def test_named_type_is_refused(tmp_path: Path) -> None:
    assert "neither a group nor a dataset" in refused(
        made(tmp_path / "a.h5", lambda f: f.update({"x": np.dtype("f4")}))
    )


def test_empty_dataset_without_a_shape_is_refused(tmp_path: Path) -> None:
    assert "not plain numbers" in refused(made(tmp_path / "a.h5", lambda f: f.update({"x": h5py.Empty("f4")})))


def test_groups_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda f: f.create_group("/".join("a" * 100)))
    assert "nested deeper than 16" in refused(path)


def test_too_many_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 5)
    path = made(tmp_path / "a.h5", lambda f: [f.create_group(str(i)) for i in range(6)])
    assert "more than 5 objects" in refused(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(100), bytes(4096)])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    assert "opening failed" in refused(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "a.h5")
    assert "not a regular file" in refused(tmp_path)


@given(st.data())
def test_file_cut_or_changed_anywhere_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.h5"

    def write(file: h5py.File) -> None:
        file.create_dataset("g/x", data=ROWS, chunks=(2, 5), fletcher32=True).attrs["a"] = np.bytes_(b"text")

    content = bytearray(made(path, write).read_bytes())
    where = data.draw(st.integers(0, len(content) - 8))
    if data.draw(st.booleans()):
        del content[where:]
    else:
        content[where : where + 8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    path.write_bytes(content)
    try:
        with hdf5.open_safely(path) as file:
            for _ in hdf5.read_rows(hdf5.dataset(file, "g/x")):
                pass
    except DumpError as error:
        assert str(path) in str(error)  # noqa: PT017 - it may also be sound


# Attributes


def test_attributes_of_numbers_and_texts_come_back(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        hdf5.set_attribute(file, "n", 3)
        hdf5.set_attribute(file, "n", 4)
        hdf5.set_attribute(file, "text", "größe\0\ud800")

    with hdf5.open_safely(made(tmp_path / "a.h5", write)) as file:
        assert 4 == hdf5.attribute(file, "n")
        assert "größe\\0\\ud800" == hdf5.attribute(file, "text")
        with pytest.raises(DumpError, match="attribute none of '/' is missing"):
            hdf5.attribute(file, "none")


@pytest.mark.parametrize(
    "value", ["a text of any length", 1.5, [1, 2], np.bytes_(b"x" * 60_000)], ids=["vlen", "float", "list", "long"]
)
def test_other_attributes_are_refused(tmp_path: Path, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_ATTRIBUTE", 1000)
    with (
        hdf5.open_safely(made(tmp_path / "a.h5", lambda f: f.attrs.update({"a": value}))) as file,
        pytest.raises(DumpError, match="is neither a number nor a text"),
    ):
        hdf5.attribute(file, "a")
