"""`ncscan diff`: two reports, dumps or checkpoints, number by number."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ncscan.cli.console import EventPrinter, out, shown, warn_of_kinds
from ncscan.cli.options import (
    AllowPartial,
    AllowUnfinished,
    Base,
    BatchSize,
    Bootstrap,
    ClassOrder,
    Data,
    Device,
    FailIf,
    Layers,
    Logits,
    Model,
    Normalize,
    Order,
    Out,
    Prefix,
    Quiet,
    Reduction,
    ReductionOption,
    Rename,
    Seed,
    State,
    StoredAsOption,
    Threads,
    Traceback,
    TrustCode,
    WeightsOption,
)
from ncscan.cli.outcomes import print_doubts, print_gates
from ncscan.cli.running import check_resamples, flags_of, set_threads, troubles

if TYPE_CHECKING:
    from ncscan.pipeline.diff import Compared


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
    class_order: ClassOrder = None,
    state: State = None,
    weights: WeightsOption = None,
    prefix: Prefix = None,
    base: Base = None,
    rename: Rename = [],  # noqa: B006 - typer reads it, nobody changes it
    logits: Logits = None,
    order: Order = None,
    reduction: ReductionOption = Reduction.auto,
    dtype: StoredAsOption = None,
    device: Device = "auto",
    batch_size: BatchSize = None,
    allow_partial: AllowPartial = False,
    trust_code: TrustCode = False,
    threads: Threads = None,
    quiet: Quiet = False,
    trace: Traceback = False,
) -> None:
    """Compare two reports, dumps or checkpoints, number by number, with the noise floor of each.

    What is no report is measured first; of checkpoints, dumps are made below the folder of the diff.
    """
    check_resamples(("--bootstrap", bootstrap))
    with troubles("diff", trace=trace):
        from ncscan.ordering import parse_order
        from ncscan.pipeline import diff as comparing
        from ncscan.pipeline import gating
        from ncscan.pipeline.measure import Options

        gates = gating.asked("diff", fail_if)
        set_threads(threads)
        flags = flags_of(locals())
        with EventPrinter(None, quiet=quiet, trace=trace) as printer:
            outcome = comparing.diff(
                a,
                b,
                out_dir / "diff",
                printer,
                flags,
                Options(bootstrap, 0, seed, order=parse_order(order, Path.cwd(), "--order")),
                gates,
                allow_unfinished=allow_unfinished,
            )
        print_doubts(outcome)
        warn_of_kinds(f"left out: {note}" for note in (outcome.comparison.notes if outcome.comparison else ()))
        if not quiet:
            _print_comparison(outcome)
        print_gates(outcome, quiet=quiet)
    raise typer.Exit(outcome.exit_code)


def _print_comparison(outcome: "Compared") -> None:
    """Print what changed, then where the page is."""
    from ncscan.report import WIDTH, render_comparison

    if outcome.comparison is None:
        return
    width = min(WIDTH, out.width)
    for part in render_comparison(outcome.comparison, outcome.names, outcome.kinds):
        is_table = isinstance(part, Table)
        out.print(part, width=width if is_table else None, soft_wrap=not is_table)
    page = next(path for path in outcome.files if path.suffix == ".html")
    out.print(f"page: {shown(str(page))}", soft_wrap=True)
