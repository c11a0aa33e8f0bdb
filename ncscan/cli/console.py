"""What is printed, and how: results on stdout, progress and troubles on stderr.

In: events of a job, and texts that may hold names of strangers. Out: lines on the two consoles; only the commands use
them.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ncscan.errors import named
from ncscan.wording import alike, listed_up_to, visible

if TYPE_CHECKING:
    from ncscan.pipeline.events import Event, Skipped

NAMED = 3
"""The number of inputs that a line names beside its example; of the others it gives the count."""


class Stream(Console):
    """Wraps stdout or stderr; when its reader goes away (`ncscan … | head`), the work goes on unheard."""

    lost = False
    """Whether something could not be written although somebody waits for it: a full disk."""

    def on_broken_pipe(self) -> None:
        self.lose()

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print; what cannot be written is no fault of the input that it is about, so the work goes on."""
        try:
            super().print(*objects, **settings)
        except OSError as error:
            self.lost = True
            self.lose()
            if not self.stderr:
                err.print(f"[bold red]error:[/] stdout cannot be written: {error.strerror or error}", soft_wrap=True)

    def lose(self) -> None:
        """Write nothing more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = Stream(highlight=False)
err = Stream(stderr=True, highlight=False)


def warn(warning: str) -> None:
    err.print(f"[yellow]warning:[/] {shown(warning)}", soft_wrap=True)


def warn_of_kinds(warnings: Iterable[str]) -> None:
    """Print one warning of each kind, and how many there are that differ in their numbers alone."""
    kinds: dict[str, list[str]] = {}
    for warning in warnings:
        kinds.setdefault(alike(warning), []).append(warning)
    for found in kinds.values():
        warn(found[0] + _more(len(found)))


def _more(count: int, names: Sequence[str] = ()) -> str:
    """Return how many others are like the first of so many, and the names of a few of them."""
    if count < 2:
        return ""
    named = f": {listed_up_to(NAMED, names[1:])}" if names else ""
    return f" ({count - 1:,} more alike{named})"


def shown(text: str) -> str:
    """Return a text that may hold strangers' names: no markup, and nothing in it moves the cursor or turns a line."""
    return escape(visible(text))


def print_trace(trace: str) -> None:
    """Print a traceback, line by line: what strangers wrote into it moves no cursor."""
    err.print("\n".join(map(shown, trace.splitlines())), soft_wrap=True)


class EventPrinter:
    """Shows events as they come: bars on stderr while an input is worked on, a line on `results` once it is done.

    What is doubtful of inputs, and what was skipped, is printed at the end: one line a kind, with the first example and
    the count of the others. With `trace` each input that is skipped has a line of its own, as it comes.
    """

    def __init__(self, total: int | None, *, quiet: bool, trace: bool, results: Console = out) -> None:
        self._quiet = quiet
        self._trace = trace
        self._results = results
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._inputs = self._progress.add_task("all", total=total)
        self._current = self._progress.add_task("", total=None, visible=False)
        self._skipped: dict[str, list[Skipped]] = {}
        self._doubts: dict[str, list[str]] = {}
        self._of_python = warnings.showwarning

    def __enter__(self) -> "EventPrinter":
        # Libraries and models warn too, again for every checkpoint.
        self._of_python = warnings.showwarning
        warnings.showwarning = self._note
        self._progress.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        warnings.showwarning = self._of_python
        self._progress.stop()
        for found in self._skipped.values():
            if not str(error or "").startswith(found[0].reason):  # else it is printed as what ends the command
                self._print_skipped(found)
        for doubts in self._doubts.values():
            warn(doubts[0] + _more(len(doubts)))

    def _print_skipped(self, found: "Sequence[Skipped]") -> None:
        label, reason = found[0].label, found[0].reason
        # The reason names the file already where the file is the trouble.
        example = reason if reason.startswith(label) else f"{label}: {reason}"
        more = _more(len(found), [each.label for each in found])
        err.print(f"[bold red]skipped[/] {shown(example + more)}", soft_wrap=True)

    def _note(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Keep what Python's `warnings` would print at once."""
        self._doubt(f"{named(message if isinstance(message, Warning) else category(message))} ({filename}:{lineno})")

    def _doubt(self, doubt: str, label: str = "") -> None:
        self._doubts.setdefault(alike(doubt), []).append(f"{label}: {doubt}" if label else doubt)

    def __call__(self, event: "Event") -> None:
        from ncscan.pipeline.events import Advanced, Doubted, Finished, Remarked, Skipped

        match event:
            case Advanced(label, done, total):
                self._progress.update(
                    self._current, description=shown(label), completed=done, total=total, visible=True
                )
                return
            case Skipped() if self._trace:
                self._print_skipped([event])
                if event.trace:
                    print_trace(event.trace)
            case Skipped():
                self._skipped.setdefault(event.kind, []).append(event)
            case Finished(label, accuracy, n_samples, details, doubts):
                if not self._quiet:
                    fit = "no class" if accuracy is None else f"accuracy {accuracy:.1%}"
                    words = f"[bold]{shown(label)}[/]: {fit} of {n_samples:,}; {shown(details)}"
                    self._results.print(words, soft_wrap=True)
                for doubt in doubts:
                    self._doubt(doubt, label)
            case Doubted(label, doubt):
                self._doubt(doubt, label)
                return
            case Remarked(label, text):
                if not self._quiet:
                    err.print(f"[dim]note[/] {shown(f'{label}: {text}')}", soft_wrap=True)
                return
        self._progress.update(self._current, visible=False)
        self._progress.advance(self._inputs)

    def print_unused(self, unused: Sequence[str]) -> None:
        """Print what was seen in the folders and is no checkpoint: nothing is left out in silence."""
        for line in unused if not self._quiet else ():
            err.print(f"not used: {shown(line)}", soft_wrap=True)


def plan(label: str, layers: Sequence[tuple[int, str, str, tuple[int, ...], int, int]]) -> Table:
    """Return a table of what a dump would hold: depth, name, kind, shape, features and bytes of each layer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(visible(label)), title_justify="left")
    for heading in ("depth", "layer", "kind", "shape", "features", "MB"):
        table.add_column(heading, justify="left" if heading in ("layer", "kind") else "right", overflow="fold")
    for depth, name, kind, shape, features, n_bytes in layers:
        said = (str(depth), name, kind, "×".join(map(str, shape)), f"{features:,}", f"{n_bytes / 1e6:,.1f}")
        table.add_row(*(Text(visible(cell)) for cell in said))
    return table
