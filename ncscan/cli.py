"""The command line: parse, call one function, print what it says.

The only file that prints. Results go to stdout, progress and troubles to stderr. What ends a command becomes one line
and an exit code here, once. Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ncscan.errors import NcscanError, unexpected
from ncscan.options import (
    AllowPartial,
    AllowUnfinished,
    Animation,
    AsJson,
    BatchSize,
    Bootstrap,
    Checkpoints,
    Classes,
    Convention,
    Data,
    Device,
    Dumps,
    FailIf,
    Figure,
    Figures,
    Formats,
    Layers,
    Model,
    Normalize,
    Ood,
    Out,
    Permutations,
    Quiet,
    Reduction,
    ReductionOption,
    Seed,
    StoredAsOption,
    TableFormat,
    Test,
    Threads,
    Trace,
    TrustCode,
)
from ncscan.surroundings import keep_docstrings, ready_streams
from ncscan.version import __version__

if TYPE_CHECKING:
    from ncscan.jobs import Event, Skipped
    from ncscan.jobs.comparing import Compared
    from ncscan.jobs.extraction import Flags, Target
    from ncscan.jobs.reporting import Reported

FEWEST = 20
"""Resamples or permutations, under which no 95 % interval can be told."""
INTERRUPTED = 130
INTERRUPTED_WORDS = "interrupted: what was complete stays; the same command goes on from there"

app = typer.Typer(
    help="Audits trained classifiers for neural collapse, layer by layer.",
    epilog="Exit codes: 0 done · 1 error, nothing done · 2 usage, or refused · 3 a gate failed "
    "· 4 done, but some inputs were skipped, each with its reason · 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Stream(Console):
    """stdout or stderr; when its reader goes away (`ncscan … | head`), the work goes on unheard."""

    def on_broken_pipe(self) -> None:
        self.lose()

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print; what cannot be written is no fault of the input that it is about, so the work goes on."""
        try:
            super().print(*objects, **settings)
        except OSError as error:
            self.lose()
            if not self.stderr:
                err.print(f"[bold red]error:[/] stdout cannot be written: {error.strerror or error}", soft_wrap=True)

    def lose(self) -> None:
        """Write nothing more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = _Stream(highlight=False)
err = _Stream(stderr=True, highlight=False)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="The version, and exit.", is_eager=True)] = False,
) -> None:
    """Audits trained classifiers for neural collapse, layer by layer."""
    if version:
        out.print(f"ncscan {__version__}")
        raise typer.Exit


@app.command()
def extract(
    paths: Checkpoints,
    layers: Layers = ["all"],  # noqa: B006 - typer reads it, nobody changes it
    model: Model = None,
    data: Data = None,
    normalize: Normalize = None,
    test: Test = None,
    ood: Ood = None,
    out_dir: Out = Path("ncscan-out"),
    reduction: ReductionOption = Reduction.mean,
    dtype: StoredAsOption = None,
    device: Device = "auto",
    batch_size: BatchSize = None,
    compress: Annotated[bool, typer.Option("--compress", help="gzip the dumps: smaller, many times slower.")] = False,
    gradients: Annotated[
        int | None,
        typer.Option(
            "--gradients",
            metavar="N",
            min=1,
            help="Also measure what takes gradients, on N samples: feature ansatz, distance from a critical point, "
            "sharpness.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace dumps made with other settings.")] = False,
    allow_partial: AllowPartial = False,
    trust_code: TrustCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and stop.")] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    trace: Trace = False,
) -> None:
    """Replay the training set through checkpoints and keep every layer's activations.

    The same command again goes on where it stopped.
    """
    with _troubles("extraction", trace=trace):
        from ncscan.jobs import extraction

        _set_threads(threads)
        flags = extraction.Flags(
            model=model,
            data=data,
            normalize=normalize,
            test=test,
            ood=ood,
            trust_code=trust_code,
            allow_partial=allow_partial,
            layers=tuple(layers),
            reduction=reduction.value,
            dtype=None if dtype is None else dtype.value,
            device=device,
            batch_size=batch_size,
            compress=compress,
            gradients=gradients,
            force=force,
        )
        targets, skipped = extraction.find_targets(paths, flags)
        with _Telling(len(targets), quiet=quiet, trace=trace) as telling:
            for each in skipped:
                telling(each)
            if dry_run:
                raise typer.Exit(_print_plans(targets, flags, telling, skipped, out_dir / "dumps", quiet=quiet))
            outcome = extraction.extract(targets, flags, out_dir / "dumps", telling)
        outcome.skipped += skipped
        if outcome.done and not quiet:
            out.print(f"\n{outcome.done} of {len(targets)} dumps in {_shown(str(out_dir / 'dumps'))}", soft_wrap=True)
    raise typer.Exit(outcome.exit_code)


@app.command()
def report(
    dumps: Dumps = None,
    out_dir: Out = Path("ncscan-out"),
    bootstrap: Bootstrap = 0,
    permutations: Permutations = 0,
    seed: Seed = 0,
    convention: Convention = [],  # noqa: B006 - typer reads it, nobody changes it
    figure: Figure = [],  # noqa: B006 - typer reads it, nobody changes it
    figures: Figures = None,
    animation: Animation = "",
    classes: Classes = "",
    formats: Formats = [TableFormat.csv],  # noqa: B006 - typer reads it, nobody changes it
    as_json: AsJson = False,
    fail_if: FailIf = [],  # noqa: B006 - likewise
    allow_unfinished: AllowUnfinished = False,
    threads: Threads = None,
    quiet: Quiet = False,
    trace: Trace = False,
) -> None:
    """Measure dumps, and write the tables and the page."""
    _check_resamples(("--bootstrap", bootstrap), ("--permutations", permutations))
    with _troubles("reporting", trace=trace):
        from ncscan.discovery import find_dumps, find_unfinished
        from ncscan.jobs import gating, passed_over, reporting
        from ncscan.jobs.measuring import Options
        from ncscan.jobs.pictures import Pictures
        from ncscan.report.own import CHARTS

        gates = gating.asked("report", fail_if)
        _set_threads(threads)
        places = dumps or [out_dir / "dumps"]
        found, troubles = find_dumps(places)
        with _Telling(len(found), quiet=quiet, trace=trace, results=err if as_json else out) as telling:
            chosen = tuple(name.strip() for name in classes.split(",") if name.strip())
            options = Options(bootstrap, permutations, seed, chosen)
            form = "svg" if figures is None else figures.value
            wanted = tuple(figure) or (() if figures is None else (CHARTS,))
            pictures = Pictures(wanted, form, animation, chosen)
            outcome = reporting.report(
                found,
                out_dir / "report",
                telling,
                options,
                tuple(convention),
                pictures,
                tuple(formats),
                gates,
                find_unfinished(places),
                allow_unfinished=allow_unfinished,
                skipped=passed_over(troubles),
            )
        _print_doubts(outcome)
        if as_json:
            out.out(reporting.summary(outcome), end="", highlight=False)
        elif outcome.done and not quiet:
            _print_verdict(outcome)
        for trouble in outcome.troubles:
            err.print(f"[bold red]error:[/] {_shown(str(trouble))}", soft_wrap=True)
        _print_gates(outcome, quiet=quiet or as_json)
    raise typer.Exit(outcome.exit_code)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A report, dumps or checkpoints: a file, or a folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same, to compare with it.")],
    out_dir: Out = Path("ncscan-out"),
    bootstrap: Bootstrap = 0,
    seed: Seed = 0,
    fail_if: FailIf = [],  # noqa: B006 - typer reads it, nobody changes it
    allow_unfinished: AllowUnfinished = False,
    layers: Layers = ["all"],  # noqa: B006 - likewise
    model: Model = None,
    data: Data = None,
    normalize: Normalize = None,
    reduction: ReductionOption = Reduction.mean,
    dtype: StoredAsOption = None,
    device: Device = "auto",
    batch_size: BatchSize = None,
    allow_partial: AllowPartial = False,
    trust_code: TrustCode = False,
    threads: Threads = None,
    quiet: Quiet = False,
    trace: Trace = False,
) -> None:
    """Compare two reports, dumps or checkpoints, number by number, with the noise floor of each.

    What is no report is measured first; of checkpoints, dumps are made below the folder of the diff.
    """
    _check_resamples(("--bootstrap", bootstrap))
    with _troubles("comparing", trace=trace):
        from ncscan.jobs import comparing, gating
        from ncscan.jobs.extraction import Flags
        from ncscan.jobs.measuring import Options

        gates = gating.asked("diff", fail_if)
        _set_threads(threads)
        flags = Flags(
            model=model,
            data=data,
            normalize=normalize,
            trust_code=trust_code,
            allow_partial=allow_partial,
            layers=tuple(layers),
            reduction=reduction.value,
            dtype=None if dtype is None else dtype.value,
            device=device,
            batch_size=batch_size,
        )
        with _Telling(None, quiet=quiet, trace=trace) as telling:
            outcome = comparing.diff(
                a,
                b,
                out_dir / "diff",
                telling,
                flags,
                Options(bootstrap, 0, seed),
                gates,
                allow_unfinished=allow_unfinished,
            )
        _print_doubts(outcome)
        for note in outcome.comparison.notes if outcome.comparison else ():
            _warn(f"left out: {note}")
        if not quiet:
            _print_comparison(outcome)
        _print_gates(outcome, quiet=quiet)
    raise typer.Exit(outcome.exit_code)


@app.command()
def layers(
    paths: Checkpoints,
    selected: Layers = ["every"],  # noqa: B006 - typer reads it, nobody changes it
    model: Model = None,
    data: Data = None,
    normalize: Normalize = None,
    reduction: ReductionOption = Reduction.mean,
    dtype: StoredAsOption = None,
    device: Device = "auto",
    allow_partial: AllowPartial = False,
    trust_code: TrustCode = False,
    trace: Trace = False,
) -> None:
    """Show what a forward pass computes, which of it are layers, and what a dump would take."""
    with _troubles("extraction", trace=trace):
        from ncscan.jobs import extraction

        flags = extraction.Flags(
            model=model,
            data=data,
            normalize=normalize,
            trust_code=trust_code,
            allow_partial=allow_partial,
            layers=tuple(selected),
            reduction=reduction.value,
            dtype=None if dtype is None else dtype.value,
            device=device,
        )
        targets, skipped = extraction.find_targets(paths, flags)
        with _Telling(None, quiet=False, trace=trace) as telling:
            for each in skipped:
                telling(each)
            code = _print_plans(targets, flags, telling, skipped)
    raise typer.Exit(code)


@app.command()
def metrics() -> None:
    """Show what is measured: names, formulas, values at collapse."""
    from ncscan.gradient_table import GRADIENT_DEFINITIONS
    from ncscan.held_out import HELD_OUT
    from ncscan.metrics import CLASS_METRICS, METRICS, NETWORK
    from ncscan.weights import WEIGHT_METRICS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("metric", "at collapse", "formula", "source"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "metric")
    for metric in (*NETWORK, *METRICS, *CLASS_METRICS, *WEIGHT_METRICS, *HELD_OUT, *GRADIENT_DEFINITIONS):
        table.add_row(metric.name, metric.at_collapse, escape(metric.formula), metric.source)
    out.print(table)


def main() -> None:
    """The `ncscan` command."""
    keep_docstrings()
    ready_streams()
    app()


@contextmanager
def _troubles(job: str, *, trace: bool) -> Iterator[None]:
    """Whatever ends a command becomes one line and an exit code; `trace` adds the traceback of what nobody foresaw.

    Inside, the job that the command does is imported.
    """
    try:
        _import_all(job)
        with _endings():
            yield
    except NcscanError as error:
        err.print(f"[bold red]error:[/] {_shown(str(error))}", soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as interrupt:
        err.print(INTERRUPTED_WORDS, soft_wrap=True)
        raise typer.Exit(interrupt.exit_code if isinstance(interrupt, _Ended) else INTERRUPTED) from interrupt
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        err.print(f"[bold red]error:[/] {_shown(unexpected(error))}", soft_wrap=True)
        if trace:
            err.print(_shown(traceback.format_exc()), soft_wrap=True)
        raise typer.Exit(1) from error


class _Ended(KeyboardInterrupt):
    """The end that a batch system or a terminal that closes asks for: as an interrupt, with its own exit code."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def _endings() -> Iterator[None]:
    """Inside, a process that is told to end takes along what is unfinished; a signal that is ignored stays so."""

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
    """A job, and all it needs. An interrupt in these seconds ends the process: half a library raises anything.

    One that is ignored stays so: shells start background jobs like that.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        print(INTERRUPTED_WORDS, file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    try:
        import_module(f"ncscan.jobs.{job}")
    finally:
        signal.signal(signal.SIGINT, before)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _check_resamples(*asked: tuple[str, int]) -> None:
    for name, count in asked:
        if count != 0 and count < FEWEST:
            raise typer.BadParameter(f"{name} {count} says nothing: {FEWEST} or more, or 0 for none")


def _warn(warning: str) -> None:
    err.print(f"[yellow]warning:[/] {_shown(warning)}", soft_wrap=True)


def _shown(text: str) -> str:
    """A text that may hold names of strangers: no markup, and nothing in it moves the cursor or turns a line round."""
    from ncscan.wording import visible

    return escape(visible(text))


class _Telling:
    """Shows events as they come: bars on stderr while an input is worked on, a line on `results` once it is done.

    What is doubtful of many inputs in the same words is told of the first, and counted at the end.
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

    def __enter__(self) -> "_Telling":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        for doubt, count in self._doubts.items():
            if count > 1:
                _warn(f"{count - 1} more like the first: {doubt}")

    def __call__(self, event: "Event") -> None:
        from ncscan.jobs import Advanced, Finished, Skipped

        match event:
            case Advanced(label, done, total):
                self._progress.update(
                    self._current, description=_shown(label), completed=done, total=total, visible=True
                )
                return
            case Skipped(label, reason, _, details):
                # The reason names the file already where the file is the trouble.
                named = reason if reason.startswith(label) else f"{label}: {reason}"
                err.print(f"[bold red]skipped[/] {_shown(named)}", soft_wrap=True)
                if self._trace and details:
                    err.print(_shown(details), soft_wrap=True)
            case Finished(label, accuracy, n_samples, details, doubts):
                if not self._quiet:
                    fit = "no class" if accuracy is None else f"accuracy {accuracy:.1%}"
                    words = f"[bold]{_shown(label)}[/]: {fit} of {n_samples:,}; {_shown(details)}"
                    self._results.print(words, soft_wrap=True)
                for doubt in doubts:
                    self._doubts[doubt] += 1
                    if self._doubts[doubt] == 1:
                        _warn(f"{label}: {doubt}")
        self._progress.update(self._current, visible=False)
        self._progress.advance(self._inputs)


