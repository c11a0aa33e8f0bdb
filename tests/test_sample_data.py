"""The shipped sample data are what its README says: real, whole, repeatable, and in the terminal phase.

Everything is computed here from the shipped tensors with numpy alone, so these figures can be held against ncscan's.
"""

import struct
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_digits

SAMPLE_DATA = Path(__file__).parent.parent / "sample_data"
RUNS = sorted(path.parent.name for path in SAMPLE_DATA.glob("trajectories/*/ncscan.toml"))
N_HIDDEN, N_HEAD = 4, 3

INITIALISATION_TOLERANCE = 1e-6
"""With the libraries kept to SSE4 the same draws came out 2.5e-7 apart: a few units in float32's last place."""
STEP_30_TOLERANCE = 1e-3
"""There, step 30 came out 1.4e-4 apart, after one ReLU fell the other way; the weights had moved by 1e-1 by then."""
RATE_TOLERANCE = 0.01
"""The predicted rate of decay is first order in the learning rate; trials elsewhere agree within half a per cent."""
CONSERVED_TOLERANCE = 0.01
"""Gradient flow conserves balancedness; finite steps move it at second order, most while the loss is still high."""


@dataclass(frozen=True)
class Kept:
    """A checkpoint, read by the simplest means there are."""

    step: int
    notes: Mapping[str, float]
    state: Mapping[str, torch.Tensor]
    optimizer: bool

    @property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Weights and biases in float64, first layer first."""
        tensors = {name: tensor.double().numpy() for name, tensor in self.state.items()}
        numbers = sorted({int(name.split(".")[0]) for name in tensors})
        return [(tensors[f"{n}.weight"], tensors.get(f"{n}.bias")) for n in numbers]


def read(path: Path) -> Kept:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            notes = {name: float(text) for name, text in file.metadata().items()}
        return Kept(int(notes["step"]), notes, load_file(path), optimizer=False)
    plain = torch.load(path, weights_only=True)
    notes = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    optimizer = plain["optimizer_state_dict"]["param_groups"][0]["lr"] > 0
    return Kept(plain["step"], notes, plain["model_state_dict"], optimizer)


def checkpoints(run: str, folder: Path = SAMPLE_DATA) -> list[Kept]:
    return [read(path) for path in sorted((folder / "trajectories" / run).glob("step_*"))]


def settings(run: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((SAMPLE_DATA / "trajectories" / run / "ncscan.toml").read_text(encoding="utf-8"))


def balancedness(run: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (T,) and ‖W_{l+1}ᵀW_{l+1} − W_l W_lᵀ‖ (T, pairs) in operator norm over the run's linear head."""
    kept = checkpoints(run)
    norms = [
        [np.linalg.norm(V.T @ V - W @ W.T, 2) for (W, _), (V, _) in pairwise(head)]
        for head in (checkpoint.layers[-N_HEAD:] for checkpoint in kept)
    ]
    return np.array([checkpoint.step for checkpoint in kept]), np.array(norms)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SAMPLE_DATA / "make.py"), *arguments], capture_output=True, text=True)


def test_sample_data_is_small_and_has_the_runs_that_the_readme_names() -> None:
    data = [SAMPLE_DATA / "digits.npz", *SAMPLE_DATA.glob("trajectories/*/*")]
    assert sum(path.stat().st_size for path in data) < 6_000_000
    assert RUNS == ["decay-seed0", "decay-seed1", "no-decay-seed0"]
    groups = {run: settings(run)["run"]["group"] for run in RUNS}
    assert groups == {"decay-seed0": "decay", "decay-seed1": "decay", "no-decay-seed0": "no-decay"}
    decays = {run: settings(run)["train"]["weight_decay"] for run in RUNS}
    assert decays == {"decay-seed0": 1e-4, "decay-seed1": 1e-4, "no-decay-seed0": 0.0}


def test_digits_are_those_of_scikit_learn() -> None:
    digits = load_digits()
    with np.load(SAMPLE_DATA / "digits.npz", allow_pickle=False) as file:
        assert file["inputs"].dtype == np.float32
        assert file["inputs"].shape == (1797, 1, 8, 8)
        np.testing.assert_array_equal(digits.images, file["inputs"][:, 0] * 16)
        assert file["labels"].dtype == np.int64
        np.testing.assert_array_equal(digits.target, file["labels"])
        assert list("0123456789") == file["class_names"].tolist()


