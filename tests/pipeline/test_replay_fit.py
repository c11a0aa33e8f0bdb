"""A replay that fits badly is diagnosed: classes numbered otherwise, a run that has only begun, preprocessing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from workspaces import N_CLASSES, N_SAMPLES, dumps, fitted, make_workspace, ncscan, one_line, rows, samples, save

from ncscan.dumps import Dump
from ncscan.pipeline.fit import below_chance, near_chance, noted_otherwise

ORDER = [2, 0, 1]
"""The data's label of each output, where the data numbers its classes otherwise."""


@pytest.mark.parametrize(
    ("accuracy", "notes", "said"),
    [
        (0.12, {"train_accuracy": 0.11}, ""),
        (0.12, {"train_accuracy": 0.98}, "own train_accuracy is 98.0%"),
        (0.12, {"best_acc": 93.1}, "own best_acc is 93.1%"),
        (0.999, {"best_acc": 93.1}, ""),
        (0.999, {"train_acc": 93.1}, "own train_acc is 93.1%"),
        (0.5, {"acc": "high"}, ""),
        (0.5, {"acc": True}, ""),
        (0.5, {}, ""),
    ],
)
def test_an_accuracy_is_compared_with_the_note(accuracy: float, notes: dict[str, object], said: str) -> None:
    doubts = noted_otherwise(accuracy, notes)
    assert bool(said) == bool(doubts)
    assert all(said in doubt for doubt in doubts)


