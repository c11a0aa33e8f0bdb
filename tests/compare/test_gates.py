"""Gates: what their text means, which rows they mean, when they fail, and what they say when they mean nothing."""

import math
from typing import Any

import pandas as pd
import pytest
from comparing import READ, falling, tables
from hypothesis import given
from hypothesis import strategies as st

from ncscan.compare.align import compare
from ncscan.compare.gate_parser import KEYS, OF, OPERATORS, Gate, Over, Pattern, parse
from ncscan.compare.gates import MOST_ROWS, GateResult, field_of, judge, judge_all
from ncscan.errors import UsageError

quoted = st.tuples(st.text(min_size=1, max_size=12), st.just(value=True))
values = quoted | st.tuples(
    st.from_regex(r"[a-zA-Z0-9_.*?+\-/:<>=@]( ?[a-zA-Z0-9_.*?+\-/:<>=@]+)*", fullmatch=True), st.just(value=False)
)
metrics = quoted | st.tuples(st.from_regex(r"[a-z][a-z0-9_*?.]*", fullmatch=True), st.just(value=False))
chosen = st.dictionaries(st.sampled_from([key for key in KEYS if key != "of"]), values, max_size=4)


@given(
    metrics,
    st.sampled_from(OPERATORS),
    st.floats(allow_nan=False, allow_infinity=False),
    chosen,
    st.sampled_from(["", *OF]),
    st.sampled_from(["one", "all", "any"]),
)
def test_gate_written_down_reads_back_as_the_same(
    metric: tuple[str, bool], operator: str, threshold: float, keys: dict[str, tuple[str, bool]], of: str, over: Over
) -> None:
    where = [(key, Pattern(*value)) for key, value in keys.items()] + ([("of", Pattern(of))] if of else [])
    gate = Gate(Pattern(*metric), operator, threshold, tuple(where), over)
    assert gate == parse(str(gate))
    assert str(gate) == str(parse(str(gate)))


@given(st.text(max_size=40) | st.text(alphabet="nc1[]()=,'\" >.<!3al", max_size=30))
def test_any_text_is_a_gate_or_one_line(text: str) -> None:
    try:
        said = str(parse(text))
    except UsageError as error:
        said = str(error)
        assert said.startswith("--fail-if ")
    assert said


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("nc1_pinv[layer=head,step=last]>0.1", "nc1_pinv[layer=head, step=last] > 0.1"),
        ("  error  >=  1e-2 ", "error >= 0.01"),
        ("all( nc1_* [ layer = layer 1 ] ) != -3", "all(nc1_*[layer=layer 1]) != -3"),
        ("any(norms[quantity=''])<.5", "any(norms[quantity='']) < 0.5"),
        ("x[layer='it''s, [odd]'] == 2.", "x[layer='it''s, [odd]'] == 2"),
        ('x[layer="a\'b"] <= 1E3', "x[layer='a''b'] <= 1000"),
        ("'all'>1", "'all' > 1"),
        ("balancedness[layer=8..9]>1e-30", "balancedness[layer=8..9] > 1e-30"),
    ],
)
def test_text_in_its_plain_form(text: str, plain: str) -> None:
    assert plain == str(parse(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at its end: expected the name of a metric"),
        ("nc1", "at its end: expected one of >= <= == != > <; write METRIC[key=value, ...] > NUMBER"),
        ("nc1 = 3", "at character 5, '= 3': expected one of"),
        ("nc1 > x", "at character 7, 'x': expected a finite number"),
        ("nc1 > nan", "at character 7, 'nan': expected a finite number"),
        ("nc1 > 1e999", "at character 7, '1e999': expected a finite number"),
        ("nc1 > 1 2", "at character 9, '2': expected nothing more"),
        ("nc1[layer=a > 1", 'at its end: expected "," or "]"'),
        ("nc1[layer=] > 1", "at character 11, ']': expected a value of layer"),
        ("nc1[layer] > 1", "expected \"=\" after layer"),
        ("nc1[lyer=a] > 1", "(did you mean layer?)"),
        ("nc1[layer=a, layer=b] > 1", "expected each key once, and layer stands there already"),
        ("nc1[layer='a] > 1", "at its end: expected the closing '"),
        ("nc1[of=c] > 1", "expected one of difference, ratio, a, b"),
        ("all(nc1 > 1", 'expected ")", which closes all('),
        ("nc1\x1b[2J > 1", r"expected a key"),
    ],
)  # fmt: skip
def test_text_that_is_no_gate_names_the_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert said.replace("']'", "'] > 1'") in str(error.value)
    assert "\x1b" not in str(error.value)
    assert 2 == error.value.exit_code


