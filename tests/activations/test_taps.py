"""Taps: every value that a pass makes, what it is called, and what reads it."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import networks
import pytest
import torch
from torch import nn
from torch.nn import functional

from ncscan.activations.tracer import REDUCTIONS, Trace, reduce, reduction_of, trace, watch, width
from ncscan.data.convert import Inputs
from ncscan.dumps.description import from_plain
from ncscan.errors import TapError, UsageError
from ncscan.layer_graph import Tap, TapGraph, select

GOLDEN = Path(__file__).parents[1] / "golden" / "taps"

# The same products, summed in another order, in float32 on tens of terms of order one.
REORDERED = 1e-5

MODELS: tuple[tuple[str, Callable[[], nn.Module], Callable[[], Inputs]], ...] = (
    ("mlp", networks.mlp, lambda: torch.randn(4, 3, 2, 2)),
    ("functional_mlp", networks.FunctionalMlp, lambda: torch.randn(4, 6)),
    ("lenet", networks.LeNet, lambda: torch.randn(4, 1, 8, 8)),
    ("resnet", networks.ResNet, lambda: torch.randn(4, 3, 8, 8)),
    ("transformer_encoder", networks.Encoder, lambda: torch.randn(4, 5, 8)),
    ("mixer", networks.Mixer, lambda: torch.randn(4, 5, 4)),
    ("rewrites_views", networks.RewritesViews, lambda: torch.randn(4, 1, 4, 4)),
    ("recurrent", networks.Recurrent, lambda: torch.randn(4, 5, 4)),
    ("language_model_parts", networks.language_model_parts, lambda: torch.randn(4, 5, 4)),
    ("vit", networks.small_vit, lambda: torch.randn(4, 3, 8, 8)),
    ("bert", networks.small_bert, networks.sentences),
)
EACH = pytest.mark.parametrize(("name", "build", "inputs"), MODELS, ids=[row[0] for row in MODELS])


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build().eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():  # else every batch norm would be the identity
            buffer.uniform_(0.5, 1.5)
    return model


def values(
    model: nn.Module, traced: Trace, inputs: Inputs, taps: tuple[Tap, ...] | None = None
) -> dict[str, torch.Tensor]:
    """Every tap's value, cloned the moment it is handed on."""
    taps = traced.graph.taps if taps is None else taps
    kept: dict[str, torch.Tensor] = {}
    with watch(model, traced, taps, lambda i, value: kept.update({taps[i].name: value.clone()})) as forward:
        forward(inputs)
    return kept


def copied(inputs: Inputs) -> Inputs:
    return {k: v.clone() for k, v in inputs.items()} if isinstance(inputs, dict) else inputs.clone()


def run(model: nn.Module, inputs: Inputs) -> object:
    with torch.no_grad():
        return model(**inputs) if isinstance(inputs, dict) else model(inputs)


# The graph


def table(graph: TapGraph) -> str:
    """One line per tap, map and link, so that a difference is readable."""
    plain = asdict(graph)
    parts = []
    for key, rows in plain.items():
        lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
        parts.append(f' "{key}": [\n{lines}\n ]' if rows else f' "{key}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


@EACH
def test_graph_is_the_golden_one(name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]) -> None:
    actual = table(trace(made(build), inputs()).graph)
    golden = GOLDEN / f"{name}.json"
    expected = golden.read_text(encoding="utf-8") if golden.exists() else ""
    if expected != actual:
        golden.with_suffix(".actual.json").write_text(actual, encoding="utf-8")
    assert expected == actual


@EACH
def test_graph_survives_json(name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]) -> None:
    graph = trace(made(build), inputs()).graph
    assert from_plain(TapGraph, json.loads(json.dumps(asdict(graph)))) == graph


@EACH
def test_names_are_unique_and_depth_is_rank(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]
) -> None:
    graph = trace(made(build), inputs()).graph
    counts = Counter(n for tap in graph.taps for n in (tap.name, *tap.aliases))
    assert [] == [n for n, times in counts.items() if times > 1]
    assert list(range(len(graph.taps))) == [tap.depth for tap in graph.taps]
    assert 1 == sum(tap.is_output for tap in graph.taps)
    assert all(len(tap.types) == 1 + len(tap.aliases) for tap in graph.taps)


