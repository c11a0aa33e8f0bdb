"""A report in plain words: what counts as collapsed, what is told of steps, depth and theory, and what is doubted."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report_samples import Row, metrics_frame, weight_entries, weights_frame
from report_samples import checkpoints as sample_checkpoints
from report_samples import entries as sample_entries
from verdict_samples import Run, checkpoints, claim, tables

from ncscan.report.verdict.evaluate import NOTHING, RunVerdict, Verdicts, as_plain, verdicts
from ncscan.report.verdict.rules import CLEARLY, CLEARLY_OF_FEW, RULES, judge, overall, threshold_of
from ncscan.tables.frames import complete
from ncscan.trajectory.evaluate import COLLAPSED, THRESHOLDS
from ncscan.uncertainty.chance import random_directions

HOSTILE = "<script>\n=cmd|'/C calc'!A0 [bold]\x00\u202e"


def of(*runs: Run, warnings: tuple[str, ...] = ()) -> Verdicts:
    return verdicts(tables(*runs), checkpoints(*runs), warnings)


def one(run: Run, *warnings: str) -> RunVerdict:
    (found,) = of(run, warnings=warnings).runs
    return found


def judgements(found: RunVerdict) -> dict[str, str]:
    return {entry.aspect: entry.judgement for entry in found.entries}


def doubted(found: RunVerdict) -> dict[str, str]:
    return {doubt.kind: doubt.sentence for doubt in found.doubts}


def every_text(found: Verdicts) -> list[str]:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in texts(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    return texts(as_plain(found))


def test_everything_collapsed_is_said_so() -> None:
    found = one(Run())
    assert {"NC1": "collapsed", "NC2": "collapsed", "NC3": "collapsed", "NC4": "collapsed", "balance": "collapsed"} == (
        judgements(found)
    )
    assert "collapsed" == found.judgement
    assert "At the last checkpoint, iteration 400: all of NC1 to NC4 have collapsed, the weights balanced." == (
        found.headline
    )
    assert (
        "5 checkpoints, iteration 0 to iteration 400, on 1,200 samples of 10 classes. The training error ends at 0 %."
        == (found.scope)
    )
    nc1 = found.entries[0]
    assert ("nc1_pinv", "relu", 8.0, 0.02, 0.0, 0.1) == (
        nc1.metric,
        nc1.layer,
        nc1.first,
        nc1.last,
        nc1.at_collapse,
        nc1.threshold,
    )
    assert (8.0, 0.5, 0.08, 0.04, 0.02) == nc1.values
    assert "nc1_pinv is 0.0200 at layer relu, under 0.1; at first it was 8." in nc1.sentence


def test_nothing_collapsed_is_no_grade() -> None:
    flat = (0.9,) * 5
    found = one(Run(nc1=(2.0,) * 5, nc2=flat, nc3=flat, nc4=flat, balance=flat, error=flat))
    assert {"not"} == set(judgements(found).values())
    assert "nothing has collapsed, of NC1 to NC4, the weights not balanced" in found.headline
    said = " ".join(every_text(of(Run(nc1=(2.0,) * 5, nc2=flat, nc3=flat, nc4=flat, balance=flat, error=flat))))
    assert not re.search(r"\b(good|bad|better|worse|fail|poor quality|succe)", said)


def test_a_wide_layer_is_near_a_simplex_by_chance_and_not_collapsed() -> None:
    found = one(Run(nc2=(0.139, 0.12, 0.1, 0.09, 0.08), chance=0.139))
    nc2 = found.entries[1]
    assert ("not", 0.139) == (nc2.judgement, nc2.baseline)
    assert "chance reads 0.139 there, which is not clearly more" in nc2.sentence
    assert "NC2 not" in found.headline
    assert "partly" == found.judgement


@pytest.mark.parametrize(
    ("value", "baseline", "K", "expected"),
    [
        (0.0999, None, 10, "collapsed"),
        (0.1, None, 10, "partly"),
        (0.4999, None, 10, "partly"),
        (0.5, None, 10, "not"),
        (0.09, 0.18, 10, "not"),
        (0.0899, 0.18, 10, "collapsed"),
        (0.2, 0.5, 10, "partly"),
        (0.02, 0.06, 4, "collapsed"),
        (0.02, 0.06, 3, "not"),
        (0.0, 0.06, 3, "collapsed"),
        (None, 0.1, 10, "unknown"),
    ],
)
def test_judgement_at_its_limits(value: float | None, baseline: float | None, K: int, expected: str) -> None:
    assert expected == judge(RULES[1], value, baseline, K)[0]


@pytest.mark.parametrize("K", [3, 4, 5, 10])
@pytest.mark.parametrize("d", [16, 512])
def test_random_directions_are_rarely_called_collapsed(K: int, d: int) -> None:
    chance = random_directions(K, d, draws=400)["nc2_etf"]
    rng = np.random.default_rng(1)
    share = CLEARLY_OF_FEW.get(K, CLEARLY)
    from ncscan.metrics.layers.class_means import etf_distance

    drawn = [rng.standard_normal((K, d)) for _ in range(600)]
    below = np.mean([etf_distance(M - M.mean(axis=0)) < share * chance.value for M in drawn])
    assert below < 0.05


def test_thresholds_are_those_of_the_findings() -> None:
    known = {(metric, quantity): values for metric, quantity, values in THRESHOLDS}
    assert COLLAPSED == (RULES[0].metric, threshold_of(RULES[0]))
    for rule in RULES:
        assert threshold_of(rule) in known[rule.metric, rule.quantity]
        assert threshold_of(rule) < rule.partly


def test_overall_leaves_out_what_is_not_known() -> None:
    assert "collapsed" == overall({"NC1": "collapsed", "NC2": "unknown", "balance": "not"})
    assert "partly" == overall({"NC1": "not", "NC2": "partly"})
    assert "unknown" == overall({"NC1": "unknown", "balance": "collapsed"})


def test_depth_tells_layers_and_stages() -> None:
    told = {each.finding: each for each in one(Run()).depth}
    assert "From layer relu (stage 1, where 0 is the input) on nc1_pinv stays under 0.1, down to the outputs." == (
        told["first_collapsed"].sentence
    )
    never = {each.finding: each for each in one(Run(nc1=(8.0, 7.0, 6.0, 5.0, 4.0))).depth}
    assert never["first_collapsed"].sentence.startswith("At no layer does nc1_pinv fall under 0.1 and stay there: ")


def test_since_when_tells_onset_and_thresholds() -> None:
    sentences = [each.sentence for each in one(Run()).since]
    assert "The training error is 0 since iteration 200, and has stayed 0." in sentences
    assert "nc1_pinv of relu was under 0.1 first at iteration 200." in sentences
    assert "balancedness of fc..head was under 0.1 first at iteration 300." in sentences


def test_since_when_after_a_relapse_says_that_it_is_no_longer() -> None:
    found = one(Run(nc1=(8.0, 0.5, 0.08, 0.2, 0.2), error=(0.9, 0.0, 0.0, 0.1, 0.0)))
    sentences = [each.sentence for each in found.since]
    assert "nc1_pinv of relu was under 0.1 first at iteration 200, and is no longer." in sentences
    assert "The training error is 0 since iteration 100, though a later checkpoint errs again." in sentences


def test_motion_tells_falling_from_rest_and_rising() -> None:
    falls, rests, rises = (0.08, 0.04, 0.02), (0.08, 0.08, 0.079), (0.08, 0.1, 0.2)
    found = one(Run(nc1=(8.0, 0.5, *falls), nc2=(0.9, 0.4, *rests), nc3=(1.4, 0.6, *rises)))
    by = {each.metric: each for each in found.motion}
    assert (
        "nc1_pinv of relu still falls: it halves every 100 iterations (r² 1.00, 3 points)." == by["nc1_pinv"].sentence
    )
    assert by["nc1_pinv"].value == pytest.approx(100)
    assert "nc2_etf of relu has come to rest: " in by["nc2_etf"].sentence
    assert "rises again" in by["nc3_distance"].sentence
    still = one(Run(nc2=(0.9, 0.4, 0.3, 0.3, 0.3))).motion
    assert any("no longer moves, without having collapsed" in each.sentence for each in still)


def test_without_terminal_phase_no_motion_is_told_and_the_fit_is_doubted() -> None:
    found = one(Run(error=(0.9, 0.3, 0.2, 0.1, 0.05)))
    assert () == found.motion
    assert any(
        each.sentence.startswith("There is no terminal phase: the training error never is 0") for each in found.since
    )
    assert (
        "The training error is still 5 %: theory speaks of the phase after it has reached 0." == doubted(found)["fit"]
    )


def test_network_without_linear_head_is_judged_at_its_last_layer() -> None:
    found = one(Run(classifier="", nc3=(None,) * 5, balance=(None,) * 5))
    assert ("relu", False) == (found.reads, found.has_classifier)
    assert {"NC1": "collapsed", "NC2": "collapsed", "NC3": "unknown", "NC4": "collapsed", "balance": "unknown"} == (
        judgements(found)
    )
    assert "no linear map writes the logits" in found.entries[2].sentence
    assert "no two linear maps with nothing between them" in found.entries[4].sentence
    assert "NC3 cannot be told" in found.headline
    assert "collapsed" == found.judgement


def test_two_classes_make_nc2_trivial() -> None:
    found = one(Run(n_classes=2, nc2=("two classes are a simplex by construction",) * 5, chance=None))
    assert "unknown" == judgements(found)["NC2"]
    assert "two classes are a simplex by construction" in found.entries[1].sentence
    assert doubted(found)["two classes"].startswith("With two classes the centred means are a simplex")


def test_single_checkpoint_has_no_first_and_says_what_it_cannot_tell() -> None:
    found = one(Run(steps=(400,), error=(0.0,), nc1=(0.02,), nc2=(0.04,), nc3=(0.04,), nc4=(0.0,), balance=(0.02,)))
    assert "One checkpoint, iteration 400, on 1,200 samples of 10 classes. The training error is 0 %." == found.scope
    assert "collapsed" == found.judgement
    assert not any("at first" in entry.sentence for entry in found.entries)
    assert "few checkpoints" in doubted(found)


def test_nothing_measured_is_said_in_words() -> None:
    known = checkpoints(Run(steps=(0,)))
    (found,) = verdicts(complete({}), known).runs
    assert {"unknown"} == set(judgements(found).values())
    assert "unknown" == found.judgement
    assert "nothing that was measured tells of collapse" in found.headline
    assert "The training error is not known: whether the network fits its data cannot be told." == doubted(found)["fit"]
    assert NOTHING == verdicts(complete({}), [])


def test_imbalance_floors_estimates_and_few_classes_are_doubted() -> None:
    ratio = Row("imbalance", "ratio", 5.0)
    found = one(Run(more=(("relu", ratio),), at_floor=True, estimate=True, n_classes=3))
    assert "The largest class has 5 times the samples of the smallest" in doubted(found)["imbalance"]
    assert doubted(found)["floor"].startswith("nc2_etf stands at the floor")
    assert doubted(found)["estimate"].startswith("nc2_etf is an estimate")
    assert "under 0.15 of the chance level" in doubted(found)["few classes"]
    assert "rounding alone may have made it" in found.entries[1].sentence
    nearly = one(Run(more=(("relu", replace(ratio, value=1.05)),)))
    assert "imbalance" not in doubted(nearly)


def test_what_was_there_before_training_is_doubted() -> None:
    known = checkpoints(Run())
    frames = tables(Run())
    metrics = frames["metrics"].assign(kind=lambda frame: frame["layer"].where(frame["layer"] == "input", "linear"))
    at_input = (metrics["layer"] == "input") & (metrics["metric"] == "nc1_pinv")
    easy = metrics.assign(value=metrics["value"].mask(at_input, 0.05))
    (found,) = verdicts(frames | {"metrics": easy}, known).runs
    assert "nc1_pinv of the input is 0.0500, under 0.1." in doubted(found)["from the start"]
    (found,) = verdicts(frames | {"metrics": metrics}, known).runs
    assert "from the start" not in doubted(found)
    early = one(Run(nc4=(0.0,) * 5, balance=(0.01,) * 5))
    assert (
        "At the first checkpoint NC4 and the balance already read as at collapse." == (doubted(early)["from the start"])
    )


def test_doubts_of_checkpoints_are_told_once_with_their_names() -> None:
    odd = "layer relu: the class means differ in {} directions, but only 3 stand above"
    doubts = [[odd.format(9)], [odd.format(8)], [], ["accuracy 12.0% is near chance"], []]
    found = one(Run(doubts=doubts))
    assert doubted(found)["rank"].endswith("(at step_0.pt and step_100.pt, or alike).")
    assert "Accuracy 12.0% is near chance (at step_300.pt)." == doubted(found)["replay"]


def test_warnings_belong_to_the_runs_that_they_name() -> None:
    doubts = [["odd"], [], [], [], []]
    warnings = (
        "the same tensors under 2 names: a/step_0.pt, aa/step_0.pt",
        "aa: step_1.pt comes after step_2.pt by name",
        "a/step_0.pt: odd",
    )
    first, second = of(Run(doubts=doubts), Run(name="aa"), warnings=warnings).runs
    assert ["The same tensors under 2 names: a/step_0.pt, aa/step_0.pt.", "Odd (at step_0.pt)."] == [
        doubt.sentence for doubt in first.doubts if doubt.kind in ("integrity", "replay")
    ]
    assert 2 == sum(doubt.kind == "integrity" for doubt in second.doubts)


def test_theorem_that_applies_and_one_that_does_not() -> None:
    held = [
        claim("theorem31_linear_head", 3.0, 2.0, holds=True),
        claim("theorem31_balanced", 1.0, 1.0, holds=True),
        claim("theorem31_wide", 64.0, 1200.0, holds=False),
        claim("theorem31_nc1", 0.02, 20.0, layer="relu", holds=True, slack=1000.0),
    ]
    found = one(Run(claims=held))
    assert found.theorem.endswith("applies: nc1_trace at layer relu is at most 20, 1000 times what is measured.")
    assert "the first layer is 64 wide, and there are 1200 samples" in [h.sentence for h in found.hypotheses]
    failing = [claim("theorem31_balanced", 5.0, 1.0, holds=False), claim("theorem31_nc1", 0.02, 20.0, layer="relu")]
    assert one(Run(claims=failing)).theorem.endswith(
        "does not apply: the largest class has 5 times the samples of the smallest."
    )
    none = [claim("theorem31_nc1", None, None, reason="there is no linear head")]
    assert one(Run(claims=none)).theorem.endswith("says nothing here: there is no linear head.")
    assert "" == one(Run()).theorem


def test_certificates_are_the_tightest_and_for_the_worst_class() -> None:
    at = {"layer": "relu", "holds": True}
    claims = [
        claim("nc1_upper", 0.02, 0.03, quantity="orthogonal", slack=1.5, **at),
        claim("nc1_upper", 0.02, 0.022, quantity="simplex", slack=1.1, **at),
        claim("nc1_interpolation", 0.02, 0.0201, quantity="simplex", slack=1.005, layer="fc", holds=True),
        claim("nc3_class", 0.9, 0.7, quantity="orthogonal class 0", slack=1.3, **at),
        claim("nc3_class", 0.8, 0.75, quantity="orthogonal class 1", slack=1.07, **at),
        claim("nc3_class", 0.9, 0.6, quantity="simplex class 0", slack=1.5, **at),
        claim("nc3_class", 0.9, 0.85, quantity="simplex class 1", slack=1.06, **at),
    ]
    found = {each.aspect: each for each in one(Run(claims=claims)).certificates}
    assert ("nc1_upper", "simplex", 1.1) == (found["NC1"].claim, found["NC1"].quantity, found["NC1"].slack)
    assert "orthogonal class 0" == found["NC3"].quantity
    assert "at least 0.700 in every class; measured 0.900 where it is promised least, class 0" in found["NC3"].sentence
    assert "NC2" not in found


def test_weight_decay_is_told_against_its_prediction() -> None:
    steps = (0, 1000, 2000, 3000, 4000)
    train: Any = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.005, "schedule": "constant"}
    shrinking = tuple(math.exp(-0.001 * step) for step in steps)
    (told,) = one(Run(steps=steps, balance=shrinking, train=train)).weight_decay
    assert told.value == pytest.approx(1.0)
    assert "at 1.000 times the rate that weight decay predicts: what they differ by halves every 693 iterations" in (
        told.sentence
    )
    without: Any = train | {"weight_decay": 0.0}
    (told,) = one(Run(steps=steps, balance=(1.0, 1.0, 0.999, 1.0, 1.0), train=without)).weight_decay
    assert "is the same over the whole run" in told.sentence
    assert "trained without weight decay" in told.sentence


def test_groups_are_mean_and_spread_and_compared() -> None:
    runs = [Run(name=f"s{i}", nc1=(8.0, 0.5, 0.08, 0.04, 0.02 + i / 1000)) for i in range(3)]
    other = Run(name="t0", group="other", nc1=(8.0, 1.0, 0.9, 0.85, 0.8))
    found = of(*runs, other, Run(name="alone", group=""))
    first, second = found.groups
    assert ("g", ("s0", "s1", "s2")) == (first.group, first.runs)
    nc1 = next(average for average in first.averages if average.metric == "nc1_pinv")
    assert [3, 0.021, 0.001] == pytest.approx([nc1.runs, nc1.mean, nc1.std])
    assert "nc1_pinv 0.0210 ± 1e−3" in first.sentence
    assert first.sentence.startswith("g (3 runs, mean ± standard deviation), collapsed: training error 0 %, ")
    assert "±" not in second.sentence
    assert "nc1_pinv is 0.0210 in g and 0.800 in other, 38.1 times" in found.comparison
    assert "nc2_etf is 0.0400 in all groups" in found.comparison
    compared = {each.metric: each for each in found.compared}
    assert ("g", "other", None) == (
        compared["nc1_pinv"].lowest,
        compared["nc1_pinv"].highest,
        compared["nc1_pinv"].apart,
    )


def test_groups_that_differ_less_than_their_seeds_say_so() -> None:
    def run(name: str, group: str, last: float) -> Run:
        return Run(name=name, group=group, nc1=(8.0, 0.5, 0.08, 0.04, last))

    found = of(run("a", "g", 0.02), run("b", "g", 0.03), run("c", "h", 0.025), run("d", "h", 0.027))
    assert "within the spread of their seeds" in found.comparison
    assert of(Run(), Run(name="b")).comparison == ""


def test_hostile_text_stays_as_it_is_and_json_is_strict() -> None:
    run = Run(name=HOSTILE, group=HOSTILE, nc2=("=odd\n[red]",) * 5, balance=(math.inf, math.nan, 0.2, 0.06, "x"))
    found = of(run, warnings=(f"{HOSTILE}: odd",))
    text = json.dumps(as_plain(found), allow_nan=False)
    assert HOSTILE == json.loads(text)["runs"][0]["run"]
    assert "integrity" in doubted(found.runs[0])


@pytest.mark.parametrize(
    "run",
    [
        Run(),
        Run(steps=(400,), error=(0.0,), nc1=(0.02,), nc2=(0.04,), nc3=(0.04,), nc4=(0.0,), balance=(0.02,)),
        Run(classifier="", nc3=(None,) * 5, balance=(None,) * 5),
        Run(n_classes=2, nc2=("by construction",) * 5),
        Run(error=("not finite",) * 5, nc1=("not finite",) * 5, nc2=("not finite",) * 5, nc4=("x",) * 5),
        Run(unit="order"),
        Run(error=(None,) * 5, accuracy=0.5),
    ],
    ids=["collapsed", "single", "headless", "two classes", "undefined", "order", "accuracy alone"],
)
def test_sentences_hold_no_bare_nan_or_none(run: Run) -> None:
    found = of(run)
    for text in every_text(found):
        assert not re.search(r"\b(nan|NaN|None|NA|inf|Infinity)\b", text), text
    run_of = found.runs[0]
    told = [each.sentence for each in (*run_of.depth, *run_of.since, *run_of.motion)]
    for sentence in (run_of.scope, run_of.headline, *told, *filter(None, [run_of.theorem])):
        assert sentence.endswith(".")
        assert ".." not in sentence.replace("fc..head", "")
        assert sentence[0].isupper() or sentence.startswith(("nc", "balancedness", "5 checkpoints"))


def test_accuracy_stands_in_for_an_error_that_was_not_measured() -> None:
    error = one(Run(error=(None,) * 5, accuracy=0.75)).error
    assert error is not None
    assert (0.25, 0.25, "") == (error.first, error.last, error.reason)


def test_samples_of_the_page_are_judged_run_by_run() -> None:
    known = sample_checkpoints()
    frames = complete(
        {"metrics": metrics_frame(sample_entries(known)), "weights": weights_frame(weight_entries(known))}
    )
    found = verdicts(frames, known)
    assert ["square-s0", "square-s1", "cross-entropy"] == [each.run for each in found.runs]
    assert ["square", "cross-entropy"] == [group.group for group in found.groups]
    assert {"head.0"} == {each.reads for each in found.runs}
    assert found.runs[0] != found.runs[2]