def _print_plans(
    targets: "list[Target]",
    flags: "Flags",
    telling: "_Telling",
    skipped: "list[Skipped]",
    folder: Path | None = None,
    *,
    quiet: bool = False,
) -> int:
    """The layers of each run's first checkpoint that can be used, and what dumps of all its checkpoints would take.

    Returns the exit code. Raises NoRoom when the dumps would not fit into a folder.
    """
    from ncscan.console import plan
    from ncscan.jobs import Outcome, extraction

    outcome = Outcome(skipped=list(skipped))
    for run, split in dict.fromkeys((target.run, target.split) for target in targets):
        own = [target for target in targets if (target.run, target.split) == (run, split)]
        loaded = None
        for target in own:
            with outcome.counting(target.label, telling):
                loaded = extraction.load(target, flags)
            if loaded is not None:
                break
        if loaded is None:
            continue
        if folder is not None:
            loaded.size.check(folder / own[0].run / own[0].name, dumps=len(own))
        if quiet:
            continue
        taps = [(layer.tap, layer.n_features, n_bytes) for layer, n_bytes in loaded.size.layers]
        rows = [(tap.depth, tap.name, tap.kind, tap.shape, width, n_bytes) for tap, width, n_bytes in taps]
        out.print(plan(loaded.target.label, rows))
        for module in loaded.trace.graph.not_executed:
            out.print(f"not executed: {_shown(module)}", soft_wrap=True)
        total = loaded.size.total
        out.print(f"a dump: {total / 1e6:,.1f} MB; {len(own)} of them: {total * len(own) / 1e6:,.1f} MB\n")
    outcome.settle(telling)
    return outcome.exit_code


