"""Every number of a report in one frame, and a report.json read back: what comes in, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from comparing import READ, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from ncscan.errors import ReportError
from ncscan.report.json_report import json_text
from ncscan.report.verdict.evaluate import NOTHING
from ncscan.tables import report_reader
from ncscan.tables.all_numbers import NUMBER_COLUMNS, SAME, numbers
from ncscan.tables.columns import METRIC_COLUMNS, REPORT_VERSION
from ncscan.tables.frames import complete, conform
from ncscan.tables.report_reader import read_report

HOSTILE = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "a\x00\u202eb", "two\nlines", "[bold]", "")


def test_numbers_are_those_of_three_tables_in_their_order() -> None:
    own = tables()
    frame = numbers(own)
    assert [name for name, _ in NUMBER_COLUMNS] == list(frame.columns)
    assert sum(len(own[name]) for name in ("metrics", "weights", "theory")) == len(frame)
    assert ["metrics", "weights", "theory"] == list(dict.fromkeys(frame["table"]))
    assert own["metrics"]["value"].tolist() == frame["value"][: len(own["metrics"])].tolist()
    assert not frame.duplicated(["run", "checkpoint", *SAME]).any()


def test_numbers_name_maps_and_claims_as_layers_and_metrics() -> None:
    frame = numbers(tables(steps=(0,)))
    weights = frame[frame["table"] == "weights"]
    assert ["fc1", "fc2..out", "fc2..out"] == weights["layer"].tolist()
    assert [1, pd.NA, pd.NA] == weights["depth"].tolist()
    (claim,) = frame[frame["table"] == "theory"].to_dict("records")
    assert ("nc1_upper", "simplex", READ, 1.0, 3) == tuple(
        claim[key] for key in ("metric", "quantity", "layer", "value", "depth")
    )
    assert {""} == set(weights["split"]) | set(weights["weighting"]) | {claim["split"]}


def test_numbers_when_nothing_was_measured() -> None:
    frame = numbers(complete({}))
    assert ([name for name, _ in NUMBER_COLUMNS], 0) == (list(frame.columns), len(frame))


def write(folder: Path, own: dict[str, pd.DataFrame]) -> Path:
    path = folder / "report.json"
    path.write_bytes(json_text(own, [{"run": "a"}], [("x.pt", "cut")], ["odd"], NOTHING).encode())
    return path


def test_report_reads_back_as_the_tables_it_was_made_of(tmp_path: Path) -> None:
    own = tables(("a", "b"), value=lambda run, step, layer: None if layer == "relu" else 0.1 * step)
    read = read_report(write(tmp_path, own))
    assert list(own) == list(read)
    for name, table in own.items():
        pd.testing.assert_frame_equal(table, read[name])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_read_back_as_they_were(tmp_path: Path, text: str) -> None:
    own = tables()
    own["metrics"] = conform(own["metrics"].assign(layer=text, run=text), METRIC_COLUMNS)
    pd.testing.assert_frame_equal(own["metrics"], read_report(write(tmp_path, own))["metrics"])


def test_columns_and_keys_of_a_later_report_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, tables())
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["gates"] = [1]
    plain["metrics"]["columns"].insert(0, "later")
    plain["metrics"]["rows"] = [[{"any": "thing"}, *row] for row in plain["metrics"]["rows"]]
    path.write_text(json.dumps(plain), encoding="utf-8")
    pd.testing.assert_frame_equal(tables()["metrics"], read_report(path)["metrics"])


def damaged(folder: Path, change: Any) -> Path:
    """A report in which one thing was changed."""
    path = write(folder, tables(steps=(0,)))
    plain = json.loads(path.read_text(encoding="utf-8"))
    change(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")
    return path


def cell(name: str, value: Any) -> Any:
    def change(plain: Any) -> None:
        table = plain["metrics"]
        table["rows"][1][table["columns"].index(name)] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain: plain.update(schema="other ncscan.report"), "not a report of ncscan"),
        (lambda plain: plain.update(schema_version=99), "schema version 99, and this ncscan reads"),
        (lambda plain: plain.update(schema_version=True), "schema version true"),
        (lambda plain: plain.update(schema_version="2"), 'schema version "2"'),
        (
            lambda plain: plain.update(schema_version=float(REPORT_VERSION)),
            f"schema version {REPORT_VERSION}.0,",
        ),
        (lambda plain: plain.pop("weights"), "table weights is missing"),
        (lambda plain: plain.update(theory=[]), "table theory is missing, or no table"),
        (lambda plain: plain["metrics"].update(columns=3), "its columns are not a list"),
        (lambda plain: plain["metrics"]["columns"].__setitem__(0, "group"), "its columns are not a list of different"),
        (
            lambda plain: plain["metrics"]["columns"].__setitem__(6, ["layer"]),
            "its columns are not a list of different",
        ),
        (lambda plain: plain["metrics"]["columns"].__setitem__(6, "lair"), "no column layer"),
        (lambda plain: plain["metrics"]["rows"].__setitem__(1, 5), "row 1: not a list of 24 cells"),
        (lambda plain: plain["metrics"]["rows"][1].pop(), "row 1: not a list of 24 cells"),
        (cell("value", "0.5"), "table metrics, row 1: value: Expected `int | float | null`, got `str`"),
        (cell("value", True), "value: Expected `int | float | null`, got `bool`"),
        (cell("value", 10**400), "value: Expected `int` <= 9007199254740992"),
        (cell("value", [1]), "value: Expected `int | float | null`, got `array`"),
        (cell("step", 1.5), "step: Expected `int | null`, got `float`"),
        (cell("step", 2**70), "step: Expected `int` <= 9223372036854775807"),
        (cell("layer", {"a": 1}), "layer: Expected `str | null`, got `object`"),
        (cell("centred", 1), "centred: Expected `bool | null`, got `int`"),
        (cell("layer", 7), "layer: Expected `str | null`, got `int`"),
        (cell("layer", "x" * 20_001), "layer: Expected `str` of length <= 20000"),
        (cell("value", 2**53 + 1), "value: Expected `int` <= 9007199254740992"),
    ],
)
def test_damaged_report_is_one_line(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(ReportError) as error:
        read_report(damaged(tmp_path, change))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a report of ncscan"),
        (b"\x00" * 5000, "not a report of ncscan"),
        (b'{"schema": "ncscan.report"', "damaged or cut off, not JSON"),
        (b'["ncscan.report"]', "not a report of ncscan"),
        (b'{"schema": "ncscan.report", "a": ' + b"[" * 200_000, "nested too deep"),
        (b'{"schema": "ncscan.report", "a": NaN}', "NaN is no number in JSON"),
        (b'{"schema": "ncscan.report", "a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"schema": "ncscan.report", "a": "\xff"}', "not UTF-8 at byte"),
        (b'{"schema": "ncscan.report", "schema_version": 1}', "schema version 1"),
    ],
)
def test_file_that_is_no_report_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ReportError) as error:
        read_report(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_value_beyond_every_double_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, tables(steps=(0,)))
    text = path.read_text(encoding="utf-8")
    assert ",7.0," in text
    path.write_text(text.replace(",7.0,", ",1e999,"), encoding="utf-8")
    with pytest.raises(ReportError, match=r"value: Expected `float` <= 1\.79"):
        read_report(path)


def test_missing_file_and_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "report.json", tmp_path):
        with pytest.raises(ReportError, match=r"there is no such file|not a regular file"):
            read_report(path)


def test_file_larger_than_any_report_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_reader, "MOST_BYTES", 1000)
    with pytest.raises(ReportError, match="more than any report takes"):
        read_report(write(tmp_path, tables()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_report_cut_or_changed_anywhere_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = json_text(tables(steps=(0,)), [], [], [], NOTHING).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    new = data.draw(st.sampled_from([b"", b"\x00", b'"', b"]", b"{", b"9", b"\xff", b"-", b"e"]))
    cut = data.draw(st.booleans())
    path = tmp_path_factory.mktemp("fuzz") / "report.json"
    path.write_bytes(whole[:at] + new + (b"" if cut else whole[at + 1 :]))
    try:
        values, said = numbers(read_report(path))["value"].dropna().tolist(), ""
    except ReportError as error:
        values, said = [], str(error)
    assert "\n" not in said
    assert all(map(math.isfinite, values))
