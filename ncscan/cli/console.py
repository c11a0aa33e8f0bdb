"""What is printed, and how: results on stdout, progress and troubles on stderr.

In: events of a job, and texts that may hold names of strangers. Out: lines on the two consoles; only the commands use
them.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ncscan.wording import visible

if TYPE_CHECKING:
    from ncscan.pipeline.events import Event


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


def shown(text: str) -> str:
    """Return a text that may hold strangers' names: no markup, and nothing in it moves the cursor or turns a line."""
    return escape(visible(text))


class EventPrinter:
    """Shows events as they come: bars on stderr while an input is worked on, a line on `results` once it is done.

    What is doubtful of many inputs in the same words is printed for the first, and counted at the end.
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
        self._doubts: Counter[str] = Counter()

    def __enter__(self) -> "EventPrinter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        for doubt, count in self._doubts.items():
            if count > 1:
                warn(f"{count - 1} more like the first: {doubt}")

    def __call__(self, event: "Event") -> None:
        from ncscan.pipeline.events import Advanced, Finished, Remarked, Skipped

        match event:
            case Advanced(label, done, total):
                self._progress.update(
                    self._current, description=shown(label), completed=done, total=total, visible=True
                )
                return
            case Skipped(label, reason, _, details):
                # The reason names the file already where the file is the trouble.
                named = reason if reason.startswith(label) else f"{label}: {reason}"
                err.print(f"[bold red]skipped[/] {shown(named)}", soft_wrap=True)
                if self._trace and details:
                    err.print(shown(details), soft_wrap=True)
            case Finished(label, accuracy, n_samples, details, doubts):
                if not self._quiet:
                    fit = "no class" if accuracy is None else f"accuracy {accuracy:.1%}"
                    words = f"[bold]{shown(label)}[/]: {fit} of {n_samples:,}; {shown(details)}"
                    self._results.print(words, soft_wrap=True)
                for doubt in doubts:
                    self._doubts[doubt] += 1
                    if self._doubts[doubt] == 1:
                        warn(f"{label}: {doubt}")
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