def test_chance_is_near_below_or_far() -> None:
    assert "is near chance, 10.0%" in near_chance(0.12, 0.1)
    assert "near chance" not in near_chance(0.0, 0.1)
    assert near_chance(0.98, 0.1) == ""
    labels = np.arange(300) % 10
    random = np.random.default_rng(0)
    assert below_chance(labels, random.integers(0, 10, 300), 10) == ""
    assert below_chance(labels, np.full(300, 4), 10) == ""  # one class alone: as many as it has
    for decisions in ((labels + random.integers(1, 10, 300)) % 10, np.full(300, 10)):  # never right; of no class
        assert "accuracy 0.0% is below chance" in below_chance(labels, decisions, 11)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that fits, and data that numbers the classes otherwise."""
    make_workspace(tmp_path, 5)
    _, labels = samples()
    write(tmp_path, np.array(ORDER)[labels])
    return tmp_path


def write(folder: Path, labels: np.ndarray, *names: str) -> None:
    names = names or tuple(map(str, range(labels.max() + 1)))
    np.savez(folder / "data.npz", inputs=samples()[0], labels=labels, class_names=np.array(names))


def test_classes_in_another_order_are_named_with_the_option_that_helps(folder: Path) -> None:
    done = ncscan("extract", "ckpts", cwd=folder)
    line = one_line(done.stderr)
    assert 0 == done.returncode
    assert re.search(r"accuracy [012]\.\d% of 240", done.stdout)
    assert "numbers its classes otherwise than the network" in line
    assert "--class-order 2,0,1;" in line
    assert "label 0 is class 1" in line
    assert not any(word in line for word in ("chance,", "preprocessing"))
    reported = ncscan("report", cwd=folder)
    assert line == one_line(reported.stderr)
    report = json.loads((folder / "ncscan-out" / "report" / "report.json").read_text())
    assert "class order" == report["verdict"]["runs"][0]["doubts"][0]["kind"]
    wrong = {(row["layer"], row["metric"]): float(row["value"] or "nan") for row in rows(folder)}

    done = ncscan("extract", "ckpts", "--class-order", "2,0,1", "--force", cwd=folder)
    assert (0, "") == (done.returncode, done.stderr)
    assert "accuracy 97.5%" in done.stdout
    with Dump(folder / "ncscan-out" / "dumps" / "ckpts" / "step_5.pt.h5") as dump:
        assert tuple(ORDER) == dump.provenance.class_order
        assert dump.labels.tolist() == samples()[1].tolist()
    done = ncscan("report", cwd=folder)
    assert (0, "") == (done.returncode, done.stderr)
    numbers = {(row["layer"], row["metric"]): float(row["value"] or "nan") for row in rows(folder)}
    assert numbers["5", "error"] < 0.05 < 0.95 < wrong["5", "error"]
    assert numbers["4", "nc1_trace"] == pytest.approx(wrong["4", "nc1_trace"])
    assert numbers["4", "nc3_distance"] < wrong["4", "nc3_distance"]


def test_a_dump_of_another_order_is_one_of_other_settings(folder: Path) -> None:
    assert 0 == ncscan("extract", "ckpts", cwd=folder).returncode
    done = ncscan("extract", "ckpts", "--class-order", "2,0,1", cwd=folder)
    assert (2, True) == (done.returncode, "class_order" in one_line(done.stderr))


def test_labels_off_by_one_are_named_as_such(folder: Path) -> None:
    torch.manual_seed(0)
    state = fitted(5)
    state["5.weight"] = torch.cat([-state["5.weight"].sum(0, keepdim=True), state["5.weight"]])  # a background class, 0
    save(folder / "ckpts" / "step_5.pt", state, step=5)
    write(folder, samples()[1])
    done = ncscan("extract", "ckpts", cwd=folder)
    line = next(line for line in done.stderr.splitlines() if "otherwise" in line)
    assert "each label is one less than its class: --class-order 3,0,1,2;" in line
    done = ncscan("extract", "ckpts", "--class-order", "3,0,1,2", "--force", cwd=folder)
    assert "accuracy 97.5%" in done.stdout
    write(folder, samples()[1] + 1)
    save(folder / "ckpts" / "step_5.pt", fitted(5), step=5)
    done = ncscan("extract", "ckpts", "--force", cwd=folder)
    assert "label 3, and the model has 3 outputs: are the labels numbered from 1?" in one_line(done.stderr)


def test_names_a_file_and_a_toml_give_the_order_too(folder: Path) -> None:
    write(folder, np.array(ORDER)[samples()[1]], "ant", "bee", "cat")
    (folder / "order.txt").write_text("cat\nant\nbee\n")
    for given in ("cat,ant,bee", "order.txt", "2, 0, 1"):
        done = ncscan("extract", "ckpts", "--class-order", given, "--force", cwd=folder)
        assert (0, "") == (done.returncode, done.stderr)
        assert "accuracy 97.5%" in done.stdout
    with Dump(folder / "ncscan-out" / "dumps" / "ckpts" / "step_5.pt.h5") as dump:
        assert ("cat", "ant", "bee") == dump.provenance.class_names
    toml = (folder / "ckpts" / "ncscan.toml").read_text()
    for text in ("[2, 0, 1]", '["cat", "ant", "bee"]', '"../order.txt"', '"cat,ant,bee"'):
        (folder / "ckpts" / "ncscan.toml").write_text(f"{toml}class_order = {text}\n")
        done = ncscan("extract", "ckpts", "--force", cwd=folder)
        assert ("", True) == (done.stderr, "accuracy 97.5%" in done.stdout), text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0,1", "has 2 classes and lacks '2'"),
        ("0,1,1", "'1' twice"),
        ("0,1,3", "'3', which is no class of the data (0, 1, 2)"),
        ("0,1,-2", "'-2', which is no class"),
        ("a,b,c", "'a', which is no class"),
        ("9" * 6000 + ",1,2", "which is no class"),
        ("absent.txt", "absent.txt: there is no such file"),
        (",", "--class-order names no class"),
    ],
)
def test_an_order_that_is_no_permutation_is_one_error(given: str, said: str, folder: Path) -> None:
    done = ncscan("extract", "ckpts", "--class-order", given, cwd=folder)
    line = one_line(done.stderr)
    assert (2, True, True) == (done.returncode, line.startswith("error: "), said in line), line


@pytest.mark.parametrize("text", ["3", "[1.5, 2, 0]", "[true, 0]", "[]", '""'])
def test_a_toml_with_an_order_that_is_none_is_one_error(text: str, folder: Path) -> None:
    toml = (folder / "ckpts" / "ncscan.toml").read_text()
    (folder / "ckpts" / "ncscan.toml").write_text(f"{toml}class_order = {text}\n")
    done = ncscan("extract", "ckpts", cwd=folder)
    assert (2, True) == (done.returncode, "class_order" in one_line(done.stderr))


def test_the_order_of_many_classes_comes_in_a_file(folder: Path) -> None:
    K = 30
    labels = np.arange(20 * K) % K
    order = np.random.default_rng(0).permutation(K)
    inputs = 10 * np.eye(K, dtype=np.float32)[labels]
    np.savez(folder / "data.npz", inputs=inputs, labels=order[labels])
    net = {"0.weight": torch.eye(K), "1.weight": torch.eye(K)}
    save(folder / "ckpts" / "step_5.pt", net, step=5)
    toml = '[model]\nsource = "mlp"\nactivation = "relu"\nlinear_head = 1\n[data]\nsource = "npz:../data.npz"\n'
    (folder / "ckpts" / "ncscan.toml").write_text(toml)
    done = ncscan("extract", "ckpts", cwd=folder)
    line = next(line for line in done.stderr.splitlines() if "otherwise" in line)
    assert "more of 30 move: --class-order FILE, the order found is in class-order.txt" in line
    kept = folder / "ncscan-out" / "dumps" / "ckpts" / "class-order.txt"
    assert order.tolist() == [int(text) for text in kept.read_text().split()]
    done = ncscan("extract", "ckpts", "--class-order", kept, "--force", cwd=folder)
    assert "accuracy 100.0%" in done.stdout
    assert "otherwise" not in done.stderr
    assert 0 == ncscan("report", cwd=folder).returncode


def untrained(seed: int) -> dict[str, torch.Tensor]:
    """A network that takes all samples for one class."""
    state = fitted(seed)
    state["5.weight"] = torch.zeros_like(state["5.weight"])
    return state


def test_the_beginning_of_a_run_that_learns_is_no_alarm(tmp_path: Path) -> None:
    make_workspace(tmp_path, 30, 40)
    for step in (1, 10, 20):
        save(tmp_path / "ckpts" / f"step_{step}.pt", untrained(step), step=step)
    done = ncscan("extract", "ckpts", cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    done = ncscan("report", cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)


def test_a_run_that_ends_near_chance_is_one_alarm(tmp_path: Path) -> None:
    make_workspace(tmp_path, 1, 2)
    for step in (0, 10, 20):
        save(tmp_path / "ckpts" / f"step_{step}.pt", untrained(step), step=step)
    done = ncscan("extract", "ckpts", cwd=tmp_path)
    line = one_line(done.stderr)
    assert 0 == done.returncode
    assert line.startswith("warning: ckpts/step_10.pt: accuracy 33.3% is near chance, 33.3%; wrong preprocessing is")
    assert line.endswith("(1 more alike)")
    assert line == one_line(ncscan("report", cwd=tmp_path).stderr)
    report = json.loads((tmp_path / "ncscan-out" / "report" / "report.json").read_text())
    doubted = {known["checkpoint"] for known in report["checkpoints"] if any("chance" in d for d in known["doubts"])}
    assert {"step_10.pt", "step_20.pt"} == doubted


def test_a_step_that_is_always_0_does_not_make_a_network_untrained(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    save(tmp_path / "ckpts" / "net.pt", untrained(0), step=0, epoch=7)
    assert "accuracy 33.3% is near chance" in one_line(ncscan("extract", "ckpts", cwd=tmp_path).stderr)


def test_decisions_that_match_too_rarely_are_not_near_chance(tmp_path: Path) -> None:
    make_workspace(tmp_path, 5)
    random = np.random.default_rng(0)
    _, labels = samples()
    write(tmp_path, (labels + random.integers(1, N_CLASSES, N_SAMPLES)) % N_CLASSES)
    done = ncscan("extract", "ckpts", cwd=tmp_path)
    line = one_line(done.stderr)
    assert "accuracy 1.2% is below chance, 33" in line
    assert "no single renumbering is certain (the best matches 5" in line
    assert "near chance" not in line
    assert ["step_5.pt.h5"] == dumps(tmp_path)