def _print_doubts(outcome: "Reported") -> None:
    for violation in outcome.violations:
        err.print(f"[bold red]a certificate is violated:[/] {_shown(violation)}", soft_wrap=True)
    for warning in outcome.warnings:
        _warn(warning)


def _print_gates(outcome: "Reported", *, quiet: bool) -> None:
    """Every gate that failed with the rows that broke it, every one that cannot be judged, and how many passed."""
    for result in outcome.gates:
        if result.problem:
            err.print(f"[bold red]error:[/] {_shown(result.problem)}", soft_wrap=True)
        elif not result.passed:
            for row in result.rows:
                err.print(f"[bold red]gate failed:[/] {_shown(result.gate)}: {_shown(str(row))}", soft_wrap=True)
            if more := result.broken - len(result.rows):
                err.print(f"[bold red]gate failed:[/] {_shown(result.gate)}: and {more:,} more rows", soft_wrap=True)
    passed = sum(result.passed for result in outcome.gates)
    if outcome.gates and not quiet:
        failed = f" of {len(outcome.gates)}" if passed < len(outcome.gates) else ""
        out.print(f"{passed}{failed} gate{'s' if passed != 1 or failed else ''} passed")


def _print_comparison(outcome: "Compared") -> None:
    """What moved, then where the page is."""
    from ncscan.report.diff_terminal import told
    from ncscan.report.terminal import WIDTH

    if outcome.comparison is None:
        return
    width = min(WIDTH, out.width)
    for part in told(outcome.comparison, outcome.names, outcome.kinds):
        is_table = isinstance(part, Table)
        out.print(part, width=width if is_table else None, soft_wrap=not is_table)
    page = next(path for path in outcome.files if path.suffix == ".html")
    out.print(f"page: {_shown(str(page))}", soft_wrap=True)


def _print_verdict(outcome: "Reported") -> None:
    """What every run and group comes to; then where the page and the figures are."""
    from ncscan.report.terminal import WIDTH, told

    width = min(WIDTH, out.width)
    for part in told(outcome.judged, width):
        out.print(part, width=width)
    page = next(path for path in outcome.files if path.suffix == ".html")
    out.print(f"\npage: {_shown(str(page))}", soft_wrap=True)
    for picture in outcome.files[outcome.files.index(page) + 1 :]:
        if picture.suffix != ".csv":
            out.print(f"figure: {_shown(str(picture))}", soft_wrap=True)
