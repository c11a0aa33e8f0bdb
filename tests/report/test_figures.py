"""Figures for papers: what stands in them, and where they are empty; the same numbers give the same bytes."""

import hashlib
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_samples import (
    CLASSES,
    RUNS,
    STEPS,
    Row,
    WeightRow,
    checkpoints,
    entries,
    metrics_frame,
    weight_entries,
    weights_frame,
)
from workspaces import ncscan, one_line

from ncscan.errors import UsageError
from ncscan.report.figures import numbers as of
from ncscan.report.figures.jacot import NO_HEAD
from ncscan.report.figures.panels import DASHES, PALETTE, Look, empty, lines, look
from ncscan.report.figures.pdf import canonical
from ncscan.report.figures.presets import PRESETS, figure, preset
from ncscan.report.figures.rendering import FORMATS
from ncscan.tables.columns import CLASS_COLUMNS, TRAJECTORY_COLUMNS
from ncscan.tables.frames import complete, encodable, tidy

ROOT = Path(__file__).parents[2]
NAMES = [one.name for one in PRESETS]
HOSTILE = ["<script>alert(1)</script>", '"><img src=x>', "</svg><b>", "a\x00\x01\u202eb", "\ud800", "]]>&lt;", "[bold]"]


def tables_of(runs: tuple[str, ...] = RUNS, steps: tuple[int, ...] = STEPS) -> dict[str, pd.DataFrame]:
    """A report of the sample audit with all that figures ask for, cosines of pairs and onsets included."""
    known = checkpoints(runs, steps)
    at_head = {"layer": "head.0", "depth": 13, "kind": "linear", "reduction": "none"}
    more = [
        (at, at_head, Row(metric, quantity, value, classifier=classifier))
        for at in known
        for metric, quantity, value, classifier in (
            ("nc2_condition", "", 1 + 20 / (1 + at["step"]), ""),
            ("nc2_equinorm_w", "", 0.3 / (1 + at["step"]), "head.1"),
            ("nc2_equiangular_w", "", 0.2 / (1 + at["step"]), "head.1"),
            ("nc3_cosine", "samples", 0.5, "head.1"),
            ("nc3_subspace", "", 0.9, "head.1"),
            ("nc1_normalized", "", 0.5 / (1 + at["step"]), ""),
        )
    ]
    pairs = [
        (
            {**at, "layer": "head.0", "class_name": CLASSES[a], "other_name": CLASSES[b]},
            pd.Series(
                {"class_index": a, "other_index": b, "metric": "pair_cosine", "value": (a - b) / 10, "reason": ""}
            ),
        )
        for at in known
        for a in range(10)
        for b in range(a)
    ]
    onsets = [
        (
            {"run": run, "group": run.split("-s")[0], "step_unit": "iteration", "layer": "head.1"},
            pd.Series(
                {"finding": "terminal_phase", "metric": "error", "quantity": "onset", "value": 8000.0, "step": 8000}
            ),
        )
        for run in runs
    ]
    return complete(
        {
            "metrics": metrics_frame([*entries(known), *more]),
            "weights": weights_frame(weight_entries(known)),
            "classes": tidy(CLASS_COLUMNS, pairs),
            "trajectory": tidy(TRAJECTORY_COLUMNS, onsets),
        }
    )


TABLES = tables_of()


def drawn(name: str, tables: dict[str, pd.DataFrame]) -> ET.Element:
    """A figure as XML, which it must be."""
    return ET.fromstring(figure(name, tables, "svg"))  # noqa: S314 - our own


