"""Print what `ncscan extract --try-preprocessing` finds: a table for each run, and the option that applies the best."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ncscan.cli.console import out, shown
from ncscan.wording import number, visible

if TYPE_CHECKING:
    from ncscan.cli.console import EventPrinter
    from ncscan.pipeline.events import Skipped
    from ncscan.pipeline.load import Flags, Target
    from ncscan.pipeline.preprocessing import Trial, Tried


def print_trials(
    targets: "Sequence[Target]", flags: "Flags", printer: "EventPrinter", skipped: "Sequence[Skipped]"
) -> int:
    """Try the usual preprocessings with the last checkpoint of each run, and return the exit code."""
    from ncscan.pipeline.events import Outcome
    from ncscan.pipeline.preprocessing import try_preprocessings

    outcome = Outcome(skipped=list(skipped))
    for trial in try_preprocessings(targets, flags, printer, outcome):
        out.print(_table(trial))
        for line in _conclusion(trial):
            out.print(shown(line), soft_wrap=True)
        out.print()
    outcome.require_some()
    return outcome.exit_code


def _table(trial: "Trial") -> Table:
    title = f"{trial.label}, on {trial.n_samples:,} samples; chance {trial.chance:.1%}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(visible(title)), title_justify="left")
    for heading in ("preprocessing", "accuracy", "loss", "to ask for it"):
        table.add_column(heading, justify="right" if heading in ("accuracy", "loss") else "left", overflow="fold")
    for each in trial.tried:
        cells = (each.recipe.name, _accuracy(each), number(each.loss), each.recipe.option)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _accuracy(each: "Tried") -> str:
    after = "" if each.renumbered is None else f" ({each.renumbered:.1%} after one renumbering of the classes)"
    return f"{each.accuracy:.1%}{after}"


def _conclusion(trial: "Trial") -> list[str]:
    """Return lines on what to do, where others are better than what is asked for now."""
    asked, best = trial.tried[0], trial.best
    if asked in best:
        return ["none is better than what is asked for now"]
    lines = [f"instead of {_accuracy(asked)}: {each.recipe.name}, {_accuracy(each)}: {_advice(each)}" for each in best]
    if len(best) > 1:
        lines.append("the sample does not tell these apart: take the one of the training")
    return lines


def _advice(each: "Tried") -> str:
    return "no option does that, change the data" if each.recipe.change else f"ncscan extract … {each.recipe.option}"