# Values


@EACH
def test_values_are_what_hooks_see(name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]) -> None:
    """Bit for bit, also when a later call writes into them."""
    model, batch = made(build), inputs()
    traced = trace(model, batch)
    seen = values(model, traced, copied(batch))
    count: Counter[str] = Counter()
    checked = 0

    def check(module_name: str, output: object) -> None:
        nonlocal checked
        nth, count[module_name] = count[module_name], count[module_name] + 1
        called = f"{module_name}:{nth}" if nth else module_name
        owner = [tap for tap in traced.graph.taps if called in (tap.name, *tap.aliases)]
        if module_name and owner and isinstance(output, torch.Tensor) and output.shape == seen[owner[0].name].shape:
            assert torch.equal(output, seen[owner[0].name]), called
            checked += 1

    def hook(module_name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _m, _i, output: check(module_name, output)

    hooks = [module.register_forward_hook(hook(n)) for n, module in model.named_modules()]
    torch.backends.mha.set_fastpath_enabled(False)  # torch's fused attention rounds otherwise
    run(model, copied(batch))
    torch.backends.mha.set_fastpath_enabled(True)
    for handle in hooks:
        handle.remove()
    n_named = sum(1 for n, _ in model.named_modules() if n)
    assert checked >= n_named / 2


@EACH
def test_each_dense_map_writes_its_weight_times_what_it_reads(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]
) -> None:
    """The graph's claims, checked against numbers alone."""
    model, batch = made(build), inputs()
    traced = trace(model, batch)
    seen = values(model, traced, batch)
    dense = [m for m in traced.graph.maps if m.kind == "linear"]
    for m in dense:
        weight, bias = traced.weights[m.name]
        assert m.shape == tuple(weight.shape)
        read = seen[m.reads]
        read = read.flatten(1) if read.shape[-1] != weight.shape[1] else read
        expected = functional.linear(read, weight, bias).reshape(seen[m.name].shape)
        torch.testing.assert_close(seen[m.name], expected, rtol=REORDERED, atol=REORDERED)
    assert dense


@EACH
def test_output_tap_is_the_logits_of_a_bare_pass(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]
) -> None:
    model, batch = made(build), inputs()
    traced = trace(model, batch)
    taps = select(traced.graph, ["output"])
    kept: list[torch.Tensor] = []
    with watch(model, traced, taps, lambda _i, value: kept.append(value.clone())) as forward:
        logits = forward(copied(batch))
    output = run(model, copied(batch))
    bare = output if isinstance(output, torch.Tensor) else getattr(output, "logits", None)
    bare = output["logits"] if isinstance(output, dict) and bare is None else bare
    assert isinstance(bare, torch.Tensor)
    torch.testing.assert_close(logits, bare, rtol=REORDERED, atol=REORDERED)
    assert torch.equal(logits, kept[0].reshape(logits.shape))


@EACH
def test_values_have_a_row_per_sample_whatever_the_batch(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]
) -> None:
    """Samples one by one give what they give together: no tap mixes rows."""
    model, batch = made(build), inputs()
    traced = trace(model, batch)
    together = values(model, traced, batch)
    for i in range(4):
        one = {k: v[i : i + 1] for k, v in batch.items()} if isinstance(batch, dict) else batch[i : i + 1]
        for tap, value in zip(traced.graph.taps, values(model, traced, one).values(), strict=True):
            assert (1, *tap.shape) == tuple(value.shape), tap.name
            expected = together[tap.name][i : i + 1]
            torch.testing.assert_close(value, expected, rtol=REORDERED, atol=REORDERED, msg=tap.name)


