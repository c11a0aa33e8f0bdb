"""Whatever a model, a tensor or a row raises is one line for that input; what many inputs share is one line for all."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from workspaces import N_CLASSES, dumps, fitted, make_workspace, ncscan, one_line, rows, samples, save

NETS = """
import torch
from torch import nn


class Stop(BaseException):
    pass


class Deep:
    def __init__(self):
        raise Deep()


def recurse(): return recurse()
def exits(): raise SystemExit(0)


RAISED = {
    1: TypeError("forward() got an unexpected keyword"), 2: AttributeError("no such thing"), 3: KeyError("tokens"),
    4: AssertionError(), 5: NotImplementedError("linear for Float8"), 6: RecursionError("too deep"),
    7: SystemExit(3), 8: OSError(28, "No space left on device"), 9: Stop("enough"), 10: MemoryError(),
    11: StopIteration(1), 12: UnicodeDecodeError("utf-8", b"x", 0, 1, "why"), 13: KeyboardInterrupt(),
    14: ZeroDivisionError("float\\ndivision"),
}


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16, bias=False),
                         nn.Linear(16, 3, bias=False))
        self.register_buffer("code", torch.tensor(0))
        self.register_buffer("after", torch.tensor(0))

    def forward(self, x):
        PASSES[0] += int(self.code > 0)
        if PASSES[0] > int(self.after):
            raise RAISED[int(self.code)]
        return super().forward(x)


PASSES = [0]


def make():
    PASSES[0] = 0
    return Net()


def warns():
    import warnings
    warnings.simplefilter("always")
    net = Net()
    net.register_forward_pre_hook(lambda *_: warnings.warn("this layer is deprecated"))
    return net
"""
NAMES = {
    1: "TypeError: forward() got",
    2: "AttributeError: no such thing",
    3: "KeyError: 'tokens'",
    4: "AssertionError",
    5: "NotImplementedError|linear for Float8",
    6: "RecursionError|too deep",
    7: "SystemExit: 3",
    8: "OSError: [Errno 28] No space left on device",
    9: "Stop: enough",
    10: "MemoryError|not even one sample fits",
    11: "StopIteration",
    12: "UnicodeDecodeError|why",
    14: "ZeroDivisionError: float division",
}


def of_net(seed: int, code: int = 0, after: int = 0) -> dict[str, Tensor]:
    return {**fitted(seed), "code": torch.tensor(code), "after": torch.tensor(after)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints that are as they should be, step_0 and step_10, of a model that raises what its file says."""
    make_workspace(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    for step in (0, 10):
        save(tmp_path / "ckpts" / f"step_{step}.pt", of_net(step), step=step)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "after"), [*((code, 0) for code in NAMES), *itertools.product((3, 7, 8, 9), (3, 170))]
)
def test_what_a_forward_pass_raises_is_one_line_for_its_checkpoint(code: int, after: int, folder: Path) -> None:
    """In the first pass, in those that see whether it repeats (from the fourth on), in the replay (from about 150)."""
    save(folder / "ckpts" / "step_5.pt", of_net(5, code, after), step=5)
    done = ncscan("extract", "ckpts", "--model", "nets:make", "--batch-size", "8", cwd=folder)
    line = one_line(done.stderr)
    assert 4 == done.returncode, line
    assert line.startswith("skipped ckpts/step_5.pt: ")
    assert re.search("|".join(map(re.escape, NAMES[code].split("|"))), line), line
    assert ["step_0.pt.h5", "step_10.pt.h5"] == dumps(folder)


def test_an_interrupt_stops_everything(folder: Path) -> None:
    save(folder / "ckpts" / "step_5.pt", of_net(5, 13), step=5)
    done = ncscan("extract", "ckpts", "--model", "nets:make", cwd=folder)
    assert (130, ["step_0.pt.h5"]) == (done.returncode, dumps(folder)), done.stderr


def test_traceback_shows_what_a_model_raised(folder: Path) -> None:
    save(folder / "ckpts" / "step_5.pt", of_net(5, 3), step=5)
    done = ncscan("extract", "ckpts", "--model", "nets:make", "--traceback", cwd=folder)
    assert 4 == done.returncode
    assert "nets.py" in done.stderr
    assert "KeyError: 'tokens'" in done.stderr


def many(folder: Path, count: int, state: dict[str, Tensor]) -> None:
    for step in range(1, count + 1):
        own = {**state, "0.bias": state["0.bias"] + step / 1000}
        save_file(own, folder / "ckpts" / f"step_{step}.safetensors")


