"""Two reports side by side: what is paired, what is left out and said, how large the noise is, and the page of it."""

import hashlib
import math
import re
from base64 import b64encode
from typing import Any

import numpy as np
import pandas as pd
import pytest
from comparing import LAYERS, READ, falling, tables
from pages import HOSTILE, Page
from scipy import stats

from ncscan.compare.align import DIFF_COLUMNS, Comparison, compare
from ncscan.compare.gate_parser import parse
from ncscan.compare.gates import judge
from ncscan.compare.noise_floor import seed_noise
from ncscan.compare.ranking import (
    BEYOND,
    EQUAL,
    NO_VALUE,
    ONE_SIDE,
    UNKNOWN,
    WITHIN,
    counts,
    kinds,
    main_rows,
    most_changed,
)
from ncscan.errors import UsageError
from ncscan.report.html.diff_page import MOST_ROWS, diff_page

NAMES = ("old", "new")


def larger(run: str, step: int, layer: str) -> float:
    return 1.5 * falling(run, step, layer)


def row(found: Comparison, **where: Any) -> dict[str, Any]:
    """The one row in which these columns have these values; the leading one of its metric."""
    frame = found.frame
    for name, value in where.items():
        frame = frame[frame[name] == value]
    frame = main_rows(frame)
    assert 1 == len(frame)
    return {str(key): value for key, value in frame.iloc[0].items()}


def test_columns_are_those_of_the_contract() -> None:
    assert [name for name, _ in DIFF_COLUMNS] == list(compare(tables(), tables()).frame.columns)[:-3]


def test_report_against_itself_is_equal_throughout() -> None:
    found = compare(tables(("a", "b")), tables(("a", "b")))
    assert {EQUAL: len(found.frame)} == {kind: count for kind, count in counts(found.frame).items() if count}
    assert (found.frame["difference"] == 0).all()
    assert not found.frame["beyond_noise"].any()
    assert ([], []) == (found.notes, found.verdicts)


def test_row_of_a_number_on_both_sides() -> None:
    one = row(compare(tables(), tables(value=larger)), metric="nc1_pinv", layer=READ, step_a=1)
    old, new = falling("a", 1, READ), larger("a", 1, READ)
    assert (old, new, new - old) == (one["a"], one["b"], one["difference"])
    assert 1.5 == pytest.approx(one["ratio"])
    assert ("a", "a", "step_1.pt", 1, "iteration", 3, "class") == tuple(
        one[key] for key in ("run_a", "run_b", "checkpoint_b", "step_b", "step_unit", "depth", "weighting")
    )
    assert ("", True, "") == (one["noise_source"], pd.isna(one["beyond_noise"]), one["reason"])


def test_difference_from_zero_has_no_ratio() -> None:
    found = compare(tables(value=lambda *_: 0.0), tables(value=lambda *_: 2.0))
    one = row(found, metric="nc1_pinv", layer=READ, step_a=1)
    assert (2.0, True, "") == (one["difference"], math.isnan(one["ratio"]), one["reason"])
    gate = judge(parse("nc1_pinv[layer=head, step=last, of=ratio] > 9"), found.field)
    assert (False, "the value in A is 0") == (gate.passed, gate.rows[0].reason)


def test_single_runs_are_paired_whatever_their_names() -> None:
    found = compare(tables(("a",)), tables(("b",)))
    assert {("a", "b")} == set(zip(found.frame["run_a"], found.frame["run_b"], strict=True))


def test_runs_of_one_name_are_paired_and_the_others_said() -> None:
    found = compare(tables(("a", "b", "c")), tables(("b", "c", "d", "e")))
    assert ["b", "c"] == list(dict.fromkeys(found.frame["run_a"]))
    assert ["only in A: run a", "only in B: 2 runs d, e"] == found.notes


def test_nothing_in_common_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"nothing to compare: no run has one name on both sides; A has a, b, B has c"):
        compare(tables(("a", "b")), tables(("c",)))
    with pytest.raises(
        UsageError, match=r"nothing to compare: run a: only in A: 2 steps 0, 1; run a: only in B: 2 steps"
    ):
        compare(tables(steps=(0, 1)), tables(steps=(2, 3)))