@EACH
def test_inputs_and_weights_are_untouched(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs]
) -> None:
    model, batch = made(build), inputs()
    before, state = copied(batch), {k: v.clone() for k, v in model.state_dict().items()}
    traced = trace(model, batch)
    values(model, traced, batch)
    pairs = (
        zip(batch.values(), before.values(), strict=True)
        if isinstance(batch, dict) and isinstance(before, dict)
        else []
    )
    assert all(torch.equal(a, b) for a, b in pairs)
    if isinstance(batch, torch.Tensor) and isinstance(before, torch.Tensor):
        assert torch.equal(batch, before)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


def test_functional_values_are_the_hand_computed_ones() -> None:
    model, x = made(networks.FunctionalMlp), torch.randn(4, 6)
    p = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    first = x @ p["first"] + p["shift"]
    second = first.relu() @ p["second"].T
    expected = {
        "input": x,
        "/add": first,
        "/relu": first.relu(),
        "/linear": functional.linear(first.relu(), p["second"]),
        "/relu_": second.relu(),
    }
    seen = values(model, trace(model, x), x)
    for name, value in expected.items():
        torch.testing.assert_close(seen[name], value, rtol=0, atol=REORDERED)
    assert bool((seen["/linear"] < 0).any()), "the in-place ReLU must not reach what was handed on before it"


def test_attention_values_are_the_hand_computed_ones() -> None:
    model, x = made(networks.Encoder), torch.randn(4, 5, 8)
    p = dict(model.named_parameters())
    q, k, v = (x @ p["layer.self_attn.in_proj_weight"].T + p["layer.self_attn.in_proj_bias"]).chunk(3, dim=-1)
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        scores = torch.softmax(q[..., h] @ k[..., h].mT / 2, dim=-1)
        heads.append(scores @ v[..., h])
    seen = values(model, trace(model, x), x)
    attended = torch.cat(heads, dim=-1)
    torch.testing.assert_close(seen["layer.self_attn/scaled_dot_product_attention"], attended, rtol=0, atol=REORDERED)
    out = functional.linear(attended, p["layer.self_attn.out_proj.weight"], p["layer.self_attn.out_proj.bias"])
    torch.testing.assert_close(seen["layer.self_attn/linear:1"], out, rtol=0, atol=REORDERED)


def test_values_written_through_views_are_met_in_the_tensor() -> None:
    model, x = made(networks.RewritesViews), torch.randn(4, 1, 4, 4) * 3
    assert isinstance(model, networks.RewritesViews)
    with torch.no_grad():
        conv = model.conv(x.clamp(min=-1))
        second = model.conv2(conv.relu())
        mixed = torch.cat([second[:, :2].sigmoid(), second[:, 2:]], dim=1)
    seen = values(model, trace(model, x), x)
    for name, expected in (
        ("input", x),
        ("conv", conv),
        ("relu", conv.relu()),
        ("conv2", second),
        ("/mean.read", mixed),
    ):
        assert torch.equal(seen[name], expected), name


# Weights


class Wrapped(nn.Module):
    def __init__(self, function: Callable[[nn.Module, torch.Tensor], object], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(self, x)


def test_weight_is_the_effective_one_when_it_is_computed() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    model = nn.Sequential(normed, nn.ReLU(), spectral).eval()
    with torch.no_grad():
        normed.get_parameter("parametrizations.weight.original0").mul_(2)
    traced = trace(model, torch.randn(4, 4))
    for name, layer in (("0", normed), ("2", spectral)):
        assert isinstance(layer.weight, torch.Tensor)
        torch.testing.assert_close(traced.weights[name][0], layer.weight.detach())
    assert ["0.parametrizations.weight.original1", "2.parametrizations.weight.original"] == [
        m.weight for m in traced.graph.maps
    ]


def test_shared_weights_have_one_name() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    graph = trace(nn.Sequential(first, second, nn.Linear(4, 3)).eval(), torch.randn(4, 4)).graph
    assert ["0.weight", "0.weight", "2.weight"] == [m.weight for m in graph.maps]
    assert ["0.bias", "1.bias", "2.bias"] == [m.bias for m in graph.maps]
    assert () == graph.not_executed


def test_transposed_convolution_has_outputs_first() -> None:
    conv = nn.ConvTranspose2d(4, 6, 2, groups=2)
    traced = trace(nn.Sequential(conv, nn.Flatten(), nn.Linear(54, 3)).eval(), torch.randn(4, 4, 2, 2))
    weight = traced.weights["0"][0]
    assert (6, 2, 2, 2) == tuple(weight.shape)
    assert torch.equal(weight[4, 1], conv.weight[3, 1])  # output 4 is the second of group 1, its input 1 is input 3


def test_module_used_twice_is_two_layers() -> None:
    shared = nn.Linear(4, 4)
    graph = trace(nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 3)).eval(), torch.randn(4, 4)).graph
    assert ["input", "0", "1", "0:1", "3"] == [tap.name for tap in graph.taps]
    assert [("0", "0:1", ("activation",)), ("0:1", "3", ())] == [(k.first, k.next, k.between) for k in graph.links]
    assert ("0:1", "3") == graph.head