@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        (">", [False, False, True]),
        (">=", [False, True, True]),
        ("<", [True, False, False]),
        ("<=", [True, True, False]),
        ("==", [False, True, False]),
        ("!=", [True, False, True]),
    ],
)
def test_operators(operator: str, holds: list[bool]) -> None:
    gate = parse(f"nc1 {operator} 2")
    assert holds == [gate.holds(value) for value in (1.0, 2.0, 3.0)]


def test_globs_mean_what_they_say_and_quotes_take_them_literally() -> None:
    assert [True, False, True] == [Pattern("fc?").fits()(name) for name in ("fc1", "fc12", "fc\n")]
    assert [True, True, False] == [Pattern("*relu*").fits()(name) for name in ("relu", "b.relu.c", "re")]
    assert [False, True] == [Pattern("fc*", literal=True).fits()(name) for name in ("fc1", "fc*")]
    assert [False, True] == [Pattern("a.b").fits()(name) for name in ("axb", "a.b")]
    assert [False, True] == [Pattern("a.(*").fits()(name) for name in ("ab(1", "a.(1")]


def result(text: str, own: dict[str, pd.DataFrame] | None = None) -> GateResult:
    return judge(parse(text), field_of(tables() if own is None else own))


def only_value(text: str, own: dict[str, pd.DataFrame] | None = None) -> float | None:
    """The value of the one row that a gate means."""
    found = result(text, own)
    assert 1 == found.matched
    return found.rows[0].value


@pytest.mark.parametrize("word", ["head", "penultimate"])
def test_head_is_the_layer_that_the_classifier_reads(word: str) -> None:
    assert falling("a", 2, READ) == only_value(f"nc1_pinv[layer={word}, step=last] > 1")


def test_words_for_layers_and_steps() -> None:
    assert falling("a", 0, "input") == only_value("nc1_pinv[layer=input, step=first] > 9")
    assert falling("a", 2, "out") == only_value("nc1_pinv[layer=output, step=last] > 9")
    assert falling("a", 1, "out") == only_value("nc1_pinv[layer=output, step=onset] > 9")
    assert falling("a", 1, "out") == only_value("nc1_pinv[layer=out, step=1] > 9")
    assert falling("a", 1, "out") == only_value("nc1_pinv[layer=o*t, checkpoint=*_1.pt] > 9")


def test_layer_word_follows_each_run_and_checkpoint() -> None:
    own = tables(("a", "b"))
    compared = own["metrics"]["metric"] == "nc3_distance"
    other = compared & (own["metrics"]["run"] == "b") & (own["metrics"]["step"] == 2)
    # At the last step of b nothing but relu is compared with a classifier.
    own["metrics"] = own["metrics"][~(other & (own["metrics"]["layer"] == READ))]
    assert falling("a", 2, READ) == only_value("nc1_pinv[layer=head, step=2, run=a] > 9", own)
    assert falling("b", 2, "relu") == only_value("nc1_pinv[layer=head, step=2, run=b] > 9", own)
    assert falling("b", 1, READ) == only_value("nc1_pinv[layer=head, step=1, run=b] > 9", own)


def test_word_wins_over_a_layer_of_its_name_and_quotes_win_over_the_word() -> None:
    own = tables(steps=(0,))
    own["metrics"] = own["metrics"].assign(layer=own["metrics"]["layer"].replace({"fc1": "head"}))
    assert falling("a", 0, READ) == only_value("nc1_pinv[layer=head] > 9", own)
    assert falling("a", 0, "fc1") == only_value("nc1_pinv[layer='head'] > 9", own)


def test_leading_quantity_and_weighting_are_meant_when_nothing_is_said() -> None:
    own = tables(steps=(0,))
    assert 3.0 == only_value("norms[layer=fc1] > 9", own)
    assert 4.0 == only_value("norms[layer=fc1, quantity=std] > 9", own)
    assert falling("a", 0, "fc1") + 1 == only_value("nc1_pinv[layer=fc1, weighting=sample] > 9", own)
    assert 2 == result("all(norms[layer=fc1, quantity=*]) > 9", own).matched