def test_single_checkpoints_are_paired_whatever_their_steps() -> None:
    found = compare(tables(steps=(0,)), tables(steps=(2,)))
    one = row(found, metric="nc1_pinv", layer=READ)
    assert (0, 2, falling("a", 0, READ), falling("a", 2, READ)) == (one["step_a"], one["step_b"], one["a"], one["b"])
    assert falling("a", 2, READ) == judge(parse("nc1_pinv[layer=head, step=2, of=b] > 9"), found.field).rows[0].value


def test_steps_on_one_side_are_said() -> None:
    found = compare(tables(steps=(0, 1, 2)), tables(steps=(1, 2, 3, 4)))
    assert {1, 2} == set(found.frame["step_a"])
    assert ["run a: only in A: step 0", "run a: only in B: 2 steps 3, 4"] == found.notes


def test_steps_of_two_units_are_not_compared() -> None:
    other = tables()
    for table in other.values():
        table["step_unit"] = "epoch"
    with pytest.raises(UsageError, match="nothing to compare: run a: steps count iteration in A and epoch in B"):
        compare(tables(), other)
    single = tables(steps=(0,))
    single["metrics"]["step_unit"] = single["weights"]["step_unit"] = single["theory"]["step_unit"] = "epoch"
    assert "iteration → epoch" == compare(tables(steps=(0,)), single).frame["step_unit"].iloc[0]


def test_two_checkpoints_of_one_step_are_paired_in_order() -> None:
    twice = tables(steps=(0, 1, 2))
    for name in ("metrics", "weights", "theory"):
        twice[name]["step"] = twice[name]["step"].replace({1: 0})
    found = compare(twice, twice)
    assert (found.frame["checkpoint_a"] == found.frame["checkpoint_b"]).all()
    assert 3 == found.frame["checkpoint_a"].nunique()


def test_one_row_leads_where_each_side_has_one_of_its_own() -> None:
    other = tables()
    renamed = other["metrics"]["weighting"].replace({"class": "sample"})
    found = compare(tables(), {**other, "metrics": other["metrics"].assign(weighting=renamed)})
    place = ["pair", "split", "layer", "metric"]
    frame = found.frame.assign(pair=0)
    assert (frame["reason"] == "only in B").any()
    leads = frame[frame["leads"]].groupby(["run_a", "step_a", "table", *place], dropna=False).size()
    assert {1} == set(leads)
    assert "only in B" not in set(frame["reason"][frame["leads"]])


def test_layer_on_one_side_has_rows_and_fails_a_gate() -> None:
    fewer = tables(layers=[layer for layer in LAYERS if layer != "fc1"])
    for found, reason in ((compare(tables(), fewer), "only in A"), (compare(fewer, tables()), "only in B")):
        own = found.frame[(found.frame["layer"] == "fc1") & (found.frame["table"] == "metrics")]
        assert (12, {reason}) == (len(own), set(own["reason"]))
        there, missing = ("a", "b") if reason == "only in A" else ("b", "a")
        assert own[there].notna().all()
        assert own[[missing, "difference", "ratio", "noise"]].isna().all(axis=None)
        assert {ONE_SIDE} == set(kinds(own))
        assert 1 == own["depth"].iloc[0]
        gate = judge(parse("any(nc1_pinv[layer=fc1]) > 9"), found.field)
        assert (False, reason) == (gate.passed, gate.rows[0].reason)
        assert (
            falling("a", 0, "fc1")
            == judge(parse(f"any(nc1_pinv[layer=fc1, of={there}]) > 9"), found.field).rows[0].value
        )


def test_reasons_of_both_sides_are_told() -> None:
    def none_at(layer: str) -> Any:
        return lambda run, step, own: None if own == layer else falling(run, step, own)

    found = compare(tables(value=none_at("relu")), tables(value=none_at("fc1")))
    assert "A: one class alone" == row(found, metric="nc1_pinv", layer="relu", step_a=0)["reason"]
    assert "B: one class alone" == row(found, metric="nc1_pinv", layer="fc1", step_a=0)["reason"]
    both = compare(tables(value=none_at("relu")), tables(value=none_at("relu")))
    assert "in both: one class alone" == row(both, metric="nc1_pinv", layer="relu", step_a=0)["reason"]
    assert NO_VALUE == kinds(both.frame[both.frame["reason"] != ""]).iloc[0]


