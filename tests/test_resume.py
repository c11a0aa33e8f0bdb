"""Killed and interrupted, the same command goes on where it stopped, and ends with the same bytes."""

import contextlib
import hashlib
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from test_cli import N_CLASSES, N_INPUTS, TOML, command, ncscan, network, save

N_SAMPLES = 20_000
N_CHECKPOINTS = 8
EXTRACT = ("extract", "ckpts", "--batch-size", "16", "--out")
"""Batches so small that a checkpoint takes about a second: a kill falls into the midst of one."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz and ckpts/ of eight checkpoints."""
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


def stop(process: subprocess.Popen[str], out: Path, when: float, how: signal.Signals) -> int:
    """Sends a signal a while after the process began to write; the exit code."""
    before = {(path, path.stat().st_mtime_ns) for path in out.rglob("*.h5*")}
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # a partial file is renamed under our eyes
            if before != {(path, path.stat().st_mtime_ns) for path in out.rglob("*.h5*")}:
                break
        time.sleep(0.005)
    time.sleep(when)
    process.send_signal(how)
    process.wait(timeout=60)
    return process.returncode


def test_five_kills_end_with_the_bytes_of_an_undisturbed_run(checkpoints: Path, undisturbed: dict[str, str]) -> None:
    rng = random.Random(7)  # noqa: S311 - moments, not secrets
    out = checkpoints / "killed"
    killed_in_the_midst = 0
    for _ in range(5):
        before = finished(out)
        process = subprocess.Popen(
            command(*EXTRACT, "killed"),
            cwd=checkpoints,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        code = stop(process, out, rng.uniform(0, 2), signal.SIGKILL)
        killed_in_the_midst += code == -signal.SIGKILL and len(finished(out)) < N_CHECKPOINTS
        after = finished(out)
        assert before == {path: after[path] for path in before}, "a finished checkpoint was computed again"
    assert killed_in_the_midst >= 3

    done = ncscan(*EXTRACT, "killed", cwd=checkpoints)

    assert (0, "") == (done.returncode, done.stderr)
    assert undisturbed == digests(out)
    assert list(out.rglob("*.partial")) == []


def test_interrupted_says_so_and_goes_on(checkpoints: Path, undisturbed: dict[str, str]) -> None:
    process = subprocess.Popen(
        command(*EXTRACT, "interrupted"),
        cwd=checkpoints,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    code = stop(process, checkpoints / "interrupted", 0.5, signal.SIGINT)
    _, said = process.communicate()
    assert code == 130, said
    assert said.startswith("interrupted")
    assert "Traceback" not in said

    assert ncscan(*EXTRACT, "interrupted", cwd=checkpoints).returncode == 0
    assert undisturbed == digests(checkpoints / "interrupted")
