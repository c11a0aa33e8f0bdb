"""`ncscan extract`: checkpoints and data become dumps."""

from pathlib import Path
from typing import Annotated

import typer

from ncscan.cli.console import EventPrinter, out, shown
from ncscan.cli.layers import print_plans
from ncscan.cli.options import (
    AllowPartial,
    Base,
    BatchSize,
    Checkpoints,
    ClassOrder,
    Data,
    Device,
    Layers,
    Logits,
    Model,
    Normalize,
    Ood,
    Order,
    Out,
    Prefix,
    Quiet,
    Reduction,
    ReductionOption,
    Rename,
    State,
    StoredAsOption,
    Test,
    Threads,
    Traceback,
    TrustCode,
    WeightsOption,
)
from ncscan.cli.preprocessing import print_trials
from ncscan.cli.running import flags_of, set_threads, troubles


def extract(
    paths: Checkpoints,
    layers: Layers = ["all"],  # noqa: B006 - typer reads it, nobody changes it
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
    test: Test = None,
    ood: Ood = None,
    out_dir: Out = Path("ncscan-out"),
    reduction: ReductionOption = Reduction.auto,
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
    try_preprocessing: Annotated[
        bool,
        typer.Option(
            "--try-preprocessing",
            help="Say which usual preprocessing the last checkpoint of each run decides best with, and stop.",
        ),
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    trace: Traceback = False,
) -> None:
    """Replay the training set through checkpoints and keep every layer's activations.

    The same command again goes on where it stopped.
    """
    with troubles("extract", trace=trace):
        from ncscan.pipeline import extract as extraction
        from ncscan.pipeline.load import find_targets

        set_threads(threads)
        flags = flags_of(locals())
        targets, skipped, unused = find_targets(paths, flags)
        with EventPrinter(len(targets), quiet=quiet, trace=trace) as printer:
            for each in skipped:
                printer(each)
            printer.print_unused(unused)
            if try_preprocessing:
                raise typer.Exit(print_trials(targets, flags, printer, skipped))
            if dry_run:
                raise typer.Exit(print_plans(targets, flags, printer, skipped, out_dir / "dumps", quiet=quiet))
            outcome = extraction.extract(targets, flags, out_dir / "dumps", printer)
        outcome.skipped += skipped
        if outcome.done and not quiet:
            out.print(f"\n{outcome.done} of {len(targets)} dumps in {shown(str(out_dir / 'dumps'))}", soft_wrap=True)
    raise typer.Exit(outcome.exit_code)