def test_modules_that_never_ran_are_named() -> None:
    model = Wrapped(lambda m, x: m.get_submodule("used")(x), used=nn.Linear(4, 3), idle=nn.Sequential(nn.Linear(2, 2)))
    assert ("idle.0",) == trace(model.eval(), torch.randn(4, 4)).graph.not_executed


def test_a_scaling_between_two_maps_is_no_product() -> None:
    model = Wrapped(
        lambda m, x: m.get_submodule("b")(m.get_submodule("a")(x) * 2), a=nn.Linear(4, 4), b=nn.Linear(4, 3)
    )
    graph = trace(model.eval(), torch.randn(4, 4)).graph
    assert [("other",)] == [link.between for link in graph.links]
    assert ("b",) == graph.head


def test_flattened_positions_between_two_maps_are_no_product() -> None:
    graph = trace(nn.Sequential(nn.Linear(4, 2), nn.Flatten(), nn.Linear(10, 3)).eval(), torch.randn(4, 5, 4)).graph
    assert [("other",)] == [link.between for link in graph.links]
    assert ("2",) == graph.head


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: nn.Sequential(nn.Sequential(m))])
def test_a_single_layer_is_followed_in_any_wrapping(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model, x = wrap(nn.Linear(4, 3)).eval(), torch.randn(4, 4)
    graph = trace(model, x).graph
    assert ["input", "linear"] == [tap.kind for tap in graph.taps]
    assert graph.head == (graph.taps[1].name,)


def test_a_model_without_linear_maps_has_taps_but_no_head() -> None:
    graph = trace(nn.Sequential(nn.ReLU(), nn.Tanh()).eval(), torch.randn(4, 4)).graph
    assert ["input", "0", "1"] == [tap.name for tap in graph.taps]
    assert ((), (), ()) == (graph.head, graph.maps, graph.links)


def test_eager_attention_is_the_same_graph_as_the_fused_one() -> None:
    eager, fused = networks.small_bert("eager"), networks.small_bert("sdpa")
    a, b = (trace(m.eval(), networks.sentences()).graph for m in (eager, fused))
    layers_a, layers_b = select(a, ["all"]), select(b, ["all"])
    assert [(t.kind, t.shape, t.aliases) for t in layers_a] == [(t.kind, t.shape, t.aliases) for t in layers_b]


# Errors, and what they leave behind


def clean(model: nn.Module) -> bool:
    """No hook and no mode is left."""
    modes = torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call] # torch leaves it untyped
    hooks = [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    return not modes and not hooks and torch.is_grad_enabled()


def branching() -> nn.Module:
    def choose(model: nn.Module, x: torch.Tensor) -> object:
        y = model.get_submodule("fc")(x)
        return y.relu() if float(x.sum()) > 0 else y.sigmoid()

    return Wrapped(choose, fc=nn.Linear(4, 3)).eval()


def test_data_dependent_flow_is_an_error_that_names_the_call() -> None:
    model = branching()
    traced = trace(model, torch.ones(4, 4))
    with watch(model, traced, traced.graph.taps, lambda _i, _v: None) as forward:
        forward(torch.ones(2, 4))
        with pytest.raises(TapError, match=r"went to /relu with shape \(4, 3\), this one to /sigmoid"):
            forward(-torch.ones(4, 4))
        forward(torch.ones(2, 4))
    assert clean(model)


def test_what_a_first_pass_prepares_is_no_way_of_its_own() -> None:
    class Prepared(nn.Linear):
        table: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.table is None:
                self.table = torch.arange(3.0).exp()
            logits: torch.Tensor = super().forward(x) * self.table
            return logits

    model = Prepared(4, 3).eval()
    traced = trace(model, torch.randn(4, 4))
    batch = torch.randn(9, 4)
    assert torch.equal(run(model, batch), values(model, traced, batch)[traced.graph.output.name])  # type: ignore[arg-type]  # a tensor


def test_a_pass_that_ends_early_is_an_error() -> None:
    model = Wrapped(early, fc=nn.Linear(4, 3)).eval()
    traced = trace(model, torch.ones(4, 4))
    with (
        watch(model, traced, (), lambda _i, _v: None) as forward,
        pytest.raises(TapError, match="this one to the end"),
    ):
        forward(-torch.ones(4, 4))


def early(model: nn.Module, x: torch.Tensor) -> object:
    y = model.get_submodule("fc")(x)
    return y.relu() if float(x.sum()) > 0 else y


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_batches_without_padding_are_followed_on_their_shorter_way(attention: str) -> None:
    model, batch = networks.small_bert(attention).eval(), networks.sentences()
    traced = trace(model, batch)
    full = {"input_ids": batch["input_ids"], "attention_mask": torch.ones(4, 6, dtype=torch.int64)}
    taps = select(traced.graph, ["all"])
    kept: dict[str, torch.Tensor] = {}
    with watch(model, traced, taps, lambda i, value: kept.update({taps[i].name: value.clone()})) as forward:
        padded = forward(batch)
        logits = forward(full)
        assert {tap.name for tap in taps} == set(kept)
        torch.testing.assert_close(logits[0], padded[0], rtol=0, atol=REORDERED)
        assert torch.equal(forward(batch), padded)
    assert torch.equal(kept["classifier"], padded)


def test_another_shape_than_traced_is_an_error() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 3)).eval()
    traced = trace(model, torch.randn(4, 1, 8))
    with (
        watch(model, traced, (), lambda _i, _v: None) as forward,
        pytest.raises(TapError, match=r"went to 0/conv1d with shape \(4, 2, 8\).* shape \(4, 2, 9\)"),
    ):
        forward(torch.randn(4, 1, 9))


