"""A command line that is forked from the server is like a real process; no server and no fork of one stays behind."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import serving

PATIENCE = 600
LOOK = """
import json, os, signal, sys
streams = [(s.encoding, s.errors, s.line_buffering, s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)]
print(json.dumps({
    "arguments": (sys.argv, sys.orig_argv[:2], list(sys.flags), __name__), "path": sys.path, "cwd": os.getcwd(),
    "environ": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
    "streams": streams, "input": sys.stdin.read(), "open": sorted(os.listdir("/proc/self/fd")),
    "threads": len(os.listdir("/proc/self/task")), "umask": os.umask(0), "group": os.getpgrp(),
    "signals": {s.name: str(signal.getsignal(s)) for s in signal.valid_signals() if isinstance(s, signal.Signals)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "modules": "serving" in sys.modules,
}))
print("first\\r\\nsecond", file=sys.stderr)
"""
pytestmark = pytest.mark.skipif(not serving.can_fork(), reason="without a server every process is a real one")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server beside the one of the other tests, which imports little and so starts at once."""
    monkeypatch.setattr(serving, "_running", [])
    monkeypatch.setattr(serving, "IMPORTS", ("numpy",))
    yield
    serving.stop()


def real(arguments: list[str], cwd: Path, code: str = serving.NCSCAN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)


def seen(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"), [(["metrics"], 0), (["report", "caf\udce9.h5"], 1), (["extract", "--no-such"], 2)]
)
def test_command_lines_end_as_in_a_real_process(arguments: list[str], code: int, tmp_path: Path) -> None:
    served = serving.run(arguments, tmp_path, PATIENCE)
    assert code == served.returncode
    assert seen(real(arguments, tmp_path)) == seen(served)


def test_a_fork_finds_what_a_real_process_finds(light: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["a", "", "caf\udce9"]
    for variables in ({}, {"COLUMNS": "77", "PYTHONIOENCODING": "latin-1"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        expected, found = real(arguments, tmp_path, LOOK), serving.run(arguments, tmp_path, PATIENCE, LOOK)
        assert json.loads(expected.stdout) == json.loads(found.stdout)
        assert (0, expected.stderr) == (found.returncode, found.stderr)


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(7)",
        "raise SystemExit('a reason')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)",
        "import atexit; atexit.register(print, 'at exit'); print('all', end='')",
    ],
)
def test_ends_of_every_kind_are_told(light: None, code: str, tmp_path: Path) -> None:
    assert seen(real([], tmp_path, code)) == seen(serving.run([], tmp_path, PATIENCE, code))


def test_random_numbers_differ_between_forks(light: None, tmp_path: Path) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = (serving.run([], tmp_path, PATIENCE, code).stdout.split() for _ in range(2))
    assert not set(first) & set(second)


def test_a_late_fork_is_killed_and_the_next_one_served(light: None, tmp_path: Path) -> None:
    serving.run([], tmp_path, PATIENCE, "")
    (server,) = serving._running
    with pytest.raises(subprocess.TimeoutExpired):
        serving.run([], tmp_path, 0.2, "import time; time.sleep(600)")
    assert "" == Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    assert "next\n" == serving.run([], tmp_path, PATIENCE, "print('next')").stdout
    assert [server] == serving._running


def test_an_interrupt_ends_server_and_fork(light: None, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    held = "import fcntl, os, signal, time; file = open('held', 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            serving.run([], tmp_path, PATIENCE, held + f"os.kill({os.getpid()}, signal.SIGUSR1); time.sleep(600)")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [] == serving._running
    with (tmp_path / "held").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_dead_server_is_one_clear_failure(light: None, tmp_path: Path) -> None:
    serving.run([], tmp_path, PATIENCE, "")
    (server,) = serving._running
    server.process.kill()
    with pytest.raises(RuntimeError, match="the server of command lines ended with -9"):
        serving.run([], tmp_path, PATIENCE, "")
    assert "next\n" == serving.run([], tmp_path, PATIENCE, "print('next')").stdout


def test_a_server_with_threads_of_its_own_is_refused(
    light: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    (tmp_path / "threads.py").write_text(f"import threading, time; {start}", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(serving, "IMPORTS", ("numpy", "threads"))
    with pytest.raises(RuntimeError, match="ended with 1: a fork would lack the threads"):
        serving.run([], tmp_path, PATIENCE, "")


def test_folder_that_is_not_there_is_an_error_here(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        serving.run([], tmp_path / "nowhere", PATIENCE, "")
