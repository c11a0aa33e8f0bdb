"""What the page carries is what the tables say: arrays, reasons, floors, means over seeds, and what is thinned."""

import base64
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from large_audit import K, large_audit
from report_samples import RUNS, checkpoints, entries, metrics_frame, weight_entries, weights_frame

from ncscan.report.html.classes import matrices, pictures, single_classes
from ncscan.report.html.packing import inline_json, inline_script, policy, shorts, stretches
from ncscan.report.html.series import FEWEST_STEPS, carried
from ncscan.report.html.theory import claims, findings
from ncscan.tables.frames import complete
from ncscan.tables.plotted_points import over_seeds, points
from ncscan.tables.times import known_onsets

FLOAT32 = 1e-6


def sample() -> pd.DataFrame:
    known = checkpoints()
    return points(metrics_frame(entries(known)), weights_frame(weight_entries(known)))


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)


def test_every_value_of_the_tables_is_in_the_arrays() -> None:
    frame = sample()
    numbers, runs, left_out = carried(frame, frozenset())
    assert left_out == []
    found = 0
    for run in (one for one in runs if not one["seeds"]):
        own = frame[frame["run"] == run["name"]]
        for each in run["series"]:
            number = numbers[each["number"]]
            values = floats(each["value"]).reshape(len(run["steps"]), len(each["places"]))
            rows = own[(own["metric"] == number.metric) & (own["quantity"] == number.quantity)]
            for row in rows.itertuples():
                step = run["checkpoints"].index(row.checkpoint)
                place = each["places"].index([p["name"] for p in run["places"]].index(row.layer))
                np.testing.assert_allclose(values[step, place], row.value, rtol=FLOAT32)
                found += 1
    assert found == len(frame)


def test_reasons_and_floors_are_at_their_cells() -> None:
    frame = sample()
    frame.loc[(frame["metric"] == "nc1_pinv") & (frame["layer"] == "head.1"), "at_floor"] = True
    numbers, runs, _ = carried(frame, frozenset())
    (run,) = [one for one in runs if one["name"] == RUNS[2]]
    by_metric = {numbers[each["number"]].metric: each for each in run["series"]}
    condition = by_metric["feature_condition"]
    first, length, code = condition["why"][:3]
    assert (first, run["reasons"][code]) == (0, "the features have rank 0")
    assert length == len(condition["places"]) + 1  # all of the first step, and the input of the second
    assert by_metric["nc1_pinv"]["floor"][:3] == [len(by_metric["nc1_pinv"]["places"]) - 1, 1, 0]


def test_groups_of_several_runs_come_first_with_their_spread() -> None:
    frame = sample()
    _, runs, _ = carried(frame, frozenset())
    assert [(one["name"], one["seeds"]) for one in runs] == [("square", 2), *((run, 0) for run in RUNS)]
    means = over_seeds(frame)
    row = means[(means["metric"] == "nc1_pinv") & (means["layer"] == "head.0")].iloc[0]
    values = frame[(frame["metric"] == "nc1_pinv") & (frame["layer"] == "head.0") & (frame["step"] == row["step"])]
    two = values[values["group"] == "square"]["value"]
    assert row["value"] == pytest.approx(two.mean())
    assert row["high"] - row["low"] == pytest.approx(2 * two.std())


def test_a_group_named_like_a_run_stays_apart() -> None:
    frame = sample().replace({"group": {"square": RUNS[0]}})
    _, runs, _ = carried(frame, frozenset())
    assert [(one["name"], one["seeds"]) for one in runs] == [(RUNS[0], 2), *((run, 0) for run in RUNS)]


def test_too_much_is_thinned_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, _ = large_audit(30, 20)
    frame = points(tables["metrics"], tables["weights"])
    leading = len(frame[["table", "metric"]].drop_duplicates())
    monkeypatch.setattr("ncscan.report.html.series.MOST_NUMBERS", 25 * 20 * leading)
    numbers, (run,), left_out = carried(frame, frozenset())
    assert len(numbers) == leading
    assert FEWEST_STEPS <= len(run["steps"]) < 30
    assert (run["steps"][0], run["steps"][-1]) == (0, 2900)
    assert left_out == ["the first quantity and weighting of each metric", f"{len(run['steps'])} steps of each run"]
    monkeypatch.setattr("ncscan.report.html.series.MOST_NUMBERS", 10_000)
    _, (run,), left_out = carried(frame, frozenset())
    assert sum(len(floats(each["value"])) for each in run["series"]) <= 12_000
    assert left_out[-1].endswith("layers and maps")


@given(st.lists(st.integers(-1, 3), max_size=40))
def test_stretches_read_back(codes: list[int]) -> None:
    found = stretches(np.array([codes], np.int64))
    back = np.full(len(codes), -1)
    for first, length, code in zip(found[::3], found[1::3], found[2::3], strict=True):
        back[first : first + length] = code
    assert codes == back.tolist()


def test_shorts_keep_what_is_none() -> None:
    values = np.frombuffer(base64.b64decode(shorts(np.array([0.5, np.nan, -1.0]), 1.0)), "<i2")
    assert values.tolist() == [16384, -32768, -32767]