def test_hooks_and_modes_are_gone_after_an_exception() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    traced = trace(model, torch.randn(4, 4))

    def fail(_i: int, _value: torch.Tensor) -> None:
        raise KeyError("the consumer's own")

    with pytest.raises(KeyError), watch(model, traced, traced.graph.taps, fail) as forward:
        forward(torch.randn(4, 4))
    assert clean(model)
    with pytest.raises(RuntimeError, match="shapes"):
        trace(model, torch.randn(4, 5))
    assert clean(model)


def test_no_gradient_leaks_and_the_callers_modes_are_kept() -> None:
    model, x = nn.Linear(4, 3).eval(), torch.randn(4, 4, requires_grad=True)
    with torch.inference_mode():
        traced = trace(model, x)
        kept: list[torch.Tensor] = []
        with watch(
            model, traced, traced.graph.taps, lambda _i, v: kept.append(reduce(v, traced.graph.taps[0], "mean"))
        ) as f:
            logits = f(x)
        assert torch.is_inference_mode_enabled()
    assert not any(value.requires_grad for value in (*kept, logits, *(w for w, _ in traced.weights.values())))
    assert clean(model)


def numpy_way(model: nn.Module, x: torch.Tensor) -> object:
    return torch.from_numpy(model.get_submodule("fc")(x).numpy().copy())


