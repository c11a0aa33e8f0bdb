"""Write and read the tables that programs read."""

from ncscan.tables.all_numbers import SAME, numbers
from ncscan.tables.columns import (
    CLASS_COLUMNS,
    FLAG,
    GEOMETRY_COLUMNS,
    LEADS,
    METRIC_COLUMNS,
    NUMBER,
    REPORT,
    REPORT_VERSION,
    TABLES,
    TEXT,
    THEORY_COLUMNS,
    WEIGHT_COLUMNS,
    WHOLE,
    Columns,
)
from ncscan.tables.conventions import CONVENTIONS, rows_in_convention, source_of
from ncscan.tables.frames import complete, csv_text, inert, plain, summary_frame, tidy
from ncscan.tables.parquet_file import parquet_bytes, require_parquet
from ncscan.tables.plotted_points import KEYS, MAPS, over_seeds, points
from ncscan.tables.report_reader import REPORT_NAME, read_report
from ncscan.tables.selection import compared, read_layer
from ncscan.tables.times import checkpoint_names, known_onsets, onset_rows, onsets

__all__ = [
    "CLASS_COLUMNS",
    "CONVENTIONS",
    "FLAG",
    "GEOMETRY_COLUMNS",
    "KEYS",
    "LEADS",
    "MAPS",
    "METRIC_COLUMNS",
    "NUMBER",
    "REPORT",
    "REPORT_NAME",
    "REPORT_VERSION",
    "SAME",
    "TABLES",
    "TEXT",
    "THEORY_COLUMNS",
    "WEIGHT_COLUMNS",
    "WHOLE",
    "Columns",
    "checkpoint_names",
    "compared",
    "complete",
    "csv_text",
    "inert",
    "known_onsets",
    "numbers",
    "onset_rows",
    "onsets",
    "over_seeds",
    "parquet_bytes",
    "plain",
    "points",
    "read_layer",
    "read_report",
    "require_parquet",
    "rows_in_convention",
    "source_of",
    "summary_frame",
    "tidy",
]
