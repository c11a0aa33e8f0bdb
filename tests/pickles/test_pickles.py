"""Pickles as training loops write them: tensors and notes come out, everything else stays data."""

import argparse
import collections
import datetime
import enum
import io
import os
import pathlib
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ncscan import pickles
from ncscan.checkpoints import Checkpoint, StateChoice, load
from ncscan.errors import CheckpointError
from ncscan.pickles import BadPickle, isolated
from ncscan.pickles.interpreter import interpret
from ncscan.pickles.values import Context, Record


class Colour(enum.Enum):
    """A value as training scripts keep them."""

    red = "red"


class Callback:
    """An object as training scripts keep them."""

    def __init__(self) -> None:
        self.patience = 3
        self.best = np.float64(0.5)


class Block(nn.Module):
    """A network of its own class, with a buffer that a state_dict leaves out and a layer that it holds twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.again = self.fc
        self.norm = nn.BatchNorm1d(3)
        self.layers = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Sequential(nn.Linear(3, 2))])
        self.register_buffer("mask", torch.ones(2))
        self.register_buffer("scratch", torch.zeros(5), persistent=False)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


STATE = network().state_dict()


def same(expected: dict[str, torch.Tensor], checkpoint: Checkpoint) -> None:
    """The tensors are these, in this order, bit by bit."""
    assert list(expected) == list(checkpoint.tensors)
    for name, tensor in expected.items():
        assert tensor.dtype == checkpoint.tensors[name].dtype, name
        assert torch.equal(tensor, checkpoint.tensors[name]), name


def saved(path: Path, content: object, **options: Any) -> Checkpoint:
    torch.save(content, path, **options)
    return load(path)


def beside() -> dict[str, object]:
    """What training scripts keep beside the weights."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return {
        "args": argparse.Namespace(lr=0.1, data=pathlib.Path("/data/mnist"), depth=18, nested=argparse.Namespace(a=1)),
        "best_acc": np.float64(0.93),
        "count": np.int64(7),
        "flag": np.bool_(True),
        "where": pathlib.PurePosixPath("/a/b"),
        "colour": Colour.red,
        "when": datetime.datetime(2024, 5, 1, 12, 30),
        "losses": collections.defaultdict(list, {"train": [0.5]}),
        "hyper": collections.UserDict({"wd": 5e-4}),
        "rng": {"numpy": np.random.get_state(), "python": random.getstate(), "torch": torch.get_rng_state()},  # noqa: NPY002
        "history": np.arange(40.0),
        "callback": Callback(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10),
        "optimizer_object": optimizer,
        "device": torch.device("cpu"),
        "types": {float, int},
        "ids": frozenset({1, 2}),
        "kind": torch.float16,
        "activation": nn.functional.relu,
        "slice": slice(1, 2),
        "complex": 1 + 2j,
        "counter": collections.Counter("aab"),
        "range": range(3),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "stream"])
def test_what_lies_beside_the_weights_is_no_obstacle(protocol: int, zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": STATE, "epoch": 3, **beside()}
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    checkpoint = saved(tmp_path / "x.pt", content, **options)
    same(STATE, checkpoint)
    assert "state_dict" == checkpoint.wrapper
    expected = {
        "epoch": 3,
        "best_acc": 0.93,
        "count": 7,
        "flag": True,
        "where": "/a/b",
        "colour": "red",
        "args.lr": 0.1,
        "args.data": "/data/mnist",
        "args.nested.a": 1,
        "hyper.wd": 5e-4,
        "callback.patience": 3,
        "callback.best": 0.5,
        "lr": 0.1,
        "momentum": 0.9,
    }
    assert expected == {name: checkpoint.notes.get(name) for name in expected}
    assert {"datetime.datetime", "torch.optim.sgd.SGD"} <= set(checkpoint.inert)
    assert not [name for name in checkpoint.inert if name.startswith(("numpy.", "pathlib.", "argparse."))]


@pytest.mark.parametrize(
    "member", [b"cm\nColour\nU\x03red\x85R", b"c__builtin__\ngetattr\ncm\nColour\nU\x03red\x86R"], ids=["value", "name"]
)
def test_a_member_of_an_enum_is_a_note_whatever_python_wrote_it(member: bytes) -> None:
    assert {"c": "red"} == pickles.read(b"\x80\x02}U\x01c" + member + b"s.", "stream").notes


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "stream"])
@pytest.mark.parametrize("place", ["", "model"])
def test_a_module_that_was_pickled_whole_gives_its_state_dict(place: str, zipped: bool, tmp_path: Path) -> None:
    module = Block()
    content = {place: module, "ema": None, "train_args": {"lr": 0.1}} if place else module
    checkpoint = saved(tmp_path / "x.pt", content, _use_new_zipfile_serialization=zipped)
    same(module.state_dict(), checkpoint)
    assert place == checkpoint.wrapper
    assert {f"{__name__}.Block", "torch.nn.modules.linear.Linear"} <= set(checkpoint.inert)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_module_under_data_parallelism_gives_its_names(wrapped: bool, tmp_path: Path) -> None:
    module = nn.DataParallel(network())
    same(module.state_dict(), saved(tmp_path / "x.pt", {"net": module, "acc": 1.0} if wrapped else module))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_of_tensors_is_read(protocol: int, tmp_path: Path) -> None:
    tied = {**STATE, "view": STATE["0.weight"][1:], "tied": STATE["0.weight"]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": tied, "epoch": 2}, protocol))
    checkpoint = load(tmp_path / "x.pkl")
    same(tied, checkpoint)
    assert {"epoch": 2} == checkpoint.notes


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_in_the_place_of_tensors_are_read(protocol: int, tmp_path: Path) -> None:
    arrays = {
        "w": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "t": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "n": np.arange(3),
        "b": np.arange(4, dtype=">f4"),
        "f": np.array([True, False]),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, protocol))
    expected = {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in arrays.items()}
    same(expected, load(tmp_path / "x.pkl"))
    same(expected, saved(tmp_path / "y.pt", {"model": arrays}, pickle_protocol=protocol))