REFUSED: tuple[tuple[str, Callable[[], nn.Module], Inputs, str], ...] = (
    ("training mode", lambda: nn.Sequential(nn.Linear(4, 3)), torch.ones(4, 4), r"training mode.*model\.eval\(\)"),
    ("two rows", lambda: nn.Linear(4, 3).eval(), torch.ones(2, 4), "three samples"),
    (
        "a map of logits",
        lambda: nn.Linear(4, 3).eval(),
        torch.ones(4, 2, 4),
        r"shape \(4, 2, 3\), not one row of logits",
    ),
    ("numpy", lambda: Wrapped(numpy_way, fc=nn.Linear(4, 3)).eval(), torch.ones(4, 4), "do not come from the input"),
    ("no tensor", lambda: Wrapped(lambda _m, _x: "no").eval(), torch.ones(4, 4), "returns no logits: str"),
    ("labels", lambda: Wrapped(lambda _m, x: x.argmax(1)).eval(), torch.ones(4, 4), r"int64 of shape \(4,\)"),
    (
        "transposed",
        lambda: Wrapped(lambda _m, x: x.T).eval(),
        torch.ones(4, 5),
        "not return one row of logits per sample",
    ),
    (
        "size-dependent",
        lambda: Wrapped(lambda _m, x: x.relu() if len(x) > 3 else x.tanh()).eval(),
        torch.ones(4, 4),
        "depends on the batch size.*/relu for 4 samples and to /tanh for 3",
    ),
)


