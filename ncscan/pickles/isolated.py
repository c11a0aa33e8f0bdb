"""Have pickles read by a process of their own.

In: the bytes of a pickle. Out: what a reading of child.py made of it, decoded as that type and nothing else. One
process serves all files; where one of them ends it, the next file starts another.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ncscan.pickles.child import LENGTH, Request
from ncscan.pickles.content import Content
from ncscan.pickles.values import BadPickle

MEMORY = 2**30
"""Bytes of address space that reading may take, and `FACTOR` times the bytes of the pickle."""
FACTOR = 8
SECONDS = 60
"""Seconds of the processor that reading one pickle may take; 10,000 tensors with their Adam states take one."""

ENDED_BY_LIMIT = tuple(-getattr(signal, name) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name))
"""The exit codes of a process that its limits ended; Windows has none."""
GRACE = 10.0
"""Seconds that a process may take to end after its pipe has."""

T = TypeVar("T", bound=msgspec.Struct)


def read(pickle: bytes, reading: str, small: Mapping[str, bytes] | None = None, *, big_endian: bool = False) -> Content:
    """Return what the pickle of a checkpoint holds, read by a process of its own.

    Args:
        pickle: its bytes.
        reading: `archive` for the pickle of a torch.save archive, `stream` for one that is a file of its own.
        small: the storages of at most 16 bytes that lie beside it, by key.
        big_endian: whether the numbers in these have the highest byte first.

    Raises: BadPickle when it is damaged or made to harm, or takes more time or memory than any checkpoint needs.
    """
    return read_as(Content, pickle, reading, small, big_endian=big_endian)


def read_as(
    kind: type[T], pickle: bytes, reading: str, small: Mapping[str, bytes] | None = None, *, big_endian: bool = False
) -> T:
    """Return what a reading of `READINGS` makes of a pickle, which must be of the given type."""
    request = Request(reading, pickle, dict(small or {}), big_endian, MEMORY + FACTOR * len(pickle), SECONDS)
    answer = _child.ask(msgspec.msgpack.encode(request))
    if answer[:1] == b"-":
        raise BadPickle(answer[1:].decode())
    try:
        return msgspec.msgpack.decode(memoryview(answer)[1:], type=kind)
    except msgspec.DecodeError as error:
        raise BadPickle(f"was read as something that no checkpoint holds ({error})") from error


class _Child:
    """The process that reads, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, message: bytes) -> bytes:
        """Return the answer to a message; BadPickle where the process ends over it."""
        with self._lock:
            process = self._running()
            try:
                assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes were asked for
                process.stdin.write(len(message).to_bytes(LENGTH, "little"))
                process.stdin.write(message)
                process.stdin.flush()
                length = process.stdout.read(LENGTH)
                answer = process.stdout.read(int.from_bytes(length, "little"))
                if len(length) == LENGTH and len(answer) == int.from_bytes(length, "little"):
                    return answer
            except BrokenPipeError:
                pass
            except BaseException:  # an interrupt: half an answer may be left in the pipe
                self.end()
                raise
            code = self.end(grace=GRACE)
        if code in ENDED_BY_LIMIT:
            raise BadPickle(f"takes more than {SECONDS} seconds of the processor to read")
        raise BadPickle(f"ended the process that read it (exit code {code}): is it made to harm?")

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.end()
            # The folder that the user is in may be the stranger's: no module is looked for there.
            path = [place for place in sys.path if Path(place).is_absolute()]
            code = f"import sys; sys.path[:] = {path!r}; from ncscan.pickles.child import main; main()"
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def end(self, grace: float = 0.0) -> int:
        """End the process, where it does not within some seconds by itself, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
        with process:  # closes the pipes, and waits
            return process.wait()

    def forget(self) -> None:
        """Leave the process to the one that started it: this is a fork of that one."""
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # it is no child of this process
        self._lock = threading.Lock()


_child: Final = _Child()


def close() -> None:
    """End the process that reads, where there is one; the next pickle starts another."""
    _child.end()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child.forget)
