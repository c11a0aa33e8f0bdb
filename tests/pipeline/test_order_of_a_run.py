"""The order of a run, from the folder that a trainer leaves to what is printed and written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import Tensor
from workspaces import fitted, make_workspace, ncscan, rows, save

OVER_STEPS = ("terminal_phase", "at_onset", "at_end", "first_under", "decay", "balance_decay")


def trained(seed: int, scale: float) -> dict[str, Tensor]:
    """The same network at a step of its own: its last layer is scaled, so that decisions stay."""
    state = fitted(seed)
    *_, last = state
    return {**state, last: state[last] * scale}


def reported(folder: Path, *options: str) -> tuple[Any, str]:
    """The report of a workspace as JSON, and what its command printed."""
    done = ncscan("report", *options, cwd=folder)
    assert done.returncode in (0, 3), done.stderr
    report = folder / "ncscan-out" / "report" / "report.json"
    return json.loads(report.read_text(encoding="utf-8")), done.stdout + done.stderr


def extracted(folder: Path, *options: str) -> str:
    done = ncscan("extract", "ckpts", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_run_of_transformers_trainer_is_in_order_and_its_last_checkpoint_is_its_last(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    steps = range(100, 1100, 100)
    states = {step: trained(1, 1 + step / 1000) for step in steps}
    folders = {f"checkpoint-{step}": (step, states[step]) for step in steps}
    for name, (step, state) in {**folders, "best": (None, states[600]), "final": (1000, states[1000])}.items():
        (tmp_path / "ckpts" / name).mkdir()
        save_file(state, tmp_path / "ckpts" / name / "model.safetensors")
        if step is not None:
            kept = {"epoch": step / 300, "global_step": step, "log_history": [{"loss": 0.5, "step": 10}]}
            (tmp_path / "ckpts" / name / "trainer_state.json").write_text(json.dumps(kept), encoding="utf-8")
    extracted(tmp_path)
    report, printed = reported(tmp_path)
    names = [f"checkpoint-{step}/model.safetensors" for step in steps]
    assert names == list(dict.fromkeys(row["checkpoint"] for row in rows(tmp_path)))
    assert [(str(step), "iteration") for step in steps] == list(
        dict.fromkeys((row["step"], row["step_unit"]) for row in rows(tmp_path))
    )
    (run,) = report["verdict"]["runs"]
    assert (names[-1], 1000, list(steps)) == (run["checkpoint"], run["step"], run["steps"])
    assert printed.count("best/model.safetensors holds the same tensors as checkpoint-600/model.safetensors") == 1
    assert printed.count("final/model.safetensors holds the same tensors as checkpoint-1000/model.safetensors") == 1
    also = {each["checkpoint"]: each["provenance"].get("same_tensors") for each in report["checkpoints"]}
    assert also == dict.fromkeys(names) | {
        names[5]: ["ckpts/best/model.safetensors"],
        names[9]: ["ckpts/final/model.safetensors"],
    }
    assert not any("ckpts" in warning for warning in report["warnings"])


@pytest.fixture(scope="module")
def unordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of three networks whose names tell no order, extracted."""
    folder = tmp_path_factory.mktemp("unordered")
    make_workspace(folder)
    for i, name in enumerate(("carol", "alice", "bob")):
        save(folder / "ckpts" / f"{name}.pt", trained(1, 1 + i))
    extracted(folder)
    return folder