def test_training_split_is_meant_when_nothing_is_said() -> None:
    own = tables(steps=(0,))
    test = own["metrics"].assign(split="test", value=77.0)
    own["metrics"] = pd.concat([test, own["metrics"]], ignore_index=True)
    assert falling("a", 0, "fc1") == only_value("nc1_pinv[layer=fc1] > 9", own)
    assert 77.0 == only_value("nc1_pinv[layer=fc1, split=test] > 99", own)
    assert 2 == result("all(nc1_pinv[layer=fc1, split=*]) > 99", own).matched
    own["metrics"] = test.assign(split="ood")
    assert 77.0 == only_value("nc1_pinv[layer=fc1] > 99", own)


def test_maps_pairs_and_claims_can_be_judged() -> None:
    own = tables(steps=(0,))
    assert 0.25 == only_value("balancedness[layer=fc2..out] > 1", own)
    assert 1.0 == only_value("nc1_upper[layer=head, table=theory, quantity=simplex] > 1", own)
    assert 0.5 == only_value("nc3_distance[classifier=fc2..out] > 1", own)
    assert 0.5 == only_value("nc3_distance[classifier=out, group=a] > 1", own)


def test_one_fails_exactly_when_its_condition_holds() -> None:
    assert result("nc1_pinv[layer=head, step=last] > 100").passed
    failed = result("nc1_pinv[layer=head, step=last] > 1e-9")
    assert (False, 1, 1) == (failed.passed, failed.matched, failed.broken)
    assert f"a/step_2.pt (iteration 2), layer fc2, nc1_pinv, weighting class: {falling('a', 2, READ):.6g}" == str(
        failed.rows[0]
    )


@pytest.mark.parametrize(
    ("text", "passed", "broken"),
    [
        ("any(nc1_pinv[layer=fc1]) > 0.5", False, 1),
        ("any(nc1_pinv[layer=fc1]) > 0.6", True, 0),
        ("all(nc1_pinv[layer=fc1]) > 0.1", False, 3),
        ("all(nc1_pinv[layer=fc1]) > 0.2", True, 2),
    ],
)
def test_all_and_any(text: str, passed: bool, broken: int) -> None:
    # 0.549, 0.274 and 0.137 over the steps.
    found = result(text)
    assert (passed, 3, broken) == (found.passed, found.matched, found.broken)


@pytest.mark.parametrize("text", ["nc1_pinv[layer=relu, step=0] > 1e9", "all(nc1_pinv) > 1e9", "any(nc1_pinv) > 1e9"])
def test_row_without_a_value_fails_with_its_reason(text: str) -> None:
    own = tables(value=lambda run, step, layer: None if (step, layer) == (0, "relu") else falling(run, step, layer))
    found = result(text, own)
    assert (False, 1) == (found.passed, found.broken)
    assert (None, "one class alone") == (found.rows[0].value, found.rows[0].reason)
    assert str(found.rows[0]).endswith("no value, one class alone")


def test_run_without_an_onset_fails_with_the_reason() -> None:
    own = tables(("a", "b"), onset=None)
    for text in ("nc1_pinv[layer=head, step=onset, run=a] > 9", "any(nc1_pinv[layer=head, step=onset]) > 9"):
        found = result(text, own)
        assert not found.passed
        assert "there is no onset: the error never is 0" == found.rows[0].reason


def test_worst_rows_come_first_and_not_all_of_them() -> None:
    found = result("any(nc1_pinv) > 1e-9", tables(steps=range(10)))
    assert (50, 50, MOST_ROWS) == (found.matched, found.broken, len(found.rows))
    values = [row.value for row in found.rows]
    assert falling("a", 0, "input") == values[0]
    assert sorted(values, key=lambda value: -math.inf if value is None else -value) == values
    least = result("any(nc1_pinv) < 9", tables(steps=range(10))).rows[0]
    assert falling("a", 9, "out") == least.value