def test_bootstrap_noise_joins_the_half_widths() -> None:
    found = compare(tables(trust={"low": 0.0, "high": 6.0}), tables(value=larger, trust={"low": 1.0, "high": 9.0}))
    one = row(found, metric="nc1_pinv", layer=READ, step_a=0)
    assert (5.0, "bootstrap", False) == (one["noise"], one["noise_source"], one["beyond_noise"])
    apart = compare(
        tables(trust={"low": 0.0, "high": 6.0}), tables(value=lambda *_: 99.0, trust={"low": 1.0, "high": 9.0})
    )
    assert row(apart, metric="nc1_pinv", layer=READ, step_a=0)["beyond_noise"]


def test_intervals_of_one_side_say_nothing() -> None:
    found = compare(tables(trust={"low": 0.0, "high": 6.0}), tables(value=larger))
    assert "" == row(found, metric="nc1_pinv", layer=READ, step_a=0)["noise_source"]


def test_estimates_are_certain_only_up_to_their_interval() -> None:
    sketched = tables(trust={"low": 0.0, "high": 6.0})
    sketched["metrics"]["estimate"] = True
    one = row(compare(sketched, tables(trust={"low": 1.0, "high": 9.0})), metric="nc1_pinv", layer=READ, step_a=0)
    assert (7.0, "estimate") == (one["noise"], one["noise_source"])


def test_values_at_the_floor_differ_by_nothing_that_can_be_told() -> None:
    found = compare(tables(trust={"at_floor": True}), tables(value=larger, trust={"at_floor": True}))
    one = row(found, metric="nc1_pinv", layer=READ, step_a=0)
    assert (True, "storage", False) == (math.isnan(one["noise"]), one["noise_source"], one["beyond_noise"])
    one_sided = compare(tables(trust={"at_floor": True}), tables(value=larger, trust={"at_floor": False}))
    assert "" == row(one_sided, metric="nc1_pinv", layer=READ, step_a=0)["noise_source"]
    narrow = {"at_floor": True, "low": 0.0, "high": 0.0}
    both = row(
        compare(tables(trust=narrow), tables(value=larger, trust=narrow)), metric="nc1_pinv", layer=READ, step_a=0
    )
    assert ("bootstrap", False) == (both["noise_source"], both["beyond_noise"])


def test_seed_noise_is_that_of_the_groups_of_both_sides() -> None:
    groups = dict.fromkeys("abc", "g")
    a, b = tables(("a", "b", "c"), groups=groups), tables(("a", "b", "c"), groups=groups, value=larger)
    one = row(compare(a, b), metric="nc1_pinv", layer=READ, step_a=0, run_a="a")
    values = np.array([falling(run, 0, READ) for run in "abc"])
    s = values.std(ddof=1), 1.5 * values.std(ddof=1)
    freedom = (s[0] ** 2 + s[1] ** 2) ** 2 / ((s[0] ** 4 + s[1] ** 4) / 2)
    assert stats.t.ppf(0.975, freedom) * math.hypot(*s) == pytest.approx(one["noise"])
    assert ("seeds", True) == (one["noise_source"], one["beyond_noise"])
    alone = row(compare(a, tables(("a", "b", "c"), value=larger)), metric="nc1_pinv", layer=READ, step_a=0, run_a="a")
    assert "" == alone["noise_source"]


def test_seed_noise_when_the_spread_is_zero_or_on_one_side() -> None:
    def noise(*arguments: float) -> float:
        return float(seed_noise(*(np.array([argument]) for argument in arguments))[0])

    assert 0.0 == noise(0.0, 0.0, 2.0, 2.0)
    assert stats.t.ppf(0.975, 1) * 3 == pytest.approx(noise(0.0, 3.0, 9.0, 2.0))
    assert stats.t.ppf(0.975, 2) * math.sqrt(2) * 1e-200 == pytest.approx(noise(1e-200, 1e-200, 2.0, 2.0))
    assert math.isnan(noise(math.nan, 1.0, 1.0, 2.0))


