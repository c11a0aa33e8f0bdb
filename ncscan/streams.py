"""stdin, stdout and stderr as a process finds them: closed, or in an encoding that lacks characters.

In: the streams of this process. Out: streams that take any text: no name of a file can end a
command.
"""

import codecs
import io
import os
import sys

_LIKE = str.maketrans("▁▂▃▄▅▆▇█−–…→×·≈≤≥ₙ√", "12345678--.>x-~<>n/")
"""What stands for characters of ours, one for one, so that columns stay columns."""


def ready_streams() -> None:
    """Open what is closed, so that no other file takes its number, and let nothing be impossible to write."""
    codecs.register_error("ncscan", _alike)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(handle, "w" if number else "r", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ncscan")


def _alike(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: a character that looks alike, else its escape, as `\\u0394`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LIKE)
    return text.encode("ascii", "backslashreplace").decode(), error.end
