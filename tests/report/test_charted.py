"""The page's charts as files: of every run and main number, under safe names, with the same bytes each time."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
from large_audit import large_audit
from report_samples import RUNS, checkpoints, entries, metrics_frame, weight_entries, weights_frame

from ncscan.pipeline.pictures import Pictures, draw
from ncscan.report import output, stamped
from ncscan.report.figures.charted import ALL_RUNS, charted
from ncscan.report.figures.rendering import as_file
from ncscan.report.own_files import CHARTS
from ncscan.tables.frames import complete

HOSTILE = ("<script>alert(1)</script>", "../../etc", "a\x00\u202eb", "=cmd")


def tables(runs: tuple[str, ...] = RUNS) -> dict[str, pd.DataFrame]:
    known = checkpoints(runs)
    return complete({"metrics": metrics_frame(entries(known)), "weights": weights_frame(weight_entries(known))})


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314 - our own
    return ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]


def test_every_run_has_its_charts_and_all_runs_are_compared() -> None:
    names = {chart.name for chart in charted(tables())}
    for run in RUNS:
        assert {f"{run}/nc1_pinv-steps", f"{run}/nc1_pinv-depth", f"{run}/nc1_pinv-map", f"{run}/error-steps"} <= names
    assert {f"{ALL_RUNS}/nc1_pinv", f"{ALL_RUNS}/nc3_distance"} <= names


def test_runs_are_told_apart_by_their_group_in_the_legend() -> None:
    (chart,) = [chart for chart in charted(tables()) if chart.name == f"{ALL_RUNS}/nc1_pinv"]
    assert {"square", "cross-entropy"} <= set(texts(as_file(chart.spec, "svg", chart.label)))


def test_a_compared_run_is_read_where_its_classifier_reads() -> None:
    (chart,) = [chart for chart in charted(tables()) if chart.name == f"{ALL_RUNS}/nc1_pinv"]
    rows = chart.spec["datasets"]["rows"]
    own = tables()["metrics"]
    truth = own[(own["run"] == RUNS[2]) & (own["metric"] == "nc1_pinv") & (own["layer"] == "head.0")]
    assert [row["y"] for row in rows if row["line"] == RUNS[2]] == pytest.approx(truth["value"].tolist())
    mean = [row for row in rows if row["line"] == "square (mean)"]
    assert all(row["low"] <= row["y"] <= row["high"] for row in mean)


def test_classes_have_their_matrices() -> None:
    large, _ = large_audit(3, 4)
    found = {chart.name: chart for chart in charted(large)}
    rows = found["run/pair_cosine"].spec["datasets"]["rows"]
    assert len(rows) == 100
    assert {row["shade"] for row in rows if row["x"] == row["y"]} == {5}
    assert len(found["run/nc3_pair_cosine"].spec["datasets"]["rows"]) == 100


def test_one_checkpoint_has_no_course() -> None:
    own = complete({"metrics": metrics_frame(entries(checkpoints(RUNS[:1], (0,))))})
    assert {name.rpartition("-")[2] for name in (chart.name for chart in charted(own))} == {"depth"}
    assert list(charted(complete({}))) == []


def test_names_of_strangers_are_no_paths_and_stay_apart() -> None:
    known = checkpoints(HOSTILE, (0, 50))
    own = complete({"metrics": metrics_frame(entries(known))})
    names = [chart.name for chart in charted(own)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+", name) for name in names)
    for chart in charted(own):
        if chart.name.endswith("nc1_pinv-steps"):
            tags = {e.tag.rpartition("}")[2] for e in ET.fromstring(as_file(chart.spec, "svg", chart.label)).iter()}  # noqa: S314
            assert "script" not in tags


def test_the_same_tables_give_the_same_bytes_and_old_charts_go(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    own = tables(RUNS[:1])
    own["metrics"] = own["metrics"][own["metrics"]["metric"].isin(["nc1_pinv", "error"])]
    first = draw(Pictures((CHARTS,)), own, folder, "c0ffee")
    assert first.troubles == []
    output.put(folder, first.files)
    before = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.svg")}
    assert before == first.files
    (folder / "figures" / CHARTS / "gone").mkdir()
    old = stamped("old-steps.svg", b"<svg><title>of another run</title></svg>", "c0ffee")
    (folder / "figures" / CHARTS / "gone" / "old-steps.svg").write_bytes(old)
    again = draw(Pictures((CHARTS,)), own, folder, "c0ffee")
    assert before == again.files
    written = output.put(folder, again.files)
    assert sorted(written) == sorted((folder / "figures" / CHARTS).rglob("*.svg"))
    assert not (folder / "figures" / CHARTS / "gone").exists()