def test_seed_noise_holds_for_most_seeds_also_when_there_are_two() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20_000, 2)), rng.normal(size=(20_000, 2))
    two = np.full(20_000, 2.0)
    noise = seed_noise(a.std(axis=1, ddof=1), b.std(axis=1, ddof=1), two, two)
    within = np.mean(np.abs(a[:, 0] - b[:, 0]) <= noise)
    assert 0.95 < within
    plain = 2 * np.hypot(a.std(axis=1, ddof=1), b.std(axis=1, ddof=1))
    assert np.mean(np.abs(a[:, 0] - b[:, 0]) <= plain) < 0.9


def test_equal_values_are_beyond_no_noise_and_unequal_ones_beyond_zero() -> None:
    sure = {"low": 1.0, "high": 1.0}
    equal = row(compare(tables(trust=sure), tables(trust=sure)), metric="nc1_pinv", layer=READ, step_a=0)
    moved = row(compare(tables(trust=sure), tables(value=larger, trust=sure)), metric="nc1_pinv", layer=READ, step_a=0)
    assert (0.0, False, True) == (equal["noise"], equal["beyond_noise"], moved["beyond_noise"])


def test_verdicts_that_change_are_told() -> None:
    found = compare(tables(steps=(0,)), tables(steps=(0,), holds=False))
    assert ["a/step_0.pt: nc1_upper simplex fc2: holds → does not hold"] == [str(one) for one in found.verdicts]
    undecided = compare(tables(steps=(0, 1), holds=None), tables(steps=(0, 1)))
    assert ["not judged", "not judged"] == [one.before for one in undecided.verdicts]


def test_group_run_and_step_of_either_side_choose_a_row() -> None:
    found = compare(tables(("a",), (0,), groups={"a": "g"}), tables(("b",), (2,), groups={"b": "h"}))
    for chosen in ("run=a", "run=b", "group=g", "group=h", "step=0", "step=2", "step=last", "checkpoint=step_2.pt"):
        assert 1 == judge(parse(f"nc1_pinv[layer=head, {chosen}] > 9"), found.field).matched
    (shown,) = judge(parse("nc1_pinv[layer=head] > 9"), found.field).rows
    assert shown.where.startswith("a/step_0.pt → b/step_2.pt (iteration 0 → 2), layer fc2")


def test_gate_on_a_difference_and_on_each_side() -> None:
    found = compare(tables(), tables(value=larger))
    old, new = falling("a", 2, READ), larger("a", 2, READ)
    said = {"": new - old, ", of=difference": new - old, ", of=ratio": new / old, ", of=a": old, ", of=b": new}
    for of, value in said.items():
        assert value == judge(parse(f"nc1_pinv[layer=head, step=last{of}] > 9"), found.field).rows[0].value


def test_onset_in_a_diff_is_that_of_b() -> None:
    found = compare(tables(onset=0), tables(onset=2))
    assert (
        falling("a", 2, READ) == judge(parse("nc1_pinv[layer=head, step=onset, of=b] > 9"), found.field).rows[0].value
    )


def test_head_of_two_layers_must_be_named() -> None:
    other = tables()
    compared = (other["metrics"]["metric"] == "nc3_distance") & (other["metrics"]["layer"] == READ)
    other["metrics"] = other["metrics"][~compared]
    with pytest.raises(UsageError, match="layer=head is fc2 in A and relu in B: name the layer"):
        judge(parse("any(nc1_pinv[layer=head]) > 9"), compare(tables(), other).field)


def test_most_moved_comes_first() -> None:
    def shifted(by: dict[str, float]) -> Any:
        return lambda run, step, layer: falling(run, step, layer) * by.get(layer, 1.0)

    found = compare(tables(steps=(0,)), tables(steps=(0,), value=shifted({"relu": 3.0, "fc1": 0.1, "fc2": -1.0})))
    moved = most_changed(main_rows(found.frame))
    assert ["fc2", "fc1", "relu"] == moved["layer"].head(3).tolist()
    wide, tight = {"low": 0.0, "high": 10.0}, {"low": 0.0, "high": 1e-6}
    a, b = tables(steps=(0,), trust=tight), tables(steps=(0,), value=shifted({"relu": 1.01, "fc1": 0.1}), trust=tight)
    for own in (a, b):
        own["metrics"].loc[own["metrics"]["layer"] == "fc1", ["low", "high"]] = list(wide.values())
    kept = most_changed(main_rows(compare(a, b).frame))
    assert [("relu", BEYOND), ("fc1", WITHIN)] == [(r["layer"], r["kind"]) for r in kept.head(2).to_dict("records")]


