"""The real command line, as a new user would try it: results, troubles, exit codes."""

import json
import os
import subprocess
import sys
from dataclasses import astuple, fields
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner
from workspaces import (
    N_CLASSES,
    N_INPUTS,
    N_SAMPLES,
    TOML,
    dumps,
    fitted,
    ncscan,
    one_line,
    rows,
    save,
    write_data,
)

from ncscan.cli.console import shown
from ncscan.cli.program import app
from ncscan.dumps.reader import Dump
from ncscan.errors import UsageError
from ncscan.pipeline.load import Flags

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.chain = nn.Sequential(*layers)

    def forward(self, x):
        return {forward}

def make():
    return Net(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
               nn.Linear(16, 16, bias=False), nn.Linear(16, 3, bias=False))

def small():
    return Net(nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, {outputs}, bias=False))
"""


def test_extract_and_report_in_two_commands(workspace: Path) -> None:
    extracted = ncscan("extract", "ckpts", cwd=workspace)
    assert (0, "") == (extracted.returncode, extracted.stderr)
    first = extracted.stdout.splitlines()[0]
    assert first.startswith("ckpts/step_0.pt: accuracy ")
    assert "6 of 6 tensors" in extracted.stdout
    assert ["step_0.pt.h5", "step_10.pt.h5", "step_5.pt.h5"] == dumps(workspace)

    reported = ncscan("report", cwd=workspace)
    assert (0, "") == (reported.returncode, reported.stderr)
    assert "report.html" in reported.stdout
    assert {"0", "5", "10"} == {row["step"] for row in rows(workspace)}
    plain = json.loads((workspace / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    assert plain["skipped"] == []


def test_extract_again_keeps_what_is_finished(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    before = {path: path.stat().st_mtime_ns for path in (workspace / "ncscan-out").rglob("*.h5")}
    again = ncscan("extract", "ckpts", cwd=workspace)
    assert again.returncode == 0
    assert again.stdout.count("complete before") == 3
    assert before == {path: path.stat().st_mtime_ns for path in (workspace / "ncscan-out").rglob("*.h5")}


def test_extract_with_other_settings_is_refused_without_force(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    refused = ncscan("extract", "ckpts", "--layers", "head", cwd=workspace)
    assert refused.returncode == 2
    assert "--force" in one_line(refused.stderr)
    forced = ncscan("extract", "ckpts", "--layers", "head", "--force", cwd=workspace)
    assert forced.returncode == 0


def test_extract_refuses_dumps_of_another_activation(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    (workspace / "ckpts" / "ncscan.toml").write_text(TOML.replace("relu", "tanh"), encoding="utf-8")
    refused = ncscan("extract", "ckpts", cwd=workspace)
    assert refused.returncode == 2
    assert 'activation "relu" and not "tanh"' in one_line(refused.stderr)


def test_extract_refuses_dumps_of_code_that_changed(workspace: Path) -> None:
    code = MODEL.format(outputs=N_CLASSES, forward="self.chain(x)")
    (workspace / "mine.py").write_text(code, encoding="utf-8")
    arguments = ("extract", "ckpts/step_5.pt", "--model", "mine:make")
    assert ncscan(*arguments, cwd=workspace).returncode == 0
    (workspace / "mine.py").write_text(code.replace("self.chain(x)", "self.chain(3 * x)"), encoding="utf-8")
    refused = ncscan(*arguments, cwd=workspace)
    assert refused.returncode == 2
    assert "--force" in one_line(refused.stderr)
    forced = ncscan(*arguments, "--force", cwd=workspace)
    assert (0, 0) == (forced.returncode, forced.stdout.count("complete before"))


@pytest.mark.parametrize(
    ("outputs", "forward", "nc3"),
    [
        (N_CLASSES, "self.chain(x)", True),
        (7, "self.chain(x)", True),
        (4 * N_CLASSES, "self.chain(x).view(len(x), -1, 4).amax(2)", False),
        (N_CLASSES, "-3 * self.chain(x)", False),
    ],
    ids=["plain", "more outputs than classes", "maxout", "scaled logits"],
)
def test_report_measures_nc3_only_where_a_map_writes_the_logits(
    workspace: Path, outputs: int, forward: str, nc3: bool
) -> None:
    (workspace / "mine.py").write_text(MODEL.format(outputs=outputs, forward=forward), encoding="utf-8")
    sizes = {"chain.0": (16, N_INPUTS), "chain.2": (outputs, 16)}
    torch.manual_seed(0)
    save(workspace / "one.pt", {f"{name}.weight": torch.randn(shape) for name, shape in sizes.items()}, step=0)
    arguments = ("extract", "one.pt", "--model", "mine:small", "--data", "npz:data.npz")
    assert ncscan(*arguments, cwd=workspace).returncode == 0
    reported = ncscan("report", cwd=workspace)
    assert reported.returncode == 0
    assert nc3 == any(row["metric"] == "nc3_distance" for row in rows(workspace))
    assert nc3 != ("there is no nc3" in reported.stderr)


@pytest.mark.parametrize("command", ["extract", "report"])
def test_output_folder_that_is_a_file_is_one_line(workspace: Path, command: str) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    (workspace / "file").touch()
    source = "ckpts" if command == "extract" else "ncscan-out/dumps"
    done = ncscan(command, source, "--out", "file", cwd=workspace)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "file" in done.stderr.splitlines()[-1]


def test_report_refuses_the_same_checkpoint_twice(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    ncscan("extract", "ckpts", "--normalize", "1,2", "--out", "other", cwd=workspace)
    done = ncscan("report", "ncscan-out/dumps", "other/dumps", cwd=workspace)
    assert done.returncode == 4
    assert "report the two apart (2 more alike: " in one_line(done.stderr)


def test_interrupt_is_ignored_where_it_was_from_the_start() -> None:
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'ncscan.pipeline.events': os.kill(os.getpid(), signal.SIGINT)\n"  # amid imports
        "sys.meta_path.insert(0, Finder()); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from ncscan.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "layers", "nowhere"], capture_output=True, text=True)
    assert (1, True) == (done.returncode, "nowhere" in done.stderr), done.stderr


def test_output_that_nobody_reads_does_not_stop_the_work(workspace: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = ncscan("extract", "ckpts", cwd=workspace, stdout=write)
    os.close(write)
    assert done.returncode == 0
    assert len(dumps(workspace)) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["extract", "nowhere"], 1, "nowhere"),
        (["extract", "empty"], 1, "empty"),
        (["extract", "ckpts", "--layers", "rellu"], 2, "rellu"),
        (["extract", "ckpts", "--device", "tpu"], 2, "tpu"),
        (["extract", "ckpts", "--data", "npz:absent.npz"], 2, "absent.npz"),
        (["extract", "ckpts", "--data", "idx:absent"], 2, "absent"),
        (["extract", "ckpts", "--data", "magic"], 2, "magic"),
        (["extract", "ckpts", "--model", "magic"], 2, "magic"),
        (["extract", "ckpts", "--normalize", "5"], 2, "MEAN,STD"),
        (["extract", "ckpts", "--model", "absent_module:make"], 2, "absent_module"),
        (["extract", "ckpts", "--model", "json:make"], 2, "json has no make"),
        (["layers", "ckpts", "--device", "tpu"], 2, "tpu"),
        (["extract", "ckpts", "--normalize", "1/2/3,4/5/6"], 2, "3 means"),
        (["extract", "ckpts", "--reduction", "median"], 2, ""),
        (["report"], 1, "ncscan extract"),
        (["report", "nowhere"], 1, "nowhere"),
        (["layers", "nowhere"], 1, "nowhere"),
    ],
)
def test_troubles_are_one_line_and_a_code(workspace: Path, arguments: list[str], code: int, said: str) -> None:
    (workspace / "empty").mkdir()
    done = ncscan(*arguments, cwd=workspace)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Traceback" not in done.stderr
    assert code == done.returncode, done.stderr
    assert all(said in line for line in lines)
    assert lines
    assert "error" in lines[0].lower() or not said
    if code == 2 and said:
        assert len(lines) == 1


@pytest.mark.parametrize("arguments", [["extract"], ["extract", "ckpts", "--no-such"], ["nonsense"]])
def test_wrong_usage_exits_2(workspace: Path, arguments: list[str]) -> None:
    assert ncscan(*arguments, cwd=workspace).returncode == 2


def test_truncated_checkpoint_is_skipped_and_the_others_are_done(workspace: Path) -> None:
    path = workspace / "ckpts" / "step_5.pt"
    path.write_bytes(path.read_bytes()[:1000])
    done = ncscan("extract", "ckpts", cwd=workspace)
    assert done.returncode == 4
    assert "step_5.pt" in one_line(done.stderr)
    assert ["step_0.pt.h5", "step_10.pt.h5"] == dumps(workspace)


def test_wrong_architecture_is_skipped_and_the_others_are_done(workspace: Path) -> None:
    save(workspace / "ckpts" / "step_7.pt", nn.Conv2d(1, 4, 3).state_dict(), step=7)
    done = ncscan("extract", "ckpts", cwd=workspace)
    assert done.returncode == 4
    assert "step_7.pt" in one_line(done.stderr)
    assert len(dumps(workspace)) == 3


def test_corrupt_dump_is_skipped_and_the_others_are_reported(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    path = workspace / "ncscan-out" / "dumps" / "ckpts" / "step_5.pt.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = ncscan("report", cwd=workspace)
    assert done.returncode == 4
    assert "step_5.pt.h5" in one_line(done.stderr)
    assert {"0", "10"} == {row["step"] for row in rows(workspace)}
    plain = json.loads((workspace / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    assert len(plain["skipped"]) == 1


def test_nothing_usable_exits_1(workspace: Path) -> None:
    for path in (workspace / "ckpts").glob("*.pt"):
        path.write_bytes(b"not a checkpoint")
    done = ncscan("extract", "ckpts", cwd=workspace)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("skipped ckpts/step_0.pt")
    assert 3 == ncscan("extract", "ckpts", "--traceback", cwd=workspace).stderr.count("skipped")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(N_SAMPLES, 1), "all 240 samples are of class 1"),
        (np.arange(N_SAMPLES) % 7, "label 6, and the model has 3 outputs"),
        (np.arange(N_SAMPLES) % 3 - 1, "-1"),
        ((np.arange(N_SAMPLES) % 3).astype(np.float32), "float"),
    ],
    ids=["one class", "more labels than outputs", "negative", "float"],
)
def test_labels_that_cannot_be_used(workspace: Path, labels: np.ndarray, said: str) -> None:
    write_data(workspace / "data.npz", labels)
    done = ncscan("extract", "ckpts", cwd=workspace)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert all(said in line for line in done.stderr.splitlines())
    assert dumps(workspace) == []


def test_activations_that_overflow_are_reasons_not_numbers(workspace: Path) -> None:
    state = fitted(5)
    state["2.weight"] *= 1e38  # finite weights, products beyond float32
    save(workspace / "ckpts" / "step_5.pt", state, step=5)
    assert ncscan("extract", "ckpts", cwd=workspace).returncode == 0
    reported = ncscan("report", cwd=workspace)
    assert reported.returncode == 0
    assert "non-finite" in reported.stderr
    bad = [row for row in rows(workspace) if row["step"] == "5" and row["layer"] == "5"]
    assert bad
    assert all(row["value"] == "" and "non-finite" in row["reason"] for row in bad)
    good = [row for row in rows(workspace) if row["step"] == "5" and row["layer"] == "0"]
    assert any(row["value"] for row in good)


def test_code_in_a_strangers_toml_does_not_run(workspace: Path) -> None:
    (workspace / "ckpts" / "boom.py").write_text("open('ran', 'w')\ndef make():\n    raise SystemExit\n")
    (workspace / "ckpts" / "ncscan.toml").write_text(TOML.replace("mlp", "boom:make"), encoding="utf-8")
    done = ncscan("extract", "ckpts", cwd=workspace)
    assert done.returncode == 2
    assert "--trust-code" in one_line(done.stderr)
    assert not (workspace / "ran").exists()


def test_code_named_by_the_user_runs(workspace: Path) -> None:
    (workspace / "mine.py").write_text(
        "import numpy, torch\nfrom torch import nn\n"
        "def make():\n"
        f"    return nn.Sequential(nn.Linear({N_INPUTS}, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),\n"
        f"        nn.Linear(16, 16, bias=False), nn.Linear(16, {N_CLASSES}, bias=False))\n"
        "def data():\n"
        "    arrays = numpy.load('data.npz')\n"
        "    return torch.from_numpy(arrays['inputs']), arrays['labels']\n",
        encoding="utf-8",
    )
    done = ncscan("extract", "ckpts", "--model", "mine:make", "--data", "mine:data", cwd=workspace)
    assert (0, "") == (done.returncode, done.stderr)


def test_what_is_doubtful_about_a_replay_is_told_whenever_its_dump_is(workspace: Path) -> None:
    (workspace / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        torch.rand(3)\n"
        "        return super().forward(x)\n"
        "def make():\n"
        f"    return Net(nn.Linear({N_INPUTS}, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),\n"
        f"        nn.Linear(16, 16, bias=False), nn.Linear(16, {N_CLASSES}, bias=False))\n",
        encoding="utf-8",
    )
    for arguments in (
        ["extract", "ckpts", "--model", "mine:make"],
        ["extract", "ckpts", "--model", "mine:make"],
        ["report"],
    ):
        done = ncscan(*arguments, cwd=workspace)
        assert 0 == done.returncode, done.stderr
        assert "draws random numbers" in done.stderr, arguments
    report = json.loads((workspace / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    assert 1 == sum("draws random numbers" in told for told in report["warnings"])


def test_dry_run_writes_nothing(workspace: Path) -> None:
    done = ncscan("extract", "ckpts", "--dry-run", cwd=workspace)
    assert done.returncode == 0
    assert not (workspace / "ncscan-out").exists()


def test_quiet_says_nothing(workspace: Path) -> None:
    assert ncscan("extract", "ckpts", "--quiet", cwd=workspace).stdout == ""
    assert ncscan("report", "--quiet", cwd=workspace).stdout == ""


def test_layers_shows_names_and_sizes(workspace: Path) -> None:
    done = ncscan("layers", "ckpts", cwd=workspace)
    assert done.returncode == 0
    assert "0_relu" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["extract", "--help"], ["diff", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom ncscan.cli import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'pandas', 'h5py', 'numpy', 'altair'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


REPORTS = ("altair", "jinja2", "vl_convert", "PIL", "pyarrow")


@pytest.mark.parametrize(
    ("arguments", "needless"),
    [
        (["extract", "ckpts", "--gradients", "8"], (*REPORTS, "pandas")),
        (["layers", "ckpts"], (*REPORTS, "pandas")),
        (["metrics"], (*REPORTS, "torch", "h5py")),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], needless: tuple[str, ...], workspace: Path) -> None:
    code = (
        "import sys\nfrom ncscan.cli import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert end.code in (0, None), end.code\n"
        f"there = set({needless!r}) & set(sys.modules)\nassert not there, there\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr


def test_measure_imports_what_it_needs() -> None:
    needless = ("h5py", *(name for name in REPORTS if name != "pyarrow"))  # which pandas imports
    code = (
        "import sys, numpy as np, ncscan\n"
        "ncscan.measure(np.eye(6), np.arange(6) % 2)\n"
        f"there = set({needless!r}) & set(sys.modules)\nassert not there, there\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr


def test_metrics_lists_every_measure() -> None:
    from ncscan.metrics.evaluate import METRICS

    said = ncscan("metrics", cwd=Path.cwd()).stdout
    assert all(metric.name in said for metric in METRICS)


def test_report_gives_intervals_baselines_and_a_papers_numbers(workspace: Path) -> None:
    ncscan("extract", "ckpts/step_5.pt", cwd=workspace)
    asked = ("--bootstrap", "50", "--permutations", "20", "--convention", "papyan", "--convention", "jacot")
    done = ncscan("report", *asked, cwd=workspace)
    assert (0, "") == (done.returncode, done.stderr)
    trace = [row for row in rows(workspace) if row["metric"] == "nc1_trace"]
    assert all(float(row["low"]) <= float(row["high"]) for row in trace)
    # Labels that say nothing: (N − K)/(K − 1), about.
    expected = (N_SAMPLES - N_CLASSES) / (N_CLASSES - 1)
    assert [float(row["baseline"]) for row in trace] == pytest.approx([expected] * len(trace), rel=1)
    papyan = rows(workspace, "convention-papyan.csv")
    squared = [float(row["value"]) for row in papyan if row["name"] == "NC3"]
    plain = [float(row["value"]) for row in rows(workspace) if row["metric"] == "nc3_distance"]
    assert squared == pytest.approx([value**2 for value in plain])
    assert rows(workspace, "convention-jacot.csv")


def test_report_judges_what_theory_promises(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    assert 0 == ncscan("report", cwd=workspace).returncode
    theory = rows(workspace, "theory.csv")
    assert {"step_0.pt", "step_5.pt", "step_10.pt"} == {row["checkpoint"] for row in theory}
    judged = {row["claim"]: row for row in theory if row["checkpoint"] == "step_5.pt" and row["holds"]}
    assert "true" == judged["nc1_upper"]["holds"]
    assert float(judged["nc1_upper"]["slack"]) >= 1 - 1e-7
    assert all(row["value"] or row["reason"] for row in theory)
    assert {"terminal_phase", "separation_law"} <= {row["finding"] for row in rows(workspace, "trajectory.csv")}
    classes = rows(workspace, "classes.csv")
    assert {"0", "1", "2"} == {row["class_name"] for row in classes}
    assert any(row["other_name"] for row in classes)
    page = (workspace / "ncscan-out" / "report" / "report.html").read_text(encoding="utf-8")
    assert 'id="theory"' in page
    assert 'id="trajectory"' in page


@pytest.mark.parametrize(
    "arguments", [("--permutations", "5"), ("--bootstrap", "-1"), ("--convention", "nobody"), ("--seed", "-1")]
)
def test_report_with_settings_that_make_no_sense_exits_2(workspace: Path, arguments: tuple[str, str]) -> None:
    ncscan("extract", "ckpts/step_5.pt", cwd=workspace)
    done = ncscan("report", *arguments, cwd=workspace)
    assert 2 == done.returncode
    assert "Traceback" not in done.stderr


def test_extract_keeps_what_the_forward_pass_rounds(workspace: Path) -> None:
    ncscan("extract", "ckpts/step_5.pt", cwd=workspace)
    (path,) = (workspace / "ncscan-out" / "dumps").rglob("*.h5")
    with Dump(path) as dump:
        found = {layer.tap.name: dump.rounding(layer) for layer in dump.layers}
        sizes = {layer.tap.name: np.concatenate([rows for _, rows in dump.chunks(layer)]) for layer in dump.layers}
    given = {name: noise for name, noise in found.items() if noise is not None}
    assert list(found) == list(given)
    assert 0 == given["input"].max()
    assert 0 < given["0"].max() < 1e-12 * (sizes["0"] ** 2).max()


def test_data_of_another_shape_is_skipped_in_one_line(workspace: Path) -> None:
    np.savez(workspace / "wide.npz", inputs=np.zeros((6, N_INPUTS + 2), np.float32), labels=np.arange(6) % 3)
    done = ncscan("extract", "ckpts", "--ood", "npz:wide.npz", cwd=workspace)
    assert 4 == done.returncode
    assert "the model does not take samples of shape (14,)" in done.stderr
    assert "Traceback" not in done.stderr
    assert 3 == len(dumps(workspace))


def test_names_of_strangers_move_no_cursor() -> None:
    harmless = shown("a\x1b[31mb\u202e[bold]c\nd")
    assert not {"\x1b", "\u202e", "\n"} & set(harmless)
    assert "\\[bold]" in harmless


GIVEN: dict[str, tuple[list[str], Any]] = {
    "model": (["mlp"], "mlp"),
    "data": (["npz:a.npz"], "npz:a.npz"),
    "normalize": (["1,2"], "1,2"),
    "test": (["npz:b.npz"], "npz:b.npz"),
    "ood": (["npz:c.npz"], "npz:c.npz"),
    "state": (["student"], "student"),
    "weights": (["ema"], "ema"),
    "prefix": (["net."], "net."),
    "rename": (["a.→b."], ("a.→b.",)),
    "base": (["base.pt"], Path("base.pt")),
    "logits": (["scores"], "scores"),
    "order": (["mtime"], "mtime"),
    "class-order": (["1,0"], "1,0"),
    "trust-code": ([], True),
    "allow-partial": ([], True),
    "layers": (["head"], ("head",)),
    "reduction": (["max"], "max"),
    "dtype": (["float16"], "float16"),
    "device": (["cpu"], "cpu"),
    "batch-size": (["7"], 7),
    "compress": ([], True),
    "gradients": (["5"], 5),
    "force": ([], True),
}
"""Each setting of a run, as it is asked for, and as it arrives."""


@pytest.mark.parametrize(
    ("asked", "job"), [("extract", "load.find_targets"), ("layers", "load.find_targets"), ("diff", "diff.diff")]
)
def test_every_setting_of_a_run_arrives_as_a_plain_value(asked: str, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[Flags] = []

    def heard(*arguments: object, **_: object) -> None:
        arrived.extend(each for each in arguments if isinstance(each, Flags))
        raise UsageError("heard")

    import_module("ncscan.pipeline." + job.partition(".")[0])
    monkeypatch.setattr(f"ncscan.pipeline.{job}", heard)
    command = next(each for each in app.registered_commands if getattr(each.callback, "__name__", "") == asked)
    known = signature(command.callback or heard).parameters
    options = {name: given for name, given in GIVEN.items() if name.replace("-", "_") in known}
    words = [word for name, (values, _) in options.items() for word in (f"--{name}", *values)]
    CliRunner().invoke(app, [asked, *words, "x", *(["y"] if asked == "diff" else [])])
    given: dict[str, Any] = {name.replace("-", "_"): value for name, (_, value) in options.items()}
    (flags,), expected = arrived, Flags(**given)
    assert flags == expected
    assert [type(value) for value in astuple(flags)] == [type(value) for value in astuple(expected)]
    if asked == "extract":
        assert {field.name for field in fields(Flags)} == given.keys()