def words(root: ET.Element) -> list[str]:
    """Every text of a figure."""
    return [" ".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def spec_of(tables: dict[str, pd.DataFrame], name: str = "NC1") -> dict[str, Any]:
    """A panel over steps as Vega-Lite has it."""
    found = of.over_steps(of.of_head(of.named(tables, "jacot", name), of.heads(tables)))
    spec: dict[str, Any] = lines(name, "y", found, look(of.runs(tables))).to_dict()
    return spec


def layers_of(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    """The layers of a panel with that mark."""
    inner = spec.get("layer", [])
    return [one for part in inner for one in layers_of(part, mark)] + [
        part for part in inner if part.get("mark", {}).get("type") == mark
    ]


def rows_of(spec: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, Any]]:
    """What a layer is drawn from."""
    rows: list[dict[str, Any]] = spec["datasets"][layer["data"]["name"]]
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_draws_all_its_panels(name: str) -> None:
    said = words(drawn(name, TABLES))
    panels = {
        "jacot-1": ["NC1", "NC2", "balancedness", "negativity", "square: head.0", "cross-entropy: head.0"],
        "jacot-2": ["NC1", "NC2", "NC3"],
        "jacot-3": ["negativity", "balancedness, ReLU", "balancedness, head"],
        "rangamani-1": ["NC1", "NC3", "NC4"],
        "papyan": [
            f"fig. {i}: {what}"
            for i, what in enumerate(("equinorm", "equiangular", "maximal angle", "NC3", "NC1", "NC4"), 2)
        ],
    }
    assert [title for title in panels[name] if title not in said] == []
    assert {"square (2 runs)", "cross-entropy (1 run)"} <= set(said)


def test_bands_are_one_standard_deviation_over_the_runs_of_a_group() -> None:
    shifted = TABLES["metrics"].copy()
    shifted.loc[shifted["run"] == "square-s1", "value"] *= 3
    spec = spec_of({**TABLES, "metrics": shifted})
    (band,) = layers_of(spec, "area")
    rows = rows_of(spec, band)
    own = shifted[(shifted["metric"] == "nc1_trace") & (shifted["layer"] == "head.0") & (shifted["group"] == "square")]
    at_step = own.pivot(index="step", columns="run", values="value").to_numpy(np.float64)
    expected_high = at_step.mean(axis=1) + at_step.std(axis=1, ddof=1)
    assert {"square (2 runs)"} == {row["group"] for row in rows}
    assert np.allclose(expected_high, [row["high"] for row in sorted(rows, key=lambda row: row["x"])], rtol=1e-12)


def test_lower_end_of_a_band_stays_on_a_logarithmic_axis() -> None:
    wide = TABLES["metrics"].copy()
    wide.loc[wide["run"] == "square-s1", "value"] *= 100
    spec = spec_of({**TABLES, "metrics": wide})
    (band,) = layers_of(spec, "area")
    low = band["encoding"]["y"]["scale"]["domain"][0]
    assert band["encoding"]["y"]["scale"]["type"] == "log"
    assert min(row["low"] for row in rows_of(spec, band)) == low > 0


def test_groups_of_one_run_have_no_band() -> None:
    assert layers_of(spec_of(tables_of(RUNS[1:])), "area") == []


def test_one_checkpoint_leaves_reasons_over_steps_and_the_rest_drawn() -> None:
    tables = tables_of(RUNS, STEPS[-1:])
    said = " ".join(words(drawn("jacot-1", tables)))
    assert said.count("one step: nothing to draw") == 4
    assert "square: head.0" in said
    assert "one step" not in " ".join(words(drawn("rangamani-1", tables)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rangamani-1"])
def test_networks_without_a_linear_head_leave_reasons(name: str) -> None:
    metrics = TABLES["metrics"]
    said = " ".join(words(drawn(name, {**TABLES, "metrics": metrics[metrics["classifier"] == ""]})))
    assert NO_HEAD.split()[0] in said
    assert "was compared" in said


@pytest.mark.parametrize("name", NAMES)
def test_reports_without_any_number_leave_reasons(name: str) -> None:
    none = complete({})
    assert figure(name, none, "svg")


def test_reasons_of_the_tables_stand_in_the_panel() -> None:
    metrics = TABLES["metrics"].copy()
    gone = metrics["metric"] == "nc2_condition"
    metrics.loc[gone, "value"], metrics.loc[gone, "reason"] = np.nan, "a class has no samples"
    said = " ".join(words(drawn("jacot-1", {**TABLES, "metrics": metrics})))
    assert "a class has no" in said


def test_head_is_what_is_compared_with_the_outputs() -> None:
    at = {"run": "r", "group": "", "checkpoint": "c", "step": 1, "step_unit": "epoch", "split": "train"}
    places = [("h", 3, "f1"), ("h", 3, "f1..f3"), ("f1", 4, "f2"), ("f1", 4, "f2..f3"), ("f2", 5, "f3")]
    rows = [
        (
            at,
            {"layer": layer, "depth": depth, "kind": "linear", "reduction": ""},
            Row("nc3_distance", "", i / 10, classifier=to),
        )
        for i, (layer, depth, to) in enumerate(places)
    ]
    maps = [(at, WeightRow(name, "", "weight_condition", "condition", 2.0)) for name in ("a", "b", "f1", "f2", "f3")]
    tables = complete({"metrics": metrics_frame(rows), "weights": weights_frame(maps)})
    assert {"r": of.Head(("h", "f1", "f2"), 2)} == of.heads(tables)
    kept = of.of_head(of.measured(tables, "nc3_distance"), of.heads(tables))
    assert ["f1..f3", "f2..f3", "f3"] == kept["classifier"].tolist()


def test_papyan_marks_the_terminal_phase_of_groups_that_reach_it() -> None:
    from ncscan.report.figures.terminal import onsets

    late = TABLES["trajectory"].copy()
    late.loc[late["run"] == "square-s1", "value"] = 9000.0
    late.loc[late["run"] == "cross-entropy", "value"] = np.nan
    assert [("square", 9000.0)] == list(onsets({**TABLES, "trajectory": late}).itertuples(index=False, name=None))


def test_runs_are_averaged_at_their_own_last_checkpoint() -> None:
    metrics = TABLES["metrics"]
    short = metrics[(metrics["run"] != "square-s1") | (metrics["step"] <= 4000)]
    rows = of.at_end(of.measured({**TABLES, "metrics": short}, "nc1_trace")).rows
    assert {2} == set(rows.loc[rows["group"] == "square", "runs"])


def test_many_groups_and_layers_are_thinned_to_what_can_be_told_apart() -> None:
    many = look({f"group{i}": 1 for i in range(12)})
    assert len(many.labels) == len(PALETTE)
    assert {"group0", "group11"} <= set(many.labels)
    rows = pd.DataFrame(
        {
            "group": "g",
            "place": [f"layer{i}" for i in range(9) for _ in "ab"],
            "depth": [i for i in range(9) for _ in "ab"],
        }
    ).assign(step=[0, 1] * 9, step_unit="epoch", mean=1.0, std=np.nan, runs=1)
    spec = lines("t", "s", of.PanelNumbers(rows), Look({"g": "g"})).to_dict()
    (line,) = layers_of(spec, "line")
    assert [f"layer{8 - i}" for i in range(len(DASHES))] == line["encoding"]["strokeDash"]["scale"]["domain"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    tables, name = tables_of(RUNS[:1], (0, 9000)), encodable(name)  # as every table has it
    odd = {
        key: frame.replace(
            {column: {"head.0": name, "square": name} for column in frame.columns if frame[column].dtype == object}
        )
        for key, frame in tables.items()
    }
    for one in NAMES:
        root = drawn(one, odd)
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {
            "svg",
            "g",
            "path",
            "line",
            "text",
            "tspan",
            "title",
            "rect",
            "defs",
            "linearGradient",
            "stop",
            "clipPath",
        }


def test_long_names_stay_apart() -> None:
    said = look({f"a-very-long-name-of-a-group-{i}-with-decay": 1 for i in range(2)}).labels
    assert len(set(said.values())) == 2


def test_empty_panel_wraps_its_reason() -> None:
    said = json.dumps(empty("t", "x" * 500 + " <b>").to_dict(), ensure_ascii=False)
    assert "…" in said
    assert len(max(re.findall(r"x+", said), key=len)) <= 20


def test_unknown_figure_names_those_that_are() -> None:
    with pytest.raises(UsageError, match="no figure 'jacot'; there are jacot-1, jacot-2"):
        preset("jacot")


def digests() -> str:
    """Of two presets in every form."""
    names = ("jacot-1", "papyan")
    return " ".join(hashlib.sha256(figure(name, TABLES, form)).hexdigest() for form in FORMATS for name in names)


def test_same_numbers_give_the_same_bytes_in_another_process_whatever_was_drawn_before() -> None:
    code = "from test_figures import *\nprint(digests())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    figure("rangamani-1", TABLES, "svg")
    figure("jacot-1", TABLES, "pdf")
    assert digests() == other.stdout.strip()


def test_pdf_is_the_same_in_any_order_of_objects() -> None:
    document = figure("jacot-2", TABLES, "pdf")
    assert document == canonical(document)
    assert document.startswith(b"%PDF-1.7")
    assert b"CreationDate" not in document
    at = int(document.rsplit(b"startxref\n", 1)[1].split()[0])
    offsets = [int(line[:10]) for line in document[at:].splitlines() if line.endswith(b" n")]
    assert [f"{i} 0 obj".encode() for i in range(1, len(offsets) + 1)] == [
        document[o:].split(b"\n", 1)[0] for o in offsets
    ]
    with pytest.raises(ValueError, match="not found"):
        canonical(b"%PDF-1.7\nnothing")


def test_committed_pictures_are_of_presets_and_told_in_the_docs() -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    pictures = sorted((ROOT / "docs" / "figures").glob("*.svg"))
    assert {"jacot-1", "rangamani-1"} <= {path.stem for path in pictures} <= set(NAMES)
    assert all(f"](figures/{path.name})" in page for path in pictures)
    assert all(f"| `{one.name}` | {one.source} |" in page for one in PRESETS)
    titles = {"jacot-1": "balancedness", "rangamani-1": "NC3"}
    for path in pictures:
        root = ET.parse(path).getroot()  # noqa: S314 - our own
        assert titles[path.stem] in words(root)
        assert path.stat().st_size < 200_000


def test_report_writes_figures_beside_its_files(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    folder = workspace / "ncscan-out" / "report" / "figures"
    done = ncscan("report", "--figure", "jacot-1", "--figure", "papyan", "--figure", "papyan", cwd=workspace)
    assert (0, "") == (done.returncode, done.stderr)
    assert ["jacot-1.svg", "papyan.svg"] == sorted(path.name for path in folder.iterdir())
    assert done.stdout.count("figure: ") == 2

    (folder / "mine.svg").write_text("kept", encoding="utf-8")
    again = ncscan("report", "--figure", "rangamani-1", "--figures", "png", cwd=workspace)
    assert again.returncode == 0
    assert ["mine.svg", "rangamani-1.png"] == sorted(path.name for path in folder.iterdir())
    assert (folder / "rangamani-1.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_figures_and_formats_end_before_anything_is_measured(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    for arguments in (("--figure", "jacot-9"), ("--figure", "<script>[bold]")):
        refused = ncscan("report", *arguments, cwd=workspace)
        assert refused.returncode == 2
        assert "jacot-1" in one_line(refused.stderr)
        assert refused.stdout == ""
    assert ncscan("report", "--figure", "papyan", "--figures", "bmp", cwd=workspace).returncode == 2
    assert not (workspace / "ncscan-out" / "report").exists()


def test_figures_that_cannot_be_written_leave_the_report(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    report = workspace / "ncscan-out" / "report"
    report.mkdir()
    (report / "figures").write_text("a file where the folder would be", encoding="utf-8")
    done = ncscan("report", "--figure", "jacot-1", cwd=workspace)
    assert done.returncode == 2
    assert "cannot write there" in one_line(done.stderr)
    assert (report / "report.html").exists()
