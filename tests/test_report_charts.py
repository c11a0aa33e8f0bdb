"""Charts: what is drawn, where it leaves gaps, and that the same numbers give the same bytes."""

import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import LAYERS, RUNS, STEPS, Row, checkpoints, entries, weight_entries

from ncscan.report.charts import (
    MOST_DOTS,
    MOST_LINES,
    MOST_POINTS,
    draw,
    metric_points,
    scale_of,
    spread_out,
    weight_points,
)
from ncscan.report.svg import DEPTH_DARK, DEPTH_RAMP, STEP_DARK, STEP_RAMP
from ncscan.report.tables import metrics_frame, weights_frame

positive = st.floats(1e-300, 1e300)


def points_of(values: Mapping[tuple[str, int], float | None], run: str = "r") -> pd.DataFrame:
    """A metric with these values by layer and step; a layer's depth is where it first stands."""
    layers = list(dict.fromkeys(layer for layer, _ in values))
    return metric_points(
        metrics_frame(
            (
                {"run": run, "checkpoint": f"s{step}", "step": step, "step_unit": "epoch", "split": "train"},
                {"layer": layer, "depth": layers.index(layer), "kind": "linear", "reduction": "none"},
                Row("nc1_pinv", "", value, reason="" if value is not None else "why"),
            )
            for (layer, step), value in values.items()
        )
    )


def parsed(svg: str) -> ET.Element:
    """The chart as XML, which it must be."""
    return ET.fromstring(svg)  # noqa: S314 - our own


def lines(svg: str) -> list[str]:
    """The paths of the lines: dots are arcs."""
    return [path.attrib["d"] for path in parsed(svg).iter("path") if "A" not in path.attrib["d"]]


def dots(svg: str) -> int:
    """How many circles are drawn."""
    return sum("A" in path.attrib["d"] for path in parsed(svg).iter("path"))


@given(st.lists(st.one_of(positive, st.just(0.0)), min_size=1))
def test_scale_of_covers_every_value_and_tick(values: list[float]) -> None:
    scale = scale_of(values)
    low, high = scale.domain
    assert low < high < math.inf
    assert all(low <= value <= high for value in values)
    assert len(scale.ticks) <= 7
    assert scale.type == "linear" or scale.ticks


def test_scale_of_chooses_by_sign_and_span() -> None:
    assert scale_of([0.02, 1.0]).type == "log"
    assert scale_of([0.0, 0.02, 1.0]).type == "symlog"
    assert scale_of([0.2, 1.0]).type == "linear"
    assert scale_of([-0.02, 1.0]).type == "linear"
    assert scale_of([0.0]).domain == (0.0, 1.0)
    assert scale_of([-2.0, -2.0]).domain == (-2.1, -1.9)
    assert scale_of([1.0, 50.0], decades=2.0).type == "linear"
    assert scale_of([1.0, 500.0], decades=2.0).ticks == (1.0, 10.0, 100.0)


def test_every_metric_has_charts_over_steps_and_over_depth() -> None:
    known = checkpoints(RUNS[:2], (0, 50, 9000))
    tables = (metric_points(metrics_frame(entries(known))), weight_points(weights_frame(weight_entries(known))))
    for points in tables:
        for metric in dict.fromkeys(points["metric"]):
            charts = draw(points, metric)
            defined = points[(points["metric"] == metric) & points["value"].notna()]
            several = defined["place"].nunique() > 1
            assert [(chart.axis, chart.panel) for chart in charts] == [
                (axis, run) for axis in ("steps", "depth")[: 1 + several] for run in RUNS[:2]
            ], metric


def test_lines_are_layers_over_steps_and_steps_over_depth() -> None:
    points = metric_points(metrics_frame(entries(checkpoints(RUNS[:1]))))
    over_steps, over_depth = draw(points, "nc1_pinv")
    assert [path.count("L") for path in lines(over_steps.svg)] == [len(STEPS) - 1] * len(LAYERS)
    assert [path.count("L") for path in lines(over_depth.svg)] == [len(LAYERS) - 1] * len(STEPS)
    assert (over_steps.first, over_steps.last) == ("input", "head.1")
    assert (over_depth.first, over_depth.last) == ("iteration 0", "iteration 9,000")
    assert all(f">{layer}<" in over_depth.svg for layer in LAYERS)


def test_layers_stand_in_execution_order_whatever_their_names() -> None:
    names = ["zeta", "alpha", "mid", "beta"]
    (_, over_depth) = draw(
        points_of({(name, step): 1.0 + i for step in (0, 1) for i, name in enumerate(names)}), "nc1_pinv"
    )
    texts = [text.text for text in parsed(over_depth.svg).iter("text")]
    assert names == [text for text in texts if text in names]
    (path, _) = lines(over_depth.svg)
    xs = [float(point.split(",")[0]) for point in path.removeprefix("M").split("L")]
    assert xs == sorted(xs)


def test_undefined_points_leave_gaps_and_lonely_values_are_dots() -> None:
    values = {("fc", step): (None if step in (2, 4) else 1.0 + step) for step in range(8)}
    (chart,) = draw(points_of(values), "nc1_pinv")
    (path,) = lines(chart.svg)
    assert path.count("M") == 3  # 0–1, 3, 5–7
    assert dots(chart.svg) == 6

    many = {(f"fc{i}", step): (None if step == 2 and i == 0 else 1.0 + i) for i in range(20) for step in range(4)}
    over_steps, over_depth = draw(points_of(many), "nc1_pinv")
    assert len(many) > MOST_DOTS
    assert dots(over_steps.svg) == 1  # fc0 at step 3, between a gap and the end
    assert dots(over_depth.svg) == 0


