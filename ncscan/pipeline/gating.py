"""Collect the gates of a command, and judge them for its exit code.

In: gates of the command line and of the working directory's ncscan.toml. Out: gates, parsed before anything is
measured.
"""

from collections.abc import Sequence
from pathlib import Path

from ncscan.compare import MOST_ROWS, Field, Gate, GateResult, Judged, judge_all, parse
from ncscan.config import CONFIG_NAME, nearest_config, read_config
from ncscan.errors import UsageError
from ncscan.wording import visible

FAILED, UNCLEAR = 3, 2
EVERY_DUMP = "every dump is finished"
"""The gate that comes with every other: numbers of half of a run pass for those of the whole."""


def asked(section: str, flags: Sequence[str]) -> list[Gate]:
    """Return the gates of `report` or `diff`: those of the nearest ncscan.toml, then those of the command line.

    Only the working directory is looked at: what a folder of checkpoints brings along judges nothing.

    Raises: UsageError when one cannot be understood, or asks a report for what only a diff has.
    """
    folder = nearest_config(Path.cwd())
    texts = read_config(folder).fail_if.get(section, ()) if folder else ()
    gates = [parse(text, f"{CONFIG_NAME} [{section}] fail_if") for text in texts]
    gates += [parse(text) for text in flags]
    for gate in gates:
        if section == "report" and gate.get("of"):
            raise UsageError(f"{gate.source} {gate}: only a diff has sides to choose; leave out of=")
    return gates


def judged(gates: Sequence[Gate], on: Field, unfinished: Sequence[Path]) -> list[GateResult]:
    """Judge every gate; where some dumps are unfinished, add a failed one."""
    if not gates:
        return []
    results = judge_all(gates, on)
    if unfinished:
        why = "unfinished: extract again, or pass --allow-unfinished"
        rows = tuple(Judged(visible(str(path)), None, why) for path in unfinished[:MOST_ROWS])
        results.append(GateResult(EVERY_DUMP, passed=False, matched=len(unfinished), broken=len(unfinished), rows=rows))
    return results


def gated(results: Sequence[GateResult]) -> int:
    """Return the exit code that gates ask for: 2 where one cannot be judged, 3 where one fails, 0 where all pass."""
    if any(result.problem for result in results):
        return UNCLEAR
    return FAILED if any(not result.passed for result in results) else 0
