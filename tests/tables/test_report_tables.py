"""The tables of the contract: their columns, their bytes, and what a stranger's text may do in them."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import (
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

from ncscan.report.json_report import json_text
from ncscan.report.verdict.evaluate import NOTHING
from ncscan.tables.columns import METRIC_COLUMNS, WEIGHT_COLUMNS
from ncscan.tables.frames import complete, conform, csv_text, inert, plain, summary_frame
from ncscan.wording import visible

METRICS_HEADER = (
    "run,group,checkpoint,step,step_unit,split,layer,depth,kind,classifier,metric,quantity,value,reason,weighting,"
    "centred,reduction,rank,estimate,at_floor,low,high,baseline,leads"
)
WEIGHTS_HEADER = (
    "run,group,checkpoint,step,step_unit,map,next_map,metric,quantity,value,rank,reason,n_samples,estimate,leads"
)

ACTIVE = {chr(i) for i in (*range(32), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F))}
ACTIVE |= {chr(i) for i in range(0x2066, 0x206A)}

AT = {"run": "a", "group": "g", "checkpoint": "e1.pt", "step": 1, "step_unit": "epoch", "split": "train"}
LAYER = {"layer": "fc", "depth": 3, "kind": "linear", "reduction": "none"}


def test_headers_are_those_of_the_contract() -> None:
    assert csv_text(metrics_frame([])) == METRICS_HEADER + "\n"
    assert csv_text(weights_frame([])) == WEIGHTS_HEADER + "\n"


def test_metrics_row_when_every_fact_is_known() -> None:
    frame = metrics_frame([(AT, LAYER, Row("nc2_etf", "", 0.1, centred=True, rank=9, classifier="head"))])
    expected = "a,g,e1.pt,1,epoch,train,fc,3,linear,head,nc2_etf,,0.1,,class,true,none,9,false,,,,,true"
    assert expected == csv_text(frame).splitlines()[1]


def test_weights_row_when_undefined_keeps_its_reason() -> None:
    frame = weights_frame([(AT, WeightRow("fc1", "fc2", "balancedness", "op", None, reason="a relu, between"))])
    assert csv_text(frame).splitlines()[1] == 'a,g,e1.pt,1,epoch,fc1,fc2,balancedness,op,,,"a relu, between",,,true'


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None, np.float64("inf")])
def test_value_when_not_finite_is_empty_with_a_reason(value: float | None) -> None:
    frame = metrics_frame([(AT, LAYER, Row("nc1_pinv", "", value))])
    assert frame["value"].isna().all()
    assert frame["reason"].tolist() == ["not a finite number"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_read_back_exactly(values: list[float]) -> None:
    frame = metrics_frame((AT, LAYER, Row("nc1_pinv", "", value)) for value in values)
    read = list(csv.DictReader(io.StringIO(csv_text(frame))))
    assert values == [float(row["value"]) for row in read]


@given(st.sampled_from(["", *"=+-@\t\r\n'\",＝\u202e\x1b"]), st.text() | st.text("\u202e\u2066\u200f\x9b\x00a=,"))
def test_text_reads_back_and_starts_no_formula(start: str, rest: str) -> None:
    name = start + rest
    frame = metrics_frame([(AT, {**LAYER, "layer": name}, Row("nc1_pinv", "", -1.0))])
    (read,) = csv.DictReader(io.StringIO(csv_text(frame), newline=""))
    assert not read["layer"].startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert inert(name) in (read["layer"], read["layer"][1:])
    assert not set(read["layer"]) & ACTIVE
    assert read["value"] == "-1.0"


def test_json_has_no_raw_character_that_acts_and_loses_none() -> None:
    name = "fc" + "".join(sorted(ACTIVE))
    frame = metrics_frame([(AT, {**LAYER, "layer": name}, Row("nc1_pinv", "", -1.0))])
    document = json_text(complete({"metrics": frame}), [{"run": name}], [(name, "cut")], [name], NOTHING)
    assert not set(document.replace("\n", "")) & ACTIVE
    read = json.loads(document)
    assert name in read["metrics"]["rows"][0]
    assert [name, name, name] == [read["checkpoints"][0]["run"], read["skipped"][0]["input"], read["warnings"][0]]


def test_csv_reads_back_as_the_same_frame() -> None:
    frame = metrics_frame(entries(checkpoints()))
    read = pd.read_csv(io.StringIO(csv_text(frame)), dtype={"at_floor": "boolean"}, keep_default_na=True)
    assert frame["value"].tolist() == pytest.approx(read["value"].tolist(), rel=0, abs=0, nan_ok=True)
    assert frame["centred"].tolist() == read["centred"].astype("boolean").tolist()
    assert frame["step"].tolist() == read["step"].tolist()


def test_frame_when_columns_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="bogus"):
        conform(metrics_frame([]).assign(bogus=1), METRIC_COLUMNS)
    with pytest.raises(ValueError, match="next_map"):
        conform(weights_frame([]).drop(columns="next_map"), WEIGHT_COLUMNS)


def test_frame_when_columns_are_shuffled_is_put_in_order() -> None:
    frame = metrics_frame(entries(checkpoints(RUNS[:1], (0, 50))))
    shuffled = frame[sorted(frame.columns)].astype({"step": "float64", "estimate": object})
    pd.testing.assert_frame_equal(frame, conform(shuffled, METRIC_COLUMNS))


def test_summary_has_one_row_per_checkpoint_and_layer_with_main_quantities() -> None:
    known = checkpoints()
    metrics, weights = metrics_frame(entries(known)), weights_frame(weight_entries(known))
    summary = summary_frame(metrics, weights)
    assert len(summary) == len(RUNS) * len(STEPS) * 15
    row = summary[(summary["run"] == RUNS[0]) & (summary["step"] == 0) & (summary["layer"] == "head.0")].iloc[0]
    assert row["negativity"] == pytest.approx(0.6)  # `op` comes first, `fro` would be 0.3
    assert row["balancedness"] == pytest.approx(0.9)  # of the pair that this map begins
    assert "head_condition" not in summary.columns  # it belongs to a product, to no single layer
    assert math.isnan(row["feature_condition"])


def test_summary_when_nothing_was_measured_has_its_columns() -> None:
    summary = summary_frame(metrics_frame([]), weights_frame([]))
    assert csv_text(summary) == "run,group,checkpoint,step,step_unit,split,layer,depth,kind,reduction\n"


def test_json_is_strict_and_complete() -> None:
    known = checkpoints(RUNS[:1], (0, 9000))
    metrics, weights = metrics_frame(entries(known)), weights_frame(weight_entries(known))
    text = json_text(complete({"metrics": metrics, "weights": weights}), known, [("x.pt", "truncated")], ["odd"])

    def refuse(token: str) -> None:
        raise AssertionError(token)

    read = json.loads(text, parse_constant=refuse)
    assert (read["schema"], read["schema_version"]) == ("ncscan.report", 6)
    assert read["skipped"] == [{"input": "x.pt", "reason": "truncated"}]
    assert read["warnings"] == ["odd"]
    assert read["checkpoints"][0]["provenance"]["notes"]["best"] == "Infinity"
    assert read["metrics"]["columns"] == METRICS_HEADER.split(",")
    assert len(read["metrics"]["rows"]) == len(metrics)
    assert len(read["weights"]["rows"]) == len(weights)
    values = [row[12] for row in read["metrics"]["rows"]]
    assert metrics["value"].dropna().tolist() == [value for value in values if value is not None]


def test_json_holds_all_that_the_tables_were_made_of() -> None:
    known = checkpoints(RUNS[:1], (0, 9000))
    metrics = metrics_frame(entries(known))
    table = json.loads(json_text(complete({"metrics": metrics}), known, [], []))["metrics"]
    again = conform(pd.DataFrame(table["rows"], columns=table["columns"]), METRIC_COLUMNS)
    pd.testing.assert_frame_equal(metrics, again)


def test_plain_takes_numpy_and_paths_and_refuses_the_rest() -> None:
    assert plain({"a": np.float32(0.5), "b": (np.int64(3), Path("x/y"))}) == {"a": 0.5, "b": [3, "x/y"]}
    assert plain([math.nan, -math.inf, np.array([1.0])]) == ["NaN", "-Infinity", [1.0]]
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_text_when_it_is_no_unicode_is_escaped_everywhere() -> None:
    frame = metrics_frame([(AT, {**LAYER, "layer": "fc\ud800"}, Row("nc1_pinv", "", 1.0))])
    assert r"fc\ud800" in csv_text(frame)
    text = json_text(
        complete({"metrics": frame}), [{"run": "\udcff", "checkpoint": "a"}], [("\udcff.pt", "odd")], ["\udcff"]
    )
    assert json.loads(text.encode())["checkpoints"] == [{"run": r"\udcff", "checkpoint": "a"}]


def test_visible_text_holds_nothing_that_hides() -> None:
    assert visible("layer1.0/relu:1 é 层") == "layer1.0/relu:1 é 层"
    assert visible("a\x00\x1b\x7f\u202e\ud800") == "a␀␛���"
