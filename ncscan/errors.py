"""What can go wrong for a user, one class per kind, and the reason a measure has no value.

Every `NcscanError` is one clear line: what is wrong, where (file, layer), what to do. One that concerns a single input
skips that input; any other is caught in cli/running.py and becomes that line and an exit code. Whatever else is
raised is a bug: it becomes one line too (`unexpected`), and `--traceback` shows the rest.
"""

import traceback
from pathlib import Path


class NcscanError(Exception):
    """A problem the user can act on; its text is the line they read."""

    exit_code = 1


class UsageError(NcscanError):
    """The command line or an ncscan.toml asks for something that does not exist or does not fit."""

    exit_code = 2


class RefusedPlan(NcscanError):  # noqa: N818 - a refusal, in the words of the command line
    """A command that is understood but must not start: the disk is too full, or other results are in the way."""

    exit_code = 2


class NoRoom(RefusedPlan):
    """The disk cannot hold what a command would write: no other input could be written either."""


class CheckpointError(NcscanError):
    """A checkpoint file that cannot be read, or must not be."""


class ModelError(NcscanError):
    """A model that cannot be built, or that the checkpoint does not fit."""


class DataError(NcscanError):
    """Samples or labels that cannot be used."""


class TapError(NcscanError):
    """A forward pass that cannot be followed."""


class DumpError(NcscanError):
    """A dump that cannot be read, or must not be."""


class ReportError(NcscanError):
    """A report that cannot be read."""


def unexpected(error: BaseException) -> str:
    """Return one line for an exception that nobody foresaw: its type and text, and the place in ncscan that raised it.

    >>> try:
    ...     {}["a"]
    ... except KeyError as error:
    ...     print(unexpected(error))
    unexpected KeyError: 'a'; --traceback shows where it comes from
    """
    own = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(own)]
    place = (
        f" ({Path(frames[-1].filename).relative_to(own.parent)}:{frames[-1].lineno}, {frames[-1].name})"
        if frames
        else ""
    )
    return f"unexpected {named(error)}{place}; --traceback shows where it comes from"


def named(error: BaseException) -> str:
    r"""Return the type and the text of an exception in one line.

    >>> named(ValueError("no such\n layer")), named(KeyError())
    ('ValueError: no such layer', 'KeyError')
    """
    return f"{type(error).__name__}: {_text(error)}".removesuffix(": ")


def one_line(error: BaseException) -> str:
    r"""Return the first paragraph of a library's message in one line, or the type where it says nothing.

    >>> one_line(RuntimeError("invalid\n header\n\nlong advice")), one_line(MemoryError())
    ('invalid header', 'MemoryError')
    """
    return _text(error) or type(error).__name__


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).partition("\n\n")[0].split())[:300]
    except Exception:  # the text of a stranger's exception is a stranger's code
        return ""


class Undefined(Exception):  # noqa: N818 - it is an answer, not a failure
    """A measure that has no value here; its text gives the reason and stands in the table in place of the value."""
