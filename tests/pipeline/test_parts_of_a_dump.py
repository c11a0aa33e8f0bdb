"""A part of a dump, or of what a command makes, that fails unexpectedly costs itself alone, and its place is told."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ncscan import cli
from ncscan.errors import UsageError, unexpected
from ncscan.pipeline.events import Skipped
from ncscan.trajectory.evaluate import trajectory_rows

TOML = """[model]
source = "mlp"
activation = "relu"
linear_head = 1
[data]
source = "npz:data.npz"
"""
STEPS = (0, 5, 10)
HIDDEN = "0_relu"


def run(folder: Path, toml: str = TOML) -> Path:
    """A run of three checkpoints of a small mlp, with its data."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=rng.normal(size=(30, 6)).astype(np.float32), y=np.arange(30) % 3)
    (folder / "ncscan.toml").write_text(toml)
    for step in STEPS:
        torch.manual_seed(step)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        torch.save({"state_dict": model.state_dict(), "step": step}, folder / f"step_{step}.pt")
    return folder


Ncscan = Callable[..., tuple[int, str]]


@pytest.fixture
def ncscan(capsys: pytest.CaptureFixture[str]) -> Ncscan:
    """The command line in this process: exit code, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.app([str(each) for each in arguments])
        told = capsys.readouterr().err
        assert isinstance(ended.value.code, int)
        return ended.value.code, told

    return call


def failing_for(name: str, error: BaseException, function: Callable[..., object]) -> Callable[..., object]:
    """The function, but that it raises where its first argument is of this name."""

    def called(first: object, *others: object, **named: object) -> object:
        if name in str(getattr(first, "path", first)):
            raise error
        return function(first, *others, **named)

    return called


def made(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "dumps").rglob("*.h5"))


def lines(stderr: str) -> list[str]:
    """What was said, but for what is doubtful about random networks."""
    return [line for line in stderr.splitlines() if line.strip() and not line.startswith("warning: ")]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An --out with the dumps and the report of a run."""
    folder = tmp_path_factory.mktemp("one-input")
    for command in (["extract", str(run(folder / "ckpts"))], ["report"]):
        with pytest.raises(SystemExit) as ended:
            cli.app([*command, "--out", str(folder / "out"), "--quiet"])
        assert ended.value.code == 0
    return folder / "out"


@pytest.fixture
def out(extracted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(extracted, tmp_path / "out"))


def test_a_model_that_calls_exit_skips_its_checkpoint(
    tmp_path: Path, ncscan: Ncscan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncscan import checkpoints

    monkeypatch.setattr(checkpoints, "load", failing_for("step_5.pt", SystemExit(0), checkpoints.load))
    code, told = ncscan("extract", run(tmp_path / "ckpts"), "--out", tmp_path / "out")
    (line,) = lines(told)
    assert code == 4
    assert line.startswith("skipped ckpts/step_5.pt: unexpected SystemExit: 0 (ncscan/pipeline/load.py:")
    assert len(made(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("function", "tables", "said"),
    [
        ("measure_weights", "weights", "ckpts/step_5.pt: the weights"),
        ("_claims", "theory", "ckpts/step_5.pt: the theory"),
        ("layer_stats", "metrics classes geometry", "ckpts/step_5.pt: layer 0_relu"),
        ("_numbers", "metrics", "ckpts/step_5.pt: layer 0_relu"),
        ("class_rows", "classes", "ckpts/step_5.pt: layer 0_relu, class by class"),
        ("places", "geometry", "ckpts/step_5.pt: layer 0_relu, its picture"),
    ],
)
def test_a_part_of_a_dump_that_fails_unexpectedly_costs_itself_alone(
    function: str, tables: str, said: str, out: Path, ncscan: Ncscan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncscan.pipeline import measure as measuring
    from ncscan.tables.report_reader import read_report

    names = {one: getattr(measuring, one) for one in {function, "layer_stats"}}
    measure = measuring.measure_source
    at = {"dump": "", "layer": ""}

    def in_dump(dump: Any, *others: Any, **named: Any) -> object:
        at["dump"] = dump.path.name
        return measure(dump, *others, **named)

    def part(name: str, *others: Any, **named: Any) -> object:
        if name == "layer_stats":
            at["layer"] = others[0].args[0].tap.name
        if name == function and at["dump"] == "step_5.pt.h5" and (of_network or at["layer"] == HIDDEN):
            raise np.linalg.LinAlgError("Singular matrix")
        return names[name](*others, **named)

    before = read_report(out / "report" / "report.json")
    of_network = function in ("measure_weights", "_claims")
    for name in names:
        monkeypatch.setattr(measuring, name, partial(part, name))
    monkeypatch.setattr("ncscan.pipeline.measurements.measure_source", in_dump)
    code, told = ncscan("report", "--out", out, "--threads", "1")
    assert code == 4
    assert f"skipped {said}: unexpected LinAlgError: Singular matrix (ncscan/pipeline/measure.py:" in told
    after = read_report(out / "report" / "report.json")
    for name, rows in before.items():
        if name == "trajectory":  # it is made of the others
            continue
        lost = (rows["checkpoint"] == "step_5.pt") & (name in tables)
        if name in tables and not of_network:
            lost &= rows["layer"] == HIDDEN
        assert lost.any() == (name in tables), name
        assert rows[~lost].reset_index(drop=True).equals(after[name].reset_index(drop=True)), name


def test_what_no_input_is_to_blame_for_is_one_line(out: Path, ncscan: Ncscan, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("ncscan.report.output.page_text", broken)
    code, told = ncscan("report", "--out", out, "--quiet")
    (line,) = lines(told)
    assert code == 1
    assert line.startswith("error: unexpected IndexError: list index out of range (ncscan/report/output.py:")
    assert "Traceback" in ncscan("report", "--out", out, "--traceback")[1]


def test_what_became_of_one_run_is_lost_alone(out: Path, ncscan: Ncscan, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncscan.pipeline import measurements

    whole = trajectory_rows

    def broken(metrics: pd.DataFrame, *others: Any) -> pd.DataFrame:
        if len(metrics):
            raise FloatingPointError("underflow")
        return whole(metrics, *others)

    monkeypatch.setattr(measurements, "trajectory_rows", broken)
    code, told = ncscan("report", "--out", out)
    (line,) = lines(told)
    assert code == 4
    assert line.startswith("skipped ckpts: what became of it over steps and depth: unexpected FloatingPointError")
    assert (out / "report" / "report.html").exists()


class OddError(Exception):
    def __str__(self) -> str:
        raise UsageError("even this")


def test_an_exception_whose_text_fails_is_told() -> None:
    with pytest.raises(OddError) as caught:
        raise OddError
    assert unexpected(caught.value).startswith("unexpected OddError; ")
    assert Skipped.because("x", caught.value).trace
