"""A folder as a new user has it, with data, settings and checkpoints, and the real command line in it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import serving
import torch
from torch import Tensor, nn

PATIENCE = 600
"""Seconds after which a command hangs: no test asserts how fast one is, and the machine may be busy."""
N_SAMPLES, N_INPUTS, N_CLASSES = 240, 12, 3
TOML = """[model]
source = "mlp"
activation = "relu"
linear_head = 2
[data]
source = "npz:../data.npz"
"""


def ncscan(
    *arguments: str | Path, cwd: Path, before: str = "", stdout: int | None = None, stderr: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line; `before` is code that comes first, and output may go to file descriptors."""
    code = f"{before}\n{serving.NCSCAN}"
    return serving.run([str(argument) for argument in arguments], cwd, PATIENCE, code, stdout=stdout, stderr=stderr)


def hashing_anew(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As `ncscan`, in a real process: sets have another order there than in those that are forked."""
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, env=env)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", serving.NCSCAN, *map(str, arguments)]


def network(seed: int, width: int = 16) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(N_INPUTS, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
        nn.Linear(width, N_CLASSES, bias=False),
    )


def fitted(seed: int) -> dict[str, Tensor]:
    """A network with random features and the best last layer, so that nothing about its accuracy is doubtful."""
    model = network(seed)
    inputs, labels = samples()
    with torch.no_grad():
        features = model[:-1](torch.from_numpy(inputs))
        best = torch.linalg.lstsq(features, nn.functional.one_hot(torch.from_numpy(labels)).float()).solution
    return {**model.state_dict(), f"{len(model) - 1}.weight": best.T.contiguous()}


def samples() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(N_SAMPLES) % N_CLASSES
    noise = np.random.default_rng(0).normal(size=(N_SAMPLES, N_INPUTS))
    means = 4 * np.tile(np.eye(N_CLASSES), N_INPUTS // N_CLASSES)
    return (noise + means[labels]).astype(np.float32), labels


def save(path: Path, state: dict[str, Tensor], **notes: float) -> None:
    torch.save({"state_dict": state, **notes}, path)


def write_data(path: Path, labels: np.ndarray | None = None) -> None:
    inputs, own = samples()
    np.savez(path, inputs=inputs, labels=own if labels is None else labels)


def make_workspace(folder: Path, *steps: int) -> None:
    """Put data.npz and ckpts/ into a folder: an ncscan.toml and a checkpoint for each step."""
    write_data(folder / "data.npz")
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "ncscan.toml").write_text(TOML, encoding="utf-8")
    for step in steps:
        save(folder / "ckpts" / f"step_{step}.pt", fitted(step), step=step)


def dumps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "ncscan-out" / "dumps").rglob("*.h5"))


def rows(folder: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (folder / "ncscan-out" / "report" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def one_line(stderr: str) -> str:
    """The single line of trouble; fails when there is more than one, or a traceback."""
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.strip()]
    return line
