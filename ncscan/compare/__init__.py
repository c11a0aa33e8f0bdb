"""Compare two reports, and judge gates."""

from ncscan.compare.align import DIFF_COLUMNS, Comparison, compare
from ncscan.compare.gate_parser import Gate, parse
from ncscan.compare.gates import MOST_ROWS, Field, GateResult, Judged, field_of, judge_all
from ncscan.compare.ranking import (
    KINDS,
    LOST,
    NO_VALUE,
    counts,
    is_changed,
    main_rows,
    missing,
    most_changed,
    run_and_step,
    to_show,
)

__all__ = [
    "DIFF_COLUMNS",
    "KINDS",
    "LOST",
    "MOST_ROWS",
    "NO_VALUE",
    "Comparison",
    "Field",
    "Gate",
    "GateResult",
    "Judged",
    "compare",
    "counts",
    "field_of",
    "is_changed",
    "judge_all",
    "main_rows",
    "missing",
    "most_changed",
    "parse",
    "run_and_step",
    "to_show",
]