def test_nothing_that_a_file_names_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('marker').touch()\n"
        "class Odd:\n    def __setstate__(self, state): Path(__file__).with_name('marker').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    theirs = __import__("theirs")
    odd = theirs.Odd()
    odd.lr = 0.5
    torch.save({"model": STATE, "odd": odd, "type": theirs.Odd}, tmp_path / "x.pt")
    (tmp_path / "marker").unlink()
    monkeypatch.chdir(tmp_path)
    checkpoint = load(tmp_path / "x.pt")
    same(STATE, checkpoint)
    assert ("theirs.Odd",) == checkpoint.inert
    assert 0.5 == checkpoint.notes["odd.lr"]
    assert not (tmp_path / "marker").exists()


def test_modules_of_the_folder_are_not_imported_by_the_reading_process(tmp_path: Path) -> None:
    (tmp_path / "pickletools.py").write_text("raise SystemExit(3)")
    torch.save(STATE, tmp_path / "x.pt")
    code = "from pathlib import Path; from ncscan.checkpoints import load; print(len(load(Path('x.pt')).tensors))"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"{len(STATE)}\n" == done.stdout


TWO = {"student": STATE, "teacher": {name: value + 1 for name, value in STATE.items()}}
EMA = {
    "model": STATE,
    "model_ema": {name: value + 1 for name, value in STATE.items()},
    "optimizer": {"x": torch.ones(2)},
}


@pytest.mark.parametrize(
    ("content", "choice", "wrapper"),
    [
        (TWO, StateChoice("student"), "student"),
        (TWO, StateChoice("teacher"), "teacher"),
        (TWO, StateChoice(), "student + teacher"),
        (EMA, StateChoice(), "model"),
        (EMA, StateChoice(weights="raw"), "model"),
        (EMA, StateChoice(weights="ema"), "model_ema"),
        (EMA, StateChoice("model_ema"), "model_ema"),
        ({"net": TWO}, StateChoice("net.teacher"), "net.teacher"),
        ({"net": TWO}, StateChoice("teacher"), "net.teacher"),
        ({"net": EMA}, StateChoice("net"), "net.model"),
        (
            {"callbacks": {"EMA": {"ema_state": STATE}}, "state_dict": STATE},
            StateChoice(weights="ema"),
            "callbacks.EMA.ema_state",
        ),
        ((STATE, {"step": 3}), StateChoice(), "0"),
    ],
)
def test_the_state_that_is_meant_is_taken(content: object, choice: StateChoice, wrapper: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    assert wrapper == load(tmp_path / "x.pt", choice).wrapper


def test_parts_that_are_asked_for_are_joined_by_their_keys(tmp_path: Path) -> None:
    torch.save({"model": STATE, "classifier": {"weight": torch.ones(2, 2)}}, tmp_path / "x.pt")
    checkpoint = load(tmp_path / "x.pt", StateChoice("model, classifier"))
    assert [*(f"model.{name}" for name in STATE), "classifier.weight"] == list(checkpoint.tensors)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (StateChoice("critic"), "holds no state 'critic'; it has: student, teacher"),
        (StateChoice(weights="ema"), "holds no averages of the weights; it has: student, teacher; --state names one"),
    ],
)
def test_a_state_that_is_not_there_is_an_error_that_lists_those_that_are(
    choice: StateChoice, said: str, tmp_path: Path
) -> None:
    torch.save(TWO, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path / "x.pt", choice)


