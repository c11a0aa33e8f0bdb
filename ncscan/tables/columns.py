"""Define the columns of every table of a report, a contract that other programs rely on.

In: nothing. Out: for each table its columns in order, and how each is kept. docs/reports.md documents it.
"""

from collections.abc import Mapping

REPORT, REPORT_VERSION = "ncscan.report", 6
OLDEST_READ = 4
"""The schema version of the oldest reports that are read still."""


Columns = tuple[tuple[str, str], ...]
"""Name and kind of each column, in order."""

TEXT, WHOLE, NUMBER, FLAG = "object", "Int64", "float64", "boolean"
"""The ways in which a column is kept; a whole number or a flag may be missing, a text is then empty."""

_CHECKPOINT: Columns = (
    ("run", TEXT),
    ("group", TEXT),
    ("checkpoint", TEXT),
    ("step", WHOLE),
    ("step_unit", TEXT),
)

LEADS = ("leads", FLAG)
"""Whether a row is the one that is meant where only its metric is named, or its claim, at its layer or linear map."""

METRIC_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("split", TEXT),
    ("layer", TEXT),
    ("depth", WHOLE),
    ("kind", TEXT),
    ("classifier", TEXT),
    ("metric", TEXT),
    ("quantity", TEXT),
    ("value", NUMBER),
    ("reason", TEXT),
    ("weighting", TEXT),
    ("centred", FLAG),
    ("reduction", TEXT),
    ("rank", WHOLE),
    ("estimate", FLAG),
    ("at_floor", FLAG),
    ("low", NUMBER),
    ("high", NUMBER),
    ("baseline", NUMBER),
    LEADS,
)
"""metrics.csv: one row per number."""

WEIGHT_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("map", TEXT),
    ("next_map", TEXT),
    ("metric", TEXT),
    ("quantity", TEXT),
    ("value", NUMBER),
    ("rank", WHOLE),
    ("reason", TEXT),
    ("n_samples", WHOLE),
    ("estimate", FLAG),
    LEADS,
)
"""weights.csv: one row per number; a product of linear maps is `a..b`."""

THEORY_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("claim", TEXT),
    ("layer", TEXT),
    ("quantity", TEXT),
    ("value", NUMBER),
    ("bound", NUMBER),
    ("holds", FLAG),
    ("slack", NUMBER),
    ("target", NUMBER),
    ("deviation", NUMBER),
    ("reason", TEXT),
    LEADS,
)
"""theory.csv: one row per claim about a checkpoint; a bound has a slack, how many times over it holds, and an equality
has a target and the relative deviation from it."""

TRAJECTORY_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("layer", TEXT),
    ("finding", TEXT),
    ("metric", TEXT),
    ("quantity", TEXT),
    ("value", NUMBER),
    ("reason", TEXT),
)
"""trajectory.csv: what became of a run over its steps, and of a checkpoint over its depth."""

CLASS_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("split", TEXT),
    ("layer", TEXT),
    ("class_index", WHOLE),
    ("class_name", TEXT),
    ("other_index", WHOLE),
    ("other_name", TEXT),
    ("metric", TEXT),
    ("quantity", TEXT),
    ("value", NUMBER),
    ("reason", TEXT),
)
"""classes.csv: one row per number of a class, or of a pair of classes."""

GEOMETRY_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("split", TEXT),
    ("layer", TEXT),
    ("item", TEXT),
    ("class_index", WHOLE),
    ("class_name", TEXT),
    ("sample", WHOLE),
    ("norm", NUMBER),
    *((f"x{i}", NUMBER) for i in range(1, 10)),
)
"""geometry.csv: one row per vector of the picture of the layer that the classifier reads."""

SUMMARY_COLUMNS: Columns = (
    *_CHECKPOINT,
    ("split", TEXT),
    ("layer", TEXT),
    ("depth", WHOLE),
    ("kind", TEXT),
    ("reduction", TEXT),
)
"""summary.csv: one wide row per checkpoint and layer; after these, a column per metric."""

TABLES: Mapping[str, Columns] = {
    "metrics": METRIC_COLUMNS,
    "weights": WEIGHT_COLUMNS,
    "theory": THEORY_COLUMNS,
    "trajectory": TRAJECTORY_COLUMNS,
    "classes": CLASS_COLUMNS,
    "geometry": GEOMETRY_COLUMNS,
}
"""The tidy tables by the names of their files."""
