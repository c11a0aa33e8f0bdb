"""`ncscan layers`: what a forward pass computes, and what its dumps would take."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ncscan.cli.console import EventPrinter, out, plan, shown
from ncscan.cli.options import (
    AllowPartial,
    Base,
    Checkpoints,
    ClassOrder,
    Data,
    Device,
    Layers,
    Logits,
    Model,
    Normalize,
    Order,
    Prefix,
    Reduction,
    ReductionOption,
    Rename,
    State,
    StoredAsOption,
    Traceback,
    TrustCode,
    WeightsOption,
)
from ncscan.cli.running import flags_of, troubles

if TYPE_CHECKING:
    from ncscan.pipeline.events import Skipped
    from ncscan.pipeline.load import Flags, Target


def layers(
    paths: Checkpoints,
    layers: Layers = ["every"],  # noqa: B006 - typer reads it, nobody changes it
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
    allow_partial: AllowPartial = False,
    trust_code: TrustCode = False,
    trace: Traceback = False,
) -> None:
    """Show what a forward pass computes, which of it are layers, and what a dump would take."""
    with troubles("load", trace=trace):
        from ncscan.pipeline.load import find_targets

        flags = flags_of(locals())
        targets, skipped, unused = find_targets(paths, flags)
        with EventPrinter(None, quiet=False, trace=trace) as printer:
            for each in skipped:
                printer(each)
            printer.print_unused(unused)
            code = print_plans(targets, flags, printer, skipped)
    raise typer.Exit(code)


def print_plans(
    targets: "list[Target]",
    flags: "Flags",
    printer: "EventPrinter",
    skipped: "list[Skipped]",
    folder: Path | None = None,
    *,
    quiet: bool = False,
) -> int:
    """Print the layers of each run's first usable checkpoint, and what dumps of all its checkpoints would take.

    Returns the exit code. Raises NoRoom when the dumps would not fit into a folder.
    """
    from ncscan.pipeline.deciding import logits_in_words, token_in_words
    from ncscan.pipeline.events import Outcome
    from ncscan.pipeline.load import load

    outcome = Outcome(skipped=list(skipped))
    for run, split in dict.fromkeys((target.run, target.split) for target in targets):
        own = [target for target in targets if (target.run, target.split) == (run, split)]
        loaded = None
        for target in own:
            with outcome.counting(target.label, printer):
                loaded = load(target, flags)
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
        for line in filter(None, (logits_in_words(loaded.trace), token_in_words(loaded.trace, loaded.reduction))):
            out.print(shown(line), soft_wrap=True)
        for module in loaded.trace.graph.not_executed:
            out.print(f"not executed: {shown(module)}", soft_wrap=True)
        total = loaded.size.total
        out.print(f"a dump: {total / 1e6:,.1f} MB; {len(own)} of them: {total * len(own) / 1e6:,.1f} MB\n")
    outcome.require_some()
    return outcome.exit_code
