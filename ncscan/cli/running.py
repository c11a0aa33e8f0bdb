"""Run any command: import its job, turn whatever ends it into one line and an exit code, clean up on a signal."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from enum import Enum
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from ncscan.cli.console import err, print_trace, shown
from ncscan.errors import NcscanError, unexpected

if TYPE_CHECKING:
    from ncscan.pipeline.load import Flags

FEWEST = 20
"""With fewer resamples or permutations no 95 % interval can be given."""
INTERRUPTED = 130
INTERRUPTED_WORDS = "interrupted: what was complete stays; the same command goes on from there"


@contextmanager
def troubles(job: str, *, trace: bool) -> Iterator[None]:
    """Turn whatever ends a command into one line and an exit code; `trace` adds the traceback of what nobody foresaw.

    Inside, the job that the command does is imported.
    """
    try:
        _import_all(job)
        with _endings():
            yield
    except NcscanError as error:
        err.print(f"[bold red]error:[/] {shown(str(error))}", soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as interrupt:
        err.print(INTERRUPTED_WORDS, soft_wrap=True)
        raise typer.Exit(interrupt.exit_code if isinstance(interrupt, _Ended) else INTERRUPTED) from interrupt
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # a user meets one line, whatever failed; --traceback shows the rest
        err.print(f"[bold red]error:[/] {shown(unexpected(error))}", soft_wrap=True)
        if trace:
            print_trace(traceback.format_exc())
        raise typer.Exit(1) from error


class _Ended(KeyboardInterrupt):
    """Ends the process when a batch system or a closing terminal asks for it: as an interrupt, with its own code."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def _endings() -> Iterator[None]:
    """Let a process that is asked to end take along what is unfinished; a signal that is ignored stays so."""

    def end(number: int, _frame: FrameType | None) -> None:
        for told in changed:  # once is enough: what follows is the way out
            signal.signal(told, signal.SIG_IGN)
        raise _Ended(number)

    changed = [told for told in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(told) is signal.SIG_DFL]
    for told in changed:
        signal.signal(told, end)
    try:
        yield
    finally:
        for told in changed:
            signal.signal(told, signal.SIG_DFL)


def _import_all(job: str) -> None:
    """Import a job, and all it needs. An interrupt in these seconds ends the process: half a library raises anything.

    One that is ignored stays so: shells start background jobs like that.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        print(INTERRUPTED_WORDS, file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    try:
        import_module(f"ncscan.pipeline.{job}")
    finally:
        signal.signal(signal.SIGINT, before)


def flags_of(options: Mapping[str, Any]) -> "Flags":
    """Return the settings of runs among the options of a command, its `locals()`: those that `Flags` names."""
    from ncscan.pipeline.load import Flags

    given: dict[str, Any] = {}
    for name in {each.name for each in fields(Flags)} & options.keys():
        value = options[name]
        value = value.value if isinstance(value, Enum) else value
        given[name] = tuple(value) if isinstance(value, list) else value
    return Flags(**given)


def set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def check_resamples(*asked: tuple[str, int]) -> None:
    for name, count in asked:
        if count != 0 and count < FEWEST:
            raise typer.BadParameter(f"{name} {count} says nothing: {FEWEST} or more, or 0 for none")
