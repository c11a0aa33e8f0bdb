"""Checkpoints of a training that blew up, beside good ones: no number ends a report, and no other row changes."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ncscan.computable import attempt, computable
from ncscan.dumps.discovery import find_dumps
from ncscan.errors import Undefined
from ncscan.pipeline.events import Event
from ncscan.pipeline.extract import extract
from ncscan.pipeline.load import Flags, find_targets
from ncscan.pipeline.measure import Options
from ncscan.pipeline.measurements import measure

K, D = 3, 6
TOML = """[model]
source = "mlp"
activation = "relu"
linear_head = 3
[data]
source = "npz:../data.npz"
[train]
loss = "mse"
optimizer = "sgd"
lr = 0.1
momentum = 0.9
weight_decay = 5e-4
"""
DIVERGED: dict[str, Callable[[Tensor], Tensor]] = {
    "blown up": lambda W: W * 30,
    "near the largest float32": lambda W: W * 1e37,
    "float64": lambda W: W.double() * 1e70,
    "beyond float64's squares": lambda W: W.double() * 1e160,
    "shrunken": lambda W: W * 1e-12,
    "subnormal": lambda W: W * 1e-40,
    "tiny float64": lambda W: W.double() * 1e-200,
    "zero": torch.zeros_like,
    "constant": torch.ones_like,
    "NaN": lambda W: W * float("nan"),
    "infinite": lambda W: W * float("inf"),
}
NO_STEP = 10_000
"""Diverged checkpoints come last, so that the steps of the good ones are what they were."""


def state(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    widths = [D, 12, 8, 8, K]
    layers: list[nn.Module] = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above, bias=not layers), *([nn.ReLU()] if not layers else [])]
    return nn.Sequential(*layers).state_dict()


def tables_of(folder: Path, names: list[str]) -> tuple[int, dict[str, pd.DataFrame]]:
    """Extract and report a run with these diverged checkpoints: the exit code, and what the report has."""
    run = folder / "run"
    run.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y = np.arange(60) % K
    np.savez(folder / "data.npz", x=(rng.normal(size=(60, D)) + 3 * np.eye(D)[y]).astype(np.float32), y=y)
    (run / "ncscan.toml").write_text(TOML)
    for step in (10, 20):
        torch.save(state(step), run / f"step_{step}.pt")
    for i, name in enumerate(names):
        torch.save({k: DIVERGED[name](W) for k, W in state(20).items()}, run / f"step_{NO_STEP + i}.pt")
    events: list[Event] = []
    made = extract(find_targets([run], Flags()).targets, Flags(gradients=24), folder / "dumps", events.append)
    options = Options(bootstrap=20, permutations=20)
    found = measure(find_dumps([folder / "dumps"]).dumps, options, events.append)
    assert found.violations == []
    return made.exit_code, dict(found.tables)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning:torch")
def test_diverged_checkpoints_cost_no_row_of_the_good_ones(tmp_path: Path) -> None:
    alone, plain = tables_of(tmp_path / "good", [])
    beside, mixed = tables_of(tmp_path / "mixed", list(DIVERGED))
    assert (0, 4) == (alone, beside)  # NaN and infinite weights are skipped
    for name in ("metrics", "weights", "theory", "classes", "geometry"):
        good = mixed[name][mixed[name]["step"] < NO_STEP].reset_index(drop=True)
        pd.testing.assert_frame_equal(plain[name].reset_index(drop=True), good, check_exact=True)
    for name, frame in mixed.items():
        if "value" in frame and "reason" in frame:
            value = frame["value"].to_numpy(dtype=float, na_value=math.nan)
            assert not np.isinf(value).any(), name
            silent = np.isnan(value) & (frame["reason"].fillna("") == "").to_numpy()
            assert not silent[frame.get("claim", pd.Series("", index=frame.index)) != "theorem31_smooth"].any(), name
    ridge = mixed["theory"][mixed["theory"]["claim"] == "ridge_form"]
    beyond = ridge[ridge["step"] == NO_STEP + list(DIVERGED).index("beyond float64's squares")]
    assert beyond["value"].isna().all()
    assert (beyond["reason"] != "").all()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda: np.linalg.inv(np.zeros((2, 2))), r"a matrix decomposition failed \(Singular matrix\)"),
        (lambda: np.linalg.svd(np.full((2, 2), np.nan)), "a matrix decomposition failed"),
        (lambda: 1e200**2, "exceeds the range of float64"),
        (lambda: 1 / math.floor(0.5), "exceeds the range of float64"),
    ],
)
def test_what_float64_cannot_compute_is_a_reason(broken: Callable[[], object], reason: str) -> None:
    found = attempt(broken)
    assert isinstance(found, Undefined)
    with pytest.raises(Undefined, match=reason), computable():
        broken()
