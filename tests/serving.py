"""Run command lines in processes of their own, without the seconds that importing takes each time.

One server for each pytest process imports what every command needs. A command line is a fork of it that goes on as
`python -c CODE ARGUMENT...` would: test_serving.py compares the two. What such a process shares with the others is the
seed of its hashes and whatever is imported already: a test of these starts a real one.
"""

import atexit
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

NCSCAN = "from ncscan.cli import main; main()"
SERVER = """
import sys
sys.path.insert(1, {folder!r})
import serving
del sys.path[1]
exec(serving.serve({fd}, {imports}))
"""
IMPORTS = ("numpy", "ncscan.pipeline.diff", "ncscan.cli", "rich.progress", "typer._adapters")
"""What commands need. A fork runs `ncscan.cli` again: its consoles belong to one process."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
HARMLESS_THREADS = {"jemalloc_bg_thd"}
"""Threads that may run where a process forks: that of pyarrow's allocator, which sees to it itself."""


def run(
    arguments: Sequence[str],
    cwd: Path,
    timeout: float,
    code: str = NCSCAN,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Return what `subprocess.run` returns for `python -c code` with these arguments.

    What is printed is captured as text, but for what is to go to a file descriptor that is given.
    """
    if not can_fork():
        command = [sys.executable, "-c", code, *arguments]
        first, second = (subprocess.PIPE if given is None else given for given in (stdout, stderr))
        return subprocess.run(command, cwd=cwd, stdout=first, stderr=second, text=True, timeout=timeout)
    asked = {"code": code, "arguments": list(arguments), "cwd": str(cwd.resolve(strict=True)), "timeout": timeout}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        outputs = [file.fileno() if given is None else given for file, given in ((out, stdout), (err, stderr))]
        returncode, in_time = _server().ask(asked, outputs)
        for file in (out, err):
            file.seek(0)
        if not in_time:
            raise subprocess.TimeoutExpired([code, *arguments], timeout, out.read(), err.read())
        return subprocess.CompletedProcess([code, *arguments], returncode, out.read(), err.read())


def program(path: Path) -> str:
    """Return the code that goes on as `python PATH` would."""
    folder, file = str(path.parent), str(path)
    return f"import runpy, sys; sys.path.insert(0, {folder!r}); runpy.run_path({file!r}, run_name='__main__')"


def can_fork() -> bool:
    """Linux has what it takes; where a library starts threads when it is imported, a fork would lack them."""
    return hasattr(os, "pidfd_open") and {"1"} == {os.environ.get(name, "1") for name in THREADS}


@dataclass(frozen=True)
class Server:
    """A process that forks; it ends when its connection does, and ends what it has forked before."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    log: IO[str]
    environ: dict[str, str]

    def ask(self, asked: dict[str, object], outputs: list[int]) -> tuple[int, bool]:
        """Return the exit code of a fork, or minus the signal that ended it, and whether it ended in time."""
        message = json.dumps(asked).encode()
        try:
            # A server that is dead resets the connection, or closes it: no answer.
            with suppress(ConnectionError):
                socket.send_fds(self.connection, [len(message).to_bytes(8, "big")], outputs)
                self.connection.sendall(message)
                answer = self.connection.recv(1024)
                if answer:
                    code, in_time = json.loads(answer)
                    return code, in_time
        except BaseException:  # an interrupt: the answer to come is for nobody
            self.stop()
            raise
        code = self.process.wait()
        self.log.seek(0)
        why = self.log.read()
        self.stop()
        raise RuntimeError(f"the server of command lines ended with {code}: {why}")

    def stop(self) -> None:
        """End the server, and wait until it and its fork have ended."""
        _running.remove(self)
        self.connection.shutdown(socket.SHUT_RDWR)  # also where a fork of this process has it open
        self.connection.close()
        self.process.wait()
        self.log.close()


_running: list[Server] = []
"""The server, once there is one."""


def _server() -> Server:
    # Some variables are read when Python or a library starts: another environment is another server's. It inherits
    # its own, and is not given these: readline sets variables that os.environ does not have.
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    if _running and _running[0].environ != environ:
        _running[0].stop()
    if not _running:
        ours, its = socket.socketpair()
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the server runs
        code = SERVER.format(folder=str(Path(__file__).parent), fd=its.fileno(), imports=IMPORTS)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd="/",  # no folder that has a package of ours, as it is with the folders of tests
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        its.close()
        _running.append(Server(process, ours, log, environ))
    return _running[0]


@atexit.register
def stop() -> None:
    """End the server, if there is one."""
    while _running:
        _running[0].stop()


def serve(fd: int, imports: Sequence[str]) -> str:
    """Fork at every request, and return in the fork, with the code that it is to run; exit when nobody asks."""
    interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: pytest ends this process
    _import_all(imports)
    with socket.socket(fileno=fd) as connection:
        while True:
            length, outputs, _, _ = socket.recv_fds(connection, 8, 2)
            if not length:
                os._exit(0)
            asked = json.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
            child = os.fork()
            if not child:
                break
            for output in outputs:
                os.close(output)
            connection.sendall(json.dumps(_ended(child, connection, asked["timeout"])).encode())
    signal.signal(signal.SIGINT, interrupts)
    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
        os.close(output)
    sys.stdout = _opened(1, sys.stdout)
    sys.stderr = _opened(2, sys.stderr)
    os.chdir(asked["cwd"])
    sys.argv[1:] = asked["arguments"]
    del sys.modules["serving"]
    return str(asked["code"])


def _opened(number: int, like: TextIO) -> TextIO:
    """Open a stream as Python does when it starts: those of the server know of what kind its own files were."""
    assert isinstance(like, io.TextIOWrapper)
    direct = like.write_through  # PYTHONUNBUFFERED
    file = io.FileIO(number, "w", closefd=False)
    lines = like.line_buffering or (not direct and os.isatty(number))
    binary = file if direct else io.BufferedWriter(file)
    return io.TextIOWrapper(binary, like.encoding, like.errors, "\n", line_buffering=lines, write_through=direct)


def _import_all(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition("ncscan.cli")[:2] == ("", "ncscan.cli")]:
        del sys.modules[name]
    # As with a process of its own, numpy's generator has not the same state in all.
    os.register_at_fork(after_in_child=sys.modules["numpy"].random.seed)
    if "ncscan.report.html.page" in sys.modules:
        _make_constants()
    tasks = [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208 - names alone
    others = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in tasks if task != os.getpid()}
    if others - HARMLESS_THREADS:
        sys.exit(f"a fork would lack the threads that were started: {', '.join(sorted(others))}")
    # A fork that looked through all of this when it ends would first copy it.
    gc.freeze()


def _make_constants() -> None:
    """Make what takes seconds and is the same in every page. Bundling starts threads: a fork of its own does that."""
    from ncscan.report.figures import charts
    from ncscan.report.html import page

    for chart in charts.CHARTS:
        charts.template(chart)
    read, write = os.pipe()
    if not os.fork():
        try:
            with open(write, "w", encoding="utf-8") as file:  # noqa: PTH123 - not a path
                file.write(page.libraries())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as file:  # noqa: PTH123
        libraries = file.read()
    os.wait()
    if not libraries:
        sys.exit("the libraries of the page could not be bundled")
    vars(page)["libraries"] = lambda: libraries


def _ended(child: int, connection: socket.socket, timeout: float) -> tuple[int, bool]:
    """Wait for a fork, which is killed when it is late or nobody waits for it; the exit code, and whether in time."""
    end = os.pidfd_open(child)
    ready, _, _ = select.select([end, connection.fileno()], [], [], timeout)
    os.close(end)
    if end not in ready:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end in ready
