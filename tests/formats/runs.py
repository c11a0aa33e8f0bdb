"""A user's folder for checkpoints of any origin: a model, data, and what the command line makes of the files."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from workspaces import ncscan, samples, write_data

CODE = """from torch import nn
def make():
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
"""


class Row(NamedTuple):
    """What is known of one checkpoint once it is measured, in the order of the report."""

    name: str
    step: int | None
    epoch: int | None


def network(seed: int = 0) -> nn.Sequential:
    """The network of CODE."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def batch() -> tuple[Tensor, Tensor]:
    inputs, labels = samples()
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def measured(folder: Path, *options: str, code: str = CODE, said: str = "") -> list[Row]:
    """Extract and report `ckpts` of a folder; every checkpoint must fill the model, and nothing may be skipped."""
    write_data(folder / "data.npz")
    (folder / "net.py").write_text(code)
    done = ncscan("extract", "ckpts", "--model", "net:make", "--data", "npz:data.npz", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if "tensors (" in line]
    assert lines
    assert all(re.search(r"(\d+) of \1 tensors \(100%\)", line) for line in lines), done.stdout
    reported = ncscan("report", cwd=folder)
    assert reported.returncode == 0, reported.stderr
    report = json.loads((folder / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    told = [entry["provenance"] for entry in report["checkpoints"]]
    # Another name of a checkpoint is left to it.
    assert len(told) + sum(len(each.get("same_tensors", ())) for each in told) == len(lines)
    return [Row(each["checkpoint"], each["step"], each["epoch"]) for each in told]
