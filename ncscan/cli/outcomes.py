"""What a report and a diff print alike: doubts, and what became of the gates."""

from typing import TYPE_CHECKING

from ncscan.cli.console import err, out, shown, warn_of_kinds

if TYPE_CHECKING:
    from ncscan.pipeline.report import Reported


def print_doubts(outcome: "Reported") -> None:
    for violation in outcome.violations:
        err.print(f"[bold red]a certificate is violated:[/] {shown(violation)}", soft_wrap=True)
    warn_of_kinds(outcome.warnings)


def print_gates(outcome: "Reported", *, quiet: bool) -> None:
    """Print every gate that failed with the rows that broke it, those that cannot be judged, and how many passed."""
    for result in outcome.gates:
        if result.problem:
            err.print(f"[bold red]error:[/] {shown(result.problem)}", soft_wrap=True)
        elif not result.passed:
            for row in result.rows:
                err.print(f"[bold red]gate failed:[/] {shown(result.gate)}: {shown(str(row))}", soft_wrap=True)
            if more := result.broken - len(result.rows):
                err.print(f"[bold red]gate failed:[/] {shown(result.gate)}: and {more:,} more rows", soft_wrap=True)
    passed = sum(result.passed for result in outcome.gates)
    if outcome.gates and not quiet:
        failed = f" of {len(outcome.gates)}" if passed < len(outcome.gates) else ""
        out.print(f"{passed}{failed} gate{'s' if passed != 1 or failed else ''} passed")