@pytest.mark.parametrize(("build", "inputs", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_followed_is_refused(build: Callable[[], nn.Module], inputs: Inputs, message: str) -> None:
    model = build()
    with pytest.raises(TapError, match=message):
        trace(model, inputs)
    assert clean(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 3).eval()))
    with pytest.raises(TapError, match="0 is TorchScript"):
        trace(model.eval(), torch.ones(4, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own compiler uses it
def test_compiled_parts_are_refused_and_a_compiled_model_is_unwrapped() -> None:
    inner = nn.Linear(4, 3).eval()
    compiled = torch.compile(inner, backend="eager")
    assert isinstance(compiled, nn.Module)
    assert ("/linear",) == trace(compiled, torch.ones(4, 4)).graph.head
    inner.compile()
    with pytest.raises(TapError, match="Linear is compiled"):
        trace(inner, torch.ones(4, 4))


# Reductions


def tap(shape: tuple[int, ...], channel_dim: int | None, kind: str = "convolution") -> Tap:
    plain = {"name": "x", "aliases": (), "depth": 1, "dtype": "float32", "activated_by": "", "is_output": False}
    return Tap(shape=shape, channel_dim=channel_dim, kind=kind, **plain)  # type: ignore[arg-type] # a Literal from a str


IMAGE, SEQUENCE, VECTOR = tap((3, 2, 2), 0), tap((4, 3), 1, "linear"), tap((3,), None, "linear")


@pytest.mark.parametrize(
    ("layer", "how", "what", "n_features"),
    [
        (IMAGE, "mean", "mean", 3),
        (IMAGE, "flatten", "flatten", 12),
        (IMAGE, "cls", "mean", 3),
        (IMAGE, "last", "mean", 3),
        (IMAGE, "max", "max", 3),
        (SEQUENCE, "mean", "mean", 3),
        (SEQUENCE, "cls", "cls", 3),
        (SEQUENCE, "last", "last", 3),
        (VECTOR, "mean", "none", 3),
        (VECTOR, "flatten", "none", 3),
        (tap((3, 2, 2), 0, "input"), "mean", "flatten", 12),
        (tap((3, 2, 2), 0, "input"), "max", "max", 3),
    ],
)
def test_reduction_says_what_is_done(layer: Tap, how: str, what: str, n_features: int) -> None:
    assert what == reduction_of(layer, how)
    assert n_features == width(layer, how)
    value = torch.randn(5, *layer.shape)
    reduced = reduce(value, layer, how)
    assert (5, n_features) == tuple(reduced.shape)
    assert reduced.untyped_storage().data_ptr() != value.untyped_storage().data_ptr()


def test_reduced_values_are_those_of_a_loop() -> None:
    image, sequence = torch.randn(2, 3, 2, 2), torch.randn(2, 4, 3)
    for n in range(2):
        for c in range(3):
            pixels = [float(image[n, c, i, j]) for i in range(2) for j in range(2)]
            assert sum(pixels) / 4 == pytest.approx(float(reduce(image, IMAGE, "mean")[n, c]), abs=1e-6)
            assert max(pixels) == float(reduce(image, IMAGE, "max")[n, c])
            assert float(sequence[n, 0, c]) == float(reduce(sequence, SEQUENCE, "cls")[n, c])
            assert float(sequence[n, 3, c]) == float(reduce(sequence, SEQUENCE, "last")[n, c])
    assert torch.equal(reduce(image, IMAGE, "flatten"), image.reshape(2, 12))


@pytest.mark.parametrize("how", REDUCTIONS)
def test_one_number_per_sample_is_a_layer_of_one_feature(how: str) -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = super().forward(x) / x.norm(dim=1)[:, None]
            return logits

    traced = trace(Scaled(4, 3).eval(), batch := torch.randn(5, 4))
    (tap,) = select(traced.graph, ["type:norm"])
    assert ((), 1) == (tap.shape, width(tap, how))
    assert torch.equal(batch.norm(dim=1, keepdim=True), reduce(batch.norm(dim=1), tap, how))


@pytest.mark.parametrize("how", ["mean", "max", "last", "cls"])
def test_padding_is_left_out_where_there_is_a_mask(how: str) -> None:
    value = torch.randn(2, 4, 3)
    value[1, 2:] = torch.nan
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = torch.cat([reduce(value[:1], SEQUENCE, how), reduce(value[1:, :2], tap((2, 3), 1), how)])
    torch.testing.assert_close(reduce(value, SEQUENCE, how, mask), expected)


def test_mask_of_other_positions_is_not_used() -> None:
    value = torch.randn(2, 4, 3)
    assert torch.equal(reduce(value, SEQUENCE, "mean"), reduce(value, SEQUENCE, "mean", torch.zeros(2, 5)))


def test_unknown_reduction_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"--reduction median .*mean, flatten, cls, last, max"):
        reduction_of(IMAGE, "median")


class AssembledLogits(nn.Module):
    """Logits that no call returns: a tensor that is filled through views of it, after the last call that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 3)
        logits[:, :2].copy_(self.linear(x)[:, :2])
        return logits


def test_trace_refuses_logits_that_no_call_makes() -> None:
    with pytest.raises(TapError, match="assembled in place"):
        trace(AssembledLogits().eval(), torch.randn(4, 4))


class Rearranging(nn.Module):
    """A product whose new features stand where the equation says."""

    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = torch.einsum(self.equation, x, self.weight).tanh()
        logits: torch.Tensor = self.head(product.mean(dim=-1 if self.equation.endswith("p") else 1))
        return logits


@pytest.mark.parametrize(("equation", "shape", "channel"), [("ncp,kc->nkp", (5, 6), 0), ("ncp,kc->npk", (6, 5), 1)])
def test_features_of_an_einsum_are_where_the_equation_puts_them(
    equation: str, shape: tuple[int, int], channel: int
) -> None:
    torch.manual_seed(0)
    graph = trace(Rearranging(equation).eval(), torch.randn(4, 4, 6)).graph
    (product,) = [tap for tap in graph.taps if tap.name.endswith("einsum")]
    assert (shape, channel) == (product.shape, product.channel_dim)


def test_a_map_of_tokens_sorted_across_the_batch_is_no_map_of_the_graph() -> None:
    """As in attention by hashes: what it reads has no row per sample, so no layer holds it."""

    class Sorting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.a(x)
            tokens = h.reshape(-1, 4)
            order = tokens.argmax(-1).argsort(stable=True)
            back: torch.Tensor = tokens[order].relu()[order.argsort()]
            logits: torch.Tensor = self.c(self.b(back.reshape(h.shape)).relu())
            return logits

    graph = trace(Sorting().eval(), torch.randn(4, 4)).graph
    taps = {tap.name for tap in graph.taps}
    assert {name for linear in graph.maps for name in (linear.name, linear.reads)} <= taps
    assert graph.head == ("c",)
    assert "b" in taps
