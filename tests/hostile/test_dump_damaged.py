"""A dump that is damaged, or made to harm: one clear error, quickly, and nothing of it is believed."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from dumping import BATCH, PROVENANCE, K, N, dump_to, network, samples, traced

from ncscan import dump, hdf5, sizeplan, store
from ncscan.errors import DumpError
from ncscan.store import Dump


@pytest.fixture
def path(tmp_path: Path) -> Path:
    dump_to(tmp_path / "a.h5")
    return tmp_path / "a.h5"


def read_all(path: Path) -> None:
    with Dump(path) as opened:
        assert opened.labels.shape == (N,)
        assert opened.logits.shape == (N, K)
        assert len(opened.weights) == 3
        for layer in opened.layers:
            assert N == sum(len(rows) for _, rows in opened.chunks(layer))


def refused(path: Path) -> str:
    with pytest.raises(DumpError) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def altered(path: Path, change: Callable[[h5py.File], object]) -> str:
    """Why a dump is refused after a change that HDF5 itself made, checksums and all."""
    with h5py.File(path, "r+") as file:
        change(file)
    return refused(path)


def replaced(file: h5py.File, name: str, data: Any) -> None:
    del file[name]
    file[name] = data


def rewritten(file: h5py.File, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads(file[name][()].tobytes())
    change(plain)
    replaced(file, name, np.frombuffer(json.dumps(plain).encode(), np.uint8))


def test_sound_dump_is_read(path: Path) -> None:
    read_all(path)


@pytest.mark.parametrize(
    "name",
    [
        "labels",
        "logits",
        "checksums",
        "graph",
        "provenance",
        "layers",
        "layers/0001",
        "layers/0001/activations",
        "maps/0001/weight",
    ],
)
def test_missing_part_is_named(path: Path, name: str) -> None:
    assert name.rpartition("/")[2] in altered(path, lambda f: f.pop(name))


@pytest.mark.parametrize("name", ["labels", "layers/0001/activations", "maps/0001/weight", "layers/0001"])
def test_link_in_place_of_a_part_is_refused(path: Path, name: str) -> None:
    dump_to(path.with_name("other.h5"))
    with h5py.File(path, "r+") as file:
        replaced(file, name, h5py.ExternalLink("other.h5", name))
    assert "link to elsewhere" in refused(path)


def test_part_in_place_of_another_is_noticed(path: Path) -> None:
    def swap(file: h5py.File) -> None:
        replaced(file, "layers/0001/activations", file["layers/0002/activations"])

    assert "/layers/0001/activations is damaged" in altered(path, swap)


@pytest.mark.parametrize("change", [{"format_version": 2}, {"format_version": 0}])
def test_other_version_is_refused(path: Path, change: dict[str, int]) -> None:
    message = altered(path, lambda f: [f.attrs.modify(name, value) for name, value in change.items()])
    assert f"format version {change['format_version']}; this ncscan reads 1" in message


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["features"] = np.zeros((3, 2))
    assert "is no dump of ncscan" in refused(tmp_path / "b.h5")


def test_unfinished_dump_is_refused(path: Path) -> None:
    assert "is unfinished: run the same extract again" in altered(path, lambda f: f.attrs.modify("rows_complete", 0))


@pytest.mark.parametrize("name", ["n_samples", "n_layers", "batch_rows", "rows_complete"])
@pytest.mark.parametrize("value", [-1, 10**12, 7, 0])
def test_count_that_is_not_so_is_refused(path: Path, name: str, value: int) -> None:
    altered(path, lambda f: f.attrs.modify(name, np.int64(value)))


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros(N - 1, np.int64),
        np.zeros((N, 1), np.int64),
        np.zeros(N, np.float64),
        np.full(N, K),
        np.full(N, -1),
        np.full(N, np.iinfo(np.int64).max),
    ],
    ids=["fewer", "columns", "floats", "too large", "negative", "huge"],
)
def test_labels_that_do_not_fit_are_refused(path: Path, labels: np.ndarray) -> None:
    assert "label" in altered(path, lambda f: replaced(f, "labels", labels))


@pytest.mark.parametrize(
    "rows",
    [np.zeros((N - 1, 16), "f4"), np.zeros((N, 15), "f4"), np.zeros(N, "f4"), np.zeros((N, 16, 1), "f4")],
    ids=str,
)
def test_rows_that_do_not_fit_are_refused(path: Path, rows: np.ndarray) -> None:
    def change(file: h5py.File) -> None:
        del file["layers/0001/activations"]
        file.create_dataset("layers/0001/activations", data=rows, chunks=(BATCH, *rows.shape[1:]))

    assert "layers/0001/activations" in altered(path, change)


@pytest.mark.parametrize("name", ["graph", "provenance"])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"1", b"\xff\xfe", b"{}", b"[" * 100_000], ids=repr)
def test_description_that_is_no_description_is_refused(path: Path, name: str, text: bytes) -> None:
    altered(path, lambda f: replaced(f, name, np.frombuffer(text, np.uint8)))


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("taps"),
        lambda plain: plain.update(taps=[]),
        lambda plain: plain["taps"][1].pop("name"),
        lambda plain: plain["taps"][1].update(more=1),
        lambda plain: plain.update(maps=3),
        lambda plain: plain["taps"][1].update(name=3),
        lambda plain: plain["taps"][1].update(kind="none"),
        lambda plain: plain["taps"][1].update(shape=["16"]),
        lambda plain: plain["taps"][1].update(shape=16),
        lambda plain: plain["maps"].append("0"),
    ],
)
def test_graph_that_lacks_something_is_refused(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    altered(path, lambda f: rewritten(f, "graph", change))


@pytest.mark.parametrize(
    "change",
    [{"class_names": "abcd"}, {"notes": {"lr": []}}, {"notes": 3}, {"step": "7"}, {"matched": True}, {"run": None}],
    ids=str,
)
def test_provenance_of_other_types_is_refused(path: Path, change: dict[str, Any]) -> None:
    altered(path, lambda f: rewritten(f, "provenance", lambda plain: plain.update(change)))


@pytest.mark.parametrize(
    "change",
    [{"tap": 99}, {"tap": -1}, {"dtype": b"object"}, {"dtype": b"float64"}, {"n_features": 15}, {"reduction": 3.5}],
    ids=str,
)
def test_layer_facts_that_are_not_so_are_refused(path: Path, change: dict[str, Any]) -> None:
    altered(path, lambda f: f["layers/0001"].attrs.update(change))


def test_shape_bomb_is_refused(path: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["layers/0001/activations"]
        file.create_dataset("layers/0001/activations", (N, 10**9), "f4", chunks=(BATCH, 10**5))

    assert "chunks that (150, 1000000000) takes" in altered(path, change)


def test_an_object_of_many_names_is_looked_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(hdf5, "_refuse_odd", lambda child, *_, **__: looked.append(child))
    Dump(path).close()
    expected = len(looked)
    with h5py.File(path, "r+") as file:
        for i in range(1000):
            file[f"x{i}"] = file["labels"]
    Dump(path).close()
    assert len(looked) == 2 * expected


@pytest.mark.parametrize(("limit", "most"), [("MAX_OBJECTS", 40), ("MAX_LINKS", 40)])
def test_too_many_objects_are_refused(path: Path, limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, limit, most)

    def change(file: h5py.File) -> None:
        for i in range(50):
            file[f"x{i}"] = file["labels"] if limit == "MAX_LINKS" else i

    assert "more than" in altered(path, change)


def test_description_of_blanks_is_not_unpacked(path: Path) -> None:
    def change(file: h5py.File) -> None:
        blanks = np.full(dump.MAX_DESCRIPTION + 1, ord(" "), np.uint8)
        del file["provenance"]
        file.create_dataset("provenance", data=blanks, chunks=(2**20,), compression="gzip")

    assert "at most 67,108,864 are read" in altered(path, change)


@pytest.mark.parametrize(
    "change",
    [{"class_names": ["a", "b", "c", "d" * 20_000]}, {"step": 10**400}, {"epoch": 2**70}],
    ids=["text", "digits", "integer"],
)
def test_provenance_that_no_table_holds_is_refused(path: Path, change: dict[str, Any]) -> None:
    altered(path, lambda f: rewritten(f, "provenance", lambda plain: plain.update(change)))


def test_lists_that_fill_the_memory_are_refused(path: Path) -> None:
    text = b"[" + b"[]," * 10**6 + b"[]]"
    assert "lists and objects" in altered(path, lambda f: replaced(f, "graph", np.frombuffer(text, np.uint8)))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(DumpError, match="not a regular file"):
        Dump(tmp_path / "a.h5")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_cut_dump_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path)


NAMES = ["a/b", "..", "\x00\x1b[31m", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "ü\ud800", "x" * 10_000]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_any_kind_are_kept_as_they_are(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shows a name escapes it; the dump only has to give it back and to put nothing anywhere else."""
    monkeypatch.setattr("dumping.PROVENANCE", replace(PROVENANCE, class_names=(name, "b", "c", "d")))
    model, dataset = network(), samples()
    found, taps = traced(model, dataset)
    odd = {tap.name: replace(tap, name=name if tap.name == "2" else tap.name) for tap in taps}
    graph = replace(found.graph, taps=tuple(odd[tap.name] for tap in found.graph.taps))
    monkeypatch.setattr(
        store, "layers_of", lambda *args: tuple(replace(layer, tap=odd[layer.tap.name]) for layer in REAL(*args))
    )
    monkeypatch.setattr("dumping.traced", lambda *_: (replace(found, graph=graph), taps))
    dump_to(tmp_path / "a.h5")
    with Dump(tmp_path / "a.h5") as dump:
        assert name in [layer.tap.name for layer in dump.layers]
        assert name == dump.provenance.class_names[0]
    assert ["a.h5"] == [p.name for p in tmp_path.iterdir()]


REAL = sizeplan.layers_of
