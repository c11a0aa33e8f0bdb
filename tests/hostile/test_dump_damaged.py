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

from ncscan.activations.source import GradientRow, Gradients
from ncscan.dumps import hdf5, size_plan, writer
from ncscan.dumps import reader as dump
from ncscan.dumps.writer import Dump
from ncscan.errors import DumpError


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


@pytest.mark.parametrize("change", [{"format_version": 3}, {"format_version": 0}, {"format_version": -1}])
def test_other_version_is_refused(path: Path, change: dict[str, int]) -> None:
    message = altered(path, lambda f: [f.attrs.modify(name, value) for name, value in change.items()])
    assert f"format version {change['format_version']}; this ncscan reads 1 and 2" in message


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


def test_place_of_what_is_no_description_is_named(path: Path) -> None:
    said = altered(path, lambda f: rewritten(f, "graph", lambda plain: plain["taps"][1].update(shape=["16"])))
    assert "TapGraph: Expected `int`, got `str` - at `$.taps[1].shape[0]`" in said


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


def tap(index: int, **change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda graph: graph["taps"][index].update(change)


def linear(index: int, **change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda graph: graph["maps"][index].update(change)


GRAPHS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "head of nothing": (lambda g: g.update(head=["nowhere"]), "its linear head has 'nowhere', which is no linear map"),
    "head reversed": (lambda g: g.update(head=["4", "2"]), "not in the order of the pass"),
    "head twice": (lambda g: g.update(head=["4", "4"]), "not in the order of the pass"),
    "head without its end": (lambda g: g.update(head=["2"]), "does not write the output"),
    "head of convolutions": (linear(2, kind="convolution"), "its linear head has a map that is no matrix"),
    "link from nothing": (lambda g: g["links"][0].update(first="zz"), "joins 'zz', which is no linear map"),
    "link to nothing": (lambda g: g["links"][0].update(next="1"), "joins '1', which is no linear map"),
    "no output": (lambda g: [t.update(is_output=False) for t in g["taps"]], "0 values of its graph are the output"),
    "two outputs": (tap(0, is_output=True), "2 values of its graph are the output"),
    "output of another width": (tap(5, shape=[5]), "there are 4 logits a sample"),
    "output of no width": (tap(5, shape=[]), "4 logits a sample, and the network decides between 2 classes"),
    "output of another type": (tap(5, dtype="float16"), "called 'float32' and stored as float32"),
    "two layers of one name": (tap(1, name="2"), "two layers of its graph are called '2'"),
    "depth out of order": (tap(2, depth=1), "has depth 1 as number 2"),
    "depth below zero": (tap(0, depth=-1), "has depth -1"),
    "features nowhere": (tap(1, channel_dim=99), "in dimension 99 of 16"),
    "features before the first": (tap(1, channel_dim=-1), "in dimension -1"),
    "negative shape": (tap(1, shape=[-16]), "has the shape -16"),
    "shape of all memory": (tap(1, shape=[2**40, 2**40]), "has the shape 1099511627776×1099511627776"),
    "layer of another width": (tap(1, shape=[4, 4]), "was reduced by 'none', where mean was asked for"),
    "layer of more features": (tap(1, shape=[17]), "has 16 features of 17"),
    "map of one dimension": (linear(0, shape=[1]), "no outputs and inputs"),
    "map of another shape": (linear(0, shape=[16, 13]), "is 16×12 and not 16×13"),
    "map that writes nothing": (linear(1, name="9"), "writes no layer of the graph"),
    "two maps of one name": (linear(1, name="0"), "two linear maps write '0'"),
    "map that reads nothing": (linear(1, reads="9"), "reads '9', which is no layer of the graph"),
    "more maps than weights": (lambda g: g["maps"].append(g["maps"][0]), "maps/0003 is missing"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_that_contradicts_itself_is_refused(path: Path, name: str) -> None:
    change, said = GRAPHS[name]
    assert said in altered(path, lambda f: rewritten(f, "graph", change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": -1}, "its epoch is -1"),
        ({"notes": {f"n{i}": i for i in range(5000)}}, "5,000 notes"),
        ({"class_names": [str(i) for i in range(200_000)]}, "it names 200,000 classes"),
        ({"class_names": []}, "it names 0 classes"),
        ({"split": "validation"}, "its split is 'validation'"),
        ({"run": ""}, "has no name"),
        ({"reduction": "median"}, "its reduction is 'median'"),
        ({"reduction": "max", "batch_size": 0}, "in batches of 0"),
        ({"matched": 7}, "7 of 6 tensors were matched"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_provenance_that_nothing_wrote_is_refused(path: Path, change: dict[str, Any], said: str) -> None:
    assert said in altered(path, lambda f: rewritten(f, "provenance", lambda own: own.update(change)))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("maps/0000/weight", np.zeros((16, 12), "S4"), "called 'float32' and stored as |S4"),
        ("maps/0000/weight", np.zeros((16, 12), "f8"), "called 'float32' and stored as float64"),
        ("maps/0000/weight", np.zeros((12, 16), "f4"), "is 12×16 and not 16×12"),
        ("maps/0000/bias", np.zeros((3, 3), "f4"), "is 3×3 beside a weight of 16×12"),
        ("maps/0000/bias", np.zeros(15, "f4"), "is 15 beside a weight of 16×12"),
        ("sample_ids", np.arange(3), "3 sample numbers of int64"),
        ("sample_ids", np.zeros(N, "f8"), "sample numbers of float64"),
    ],
)
def test_arrays_that_are_not_what_is_said_are_refused(path: Path, name: str, data: np.ndarray, said: str) -> None:
    def change(file: h5py.File) -> None:
        named = dict(file[name].attrs)
        replaced(file, name, data)
        file[name].attrs.update(named)

    assert said in altered(path, change)


def test_layer_that_is_kept_twice_is_refused(path: Path) -> None:
    assert "is kept twice" in altered(path, lambda f: f["layers/0003"].attrs.modify("tap", 1))


@pytest.mark.parametrize("change", [{"n_samples": 0}, {"n_samples": N + 1}, {"layer_or_map": "nowhere"}])
def test_gradients_of_what_is_not_there_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    row = GradientRow("0..2", "nfa", "", 0.5, "", 10, estimate=False)
    path = tmp_path / "a.h5"
    dump_to(path, gradients=Gradients(10, (row,)))
    read_all(path)

    def changed(plain: dict[str, Any]) -> None:
        (plain["rows"][0] if "layer_or_map" in change else plain).update(change)

    altered(path, lambda f: rewritten(f, "gradients", changed))


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
    [
        {"class_names": ["a", "b", "c", "d" * 20_000]},
        {"step": 10**400},
        {"epoch": 2**70},
        {"file_number": 10**300},
        {"notes": {"weight_decay": 10**30}},
        {"train": {"lr": -(10**30)}},
        {"notes": {"text": "x" * 20_000}},
    ],
    ids=["text", "digits", "integer", "file number", "note", "setting", "text of a note"],
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
    odd = {tap.name: replace(tap, name=name if tap.name == "3" else tap.name) for tap in taps}
    maps = tuple(replace(linear, reads=odd[linear.reads].name) for linear in found.graph.maps)
    graph = replace(found.graph, taps=tuple(odd[tap.name] for tap in found.graph.taps), maps=maps)
    monkeypatch.setattr(
        writer, "layers_of", lambda *args: tuple(replace(layer, tap=odd[layer.tap.name]) for layer in REAL(*args))
    )
    monkeypatch.setattr("dumping.traced", lambda *_: (replace(found, graph=graph), taps))
    dump_to(tmp_path / "a.h5")
    with Dump(tmp_path / "a.h5") as dump:
        assert name in [layer.tap.name for layer in dump.layers]
        assert name == dump.provenance.class_names[0]
    assert ["a.h5"] == [p.name for p in tmp_path.iterdir()]


REAL = size_plan.layers_of
