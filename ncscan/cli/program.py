"""The command line: one file a command; here they become one program.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from ncscan.cli.console import out
from ncscan.cli.diff import diff
from ncscan.cli.extract import extract
from ncscan.cli.layers import layers
from ncscan.cli.metrics import metrics
from ncscan.cli.report import report
from ncscan.cli.surroundings import keep_docstrings, ready_streams
from ncscan.version import __version__

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


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="The version, and exit.", is_eager=True)] = False,
) -> None:
    """Audits trained classifiers for neural collapse, layer by layer."""
    if version:
        out.print(f"ncscan {__version__}")
        raise typer.Exit


for _command in (extract, report, diff, layers, metrics):
    app.command()(_command)


def main() -> None:
    """Run the `ncscan` command."""
    keep_docstrings()
    ready_streams()
    try:
        app()
    except SystemExit as end:
        if out.lost and not end.code:
            raise SystemExit(1) from end  # the files are there, but not what was to be read on stdout
        raise
