"""The tables that other programs read: rows → tidy frames → the CSV files.

In: rows of the measures with what is known about their checkpoint and layer. Out: frames with exactly the columns
of the contract, and their text. The only file that decides how a number or a stranger's text is written down.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from ncscan.rows import leading, with_leads
from ncscan.tables.columns import LEADS, NUMBER, SUMMARY_COLUMNS, TABLES, TEXT, Columns

_NOT_FINITE = "not a finite number"
_FORMULA = tuple("=+-@＝＋－＠")
"""The characters that a formula starts with; some spreadsheets take the wide forms for it too."""
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, line separators and direction marks. What joins letters and emojis is none of them."""


def tidy(columns: Columns, records: Iterable[tuple[Mapping[str, Any], object]]) -> pd.DataFrame:
    """Return a table of the contract; each record is (what is known of the checkpoint and the place, the row).

    A column that neither of the two has stays empty. A value that is no finite number becomes empty, with a reason.
    """
    entries = list(records)
    table = {
        name: _typed([getattr(row, name, facts.get(name)) for facts, row in entries], kind) for name, kind in columns
    }
    _explain_missing(table)
    frame = pd.DataFrame(table, columns=[name for name, _ in columns])
    return with_leads(frame) if LEADS in columns else frame


def complete(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return every table of the contract, with its columns, order and types; empty where none was given."""
    empty = {name: tidy(columns, []) for name, columns in TABLES.items()}
    return {name: conform(tables.get(name, empty[name]), columns) for name, columns in TABLES.items()}


def conform(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the table with the contract's columns, order and types; ValueError when a column is missing or unknown."""
    names = [name for name, _ in columns]
    if set(frame.columns) != set(names):
        odd = sorted(map(str, set(frame.columns) ^ set(names)))
        raise ValueError(f"a table with other columns than its contract: {', '.join(odd)}")
    conformed = {name: _typed(frame[name].tolist(), kind) for name, kind in columns}
    _explain_missing(conformed)
    return pd.DataFrame(conformed, columns=names)


def summary_frame(metrics: pd.DataFrame, weights: pd.DataFrame) -> pd.DataFrame:
    """Return one wide row per checkpoint and layer, with the main quantity of every metric.

    A linear map is named after the layer it writes, so its weight metrics stand in that layer's row; those of a
    product of linear maps belong to no single layer and stay in the weights table.
    """
    head = [name for name, _ in SUMMARY_COLUMNS]
    per_layer = leading(metrics, ["run", "checkpoint", "split", "layer", "metric"])
    values = {
        (run, checkpoint, split, layer, metric): value
        for run, checkpoint, split, layer, metric, value in zip(
            *(per_layer[key] for key in ("run", "checkpoint", "split", "layer", "metric", "value")), strict=True
        )
    }
    per_map = leading(weights, ["run", "checkpoint", "map", "metric"])
    map_values = {
        (run, checkpoint, layer, metric): value
        for run, checkpoint, layer, metric, value in zip(
            *(per_map[key] for key in ("run", "checkpoint", "map", "metric", "value")), strict=True
        )
    }
    layers = per_layer.drop_duplicates(["run", "checkpoint", "split", "layer"])[head]
    keys = list(zip(*(layers[key] for key in ("run", "checkpoint", "split", "layer")), strict=True))
    wide = {name: layers[name].tolist() for name in head}
    for metric in dict.fromkeys(per_layer["metric"]):
        wide[metric] = [values.get((*key, metric), math.nan) for key in keys]
    for metric in dict.fromkeys(per_map["metric"]):
        column = [map_values.get((run, checkpoint, layer, metric), math.nan) for run, checkpoint, _, layer in keys]
        if not np.isnan(column).all():
            wide[metric] = column
    kinds = dict(SUMMARY_COLUMNS)
    return pd.DataFrame({name: _typed(column, kinds.get(name, NUMBER)) for name, column in wide.items()})


def csv_text(frame: pd.DataFrame) -> str:
    r"""Return a frame as CSV: numbers that read back exactly, `true`/`false`, nothing for what is missing, `\n` ends.

    Spreadsheets run a cell that starts with `=`, `+`, `-` or `@`, so a text cell that starts with one of those gets a
    `'` in front. What moves a cursor or turns a line round is written as its escape. Numbers are untouched.

    >>> print(csv_text(pd.DataFrame({"layer": ["=cmd", "fc"], "value": [-0.1, None]})), end="")
    layer,value
    '=cmd,-0.1
    fc,
    """
    columns = [[_cell(str(name)), *_cells(frame[name])] for name in frame.columns]
    return "".join(",".join(row) + "\n" for row in zip(*columns, strict=True))


def plain(value: Any) -> Any:
    """Return nested mappings, sequences, paths and numpy numbers as what JSON knows; TypeError for anything else."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return encodable(value)
        case float():
            return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case np.generic():
            return plain(value.item())
        case Mapping():
            return {encodable(str(key)): plain(inner) for key, inner in value.items()}
        case PurePath():
            return encodable(value.as_posix())
        case Sequence() | np.ndarray():
            return [plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} has no place in a report")


def encodable(text: str) -> str:
    r"""Return a text that UTF-8 can hold: half a surrogate pair, as in a file name that is none, becomes its escape.

    >>> encodable("caf\udce9.pt")
    'caf\\udce9.pt'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def inert(text: str) -> str:
    r"""Return a text without raw control characters, line separators and direction marks: each becomes its escape.

    >>> print(inert("fc\x1b[2J\u202e1"))
    fc\u001b[2J\u202e1
    """
    return _ACTIVE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _typed(values: Sequence[Any], kind: str) -> pd.Series:
    """Return a column of the contract; tables have millions of cells, so what repeats is looked at once."""
    if kind == TEXT:
        known = {value: "" if pd.isna(value) else encodable(str(value)) for value in dict.fromkeys(values)}
        return pd.Series([known[value] for value in values], dtype=object)
    present = [None if value is None or value is pd.NA else value for value in values]
    if kind == NUMBER:
        numbers = np.array(present, np.float64)  # None becomes NaN
        return pd.Series(np.where(np.isfinite(numbers), numbers, math.nan), dtype=kind)
    # What is missing may also be a NaN, the one value that is not equal to itself.
    return pd.Series([pd.NA if value is None or value != value else value for value in present], dtype=kind)


def _explain_missing(table: dict[str, pd.Series]) -> None:
    """Require that a value is a number or has a reason: a measure that gave neither must not read as a blank."""
    if "reason" not in table:
        return  # coordinates of a picture: what is not there is a dimension that its classes do not span
    unexplained = table["value"].isna() & (table["reason"] == "")
    table["reason"] = table["reason"].mask(unexplained, _NOT_FINITE)


def _cells(column: pd.Series) -> list[str]:
    cells = column.astype(object).where(column.notna(), None).tolist()
    if pd.api.types.is_bool_dtype(column.dtype):
        return ["" if cell is None else str(cell).lower() for cell in cells]
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ["" if cell is None else repr(cell) for cell in cells]
    known = {text: _cell(text) for text in dict.fromkeys(cells)}  # few names, many rows
    return [known[text] for text in cells]


def _cell(text: str) -> str:
    guarded = inert(f"'{text}" if text.startswith(_FORMULA) else text)
    return '"' + guarded.replace('"', '""') + '"' if "," in guarded or '"' in guarded else guarded
