"""`ncscan report`: dumps become tables, pages and figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ncscan.cli.console import EventPrinter, err, out, shown
from ncscan.cli.options import (
    AllowUnfinished,
    Animation,
    AsJson,
    Bootstrap,
    Classes,
    Conventions,
    Dumps,
    FailIf,
    Figure,
    Figures,
    Formats,
    Order,
    Out,
    Permutations,
    Quiet,
    Seed,
    TableFormat,
    Threads,
    Traceback,
)
from ncscan.cli.outcomes import print_doubts, print_gates
from ncscan.cli.running import check_resamples, set_threads, troubles

if TYPE_CHECKING:
    from ncscan.pipeline.report import Reported


def report(
    dumps: Dumps = None,
    out_dir: Out = Path("ncscan-out"),
    bootstrap: Bootstrap = 0,
    permutations: Permutations = 0,
    seed: Seed = 0,
    order: Order = None,
    convention: Conventions = [],  # noqa: B006 - typer reads it, nobody changes it
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
    trace: Traceback = False,
) -> None:
    """Measure dumps, and write the tables and the page."""
    check_resamples(("--bootstrap", bootstrap), ("--permutations", permutations))
    with troubles("report", trace=trace):
        from ncscan.dumps import find_dumps, find_unfinished
        from ncscan.ordering import parse_order
        from ncscan.pipeline import gating
        from ncscan.pipeline import report as reporting
        from ncscan.pipeline.events import passed_over
        from ncscan.pipeline.measure import Options
        from ncscan.pipeline.pictures import Pictures
        from ncscan.report import CHARTS

        # A gate that cannot be read is refused before anything is measured.
        gates = gating.asked("report", fail_if)
        given = parse_order(order, Path.cwd(), "--order")
        set_threads(threads)
        places = dumps or [out_dir / "dumps"]
        found, without = find_dumps(places)
        with EventPrinter(len(found), quiet=quiet, trace=trace, results=err if as_json else out) as printer:
            chosen = tuple(name.strip() for name in classes.split(",") if name.strip())
            options = Options(bootstrap, permutations, seed, chosen, given)
            form = "svg" if figures is None else figures.value
            wanted = tuple(figure) or (() if figures is None else (CHARTS,))
            pictures = Pictures(wanted, form, animation, chosen)
            outcome = reporting.report(
                found,
                out_dir / "report",
                printer,
                options,
                tuple(convention),
                pictures,
                tuple(formats),
                gates,
                find_unfinished(places),
                allow_unfinished=allow_unfinished,
                skipped=passed_over(without),
            )
        print_doubts(outcome)
        if as_json:
            out.out(reporting.summary(outcome), end="", highlight=False)
        elif outcome.done and not quiet:
            _print_verdict(outcome)
        for trouble in outcome.troubles:
            err.print(f"[bold red]error:[/] {shown(str(trouble))}", soft_wrap=True)
        print_gates(outcome, quiet=quiet or as_json)
    raise typer.Exit(outcome.exit_code)


def _print_verdict(outcome: "Reported") -> None:
    """Print what every run and group comes to; then where the page and the figures are."""
    from ncscan.report import WIDTH, render_verdict

    width = min(WIDTH, out.width)
    for part in render_verdict(outcome.judged, width):
        out.print(part, width=width)
    page = next(path for path in outcome.files if path.suffix == ".html")
    out.print(f"\npage: {shown(str(page))}", soft_wrap=True)
    for picture in outcome.files[outcome.files.index(page) + 1 :]:
        if picture.suffix != ".csv":
            out.print(f"figure: {shown(str(picture))}", soft_wrap=True)
