"""What a user gets: the wheel, beside what it declares to depend on and nothing else, run from another folder."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    # PYTHONPATH and the like would let the checkout shine through
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def closure(of: Distribution) -> dict[str, Distribution]:
    """Find what a distribution depends on, and what that depends on, among what is installed here."""
    found: dict[str, Distribution] = {}
    left = [(of, "")]
    seen: set[tuple[str, str]] = set()
    while left:
        wanting, extra = left.pop()
        for text in wanting.requires or []:
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
                continue
            here = distribution(wanted.name)
            assert wanted.specifier.contains(here.version, prereleases=True), f"{text}: {here.version}"
            found[here.name] = here
            new = {(here.name, own) for own in ("", *wanted.extras)} - seen
            seen |= new
            left += [(here, own) for _, own in new]
    return found


def link(installed: Distribution, site_packages: Path) -> None:
    """Put what one distribution installed into another environment: packages whole, of what several share its files."""
    files = [file for file in installed.files or [] if file.parts[0] != ".."]
    packages = {file.parts[0] for file in files if len(file.parts) == 2 and file.name == "__init__.py"}
    for part in {PurePath(file.parts[0]) if file.parts[0] in packages else PurePath(file) for file in files}:
        there = site_packages / part
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(Path(str(installed.locate_file(part))))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with nothing but the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    (wheel,) = folder.glob("*.whl")
    pip(programs, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel)
    (site_packages,) = folder.glob("venv/lib/python*/site-packages")
    (described,) = site_packages.glob("ncscan-*.dist-info")
    for needed in closure(PathDistribution(described)).values():
        link(needed, site_packages)
    return programs


def pip(programs: Path, *arguments: str | Path) -> str:
    """Run the pip of this environment for the other one, which has none."""
    return run(sys.executable, "-m", "pip", "--python", programs / "python", *arguments, cwd=programs)


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


def test_wheel_carries_no_development_package(installed: Path) -> None:
    listed = pip(installed, "list", "--format", "freeze").lower()
    present = {line.partition("==")[0] for line in listed.splitlines()}
    assert present.isdisjoint({"pytest", "beartype", "hypothesis", "transformers", "scikit-learn", "mypy"})
