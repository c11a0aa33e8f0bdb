"""Tables as Parquet: the same as the CSV files, number by number, with types, and text as it was."""

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as arrow
import pytest
from report_samples import RUNS, Row, checkpoints, entries, metrics_frame, weight_entries, weights_frame, write_report
from workspaces import PATIENCE, hashing_anew, make_workspace, ncscan

from ncscan.tables.columns import FLAG, NUMBER, TABLES, TEXT, WHOLE
from ncscan.tables.frames import complete, csv_text, summary_frame
from ncscan.tables.parquet_file import parquet_bytes

AT = {"run": "a", "group": "g", "checkpoint": "e1.pt", "step": 1, "step_unit": "epoch", "split": "train"}
LAYER = {"layer": "fc", "depth": 3, "kind": "linear", "reduction": "none"}
HOSTILE = ("=cmd|' /C calc'!A0", "a\x00\u202eb\r\n", "-1", "@x", "'quoted", "NA", "None", "", "\ud800", "層", '"')


def back(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.read_parquet(BytesIO(parquet_bytes(frame)))


@pytest.mark.parametrize("name", list(TABLES))
def test_empty_table_keeps_columns_and_types(name: str) -> None:
    stored = arrow.read_schema(BytesIO(parquet_bytes(complete({})[name])))
    # A column of text without rows would otherwise be one of nulls, which cannot be put together with another report's.
    types = {TEXT: {"string", "large_string"}, WHOLE: {"int64"}, NUMBER: {"double"}, FLAG: {"bool"}}
    assert [column for column, _ in TABLES[name]] == stored.names
    assert [] == [column for column, kind in TABLES[name] if str(stored.field(column).type) not in types[kind]]


def test_table_reads_back_the_same_and_as_the_csv() -> None:
    known = checkpoints(RUNS[:1])
    frames = complete({"metrics": metrics_frame(entries(known)), "weights": weights_frame(weight_entries(known))})
    frames["summary"] = summary_frame(frames["metrics"], frames["weights"])
    for name, frame in frames.items():
        read = back(frame)
        kinds = dict(TABLES.get(name, ()))
        for column in frame.columns:
            assert frame[column].isna().tolist() == read[column].isna().tolist()
            assert frame[column].dropna().tolist() == read[column].dropna().tolist()
            assert kinds.get(column, str(frame[column].dtype)) in (str(read[column].dtype), TEXT)
        assert csv_text(frame) == csv_text(read.astype({c: object for c in read if frame[c].dtype == TEXT}))


def test_numbers_are_the_same_doubles_and_what_is_missing_is_null() -> None:
    values = [0.1, 5e-324, 1.7976931348623157e308, -0.0, None]
    frame = metrics_frame((AT, LAYER, Row("nc1_pinv", "", value, "why" if value is None else "")) for value in values)
    read = back(frame)["value"]
    assert [(1.5).hex() if value is None else value.hex() for value in values] == [
        value.hex() for value in read.fillna(1.5)
    ]
    stored = arrow.read_table(BytesIO(parquet_bytes(frame)))
    assert ("double", 1) == (str(stored.schema.field("value").type), stored.column("value").null_count)
    assert {"int64", "bool"} <= {str(field.type) for field in stored.schema}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_as_it_was(name: str) -> None:
    frame = metrics_frame([(AT, {**LAYER, "layer": name}, Row("nc1_pinv", "", 1.0))])
    (read,) = back(frame)["layer"]
    assert read == (name if name != "\ud800" else r"\ud800")


def test_same_table_same_bytes() -> None:
    frame = metrics_frame(entries(checkpoints(RUNS[:1])))
    assert parquet_bytes(frame) == parquet_bytes(frame.copy())


def write(folder: Path, *formats: str, **extra: pd.DataFrame) -> list[str]:
    known = checkpoints(RUNS[:1], (0, 50))
    frames = {"metrics": metrics_frame(entries(known)), "weights": weights_frame(weight_entries(known))}
    write_report(folder, frames, extra, checkpoints=known, skipped=[], warnings=[], formats=formats)
    return sorted(path.name for path in folder.iterdir())


def test_tables_of_another_format_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    odd = pd.DataFrame({"name": ["x"]}, dtype=object)
    (tmp_path / "mine.csv").write_text("a\n", encoding="utf-8")
    names = [*TABLES, "summary"]
    rest = ["mine.csv", "report.html", "report.json"]
    both = write(tmp_path, "csv", "parquet", **{"convention-zhu": odd})
    assert both == sorted([f"{n}.{f}" for n in [*names, "convention-zhu"] for f in ("csv", "parquet")] + rest)
    assert write(tmp_path, "parquet") == sorted([f"{n}.parquet" for n in names] + rest)
    assert write(tmp_path, "csv") == sorted([f"{n}.csv" for n in names] + rest)


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet")
    make_workspace(folder, 5)
    assert 0 == ncscan("extract", "ckpts", "--quiet", cwd=folder).returncode
    return folder


def test_report_in_both_formats_says_the_same(dumped: Path) -> None:
    asked = ("--format", "csv", "--format", "parquet", "--convention", "papyan", "--quiet")
    done = ncscan("report", *asked, cwd=dumped)
    assert (0, "") == (done.returncode, done.stderr)
    folder = dumped / "ncscan-out" / "report"
    for name in (*TABLES, "summary", "convention-papyan"):
        of_csv = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, dtype=str)
        of_parquet = pd.read_parquet(folder / f"{name}.parquet")
        assert list(of_csv.columns) == list(of_parquet.columns)
        assert len(of_csv) == len(of_parquet) > 0
        for column in of_csv.columns:
            kept = of_parquet[column]
            if pd.api.types.is_bool_dtype(kept.dtype):
                assert of_csv[column].tolist() == ["" if pd.isna(v) else str(v).lower() for v in kept]
            elif pd.api.types.is_numeric_dtype(kept.dtype):
                numbers = pd.to_numeric(of_csv[column].where(of_csv[column] != "", None)).to_numpy(np.float64)
                np.testing.assert_array_equal(numbers, kept.to_numpy(np.float64, na_value=np.nan))
            else:
                assert of_csv[column].tolist() == kept.tolist()


def test_same_dumps_same_parquet_bytes_in_another_process(dumped: Path) -> None:
    def contents(out: str, run: Callable[..., subprocess.CompletedProcess[str]]) -> list[bytes]:
        done = run("report", "ncscan-out/dumps", "--format", "parquet", "--out", out, "-q", cwd=dumped)
        assert 0 == done.returncode
        found = sorted((dumped / out / "report").iterdir())
        assert not [path for path in found if path.suffix == ".csv"]
        return [path.read_bytes() for path in found]

    assert contents("one", ncscan) == contents("two", hashing_anew)


def test_without_pyarrow_it_is_one_line_before_anything_is_measured(dumped: Path) -> None:
    without = "import sys; sys.modules['pyarrow'] = None"
    arguments = ["report", "--format", "parquet", "--out", "none", "ncscan-out/dumps"]
    done = ncscan(*arguments, cwd=dumped, before=without)
    assert (2, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert "pip install 'ncscan[parquet]'" in line
    assert not (dumped / "none").exists()
    # Not a fork, in which pandas has found pyarrow already.
    code = f"{without}\nfrom ncscan.cli import main; main()"
    plain = subprocess.run([sys.executable, "-c", code, "report", "-q"], cwd=dumped, timeout=PATIENCE)
    assert 0 == plain.returncode


def test_unknown_format_exits_2(dumped: Path) -> None:
    assert 2 == ncscan("report", "--format", "xlsx", cwd=dumped).returncode