def test_two_hundred_checkpoints_with_one_warning_are_one_line(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    many(tmp_path, 200, fitted(5))
    inputs, labels = samples()
    lacking = labels < N_CLASSES - 1
    np.savez(tmp_path / "data.npz", inputs=inputs[lacking][:30], labels=labels[lacking][:30])
    done = ncscan("extract", "ckpts", "--layers", "output", cwd=tmp_path)
    assert 0 == done.returncode
    line = one_line(done.stderr)
    assert line.startswith("warning: ckpts/step_1.safetensors: the data has 2 of the network's 3 classes")
    assert line.endswith("(199 more alike)")
    assert 200 == len(dumps(tmp_path))
    done = ncscan("report", cwd=tmp_path)
    assert 0 == done.returncode
    assert one_line(done.stderr) == line


def test_what_is_skipped_for_one_reason_is_one_line_and_named_in_the_report(folder: Path) -> None:
    for step in range(1, 10):
        save(folder / "ckpts" / f"step_{step}.pt", of_net(5, 3), step=step)
    (folder / "ckpts" / "torn.pt").write_bytes(b"PK")
    done = ncscan("extract", "ckpts", "--model", "nets:make", cwd=folder)
    first, second = sorted(done.stderr.splitlines())
    assert 4 == done.returncode
    assert first.startswith("skipped ckpts/step_1.pt: ")
    assert "(8 more alike: ckpts/step_2.pt, ckpts/step_3.pt, ckpts/step_4.pt and 5 more)" in first
    assert second.startswith("skipped ckpts/torn.pt")
    for step in range(20, 30):
        (folder / "ncscan-out" / "dumps" / "ckpts" / f"step_{step}.pt.h5").write_bytes(b"no dump")
    done = ncscan("report", cwd=folder)
    assert 4 == done.returncode
    assert one_line(done.stderr).count("(9 more alike: ") == 1
    report = json.loads((folder / "ncscan-out" / "report" / "report.json").read_text())
    assert 10 == len({entry["input"] for entry in report["skipped"]})
    assert {"0", "10"} == {row["step"] for row in rows(folder)}


def test_what_python_warns_of_in_every_pass_is_one_line(folder: Path) -> None:
    done = ncscan("extract", "ckpts", "--model", "nets:warns", cwd=folder)
    assert 0 == done.returncode
    line = one_line(done.stderr)
    assert line.startswith("warning: UserWarning: this layer is deprecated (")
    assert "more alike" in line


def test_a_function_that_raises_is_one_line_for_all_checkpoints(folder: Path) -> None:
    (folder / "nets.py").write_text("def make(): raise ValueError('no weights here')\n")
    done = ncscan("extract", "ckpts", "--model", "nets:make", cwd=folder)
    assert 1 == done.returncode
    assert "nets:make failed: ValueError: no weights here" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layers", "nope"], "error: --layers nope matches no layer"),
        (["--model", "nets:absent"], "error: nets:absent: nets has no absent"),
        (["--model", "absent:make"], "error: absent:make: there is no module absent"),
        (["--model", "nets:"], "error: --model: the model must be mlp or module:function"),
        (["--data", "npz:absent.npz"], "absent.npz: there is no such file"),
        (["--data", "nets:absent"], "error: nets:absent: nets has no absent"),
        (["--test", "npz:absent.npz", "--data", "npz:absent.npz"], "absent.npz: there is no such file"),
        (["--device", "tpu"], "error: --device tpu"),
        (["--device", "cuda:77"], "error: --device cuda:77"),
        (["--normalize", "1,0"], "error: --normalize: normalize must read MEAN,STD"),
        (["--normalize", "1/2/3,4/5/6"], "error: npz:"),
    ],
)
@pytest.mark.parametrize("command", ["extract", "layers"])
def test_one_mistake_on_the_command_line_is_one_error(
    command: str, arguments: list[str], said: str, folder: Path
) -> None:
    if command == "layers" and "--test" in arguments:
        pytest.skip("`ncscan layers` has no --test")
    for step in (20, 30):
        save(folder / "ckpts" / f"step_{step}.pt", of_net(step), step=step)
    done = ncscan(command, "ckpts", "--model", "nets:make", *arguments, cwd=folder)
    line = one_line(done.stderr)
    assert 2 == done.returncode, line
    assert line.startswith("error: ")
    assert said in line
    assert "more alike" not in line


def test_a_mistake_in_a_diff_is_one_error(folder: Path) -> None:
    done = ncscan("diff", "ckpts", "ckpts", "--model", "nets:make", "--layers", "nope", cwd=folder)
    assert 2 == done.returncode
    assert one_line(done.stderr).startswith("error: --layers nope matches no layer")