def test_records_keep_what_they_are_given() -> None:
    data = pickle.dumps({"u": collections.deque([1, 2], 5), "d": datetime.date(2024, 5, 1)}, 4)
    content, _ = interpret(data, Context())
    assert isinstance(content, dict)
    assert isinstance(content["u"], Record)
    assert ("collections.deque", ((), 5), [1, 2]) == (content["u"].name, content["u"].arguments, content["u"].items)
    assert "datetime.date" == content["d"].name


def endless(levels: int) -> bytes:
    """Modules that hold the next one twice: 2^levels of them in a few bytes."""
    module: dict[str, object] = {"_parameters": {"w": 1}, "_buffers": {}, "_modules": {}}
    inner = Stub(module)
    for _ in range(levels):
        inner = Stub({"_parameters": {}, "_buffers": {}, "_modules": {"a": inner, "b": inner}})
    return pickle.dumps(inner, 4)


class Stub:
    """An object of any attributes."""

    def __init__(self, attributes: dict[str, object]) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (endless(40), "without end"),
        (b"\x80\x02cm\nC\n)\x81}b}b.", "sets the state of one object twice"),
        (b"\x80\x02cm\nC\n}b.", "changes 'm.C', which it would import"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x02ab\x85R.", None),
        (b"\x80\x02cbuiltins\neval\n.", "made to harm"),
        (b"\x80\x02K\x01K\x02.", None),
    ],
)
def test_a_pickle_made_to_harm_is_refused(data: bytes, said: str | None) -> None:
    if said is None:
        assert () == pickles.read(data, "stream").states
    else:
        with pytest.raises(BadPickle, match=said):
            pickles.read(data, "stream")


@pytest.mark.parametrize(
    "name",
    ["code.models\nNet", "trace\nNet", "profile.net\nNet", "distutils.version\nLooseVersion", "http.cookies\nMorsel"],
)
def test_a_class_in_a_module_of_a_common_name_is_only_data(name: str) -> None:
    """Folders of research code are called `code`; torch's version is a class of distutils."""
    found = pickles.read(b"\x80\x02c" + name.encode() + b"\n)\x81}U\x01aK\x01sb.", "stream")
    assert ((name.replace("\n", "."),), {"a": 1}) == (found.inert, found.notes)


@pytest.mark.parametrize(
    "name",
    [
        *("code\ninteract", "trace\nTrace", "profile\nrun", "distutils.spawn\nspawn", "importlib\nimport_module"),
        *("imp\nload_source", "multiprocessing.util\nspawnv_passfds", "requests.api\nget", "sys\nexit", "nt\nsystem"),
    ],
)
def test_a_name_that_runs_something_ends_the_reading(name: str) -> None:
    with pytest.raises(BadPickle, match="made to harm"):
        pickles.read(b"\x80\x02c" + name.encode() + b"\n.", "stream")


def test_texts_are_encoded_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the arrays of protocol 2, however large; one that is encoded again and again is a bomb."""
    monkeypatch.setattr("ncscan.pickles.calls.MAX_ENCODED", 10)
    once = pickle.dumps(b"\xff" * 1000, 2)
    assert b"\xff" * 1000 == interpret(once, Context(len(once)))[0]
    bomb = once[:-1] + b"0" + b"(" + b"c_codecs\nencode\nX\x02\0\0\0abq\x09U\x06latin1\x86R" * 600 + b"t."
    with pytest.raises(BadPickle, match="encodes texts of"):
        interpret(bomb, Context(100))


def test_a_pickle_that_takes_too_long_ends_its_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 1)
    with pytest.raises(BadPickle, match="takes more than 1 seconds"):
        pickles.read(quadratic(), "stream")
    assert 1 == len(pickles.read(pickle.dumps({"a": 1}, 4), "stream").notes)


def quadratic() -> bytes:
    """Ten thousand dictionaries, each made of the same list of pairs."""
    pairs = b"](" + b"".join(b"K%cK\x01\x86" % (n % 250) for n in range(300)) + b"eq\x00"
    return b"\x80\x02" + pairs + b"0(" + b"ccollections\nOrderedDict\nh\x00\x85R" * 13_000 + b"t."


def test_a_pickle_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "MEMORY", 128 * 2**20)
    monkeypatch.setattr(isolated, "FACTOR", 1)
    with pytest.raises(BadPickle, match="memory"):
        pickles.read(b"\x80\x02(" + b"}" * 3_000_000 + b"t.", "stream")
    monkeypatch.undo()
    assert 1 == len(pickles.read(pickle.dumps({"a": 1}, 4), "stream").notes)


def test_a_fork_has_a_reading_process_of_its_own(tmp_path: Path) -> None:
    same(STATE, saved(tmp_path / "x.pt", STATE))
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, str(len(load(tmp_path / "x.pt").tensors)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with io.FileIO(reader) as answer:
        assert str(len(STATE)).encode() == answer.read()
    same(STATE, load(tmp_path / "x.pt"))
