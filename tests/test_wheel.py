"""What a user gets: the wheel, installed without the development packages, run from another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    # PYTHONPATH and the like would let the checkout shine through
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with nothing but the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    (wheel,) = folder.glob("*.whl")
    run(programs / "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return programs


def test_wheel_extracts_and_reports_from_another_folder(installed: Path, tmp_path: Path) -> None:
    run_folder = ROOT / "sample_data" / "trajectories" / "decay-seed0"
    copied = tmp_path / "ckpts"
    copied.mkdir()
    shutil.copy(ROOT / "sample_data" / "digits.npz", tmp_path)
    checkpoints = sorted(path for path in run_folder.iterdir() if path.suffix in (".pt", ".safetensors"))
    for path in (checkpoints[0], checkpoints[-1]):
        shutil.copy(path, copied)
    config = (run_folder / "ncscan.toml").read_text(encoding="utf-8")
    (copied / "ncscan.toml").write_text(config.replace("../../digits.npz", "../digits.npz"), encoding="utf-8")

    run(installed / "ncscan", "extract", "ckpts", cwd=tmp_path)
    said = run(installed / "ncscan", "report", cwd=tmp_path)

    assert "report.html" in said
    written = {path.name for path in (tmp_path / "ncscan-out" / "report").iterdir()}
    assert {"metrics.csv", "weights.csv", "summary.csv", "report.json", "report.html"} <= written


def test_wheel_carries_no_development_package(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "pip", "list", "--format", "freeze", cwd=tmp_path).lower()
    present = {line.partition("==")[0] for line in listed.splitlines()}
    assert present.isdisjoint({"pytest", "beartype", "hypothesis", "transformers", "scikit-learn", "mypy"})
