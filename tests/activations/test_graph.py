"""Selectors, and what a graph says about its layers."""

import json
from dataclasses import asdict

import pytest

from ncscan.dumps.description import from_plain
from ncscan.errors import UsageError
from ncscan.layer_graph import LayerKind, LinearMap, Link, Tap, TapGraph, select


def tap(
    name: str, kind: LayerKind, *aliases: str, types: tuple[str, ...] = (), minor: bool = False, is_output: bool = False
) -> Tap:
    return Tap(
        name=name,
        aliases=aliases,
        kind=kind,
        depth=0,
        shape=(4,),
        dtype="float32",
        channel_dim=None,
        activated_by="",
        is_output=is_output,
        types=types,
        minor=minor,
    )


TAPS = (
    tap("input", "input", types=("input",)),
    tap("layer1.0.conv", "convolution", types=("Conv2d",)),
    tap("layer1.0.relu", "activation", types=("ReLU",)),
    tap("layer1.0/mul", "other", types=("mul",), minor=True),
    tap("layer1.0/add", "residual", "layer1.0", "layer1", types=("add", "Block", "Sequential")),
    tap("layer1.0.relu:1", "activation", types=("ReLU",)),
    tap("/flatten", "other", types=("flatten",)),
    tap("body", "linear", types=("Linear",)),
    tap("head", "linear", types=("Linear",)),
    tap("fc", "linear", types=("Linear",), is_output=True),
)
MAPS = (
    LinearMap("layer1.0.conv", "convolution", "layer1.0.conv.weight", "", "input", (4, 4, 3, 3)),
    LinearMap("body", "linear", "body.weight", "", "/flatten", (4, 4)),
    LinearMap("head", "linear", "head.weight", "", "body", (4, 4)),
    LinearMap("fc", "linear", "fc.weight", "fc.bias", "head", (4, 4)),
)
LINKS = (Link("layer1.0.conv", "body", ("activation",)), Link("body", "head", ()), Link("head", "fc", ()))
GRAPH = TapGraph(TAPS, MAPS, LINKS, ("body", "head", "fc"), ())


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ([], "all but mul"),
        (["all"], "all but mul"),
        (["every"], "every"),
        (["input"], ["input"]),
        (["output"], ["fc"]),
        (["penultimate"], ["head"]),
        (["head"], ["/flatten", "body", "head", "fc"]),
        (["layer*.relu*"], ["layer1.0.relu", "layer1.0.relu:1"]),
        (["layer1"], ["layer1.0/add"]),
        (["*/*"], ["layer1.0/mul", "layer1.0/add", "/flatten"]),
        (["[h]ead"], ["head"]),
        (["re:^head$"], ["head"]),
        (["re:relu(:1)?$", "body"], ["layer1.0.relu", "layer1.0.relu:1", "body"]),
        (["type:Linear"], ["body", "head", "fc"]),
        (["type:block"], ["layer1.0/add"]),
        (["type:Conv2d", "type:activation"], ["layer1.0.conv", "layer1.0.relu", "layer1.0.relu:1"]),
        (["fc", "body"], ["body", "fc"]),
        (["head", "!output"], ["/flatten", "body", "head"]),
        (["!layer*", "!type:Linear"], ["input", "/flatten"]),
        (["!fc", "fc"], "all but mul"),
    ],
)
def test_select_finds_the_layers_of(selectors: list[str], expected: list[str] | str) -> None:
    names = [t.name for t in TAPS]
    wanted = {"every": names, "all but mul": [n for n in names if n != "layer1.0/mul"]}
    assert (wanted[expected] if isinstance(expected, str) else expected) == [t.name for t in select(GRAPH, selectors)]


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        (["layer1.0.rleu"], r"--layers layer1\.0\.rleu matches no layer; did you mean layer1\.0\.relu"),
        (["penultimat"], "did you mean penultimate"),
        (["type:linaer"], "did you mean linear|did you mean Linear"),
        (["all", "!nothing_like_it"], r"--layers nothing_like_it matches no layer; `ncscan layers`"),
        (["re:(", "all"], r"--layers re:\(: not a regular expression"),
        (["fc", "!fc"], "--layers fc !fc leaves no layer"),
    ],
)
def test_select_says_what_is_wrong_with(selectors: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(GRAPH, selectors)


def test_words_need_something_to_mean() -> None:
    bare = TapGraph(TAPS[2:3], (), (), (), ())
    for word in ("input", "head", "penultimate", "output"):
        with pytest.raises(UsageError, match=f"--layers {word} matches no layer"):
            select(bare, [word])


def test_penultimate_is_read_by_the_last_map_when_there_is_no_linear_head() -> None:
    graph = TapGraph(TAPS, MAPS, LINKS, (), ())
    assert ["head"] == [t.name for t in select(graph, ["penultimate"])]
    assert graph.last == MAPS[-1]


def test_lookups_take_names_and_aliases() -> None:
    assert GRAPH.tap("layer1") is GRAPH.tap("layer1.0/add")
    assert GRAPH.map("fc").bias == "fc.bias"
    for look in (GRAPH.tap, GRAPH.map):
        with pytest.raises(KeyError, match="nowhere"):
            look("nowhere")


def test_plain_form_survives_json() -> None:
    assert from_plain(TapGraph, json.loads(json.dumps(asdict(GRAPH)))) == GRAPH


@pytest.mark.parametrize(
    ("selector", "problem"),
    [
        ("re:a{99999999999}", "not a regular expression"),
        ("re:" + "(?:" * 300, "not a regular expression"),
        ("re:" + "(?:" * 3000, "at most 1,000 are read"),
        ("re:(", "not a regular expression"),
        ("x" * 2000, "at most 1,000 are read"),
        ("*a" * 100 + "b", "matches no layer"),
    ],
    ids=range(6),
)
def test_a_selector_of_any_kind_is_one_line(selector: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        select(TapGraph((tap("a" * 1000, "linear"),), (), (), (), ()), (selector,))
    assert "\n" not in str(caught.value)


def test_an_expression_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncscan.layer_graph.SEARCHING", 0.1)
    with pytest.raises(UsageError, match=r"takes longer than 0\.1 seconds"):
        select(TapGraph((tap("a" * 1000 + "b", "linear"),), (), (), (), ()), ("re:(a+)+$",))