@pytest.mark.parametrize("run", RUNS)
def test_every_run_keeps_whole_checkpoints_from_initialisation_to_end(run: str) -> None:
    kept = checkpoints(run)
    assert len(kept) >= 8
    assert [checkpoint.step for checkpoint in kept] == sorted({checkpoint.step for checkpoint in kept})
    assert kept[0].step == 0
    assert kept[-1].step == settings(run)["train"]["steps"]
    assert {checkpoint.optimizer for checkpoint in kept} == {True, False}
    for checkpoint in kept:
        assert checkpoint.notes["epoch"] == checkpoint.step // 3
        assert [bias is not None for _, bias in checkpoint.layers] == [True] * N_HIDDEN + [False] * N_HEAD
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint.state.values())


@pytest.mark.parametrize("run", RUNS)
def test_every_run_is_in_the_terminal_phase_for_the_second_half_of_its_training(run: str) -> None:
    with np.load(SAMPLE_DATA / "digits.npz", allow_pickle=False) as file:
        inputs, labels = file["inputs"].reshape(1797, 64).astype(np.float64), file["labels"]
    kept = checkpoints(run)
    for checkpoint in kept:
        h = inputs
        for depth, (W, b) in enumerate(checkpoint.layers):
            h = h @ W.T if b is None else h @ W.T + b
            h = np.maximum(h, 0) if depth < N_HIDDEN else h
        error = np.mean(h.argmax(axis=1) != labels)
        assert 1 - checkpoint.notes["train_accuracy"] == pytest.approx(error, abs=1e-12)
        assert checkpoint.notes["train_mse"] == pytest.approx(np.mean((h - np.eye(10)[labels]) ** 2), rel=1e-4)
        if checkpoint.step >= kept[-1].step / 2:
            assert error == 0


@pytest.mark.parametrize("run", ["decay-seed0", "decay-seed1"])
def test_balancedness_falls_log_linearly_at_the_predicted_rate_with_weight_decay(run: str) -> None:
    steps, norms = balancedness(run)
    train = settings(run)["train"]
    predicted = 2 * train["lr"] * train["weight_decay"] / (1 - train["momentum"])
    for pair in norms.T:
        assert pair[0] / pair[-1] >= 5
        # Decay sets the level from the very first checkpoint: the loss moves balancedness at second order only.
        rate, _ = np.polyfit(steps, np.log(pair), 1)
        assert np.corrcoef(steps, np.log(pair))[0, 1] ** 2 >= 0.98
        assert predicted == pytest.approx(-rate, rel=RATE_TOLERANCE)


def test_balancedness_stays_without_weight_decay() -> None:
    _, norms = balancedness("no-decay-seed0")
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), rtol=CONSERVED_TOLERANCE)


def test_make_repeats_the_shipped_files_when_run_again(tmp_path: Path) -> None:
    for name in ("once", "again"):
        assert make("--out", str(tmp_path / name), "--until", "30").returncode == 0
    made = sorted(path.relative_to(tmp_path / "once") for path in (tmp_path / "once").rglob("*.*"))
    assert len(made) == 1 + 3 * len(RUNS)  # the digits, and of each run an ncscan.toml and two checkpoints
    for path in made:
        assert (tmp_path / "once" / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path
    for run in RUNS:
        shipped = checkpoints(run)[:2]
        for tolerance, expected, actual in zip(
            (INITIALISATION_TOLERANCE, STEP_30_TOLERANCE), shipped, checkpoints(run, tmp_path / "once"), strict=True
        ):
            assert expected.step == actual.step
            assert expected.state.keys() == actual.state.keys()
            for name, tensor in expected.state.items():
                torch.testing.assert_close(actual.state[name], tensor, rtol=0, atol=tolerance)


def test_make_refuses_to_cut_the_shipped_runs_short() -> None:
    done = make("--until", "30")
    assert done.returncode == 2
    assert "--out" in done.stderr


def test_mnist_measures_what_it_trains_on_when_it_takes_fewer_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SAMPLE_DATA)
    mnist = import_module("mnist")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 784), dtype=np.uint8)
    data = tmp_path / "data"
    data.mkdir()
    (data / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 5, 28, 28) + pixels.tobytes())
    (data / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 5) + bytes([5, 0, 4, 1, 9]))
    shorter = mnist.cut(data, 3)
    inputs, labels = mnist.read(shorter)
    assert labels.tolist() == [5, 0, 4]
    np.testing.assert_allclose(inputs, (pixels[:3] / 255 - mnist.MEAN) / mnist.STD, rtol=1e-5)
    assert (shorter / "train-images-idx3-ubyte").read_bytes()[:16] == struct.pack(">4I", 2051, 3, 28, 28)