def test_times_beyond_noise_count_before_the_relative_change() -> None:
    intervals = {"fc1": (0.0, 0.001), "relu": (0.0, 0.1)}
    a, b = (
        tables(steps=(0,)),
        tables(steps=(0,), value=lambda run, step, layer: {"fc1": 1.1, "relu": 9.0}.get(layer, 0.0)),
    )
    for own in (a, b):
        for layer, ends in intervals.items():
            own["metrics"].loc[own["metrics"]["layer"] == layer, ["low", "high"]] = list(ends)
    moved = most_changed(main_rows(compare(a, b).frame))
    pinv = moved[(moved["metric"] == "nc1_pinv") & (moved["kind"] == BEYOND)]
    assert ["fc1", "relu"] == pinv["layer"].tolist()


def test_zero_moves_as_far_as_the_smallest_value_allows() -> None:
    a = {"fc1": 0.0, "relu": 0.0, "fc2": 0.001, "out": -0.002}
    b = {"fc1": 0.002, "relu": 0.9, "fc2": 0.1, "out": 0.002}
    found = compare(
        tables(steps=(0,), value=lambda run, step, layer: a.get(layer, 1.0)),
        tables(steps=(0,), value=lambda run, step, layer: b.get(layer, 1.0)),
    )
    # In logarithms from 0.001 on: 6.8, 3.9, 2.2 and 1.1.
    assert ["relu", "fc2", "out", "fc1"] == most_changed(main_rows(found.frame))["layer"].head(4).tolist()


def test_rows_of_every_kind_are_counted() -> None:
    found = compare(tables(), tables(value=larger, layers=LAYERS[1:]))
    told = counts(found.frame)
    assert sum(told.values()) == len(found.frame)
    assert (3 * 2 * 4, 3 * 4) == (told[UNKNOWN], told[ONE_SIDE])


def test_page_is_whole_and_its_policy_names_its_only_script() -> None:
    text = diff_page(compare(tables(), tables(value=larger)), NAMES)
    page = Page(text)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" == policy
    assert not [a for _, a in page.elements if {"src", "onclick", "style"} & a.keys()]
    assert all(not (a.get("href") or "#").strip("#").startswith(("http", "//")) for _, a in page.elements)
    assert ["old", "new"] == [t for t in page.texts if t in NAMES][:2]


def test_page_is_the_same_every_time() -> None:
    assert diff_page(compare(tables(), tables(value=larger)), NAMES) == diff_page(
        compare(tables(), tables(value=larger)), NAMES
    )


def test_page_of_many_rows_has_the_most_moved_and_says_so() -> None:
    found = compare(tables(steps=range(60)), tables(steps=range(60), value=larger))
    text = diff_page(found, NAMES)
    assert len(found.frame) > MOST_ROWS
    assert MOST_ROWS == text.count("<tr data-kind=")
    assert f"the first {MOST_ROWS:,} of {len(found.frame):,} rows" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_inert_on_the_page(name: str) -> None:
    def renamed(own: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        for table in ("metrics", "weights", "theory"):
            own[table]["run"] = own[table]["group"] = own[table]["checkpoint"] = name
        own["metrics"]["layer"] = own["metrics"]["metric"] = own["metrics"]["reason"] = name
        own["metrics"]["classifier"] = own["metrics"]["quantity"] = name
        own["theory"]["claim"] = own["theory"]["layer"] = name
        return own

    found = compare(renamed(tables(steps=(0,))), renamed(tables(steps=(0,), value=larger, holds=False)))
    text = diff_page(found, (name, name))
    page = Page(text)
    assert 1 == sum(tag == "script" for tag, _ in page.elements)
    assert not {"img", "iframe"} & {tag for tag, _ in page.elements}
    assert "\x00" not in text
    assert "\u202e" not in text
    assert all(character.isprintable() for one in found.verdicts for character in str(one))
