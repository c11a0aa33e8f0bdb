"""The JSON Schemas of report.json and of what `ncscan report --json` prints, made from what is written.

In: columns.TABLES and the dataclasses of the verdict. Out: schemas of draft 2020-12, kept in docs/ by `make docs`; a
test fails when those are stale.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ncscan.compare import GateResult
from ncscan.report.json_report import SUMMARY, SUMMARY_VERSION
from ncscan.report.verdict.evaluate import Verdicts
from ncscan.splits import TRAINING
from ncscan.tables import FLAG, NUMBER, REPORT, REPORT_VERSION, TABLES, TEXT, WHOLE, Columns

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_KINDS: Mapping[str, Schema] = {
    TEXT: {"type": "string"},
    WHOLE: {"type": ["integer", "null"]},
    NUMBER: {"type": ["number", "null"]},
    FLAG: {"type": ["boolean", "null"]},
}
"""The schema of a cell; a text that is missing is empty."""

_CHECKPOINT: Mapping[str, Schema] = {
    "run": {"type": "string"},
    "group": {"type": "string"},
    "checkpoint": {"type": "string"},
    "step": {"type": ["integer", "null"]},
    "step_unit": {"enum": ["iteration", "epoch", "file", "order", "beside"]},
    "split": {"const": TRAINING},
    "accuracy": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "n_samples": {"type": "integer", "minimum": 1},
    "n_classes": {"type": "integer", "minimum": 2},
    "class_names": {"type": "array", "items": {"type": "string"}},
    "doubts": {"type": "array", "items": {"type": "string"}},
    "provenance": {"type": "object"},
}

_TROUBLES: Mapping[str, Schema] = {
    "skipped": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"input": {"type": "string"}, "reason": {"type": "string", "minLength": 1}},
            "required": ["input", "reason"],
            "additionalProperties": False,
        },
    },
    "warnings": {"type": "array", "items": {"type": "string"}},
}


def report_schema() -> Schema:
    """Return the schema of report.json."""
    (verdict, gates), defs = _of_types(Verdicts, tuple[GateResult, ...])
    properties: dict[str, Schema] = {
        "schema": {"const": REPORT},
        "schema_version": {"const": REPORT_VERSION},
        "id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "files": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        "checkpoints": {
            "type": "array",
            "items": {"type": "object", "properties": dict(_CHECKPOINT), "required": list(_CHECKPOINT)},
        },
        **_TROUBLES,
        "verdict": verdict,
        "gates": gates,
        **{name: of_table(columns) for name, columns in TABLES.items()},
    }
    return _document(REPORT, REPORT_VERSION, "All of a report of ncscan.", properties, defs)


def summary_schema() -> Schema:
    """Return the schema of what `ncscan report --json` prints."""
    (_, gates), defs = _of_types(Verdicts, tuple[GateResult, ...])
    properties: dict[str, Schema] = {
        "schema": {"const": SUMMARY},
        "schema_version": {"const": SUMMARY_VERSION},
        "id": {"type": "string", "pattern": "^([0-9a-f]{16})?$"},
        **defs.pop("Verdicts")["properties"],
        **_TROUBLES,
        "violations": {"type": "array", "items": {"type": "string"}},
        "gates": gates,
        "troubles": {"type": "array", "items": {"type": "string"}},
        "files": {"type": "array", "items": {"type": "string"}},
        "exit_code": {"enum": [0, 1, 2, 3, 4]},
    }
    return _document(SUMMARY, SUMMARY_VERSION, "What a report of ncscan comes to.", properties, defs)


def text(schema: Schema) -> str:
    """Return a schema as the file that is published."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def of_table(columns: Columns) -> Schema:
    """Return the schema of a table: its columns in their order, and rows with a cell for each."""
    row: Schema = {
        "type": "array",
        "prefixItems": [{"title": name, **_KINDS[kind]} for name, kind in columns],
        "items": False,
        "minItems": len(columns),
    }
    names = [name for name, _ in columns]
    if {"value", "reason"} <= set(names):  # one of the two is always there
        given: Sequence[tuple[str, Schema]] = (("value", {"type": "number"}), ("reason", {"minLength": 1}))
        row["anyOf"] = [{"prefixItems": [*[True] * names.index(name), wanted]} for name, wanted in given]
    return {
        "type": "object",
        "properties": {"columns": {"const": names}, "rows": {"type": "array", "items": row}},
        "required": ["columns", "rows"],
        "additionalProperties": False,
    }


def _of_types(*kinds: Any) -> tuple[tuple[Schema, ...], dict[str, Schema]]:
    """Return the schemas in JSON of types of the verdict, and those of all dataclasses in them by name."""
    schemas, dataclasses = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    return schemas, {name: schema | _closed(schema["properties"]) for name, schema in dataclasses.items()}


def _closed(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _document(
    name: str, version: int, description: str, properties: Mapping[str, Schema], defs: Mapping[str, Schema]
) -> Schema:
    head = {
        "$schema": DRAFT,
        "$id": f"urn:{name.replace('.', ':')}:{version}",
        "title": name,
        "description": description,
    }
    return head | _closed(properties) | {"$defs": dict(sorted(defs.items()))}
