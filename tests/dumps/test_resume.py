"""Killed and interrupted, the same command goes on where it stopped, and ends with the same bytes."""

import hashlib
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import serving
from workspaces import N_CLASSES, N_INPUTS, PATIENCE, TOML, ncscan, network, save

N_SAMPLES = 2_000
N_CHECKPOINTS = 10
BATCH = 16
EXTRACT = ("extract", "ckpts", "--batch-size", str(BATCH), "--out")
CALLS = N_SAMPLES // BATCH * (1 + len(network(0)))
"""Calls of the network and its layers that a checkpoint takes, and a few more."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz and ckpts/ of the checkpoints."""
    folder = tmp_path_factory.mktemp("resume")
    rng = np.random.default_rng(0)
    labels = np.arange(N_SAMPLES) % N_CLASSES
    inputs = rng.normal(size=(N_SAMPLES, N_INPUTS)).astype(np.float32)
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    ckpts = folder / "ckpts"
    ckpts.mkdir()
    (ckpts / "ncscan.toml").write_text(TOML, encoding="utf-8")
    for step in range(N_CHECKPOINTS):
        save(ckpts / f"step_{step}.pt", network(step).state_dict(), step=step, train_accuracy=1 / N_CLASSES)
    return folder


@pytest.fixture(scope="module")
def undisturbed(checkpoints: Path) -> dict[str, str]:
    assert ncscan(*EXTRACT, "calm", cwd=checkpoints).returncode == 0
    return digests(checkpoints / "calm")


def finished(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.rglob("*.h5"))}


def stopped(how: str, calls: int, seconds: float, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """An ncscan that gets a signal after so many calls of layers, and so many seconds of its own work after these."""
    code = serving.program(Path(__file__).parents[1] / "stopping.py")
    return serving.run([how, str(calls), str(seconds), *arguments], cwd, PATIENCE, code)


def test_five_kills_end_with_the_bytes_of_an_undisturbed_run(checkpoints: Path, undisturbed: dict[str, str]) -> None:
    rng = random.Random(8)  # noqa: S311 - moments, not secrets
    out = checkpoints / "killed"
    for _ in range(5):
        before = finished(out)
        calls, seconds = rng.randint(1, 2 * CALLS), rng.uniform(0, 0.02)
        done = stopped("SIGPROF", calls, seconds, *EXTRACT, "killed", cwd=checkpoints)
        assert -signal.SIGPROF == done.returncode, done.stderr
        after = finished(out)
        assert before == {path: after[path] for path in before}, "a finished checkpoint was computed again"
    assert 0 < len(finished(out)) < N_CHECKPOINTS

    done = ncscan(*EXTRACT, "killed", cwd=checkpoints)

    assert (0, "") == (done.returncode, done.stderr)
    assert undisturbed == digests(out)
    assert list(out.rglob("*.partial")) == []


def test_what_an_ended_extract_left_beside_a_complete_dump_goes(checkpoints: Path, undisturbed: dict[str, str]) -> None:
    dump = next((checkpoints / "calm").rglob("*.h5"))
    left = dump.with_name(dump.name + ".partial")
    left.write_bytes(b"half")
    done = ncscan(*EXTRACT, "calm", cwd=checkpoints)
    assert (0, "") == (done.returncode, done.stderr)
    assert not left.exists()
    assert undisturbed == digests(checkpoints / "calm")


def test_interrupted_says_so_and_goes_on(checkpoints: Path, undisturbed: dict[str, str]) -> None:
    done = stopped("SIGINT", CALLS + CALLS // 2, 0, *EXTRACT, "interrupted", cwd=checkpoints)
    assert 130 == done.returncode, done.stderr
    assert done.stderr.startswith("interrupted")
    assert "Traceback" not in done.stderr
    assert 0 < len(finished(checkpoints / "interrupted")) < N_CHECKPOINTS

    assert ncscan(*EXTRACT, "interrupted", cwd=checkpoints).returncode == 0
    assert undisturbed == digests(checkpoints / "interrupted")
