"""What other programs read as JSON: report.json, and the summary that `ncscan report --json` prints.

In: the complete tables, what is known of each checkpoint, and the verdict. Out: text of strict JSON, without NaN or
Infinity. json_schema.py describes it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import pandas as pd

from ncscan.compare import GateResult
from ncscan.report.verdict.evaluate import Verdicts, as_plain, verdicts
from ncscan.tables import REPORT, REPORT_VERSION, inert, plain
from ncscan.version import __version__

SUMMARY, SUMMARY_VERSION = "ncscan.summary", 1
"""A version rises when a program that reads the document would have to change: a name or a type that is no longer
there, a column that is added or moved, a meaning that is another. docs/reports.md has the details."""


def json_text(
    tables: Mapping[str, pd.DataFrame],
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    judged: Verdicts | None = None,
    gates: Sequence[GateResult] = (),
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Return all of a report as strict JSON: a table is its column names and one list per row.

    JSON has no token for them, so an infinite or undefined number in a checkpoint's own notes is written as text.

    Args:
        files: the tables that are written to the same folder, which it names with their checksums.
    """
    judged = verdicts(tables, checkpoints, warnings) if judged is None else judged
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in (files or {}).items()}
    parts = {
        "files": _object({name: json.dumps(total) for name, total in sums.items()}),
        "checkpoints": _lines([plain(checkpoint) for checkpoint in checkpoints]),
        "skipped": _lines(_skipped(skipped)),
        "warnings": _lines([plain(warning) for warning in warnings]),
        "verdict": _object({name: _value(part) for name, part in as_plain(judged).items()}),
        "gates": _lines(_gates(gates)),
        **{name: _table(table) for name, table in tables.items()},
    }
    head = {
        "schema": json.dumps(REPORT),
        "schema_version": json.dumps(REPORT_VERSION),
        "id": json.dumps(identity(*parts.values())),
    }
    return _object(head | parts) + "\n"


def identity(*parts: str) -> str:
    """Return the id of what this version writes from these texts: 16 hexadecimal digits, alike for alike inputs."""
    return hashlib.sha256("\0".join((__version__, *parts)).encode()).hexdigest()[:16]


def id_of(text: str) -> str:
    """Return the id in the head of a report.json that `json_text` made."""
    return str(json.loads(text.split("\n", 4)[3].removeprefix('"id": ').removesuffix(",")))


def summary_text(
    judged: Verdicts,
    *,
    report_id: str = "",
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    violations: Sequence[str],
    gates: Sequence[GateResult],
    troubles: Sequence[str],
    files: Sequence[PurePath],
    exit_code: int,
) -> str:
    """Return the verdict and what became of the command, as strict JSON in ASCII, which any stdout can hold.

    Args:
        judged: what every run and group comes to.
        report_id: that of the files; empty where none were written.
        skipped: inputs that could not be used, with the reasons.
        warnings: what is doubtful, in words.
        violations: certificates that do not hold.
        gates: what became of each.
        troubles: pictures that could not be drawn, in words.
        files: those that were written.
        exit_code: with which the command ends.
    """
    parts = {
        "schema": SUMMARY,
        "schema_version": SUMMARY_VERSION,
        "id": report_id,
        **as_plain(judged),
        "skipped": _skipped(skipped),
        "warnings": plain(warnings),
        "violations": plain(violations),
        "gates": _gates(gates),
        "troubles": plain(troubles),
        "files": plain(files),
        "exit_code": exit_code,
    }
    return json.dumps(parts, indent=1, allow_nan=False) + "\n"


def _skipped(skipped: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"input": plain(name), "reason": plain(reason)} for name, reason in skipped]


def _gates(gates: Sequence[GateResult]) -> list[dict[str, Any]]:
    return [plain(asdict(result)) for result in gates]


def _object(parts: Mapping[str, str]) -> str:
    """Return a JSON object of parts, each on a line of its own or on several."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {text}" for key, text in parts.items()) + "\n}"


def _value(part: Any) -> str:
    return _lines(part) if isinstance(part, list) else _dump(part)


def _table(frame: pd.DataFrame) -> str:
    columns = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return f'{{"columns": {_dump(list(frame.columns))},\n "rows": {_lines(rows)}}}'


def _lines(items: Sequence[Any]) -> str:
    """Return a JSON list with one item a line, so that two reports can be compared by eye."""
    return "[" + ",".join(f"\n  {_dump(item)}" for item in items) + ("\n]" if items else "]")


def _dump(item: Any) -> str:
    # JSON reads an escape as its character: nothing is lost, and nothing raw moves the cursor of who looks at the file.
    return inert(json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