def test_classes_and_matrices_are_at_their_places() -> None:
    tables, _ = large_audit(4, 5)
    [kept], said = single_classes(tables["classes"], {"run": 0})
    [matrix], also = matrices(tables["classes"], {"run": 0})
    assert [*said, *also] == []
    values = floats(kept["value"]).reshape(4, 5, len(kept["metrics"]), K)
    rows = tables["classes"]
    row = rows[(rows["metric"] == "class_norm") & (rows["class_index"] == 3) & (rows["step"] == 200)].iloc[2]
    at = (2, kept["layers"].index(row["layer"]), kept["metrics"].index("class_norm"), 3)
    np.testing.assert_allclose(values[at], row["value"], rtol=FLOAT32)

    raw = np.frombuffer(base64.b64decode(matrix["value"]), "<i2").reshape(4, 2, 2, K, K) / 32767
    assert (np.diagonal(raw[:, :, 0], axis1=2, axis2=3) == 1).all()
    assert np.allclose(raw[:, :, 0], raw[:, :, 0].swapaxes(2, 3))
    one = rows[(rows["metric"] == "nc3_pair_cosine") & (rows["class_index"] == 4) & (rows["other_index"] == 1)].iloc[0]
    assert raw[0, 0, 1, 4, 1] == pytest.approx(one["value"], abs=1e-4)


def test_many_classes_keep_fewer_checkpoints_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, _ = large_audit(30, 5)
    monkeypatch.setattr("ncscan.report.html.classes.MOST_IN_MATRICES", 2 * K * K * 20)
    [matrix], said = matrices(tables["classes"], {"run": 0})
    assert len(matrix["layers"]) * len(matrix["checkpoints"]) <= 20
    assert said == [f"{len(matrix['checkpoints'])} checkpoints of each run pair by pair"]


def test_the_picture_keeps_directions() -> None:
    tables, _ = large_audit(2, 3)
    [kept], _ = pictures(tables["geometry"], {"run": 0})
    picture = kept["pictures"][0]
    assert len(picture["items"]) == len(picture["of"]) == 18 * K
    X = np.frombuffer(base64.b64decode(picture["value"]), "<i2").reshape(-1, kept["axes"]) / 32767
    own = tables["geometry"][tables["geometry"]["checkpoint"] == picture["checkpoint"]]
    axes = own[[f"x{i}" for i in range(1, kept["axes"] + 1)]].to_numpy()
    means = (own["item"] == "mean").to_numpy()
    scale = np.abs(axes[own["item"] != "classifier"]).max()
    assert np.allclose(X[means] * scale, axes[means], atol=1e-3)


def theory(n_classes: int) -> pd.DataFrame:
    same = {"run": "r", "checkpoint": "c", "step": 1, "claim": "nc3_class", "layer": "9", "value": 1.0, "bound": 0.5}
    rows = [{**same, "quantity": f"class {c}", "slack": 2.0 + (c * 7 % n_classes)} for c in range(n_classes)]
    table = pd.DataFrame(rows).assign(
        leads=None, group="", step_unit="iteration", reason="", holds=True, target=None, deviation=None
    )
    return complete({"theory": table})["theory"]


def test_claims_about_many_classes_are_told_by_the_worst() -> None:
    kept, said = claims(theory(20), {"r": 0})
    assert len(kept["texts"]["claim"]) == 20
    assert said == []
    kept, said = claims(theory(21), {"r": 0})
    assert floats(kept["values"]["slack"]).tolist() == [2.0]
    assert said == ["the worst class of a claim about each class"]


def test_findings_are_of_the_run_and_of_its_last_checkpoint() -> None:
    base: dict[str, Any] = {
        "run": "r",
        "group": "",
        "step_unit": "iteration",
        "layer": "",
        "metric": "error",
        "reason": "",
    }
    table = pd.DataFrame(
        [
            {**base, "checkpoint": "", "step": 5, "finding": "terminal_phase", "quantity": "onset", "value": 5.0},
            {**base, "checkpoint": "", "step": 5, "finding": "at_onset", "quantity": "", "value": 0.0},
            {**base, "checkpoint": "a", "step": 0, "finding": "effective_depth", "quantity": "stage", "value": 3.0},
            {**base, "checkpoint": "b", "step": 9, "finding": "effective_depth", "quantity": "stage", "value": 2.0},
        ]
    )
    kept = findings(complete({"trajectory": table})["trajectory"], {"r": 0})
    assert floats(kept["values"]["value"]).tolist() == [5.0, 2.0]
    assert known_onsets(table) == {"r": 5}


def test_inline_json_ends_no_tag() -> None:
    text = str(inline_json({"name": "</script><!--<script>&\u2028"}))
    assert not set("<>&\u2028") & set(text)


def test_a_script_that_could_end_its_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="script tag"):
        inline_script("'</script>'")


def test_policy_names_each_script_and_no_source() -> None:
    assert policy(["a", "b"]).count("'sha256-") == 2
    assert "unsafe-eval" not in policy(["a"])


def test_a_mean_is_of_all_runs_of_the_group_or_says_why_not() -> None:
    frame = sample()
    fewer = frame[~((frame["run"] == RUNS[1]) & (frame["step"] == 50))]
    means = over_seeds(fewer)
    at = means[means["step"] == 50]
    assert at["value"].isna().all()
    assert set(at[at["metric"] == "nc1_pinv"]["reason"]) == {"1 of 2 runs of the group have it"}
    assert means[(means["step"] == 100) & (means["metric"] == "nc1_pinv")]["value"].notna().all()