def test_an_order_that_nothing_tells_is_the_first_doubt_and_draws_no_trajectory(unordered: Path) -> None:
    report, printed = reported(unordered, "--figures", "svg", "--figure", "jacot-1", "--figure", "charts")
    (run,) = report["verdict"]["runs"]
    first = run["doubts"][0]
    assert first["kind"] == "steps"
    assert (
        "The order of its checkpoints is not known, neither notes nor names tell it (alice.pt, bob.pt and 1 more)"
        in (first["sentence"].replace("Ckpts: the", "The"))
    )
    assert "is not known" in next(line for line in printed.splitlines() if "doubtful: " in line)
    page = (unordered / "ncscan-out" / "report" / "report.html").read_text(encoding="utf-8")
    assert page.index("the order of its checkpoints is not known") < page.index("The training error is")
    # No checkpoint has a step, in any table.
    assert {("", "order")} == {(row["step"], row["step_unit"]) for row in rows(unordered)}
    assert ("carol.pt", None, "order", [None]) == (run["checkpoint"], run["step"], run["step_unit"], run["steps"])
    assert run["headline"].startswith("At carol.pt, which need not be the last: ")
    assert run["since"] == run["motion"] == run["weight_decay"] == []
    # Over its depth every checkpoint has findings, over steps the run has none.
    found = rows(unordered, "trajectory.csv")
    over_steps = [row for row in found if row["finding"] in OVER_STEPS]
    assert over_steps
    assert {("", "", "the order of its checkpoints is not known")} == {
        (row["value"], row["step"], row["reason"]) for row in over_steps
    }
    depth = [row for row in found if row["finding"] not in OVER_STEPS]
    assert {"alice.pt", "bob.pt", "carol.pt"} == {row["checkpoint"] for row in depth}
    assert any(row["value"] for row in depth)
    charts = [path.name for path in (unordered / "ncscan-out" / "report" / "figures" / "charts" / "ckpts").iterdir()]
    assert charts
    assert [] == [name for name in charts if "-steps" in name or "-map" in name]
    figure = (unordered / "ncscan-out" / "report" / "figures" / "jacot-1.svg").read_text(encoding="utf-8")
    assert "the order of its" in figure


def test_a_gate_on_the_last_step_fails_where_no_step_is_the_last(unordered: Path) -> None:
    done = ncscan("report", "--fail-if", "nc1_pinv[layer=head, step=last] > 1e9", cwd=unordered)
    assert done.returncode == 3
    assert "the order of its checkpoints is not known, so none is the last" in done.stderr


def test_checkpoints_without_a_step_are_compared_by_name(unordered: Path, tmp_path: Path) -> None:
    report = unordered / "ncscan-out" / "report"
    assert ncscan("report", cwd=unordered).returncode == 0
    done = ncscan("diff", report, report, "--out", tmp_path, cwd=unordered)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "diff" / "diff.csv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",")
    pairs = {tuple(line.split(",")[columns.index(f"checkpoint_{end}")] for end in "ab") for line in lines[1:]}
    assert {(name, name) for name in ("alice.pt", "bob.pt", "carol.pt")} == pairs