def test_layers_without_any_value_are_not_drawn() -> None:
    values = {("a", 0): None, ("a", 1): None, ("b", 0): 1.0, ("b", 1): 2.0}
    (chart,) = draw(points_of(values), "nc1_pinv")
    assert chart.axis == "steps"
    assert len(lines(chart.svg)) == 1
    assert draw(points_of({("a", 0): None}), "nc1_pinv") == []


def test_single_value_is_one_dot() -> None:
    (chart,) = draw(points_of({("fc", 0): 0.5}), "nc1_pinv")
    assert (chart.axis, dots(chart.svg)) == ("steps", 1)


def test_runs_share_their_y_axis() -> None:
    points = pd.concat(
        [points_of({("fc", s): 1.0 + s for s in (0, 1)}, "a"), points_of({("fc", s): 80.0 for s in (0, 1)}, "b")]
    )
    first, second = draw(points, "nc1_pinv")
    ticks = [[t.text for t in parsed(chart.svg).iter("text")] for chart in (first, second)]
    assert ticks[0] == ticks[1]


def test_splits_of_a_run_are_panels_of_their_own() -> None:
    train = metrics_frame(entries(checkpoints(RUNS[:1], (0, 50))))
    points = metric_points(pd.concat([train, train.assign(split="test")]))
    assert [f"{RUNS[0]} · train", f"{RUNS[0]} · test"] == list(dict.fromkeys(points["panel"]))


def test_large_audits_are_thinned_and_say_so() -> None:
    values = {(f"layer{i:03d}", step): 1.0 / (1 + i + step) for i in range(200) for step in range(150)}
    over_steps, over_depth = draw(points_of(values), "nc1_pinv")
    assert len(lines(over_steps.svg)) == MOST_LINES["steps"]
    assert {path.count("L") + 1 for path in lines(over_steps.svg)} == {MOST_POINTS["steps"]}
    assert len(lines(over_depth.svg)) == MOST_LINES["depth"]
    assert over_steps.left_out == "40 of 200 layers or maps, 100 of 150 steps"
    assert over_depth.left_out == "12 of 150 checkpoints, 160 of 200 layers or maps"
    assert (over_steps.first, over_steps.last) == ("layer000", "layer199")
    assert len(over_steps.svg) + len(over_depth.svg) < 100_000


@given(st.integers(0, 50), st.integers(2, 60))
def test_spread_out_keeps_first_and_last_in_order(n: int, most: int) -> None:
    chosen = spread_out(range(n), most)
    assert len(chosen) == min(n, most)
    assert chosen == sorted(set(chosen))
    assert not n or (chosen[0], chosen[-1]) == (0, n - 1)


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</svg><b>",
        "a\x00\x01\u202eb",
        "\ud800",
        "]]>&lt;",
    ],
)
def test_hostile_names_stay_text(name: str) -> None:
    for chart in draw(points_of({(layer, s): 1.0 + s for layer in (name, "fc") for s in (0, 1)}, run=name), "nc1_pinv"):
        root = parsed(chart.svg)
        assert {element.tag for element in root.iter()} <= {"svg", "g", "path", "line", "text", "title"}
        assert chart.svg.encode().decode() == chart.svg


def test_long_names_are_shortened_and_stay_apart() -> None:
    names = [f"encoder.layer.{i}.attention.output.dense" for i in (1, 2)]
    _, over_depth = draw(points_of({(name, s): 1.0 for name in names for s in (0, 1)}), "nc1_pinv")
    labels = [t.text for t in parsed(over_depth.svg).iter("text") if "…" in (t.text or "")]
    assert len(set(labels)) == 2


def test_charts_carry_no_ids_and_no_colour_of_their_own() -> None:
    for chart in draw(metric_points(metrics_frame(entries(checkpoints(RUNS[:1])))), "nc1_pinv"):
        root = parsed(chart.svg)
        assert not [element for element in root.iter() if "id" in element.attrib]  # two charts in a page would clash
        paints = {element.get(key) for element in root.iter() for key in ("fill", "stroke")} - {None}
        assert all(paint in ("none", "currentColor") or str(paint).startswith("var(--") for paint in paints)


def test_same_numbers_give_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib\nfrom report_samples import *\n"
        "from ncscan.report.charts import draw, metric_points\nfrom ncscan.report.tables import metrics_frame\n"
        "points = metric_points(metrics_frame(entries(checkpoints(RUNS[:1]))))\n"
        "{before}print(hashlib.sha256(''.join(c.svg for c in draw(points, 'nc1_pinv')).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code.format(before=before)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for before in ("", "draw(points, 'cdnv'); ")
    }
    assert len(digests) == 1


def test_ramps_have_a_dark_twin_for_every_colour() -> None:
    assert len(DEPTH_RAMP) == len(DEPTH_DARK)
    assert len(STEP_RAMP) == len(STEP_DARK)
    assert len({*DEPTH_RAMP, *STEP_RAMP}) == len(DEPTH_RAMP) + len(STEP_RAMP)
