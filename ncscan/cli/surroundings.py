"""What a process finds around it: streams that are closed or in an encoding that lacks characters, and no docstrings.

In: the streams and the command line of this process. Out: streams that take any text, and docstrings: no name of a file
and no option of the interpreter can end a command.
"""

import codecs
import io
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence

_LIKE = str.maketrans("▁▂▃▄▅▆▇█−–…→×·≈≤≥ₙ√", "12345678--.>x-~<>n/")
"""Replacements for characters of ours, one for one, so that columns stay columns."""


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
    """Replace a character by one that looks alike, else by its escape, as `\\u0394`; an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LIKE)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def keep_docstrings() -> None:
    """Begin anew where Python drops docstrings (-OO): Altair does not load without its own, nor has help a text."""
    asked = sys.orig_argv[1:]
    kept = list(_unoptimised(asked))
    program_is_read = sys.argv[:1] in ([""], ["-"])  # from stdin, which gives it once
    if sys.flags.optimize > 1 and not program_is_read and ("PYTHONOPTIMIZE" in os.environ or kept != asked):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONOPTIMIZE"}
        os.execve(sys.executable, [sys.executable, *kept], environment)  # noqa: S606 - the same command


def _unoptimised(arguments: Sequence[str]) -> Iterator[str]:
    """Yield a command line of Python without its -O, however often and beside whichever letters.

    For example, `-OOm ncscan` is `-m ncscan`.
    """
    rest = iter(arguments)
    for argument in rest:
        letters, after = re.findall(r"(?s)^(?:-([^-cmWX]*))?(.*)", argument)[0]
        kept = f"-{letters.replace('O', '')}{after}" if letters else argument
        if kept != "-":
            yield kept
        if not argument.startswith("-") or after[:1] in ("c", "m"):
            break
        if after in ("W", "X") or argument == "--check-hash-based-pycs":
            yield from itertools.islice(rest, 1)
    yield from rest
