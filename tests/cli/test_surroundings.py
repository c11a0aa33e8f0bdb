"""Whatever stdout and stderr are, a command ends with its result or one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workspaces import TOML, command, fitted, ncscan, one_line, save, write_data

NAME = "Δ\u202e\x1b[31m_5.pt"


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_data(folder / "data.npz")
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "ncscan.toml").write_text(TOML, encoding="utf-8")
    save(folder / "ckpts" / NAME, fitted(5), step=5)
    save(folder / "later.pt", fitted(7), step=7)
    (folder / "later.pt").rename(os.fsdecode(os.fsencode(folder / "ckpts") + b"/caf\xe9_7.pt"))
    done = run(folder, "extract", "ckpts", PYTHONIOENCODING="latin-1", LC_ALL="C")
    assert 0 == done.returncode
    assert rb"\u0394" in done.stdout
    assert b"2 of 2 dumps" in done.stdout
    return folder


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, env={**os.environ, **environment})
    assert b"Traceback" not in done.stderr
    assert b"unexpected" not in done.stderr
    return done


def test_report_in_ascii_without_docstrings_says_all_it_has(extracted: Path) -> None:
    surroundings = {"PYTHONIOENCODING": "ascii", "PYTHONOPTIMIZE": "2", "PYTHONUTF8": "0", "TERM": "dumb"}
    done = run(extracted, "report", "ncscan-out/dumps", "--out", "ascii", **surroundings)
    assert 0 == done.returncode
    assert done.stdout.isascii()
    assert b"page: ascii/report/report.html" in done.stdout
    tables = b"".join(path.read_bytes() for path in (extracted / "ascii" / "report").glob("*.csv"))
    assert rb"\u202e\u001b[31m_5.pt" in tables
    assert not {0x1B, 0x07} & set(tables)


def test_surroundings_that_are_closed_stay_closed(extracted: Path) -> None:
    """No file that is opened takes their numbers, or what is printed would be written into it."""
    code = "import os, sys\nfrom ncscan.cli.surroundings import ready_streams\nready_streams()\nprint('lost')\n"
    code += "sys.stderr.write('lost')\nos._exit(os.open('file', os.O_CREAT | os.O_RDWR))"
    done = subprocess.run([sys.executable, "-c", code], cwd=extracted, preexec_fn=lambda: os.closerange(0, 3))
    assert 2 < done.returncode < 10
    assert b"" == (extracted / "file").read_bytes()


def test_errors_name_files_that_no_encoding_has(extracted: Path) -> None:
    done = subprocess.run(
        [*command("report"), b"caf\xe9\xce\x94.h5"],
        cwd=extracted,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert 1 == done.returncode
    assert "no such file" in one_line(done.stderr)


def test_help_without_docstrings_is_the_same(tmp_path: Path) -> None:
    plain = run(tmp_path, "report", "--help")
    assert plain.stdout == run(tmp_path, "report", "--help", PYTHONOPTIMIZE="2").stdout
    assert b"Measure dumps" in plain.stdout


PROGRAM = (
    "from ncscan.cli.surroundings import keep_docstrings; keep_docstrings(); import sys; print(sys.argv, sys.flags)"
)


@pytest.mark.parametrize(
    "flags",
    [
        ["-OO", "-c", PROGRAM],
        ["-OOc", PROGRAM],
        ["-O", "-O", "-c", PROGRAM],
        ["-BOsO", "-W", "error", "-Xutf8=0", "-c", PROGRAM],
        ["-O", "-X", "utf8=0", "-OBsWerror", "-c", PROGRAM],
        ["--check-hash-based-pycs", "never", "-OOBs", "-c", PROGRAM],
    ],
)
def test_no_flag_of_python_takes_the_docstrings(flags: list[str]) -> None:
    done = subprocess.run([sys.executable, *flags, "-OO", "x"], capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
    assert "['-c', '-OO', 'x']" in done.stdout
    assert "optimize=0" in done.stdout
    for asked, name in {"B": "dont_write_bytecode=1", "s": "no_user_site=1", "utf8=0": "utf8_mode=0"}.items():
        assert name in done.stdout or not any(asked in flag for flag in flags[:-1])


def test_the_package_is_a_program(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-OOm", "ncscan", "report", "-h"], cwd=tmp_path, capture_output=True)
    assert 0 == done.returncode
    assert b"Measure dumps" in done.stdout


def test_a_reader_of_stderr_that_goes_away_does_not_stop_the_work(extracted: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = ncscan("report", "ncscan-out/dumps", "--out", "unheard", cwd=extracted, stdout=write, stderr=write)
    os.close(write)
    assert 0 == done.returncode
    assert (extracted / "unheard" / "report" / "report.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "ncscan-out/dumps", "--out", "full"),
        ("report", "ncscan-out/dumps", "--out", "full", "--json"),
        ("layers", "ckpts"),
        ("metrics",),
    ],
)
def test_a_stdout_that_is_full_is_no_fault_of_an_input(extracted: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = ncscan(*arguments, cwd=extracted, stdout=full.fileno())
    assert 1 == done.returncode
    assert arguments[0] != "report" or (extracted / "full" / "report" / "report.html").exists()
    assert 1 == done.stderr.count("error: stdout cannot be written")
    assert "skipped" not in done.stderr
