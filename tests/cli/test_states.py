"""What of a checkpoint is the model's: several states, prefixes, other names, and what else lies in the file."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from workspaces import fitted, make_workspace, ncscan

STATE = fitted(0)
OTHER = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}
TWO = {"student": STATE, "teacher": OTHER}
EMA = {"model": OTHER, "model_ema": STATE, "epoch": 1}
OURS = {f"net.{name}": tensor for name, tensor in STATE.items()}
NAMES = ["0", "2", "4", "5"]
"""The linear layers of the workspace's network."""
PARTS = {
    "backbone": {name: tensor for name, tensor in STATE.items() if not name.startswith("5.")},
    "head": {name: tensor for name, tensor in STATE.items() if name.startswith("5.")},
}


THEIRS = ("--model", "theirs:make")
MODEL = """from torch import nn
def make():
    wide = [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16, bias=False), nn.Linear(16, 3, bias=False)]
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), *wide)
"""


def extracted(folder: Path, content: object, *options: str) -> tuple[int, str]:
    make_workspace(folder)
    torch.save(content, folder / "ckpts" / "epoch_1.pt")
    (folder / "theirs.py").write_text(MODEL, encoding="utf-8")
    done = ncscan("extract", "ckpts", *options, cwd=folder)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TWO, ["--state", "student"]),
        (EMA, ["--weights", "ema"]),
        ({**OURS, **{f"copy.{name}": tensor for name, tensor in OTHER.items()}}, ["--prefix", "net."]),
        ({f"a.{name}": tensor for name, tensor in STATE.items()}, ["--rename", "a.→"]),
        (PARTS, ["--rename", "backbone.->", "--rename", "head.->"]),
    ],
    ids=["state", "weights", "prefix", "rename", "parts"],
)
def test_the_tensors_that_are_meant_are_replayed(content: object, options: list[str], tmp_path: Path) -> None:
    code, said = extracted(tmp_path, content, *options)
    assert (0, True) == (code, "accuracy 98.8%" in said), said


def test_what_is_meant_can_stand_in_the_settings(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    toml = tmp_path / "ckpts" / "ncscan.toml"
    own = '[model]\nstate = "student"\nprefix = "x."\nrename = ["a.→0."]\n'
    toml.write_text(toml.read_text(encoding="utf-8").replace("[model]\n", own), encoding="utf-8")
    student = {"x." + name.replace("0.", "a."): tensor for name, tensor in STATE.items()}
    torch.save({"student": student, "teacher": OTHER}, tmp_path / "ckpts" / "epoch_1.pt")
    done = ncscan("extract", "ckpts", cwd=tmp_path)
    assert "accuracy 98.8%" in done.stdout, done.stderr
    other = ncscan("extract", "ckpts", "--state", "teacher", "--prefix", "", cwd=tmp_path)
    assert "no tensor's name begins with 'a.'" in other.stderr


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (TWO, ["--state", "critic"], "holds no state 'critic'; it has: student, teacher"),
        (TWO, ["--rename", "student"], "--rename: must read OLD→NEW"),
        (TWO, ["--weights", "ema"], "holds no averages of the weights"),
    ],
)
def test_what_is_not_there_is_one_line(content: object, options: list[str], said: str, tmp_path: Path) -> None:
    code, text = extracted(tmp_path, content, *options)
    assert code
    assert said in text
    assert "Traceback" not in text


def test_what_else_a_file_holds_is_said_once_for_a_run(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    for step in range(3):
        content: dict[str, Any] = {"state_dict": STATE, "step": step, "odd": slice(step), "args": argparse.Namespace()}
        content["optimizer"] = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        torch.save(content, tmp_path / "ckpts" / f"step_{step}.pt")
    done = ncscan("extract", "ckpts", cwd=tmp_path)
    assert 0 == done.returncode
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("note")]
    assert "ckpts: its checkpoints also hold objects of torch.optim.sgd.SGD; they were read as data" in line


def test_a_model_that_is_a_small_part_of_its_checkpoint_is_doubtful(tmp_path: Path) -> None:
    code, said = extracted(
        tmp_path, STATE | {"decoder.weight": torch.ones(400, 9), "n_averaged": torch.tensor(1)}, *THEIRS
    )
    assert 0 == code
    assert "not used: decoder.weight, n_averaged" in said
    assert "tensors (82.1 % of its numbers) that the model has no place for" in said


def test_weights_that_were_not_filled_are_the_first_doubt(tmp_path: Path) -> None:
    part = {name: tensor for name, tensor in STATE.items() if not name.startswith("2.")}
    code, said = extracted(tmp_path, part, *THEIRS, "--allow-partial")
    assert 0 == code
    assert "the checkpoint does not fill 2 of 6 tensors of the model (2.weight is missing in the checkpoint" in said
    assert 0 == ncscan("report", cwd=tmp_path).returncode
    report = json.loads((tmp_path / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    doubt = report["verdict"]["runs"][0]["doubts"][0]
    assert ("unfilled", True) == (doubt["kind"], "of an untrained network" in doubt["sentence"])


def test_the_other_states_of_a_file_are_named(tmp_path: Path) -> None:
    code, said = extracted(tmp_path, {"model": STATE, "model_ema": OTHER})
    assert (0, True) == (code, "state model (the file also has model_ema)" in said), said


def test_a_counter_beside_the_weights_is_no_doubt(tmp_path: Path) -> None:
    code, said = extracted(tmp_path, STATE | {"n_averaged": torch.tensor(1)}, *THEIRS)
    assert 0 == code
    assert "not used: n_averaged" in said
    assert "doubt" not in said
