"""The published schemas: fresh, true of real reports, and false of broken ones."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from verdict_samples import Run, checkpoints, tables
from workspaces import TOML, fitted, ncscan, save, write_data

from ncscan.compare.gates import GateResult, Judged
from ncscan.report.json_report import json_text, summary_text
from ncscan.report.json_schema import of_table, report_schema, summary_schema, text
from ncscan.report.verdict.evaluate import NOTHING, verdicts
from ncscan.tables.columns import NUMBER, TABLES, TEXT
from ncscan.tables.frames import complete

DOCS = Path(__file__).parents[2] / "docs"
REPORT = Draft202012Validator(report_schema())
Document = dict[str, Any]


@pytest.mark.parametrize(("name", "schema"), [("report", report_schema()), ("summary", summary_schema())])
def test_published_schema_is_fresh_and_is_a_schema(name: str, schema: Document) -> None:
    assert text(schema) == (DOCS / f"{name}.schema.json").read_text(encoding="utf-8"), "run `make docs`"
    Draft202012Validator.check_schema(schema)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The report of a real run in which one checkpoint overflows, beside a file that is no dump."""
    folder = tmp_path_factory.mktemp("schema")
    write_data(folder / "data.npz")
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "ncscan.toml").write_text(TOML, encoding="utf-8")
    for step in (0, 5):
        state = fitted(step)
        if step == 5:
            state["2.weight"] *= 1e38
        save(folder / "ckpts" / f"step_{step}.pt", state, step=step, best=math.inf)
    assert 0 == ncscan("extract", "ckpts", "--quiet", cwd=folder).returncode
    (folder / "odd.h5").write_bytes(b"no dump")
    assert 4 == ncscan("report", "ncscan-out/dumps", "odd.h5", "--permutations", "20", cwd=folder).returncode
    read: Document = json.loads((folder / "ncscan-out" / "report" / "report.json").read_text(encoding="utf-8"))
    return read


def test_real_report_with_skipped_inputs_warnings_and_undefined_values_is_valid(real: Document) -> None:
    REPORT.validate(real)
    assert real["skipped"]
    assert real["warnings"]
    assert any(row[12] is None for row in real["metrics"]["rows"])
    assert any(row[12] is not None for row in real["metrics"]["rows"])
    assert set(TABLES) <= set(real)
    assert real["verdict"]["runs"][0]["doubts"]


def test_sample_and_empty_reports_are_valid() -> None:
    runs = [Run(), Run(name="b", group="h", classifier="", nc3=(None,) * 5), Run(name="c", n_classes=2)]
    known = [at | {"class_names": ["x"], "provenance": {}} for at in checkpoints(*runs)]
    REPORT.validate(json.loads(json_text(tables(*runs), known, [("x", "y")], ["odd"])))
    REPORT.validate(json.loads(json_text(complete({}), [], [], [])))


def test_gates_are_told_and_a_broken_one_is_not_valid() -> None:
    failed = GateResult("nc1_pinv > 0.1", passed=False, matched=1, broken=1, rows=(Judged("a/b", 0.2, ""),))
    unclear = GateResult("odd > 1", passed=False, problem="no metric odd")
    document = json.loads(json_text(complete({}), [], [], [], gates=[failed, unclear]))
    REPORT.validate(document)
    assert [(gate["gate"], gate["passed"]) for gate in document["gates"]] == [
        ("nc1_pinv > 0.1", False),
        ("odd > 1", False),
    ]
    assert document["gates"][0]["rows"] == [{"where": "a/b", "value": 0.2, "reason": ""}]
    document["gates"][0]["passed"] = "no"
    with pytest.raises(ValidationError):
        REPORT.validate(document)


def _set(*path: str | int, to: object) -> Callable[[Document], None]:
    def broken(document: Document) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return broken


def _without(key: str) -> Callable[[Document], None]:
    def broken(document: Document) -> None:
        del document[key]

    return broken


def _neither_value_nor_reason(document: Document) -> None:
    columns = document["metrics"]["columns"]
    row = document["metrics"]["rows"][0]
    row[columns.index("value")], row[columns.index("reason")] = None, ""


@pytest.mark.parametrize(
    "broken",
    [
        _set("schema_version", to=2),
        _set("schema", to="other"),
        _set("more", to=1),
        _without("verdict"),
        _without("geometry"),
        _set("skipped", 0, to={"input": "x"}),
        _set("warnings", 0, to=None),
        _set("checkpoints", 0, "step", to="first"),
        _set("checkpoints", 0, "accuracy", to=1.5),
        _set("metrics", "columns", 0, to="walk"),
        _set("metrics", "columns", to=[]),
        _set("metrics", "rows", 0, to=[]),
        _set("metrics", "rows", 0, 3, to=1.5),
        _set("metrics", "rows", 0, 12, to="0.1"),
        _set("metrics", "rows", 0, 0, to=None),
        _set("theory", "rows", 0, 10, to="true"),
        _set("verdict", "runs", 0, "judgement", to="good"),
        _set("verdict", "runs", 0, "entries", 0, "last", to="NaN"),
        _set("verdict", "runs", 0, "grade", to="A"),
        _neither_value_nor_reason,
    ],
)
def test_broken_report_is_not_valid(real: Document, broken: Callable[[Document], None]) -> None:
    document = copy.deepcopy(real)
    broken(document)
    with pytest.raises(ValidationError):
        REPORT.validate(document)


def test_row_with_a_cell_too_many_is_not_valid(real: Document) -> None:
    document = copy.deepcopy(real)
    document["weights"]["rows"][0].append(1)
    with pytest.raises(ValidationError):
        REPORT.validate(document)


def test_table_without_value_and_reason_has_types_alone() -> None:
    schema = Draft202012Validator(of_table((("name", TEXT), ("x1", NUMBER))))
    schema.validate({"columns": ["name", "x1"], "rows": [["a", None], ["b", 1.0]]})
    assert not schema.is_valid({"columns": ["name", "x1"], "rows": [["a", "b"]]})
    assert not schema.is_valid({"columns": ["x1", "name"], "rows": []})


def test_summary_is_valid_and_a_broken_one_is_not() -> None:
    validator = Draft202012Validator(summary_schema())
    judged = verdicts(tables(Run()), checkpoints(Run()))
    said = {
        "warnings": ["odd"],
        "violations": [],
        "gates": [GateResult("nc1_pinv > 0.1", passed=False, matched=1, broken=1, rows=(Judged("a/b", None, "why"),))],
        "troubles": ["odd"],
        "files": [Path("a/report.json")],
        "exit_code": 4,
    }
    for found in (judged, NOTHING):
        document = json.loads(summary_text(found, skipped=[("x", "y")], **said))  # type: ignore[arg-type] # by name
        validator.validate(document)
        assert "exit_code" in document
        assert not validator.is_valid(document | {"exit_code": 7})
        assert not validator.is_valid(document | {"schema_version": 2})