def test_passed_gate_tells_the_row_that_is_nearest_to_failing() -> None:
    (row,) = result("any(nc1_pinv) > 9").rows
    assert falling("a", 0, "input") == row.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nc1_piv > 1", "no metric nc1_piv; did you mean nc1_pinv"),
        ("zzz > 1", "no metric zzz; there are nc1_pinv, norms, nc3_distance"),
        ("nc1_pinv[layer=fc9] > 1", "nc1_pinv has no layer fc9; did you mean fc2, fc1?"),
        ("nc1_pinv[layer=haed] > 1", "did you mean head"),
        ("nc1_pinv[step=7] > 1", "nc1_pinv has no step 7; there are 0, 1, 2"),
        ("nc1_pinv[step=lst] > 1", "did you mean last?"),
        ("nc1_pinv[run=b] > 1", "nc1_pinv has no run b; there is a"),
        ("all(nc1_pinv[split=test]) > 1", "nc1_pinv has no split test; there is train"),
        ("any(error[layer=head]) > 1", "error is not measured at the head; there is out"),
        ("nc1_pinv[layer=head] > 1", "matches 3 rows (3 steps): say step=last, or all(nc1_pinv[…]) or any"),
        ("nc1_pinv[step=0] > 1", "matches 5 rows (5 layers): say layer=head, or"),
        ("norms[layer=fc1, step=0, quantity=*] > 1", "matches 2 rows (2 quantities): say quantity='mean'"),
        ("nc1_*[layer=fc2, step=0] > 1", "matches 2 rows (2 metrics): say one metric, or all(nc1_*[…])"),
        ("nc3_distance[step=0, layer=*] > 1", "matches 2 rows (2 layers, 2 classifiers)"),
    ],
)
def test_gate_that_means_no_row_or_several_says_what_there_is(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        result(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_several_runs_are_told() -> None:
    with pytest.raises(UsageError, match=r"matches 2 rows \(2 runs\): say run='a', or all"):
        result("nc1_pinv[layer=head, step=last] > 1", tables(("a", "b")))


def test_onset_that_was_not_measured_is_told_with_its_step() -> None:
    with pytest.raises(UsageError, match="not measured at the onset, step 500; there are 0, 1, 2"):
        result("nc1_pinv[layer=head, step=onset] > 1", tables(onset=500))


def test_every_gate_is_judged_and_every_problem_told() -> None:
    texts = ["nope > 1", "error[step=last] > 0", "error[step=first] > 0.5", "error > 0"]
    found = judge_all([parse(text) for text in texts], field_of(tables()))
    assert texts == [one.gate for one in found]
    assert [False, True, False, False] == [one.passed for one in found]
    assert [True, False, False, True] == [bool(one.problem) for one in found]


@pytest.mark.parametrize("name", ["<script>", "=cmd|x", "a\x00\u202eb", "two\nlines", "[bold]x[/bold]", "it's", "*"])
def test_hostile_names_are_judged_and_shown_inert(name: str) -> None:
    own = tables(steps=(0,))
    own["metrics"] = own["metrics"].assign(layer=own["metrics"]["layer"].replace({"fc1": name}))
    gate = Gate(Pattern("nc1_pinv"), ">", 0.0, (("layer", Pattern(name, literal=True)),))
    found = judge(parse(str(gate)), field_of(own))
    assert falling("a", 0, "fc1") == found.rows[0].value
    for text in (found.gate, str(found.rows[0])):
        assert all(character.isprintable() for character in text)


def test_report_of_nothing_has_no_metric() -> None:
    own: dict[str, Any] = tables(())
    with pytest.raises(UsageError, match="no metric error; there is none"):
        result("any(error) > 0", own)


def test_many_stars_mean_what_one_does() -> None:
    assert not Pattern("*" * 60 + "x").fits()("nc1_pinv" * 8)
    assert not Pattern("*a" * 60 + "x").fits()("a" * 10_000)
    assert [True, False] == [Pattern("a[b]*").fits()(name) for name in ("a[b]c", "abc")]
    with pytest.raises(UsageError, match="at most 1,000 are read"):
        parse("nc1_pinv > " + "(" * 5000)
    assert Pattern("nc1**").fits()("nc1_pinv")


def test_a_gate_that_two_sides_understand_differently_is_named() -> None:
    first, second = tables(("a",)), tables(("a",))
    second["metrics"] = second["metrics"].replace({"layer": {READ: "other"}})
    on = compare(first, second).field
    with pytest.raises(UsageError, match=r"--fail-if nc1_pinv\[layer=head, step=last\] > 1"):
        judge(parse("nc1_pinv[layer=head, step=last] > 1"), on)
