"""Which browser the tests of the pages get, and the one line that says why there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from browser import finding
from browser.finding import NoBrowserError, find

TESTS = Path(__file__).parents[1]
VARIABLES = ("CI", "NCSCAN_BROWSER")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process a machine without a browser; return the only folder in which it looks for programs."""
    programs = tmp_path / "pro grams"
    programs.mkdir()
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(finding, "NAMES", [name for name in finding.NAMES if not name.startswith("/")])
    return programs


def program(path: Path, does: str) -> Path:
    path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def missing() -> NoBrowserError:
    with pytest.raises(NoBrowserError) as caught:
        find()
    assert "\n" not in str(caught.value)
    return caught.value


def test_first_browser_that_starts_is_taken(bare: Path) -> None:
    program(bare / "chromium", "exit 1")
    chrome = program(bare / "google-chrome", '[ "$1" = --version ]')
    program(bare / "microsoft-edge", "exit 0")
    assert str(chrome) == find()


def test_browser_of_playwright_is_taken_last(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(finding.own_browser())
    own.parent.mkdir(parents=True)
    program(own, "exit 0")
    assert str(own) == find()
    assert str(program(bare / "chromium", "exit 0")) == find()


def test_no_browser_is_one_line_that_says_how_to_get_one(bare: Path) -> None:
    error = missing()
    assert not error.wanted
    for part in ("left out", "apt install chromium", "playwright install chromium", "NCSCAN_BROWSER=PATH"):
        assert part in str(error)


def test_browser_that_does_not_start_is_named_with_its_words(bare: Path) -> None:
    stub = program(bare / "chromium-browser", "echo 'a first line' >&2; echo 'needs a snap' >&2; exit 1")
    assert f"{stub} does not start: needs a snap" in str(missing())


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"CI": "true"}, True),
        ({"CI": "1"}, True),
        ({"CI": "false"}, False),
        ({"CI": ""}, False),
        ({"NCSCAN_BROWSER": "required"}, True),
        ({"NCSCAN_BROWSER": "none"}, False),
        ({"NCSCAN_BROWSER": "none", "CI": "true"}, False),
        ({"NCSCAN_BROWSER": "/no/such/browser"}, True),
    ],
)
def test_missing_browser_is_an_error_where_one_is_asked_for(
    environment: dict[str, str], wanted: bool, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wanted == missing().wanted


def test_browser_that_is_named_is_taken_and_none_is_none(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "chromium", "exit 0")
    monkeypatch.setenv("NCSCAN_BROWSER", str(program(bare / "own", "exit 0")))
    assert str(bare / "own") == find()
    monkeypatch.setenv("NCSCAN_BROWSER", "none")
    assert "left out" in str(missing())


@pytest.mark.parametrize(
    ("asked", "code", "outcome", "n"), [("none", 0, "SKIPPED [2]", 1), ("/no/such", 1, "ERROR ", 2)]
)
def test_tests_of_pages_are_left_out_in_one_line_or_fail(
    asked: str, code: int, outcome: str, n: int, tmp_path: Path
) -> None:
    env = {**os.environ, "NCSCAN_BROWSER": asked, "PYTHONPATH": str(TESTS)}
    finder = [sys.executable, str(TESTS / "browser" / "finding.py")]
    said = subprocess.run(finder, env=env, capture_output=True, text=True)
    assert (code, 1) == (said.returncode, said.stderr.count("\n"))

    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = browser\n", encoding="utf-8")
    pages = "def test_page(browser): ...\ndef test_other_page(opened): ...\ndef test_no_page(): ...\n"
    (tmp_path / "test_pages.py").write_text(pages, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "browser.conftest", "-p", "no:cacheprovider", "-ra", "--tb=no"]
    run = subprocess.run([*command, "-m", "browser"], cwd=tmp_path, env=env, capture_output=True, text=True)
    lines = [line for line in run.stdout.splitlines() if line.startswith(outcome)]
    assert (code, n) == (run.returncode, len(lines)), run.stdout + run.stderr
    assert all("NCSCAN_BROWSER" in line for line in lines)
    assert "1 deselected" in run.stdout