def test_what_stands_beside_a_run_is_measured_and_is_never_its_last_checkpoint(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    others = {"model_best.pt": trained(1, 3), "model_final.pt": trained(1, 99), "swa.pt": trained(1, 5)}
    for epoch in (1, 2, 10):
        state = others["model_best.pt"] if epoch == 2 else trained(1, 1 + epoch)
        save(tmp_path / "ckpts" / f"epoch_{epoch}.pt", state)
    for name, state in others.items():
        save(tmp_path / "ckpts" / name, state)
    extracted(tmp_path)
    report, printed = reported(tmp_path, "--fail-if", "nc1_pinv[layer=head, step=last] > 1e9")
    assert [("epoch_1.pt", "1", "epoch"), ("epoch_2.pt", "2", "epoch"), ("epoch_10.pt", "10", "epoch")] + [
        (name, "", "beside") for name in ("swa.pt", "model_final.pt")
    ] == list(dict.fromkeys((row["checkpoint"], row["step"], row["step_unit"]) for row in rows(tmp_path)))
    (run,) = report["verdict"]["runs"]
    assert ("epoch_10.pt", 10, [1, 2, 10]) == (run["checkpoint"], run["step"], run["steps"])
    assert run["scope"].startswith("3 checkpoints, epoch 1 to epoch 10, and 2 beside them, on ")
    assert "model_best.pt holds the same tensors as epoch_2.pt and is left out" in printed
    assert "swa.pt, model_final.pt stand beside the run, outside of its trajectory" in printed
    assert "nothing tells the place of model_final.pt among its checkpoints" in printed
    assert "1 gate passed" in printed
    (gate,) = report["gates"]
    assert "ckpts/epoch_10.pt (epoch 10)" in gate["rows"][0]["where"]
    found = [row for row in rows(tmp_path, "trajectory.csv") if row["finding"] in OVER_STEPS]
    assert {"1", "2", "10", ""} >= {row["step"] for row in found}
    ends = {row["step"] for row in found if row["finding"] == "at_end"}
    assert {"10"} == ends


def test_the_state_of_a_trainer_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    for step in (9, 10):
        folder = tmp_path / "ckpts" / f"checkpoint-{step}"
        folder.mkdir()
        save(folder / "pytorch_model.bin", trained(1, step))
        (folder / "trainer_state.json").write_text('{"global_step": ', encoding="utf-8")
    extracted(tmp_path)
    reported(tmp_path)
    assert {("9", "file"), ("10", "file")} == {(row["step"], row["step_unit"]) for row in rows(tmp_path)}


def test_the_user_says_the_order_when_checkpoints_are_extracted(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    for i, name in enumerate(("alice", "bob", "carol")):
        save(tmp_path / "ckpts" / f"{name}.pt", trained(1, 1 + i))
        os.utime(tmp_path / "ckpts" / f"{name}.pt", ns=(0, 10**18 - i * 10**9))
    assert "note ckpts: the order of its checkpoints is not known" in extracted(tmp_path)
    said = extracted(tmp_path, "--order", "mtime", "--force")
    assert "is not known" not in said
    report, _ = reported(tmp_path)
    backwards = [(f"{name}.pt", str(i), "order") for i, name in enumerate(("carol", "bob", "alice"))]
    assert backwards == list(
        dict.fromkeys((row["checkpoint"], row["step"], row["step_unit"]) for row in rows(tmp_path))
    )
    (run,) = report["verdict"]["runs"]
    assert ("alice.pt", 2, [0, 1, 2]) == (run["checkpoint"], run["step"], run["steps"])
    (doubt,) = [doubt for doubt in run["doubts"] if doubt["kind"] == "steps"]
    assert doubt["sentence"] == "Of the checkpoints only the order is known, not the steps: no rate can be told."
    ends = [row for row in rows(tmp_path, "trajectory.csv") if row["finding"] == "at_end"]
    assert {"2"} == {row["step"] for row in ends}
    # A report can be of another order than the one that its dumps remember.
    reported(tmp_path, "--order", "name")
    assert ["alice.pt", "bob.pt", "carol.pt"] == list(dict.fromkeys(row["checkpoint"] for row in rows(tmp_path)))


def test_a_file_says_the_order_and_has_to_name_every_checkpoint(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    for i, name in enumerate(("alice", "bob", "carol")):
        save(tmp_path / "ckpts" / f"{name}.pt", trained(1, 1 + i))
    (tmp_path / "order.txt").write_text("ckpts/bob.pt\nckpts/carol.pt\n", encoding="utf-8")
    done = ncscan("extract", "ckpts", "--order", "order.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert "--order order.txt: ckpts/alice.pt has no line; every checkpoint of a run needs one" in done.stderr
    # The same in the run's own settings, whose file lies beside them.
    toml = tmp_path / "ckpts" / "ncscan.toml"
    toml.write_text(toml.read_text(encoding="utf-8") + '[run]\norder = "../order.txt"\n', encoding="utf-8")
    with (tmp_path / "order.txt").open("a", encoding="utf-8") as file:
        file.write("alice.pt\n")
    extracted(tmp_path)
    reported(tmp_path)
    assert ["bob.pt", "carol.pt", "alice.pt"] == list(dict.fromkeys(row["checkpoint"] for row in rows(tmp_path)))
    (tmp_path / "order.txt").write_text("alice.pt\n", encoding="utf-8")
    done = ncscan("report", "--order", "order.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert "ckpts/bob.pt, ckpts/carol.pt have no line" in done.stderr
    done = ncscan("report", "--order", "mtime", cwd=tmp_path)
    assert done.returncode == 2
    assert "do not know when their checkpoints were changed; give it to `ncscan extract`" in done.stderr
