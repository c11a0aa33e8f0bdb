"""Weights in their places: every prefix people meet, every misfit refused, and the mlp that is rebuilt from shapes."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from ncscan.checkpoints import Checkpoint, load
from ncscan.errors import ModelError, UsageError
from ncscan.models import loaded_model
from ncscan.models.sources.mlp import ACTIVATIONS, chain

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=5):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 3)
        self.register_buffer("mask", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

class Lit(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

def half(): return Net().half()
def script(): return torch.jit.script(nn.Linear(2, 2))
def lazy(): return nn.LazyLinear(3)
def number(): return 3
def broken(): raise RuntimeError("no\\nweights")
def leaves(): raise SystemExit(3)
def needs(argument): return Net()
def compiled():
    net = Net()
    net.head = nn.Sequential()
    net.head.add_module("_orig_mod", nn.Linear(5, 3))
    return net
def meta():
    with torch.device("meta"):
        return Net()
def keeps(value):
    net = Net()
    net.register_buffer("kept", value, persistent=False)
    return net
def stores_float8(): return keeps(torch.zeros(2).to(torch.float8_e4m3fn))
def stores_quantised(): return keeps(torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8))
def stores_sparse_nan(): return keeps(torch.full((2, 2), torch.nan).to_sparse())
def stores_sparse(): return keeps(torch.eye(2).to_sparse())
def stores_uint16(): return keeps(torch.arange(3).to(torch.uint16))
def counts():
    net = Net()
    net.register_buffer("count", torch.zeros(2, dtype=torch.int64))
    return net
value = 3
"""

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "usernets.py").write_text(SOURCE)
    return folder


@pytest.fixture
def state(base: Path) -> State:
    torch.manual_seed(1)
    conv, norm, head = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 3)
    parts = {"conv": conv, "norm": norm, "head": head}
    tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    tensors["norm.running_mean"] = torch.rand(5)
    return tensors


Build = Callable[..., loaded_model.LoadedModel]


@pytest.fixture
def build(base: Path, tmp_path: Path) -> Build:
    def built(source: str, tensors: Mapping[str, torch.Tensor], **settings: object) -> loaded_model.LoadedModel:
        return loaded_model.build(source, checkpoint(tmp_path, tensors), base=base, **settings)  # type: ignore[arg-type] # as named by the test

    return built


def checkpoint(folder: Path, tensors: Mapping[str, torch.Tensor]) -> Checkpoint:
    torch.save({"state_dict": dict(tensors)}, folder / "x.pt")
    return load(folder / "x.pt")


def prefixed(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.net.backbone."],
)
def test_every_tensor_is_in_its_place_when_names_have_a_prefix(prefix: str, state: State, build: Build) -> None:
    loaded = build("usernets:Net", prefixed(prefix, state))
    assert loaded.prefix_map == (((prefix, ""),) if prefix else ())
    assert (8, 8, ()) == (loaded.matched, loaded.total, loaded.unmatched) or loaded.matched == loaded.total == len(
        state
    )
    for name, tensor in loaded.module.state_dict().items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize(("theirs", "ours"), [("", "net."), ("module.", "net."), ("model.encoder.", "net.")])
def test_every_tensor_is_in_its_place_when_the_model_has_a_prefix(
    theirs: str, ours: str, state: State, build: Build
) -> None:
    loaded = build("usernets:Lit", prefixed(theirs, state))
    assert loaded.prefix_map == ((theirs, ours),)
    assert torch.equal(state["norm.running_mean"], loaded.module.state_dict()["net.norm.running_mean"])


def test_containers_inside_names_are_dropped_on_either_side(state: State, build: Build) -> None:
    inside = {name.replace("norm.", "norm.module."): tensor for name, tensor in state.items()}
    loaded = build("usernets:Net", prefixed("model.", inside))
    assert loaded.prefix_map == (("model.", ""), ("….module.", "…."))
    assert torch.equal(state["norm.running_mean"], loaded.module.state_dict()["norm.running_mean"])
    reverse = build("usernets:compiled", state)
    assert reverse.prefix_map == (("….", "…._orig_mod."),)
    assert torch.equal(state["head.weight"], reverse.module.state_dict()["head._orig_mod.weight"])


def test_the_model_is_for_looking_only(state: State, build: Build) -> None:
    loaded = build("usernets:Net", state)
    assert not any(module.training for module in loaded.module.modules())
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())


def without(name: str, tensors: State) -> State:
    return {other: tensor for other, tensor in tensors.items() if other != name}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: without("head.weight", s), r"fills 8 of the 9 .*; 1 do not fit: head.weight is missing"),
        (
            lambda s: s | {"head.weight": torch.zeros(9, 5)},
            "head.weight is 3×5 float32 in the model, 9×5 float32 in the checkpoint",
        ),
        (lambda s: s | {"head.weight": torch.zeros(3, 5).long()}, "3×5 int64 in the checkpoint"),
        (lambda s: {"a.b": torch.zeros(3)}, "no tensor fits usernets:Net: the checkpoint has a.b, the model conv"),
        (lambda s: s | {"conv.bias": torch.full((5,), torch.nan)}, "conv.bias of usernets:Net holds NaN or inf"),
        (lambda s: s | {"conv.bias": torch.full((5,), torch.inf)}, "conv.bias of usernets:Net holds NaN or inf"),
        (lambda s: s | {"norm.running_var": torch.full((5,), torch.nan)}, "norm.running_var .* holds NaN or inf"),
        (
            lambda s: prefixed("student.", s) | prefixed("teacher.", s),
            r"several states that fit usernets:Net \(student\., teacher\.\)",
        ),
    ],
)
def test_a_misfit_is_refused(change: Callable[[State], State], problem: str, state: State, build: Build) -> None:
    with pytest.raises(ModelError, match=problem):
        build("usernets:Net", change(state))


def test_tensors_without_a_place_in_the_model_are_no_obstacle_and_said(state: State, build: Build) -> None:
    """A loss, the state of a metric, the counter of an average of the weights, a projector."""
    left = {"criterion.weight": torch.ones(3), "n_averaged": torch.tensor(3), "projector.0.weight": torch.ones(4, 5)}
    loaded = build("usernets:Net", prefixed("module.", state) | left)
    assert (loaded.total, (), tuple(left)) == (loaded.matched, loaded.unmatched, loaded.unused)
    assert loaded.unused_share == 24 / (24 + sum(tensor.numel() for tensor in state.values()))


@pytest.mark.parametrize(
    ("prefix", "rename", "change"),
    [
        ("student.", [], lambda s: prefixed("student.", s) | prefixed("teacher.", s)),
        (None, [("classifier.", "head.")], lambda s: {n.replace("head.", "classifier."): t for n, t in s.items()}),
        ("a.", [("c.", "head.")], lambda s: {"a." + n.replace("head.", "c."): t for n, t in s.items()}),
    ],
)
def test_names_are_changed_as_the_user_says(
    prefix: str | None, rename: list[tuple[str, str]], change: Callable[[State], State], state: State, build: Build
) -> None:
    loaded = build("usernets:Net", change(state), prefix=prefix, rename=rename)
    assert loaded.total == loaded.matched
    assert torch.equal(state["head.weight"], loaded.module.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("prefix", "rename", "said"),
    [
        ("nat.", [], "no tensor's name begins with --prefix 'nat.'; names are "),
        (None, [("nat.", "")], "no tensor's name begins with 'nat.', the left of --rename; names are "),
        (None, [("conv.weight", "x"), ("conv.bias", "x")], "--rename gives two tensors the name 'x'"),
    ],
)
def test_a_change_of_names_that_changes_nothing_is_an_error(
    prefix: str | None, rename: list[tuple[str, str]], said: str, state: State, build: Build
) -> None:
    with pytest.raises(ModelError, match=said):
        build("usernets:Net", state, prefix=prefix, rename=rename)


def test_a_misfit_is_listed_when_partial_loading_is_allowed(state: State, build: Build) -> None:
    changed = without("conv.bias", state) | {"head.weight": torch.zeros(9, 5), "extra": torch.zeros(2)}
    loaded = build("usernets:Net", changed, allow_partial=True)
    assert (7, 9) == (loaded.matched, loaded.total)
    assert loaded.unmatched == (
        "head.weight is 3×5 float32 in the model, 9×5 float32 in the checkpoint",
        "conv.bias is missing in the checkpoint",
    )
    assert loaded.unused == ("extra",)
    torch.rand(1)  # other random numbers came between, and still what was not filled is the same
    again = build("usernets:Net", changed, allow_partial=True)
    assert torch.equal(loaded.module.state_dict()["conv.bias"], again.module.state_dict()["conv.bias"])


def test_the_state_that_fits_in_shape_is_taken_when_two_fit_in_name(state: State, build: Build) -> None:
    wider = {"a." + name: torch.zeros(2, *tensor.shape) for name, tensor in state.items()}
    loaded = build("usernets:Net", wider | prefixed("b.", state), allow_partial=True)
    assert loaded.prefix_map == (("b.", ""),)
    assert loaded.matched == loaded.total


def test_counters_of_batch_norm_may_be_absent_and_constants_present(state: State, build: Build) -> None:
    old = without("norm.num_batches_tracked", state) | {"mask": torch.ones(2)}
    loaded = build("usernets:Net", prefixed("module.", old))
    assert (8, 8) == (loaded.matched, loaded.total)
    with pytest.raises(ModelError, match="mask differs from what the model makes for itself"):
        build("usernets:Net", old | {"mask": torch.zeros(2)})


def test_tied_weights_may_be_stored_once_but_not_differ(build: Build) -> None:
    weight, bias = torch.rand(4, 4), torch.rand(4)
    once = {"a.weight": weight, "a.bias": bias, "b.bias": bias}
    loaded = build("usernets:Tied", once)
    assert loaded.matched == loaded.total == 4
    assert torch.equal(weight, loaded.module.state_dict()["b.weight"])
    assert build("usernets:Tied", once | {"b.weight": weight}).matched == 4
    with pytest.raises(ModelError, match=r"a\.weight and b\.weight are one tensor in the model"):
        build("usernets:Tied", once | {"b.weight": weight + 1})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly_and_said(dtype: torch.dtype, state: State, build: Build) -> None:
    halved = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    loaded = build("usernets:Net", halved)
    assert (str(dtype).removeprefix("torch."), "float32") == (loaded.stored_dtype, loaded.compute_dtype)
    weight = loaded.module.state_dict()["head.weight"]
    assert torch.equal(halved["head.weight"], weight.to(dtype))
    assert loaded.module(torch.rand(2, 1, 8, 8)).dtype == torch.float32


def test_half_precision_stays_when_the_model_is_built_in_it(state: State, build: Build) -> None:
    loaded = build("usernets:half", {name: t.half() if t.is_floating_point() else t for name, t in state.items()})
    assert loaded.compute_dtype == loaded.stored_dtype == "float16"


def test_double_precision_stays(state: State, build: Build) -> None:
    loaded = build("usernets:Net", {name: t.double() if t.is_floating_point() else t for name, t in state.items()})
    assert loaded.compute_dtype == loaded.stored_dtype == "float64"


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu],
    ids=str,
)
@pytest.mark.parametrize("source", ["mlp", "usernets:Net"])
def test_float8_is_widened_exactly(source: str, dtype: torch.dtype, state: State, build: Build) -> None:
    """Every finite pattern of 8 bits is a float32."""
    state = {"head.weight": state["head.weight"]} if source == "mlp" else state
    patterns = torch.arange(256, dtype=torch.uint8).view(dtype)
    values = patterns[patterns.float().isfinite()][: state["head.weight"].numel()].reshape(state["head.weight"].shape)
    state["head.weight"] = values
    loaded = build(source, state, activation="relu", linear_head=1)
    weight = next(p for p in loaded.module.parameters() if p.shape == values.shape)
    assert torch.float32 == weight.dtype
    assert torch.equal(values.view(torch.uint8), weight.to(dtype).view(torch.uint8))
    assert str(dtype).removeprefix("torch.") in loaded.stored_dtype


QUANTISED: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "float8": (
        {"weight_scale": torch.ones(1)},
        "is float8_e4m3fn, quantised with a scale (weight_scale beside",
    ),
    "blocks": ({"weight_scale_inv": torch.ones(1, 1)}, "float8 with a scale for each block (weight_scale_inv beside"),
    "any-scale": ({"my_scale": torch.ones(1)}, "quantised with a scale (my_scale beside"),
    "int8": (
        {"weight": torch.ones(3, 5, dtype=torch.int8), "SCB": torch.ones(3)},
        "head.weight is int8, quantised to 8 bits by bitsandbytes (SCB",
    ),
    "nf4": (
        {
            "weight": torch.ones(8, 1, dtype=torch.uint8),
            "weight.absmax": torch.ones(1),
            "weight.quant_map": torch.ones(16),
        },
        "head.weight is uint8, quantised to 4 bits by bitsandbytes (weight.absmax",
    ),
    "gptq": (
        {
            "qweight": torch.ones(1, 3, dtype=torch.int32),
            "qzeros": torch.ones(1, 1, dtype=torch.int32),
            "scales": torch.ones(1, 3).half(),
            "g_idx": torch.zeros(5, dtype=torch.int32),
        },
        "quantised by GPTQ",
    ),
}


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("source", ["mlp", "usernets:Net"])
def test_weights_with_scales_are_refused_by_name(source: str, kind: str, state: State, build: Build) -> None:
    own, problem = QUANTISED[kind]
    state = {name: tensor for name, tensor in state.items() if not name.startswith("head.weight")}
    if kind != "gptq":
        state["head.weight"] = torch.ones(3, 5).to(torch.float8_e4m3fn)
    with pytest.raises(ModelError) as caught:
        build(
            source,
            {**state, **{f"head.{name}": tensor for name, tensor in own.items()}},
            activation="relu",
            linear_head=1,
        )
    assert problem in str(caught.value)
    assert "model.dequantize()" in str(caught.value)


def test_a_layer_with_scales_of_its_own_is_none_that_is_quantised(build: Build, state: State) -> None:
    """Integer buffers and floating scales are usual; the wrong shapes are what is refused here."""
    state["head.scales"], state["head.index"] = torch.ones(3), torch.arange(3)
    assert build("usernets:Net", state).unused == ("head.scales", "head.index")


@pytest.mark.parametrize("kind", ["float8", "quantised", "sparse_nan"])
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_a_model_keeps_for_itself_is_looked_at_too(kind: str, state: State, build: Build) -> None:
    with pytest.raises(ModelError, match=r"kept (of .* holds NaN|is 2 (float8_e4m3fn|qint8))"):
        build(f"usernets:stores_{kind}", state)


@pytest.mark.parametrize("kind", ["sparse", "uint16"])
def test_a_model_may_keep_sparse_and_unsigned_numbers(kind: str, state: State, build: Build) -> None:
    assert build(f"usernets:stores_{kind}", state).matched == build("usernets:Net", state).matched


def test_complex_numbers_do_not_take_the_place_of_whole_ones(state: State, build: Build) -> None:
    assert build("usernets:counts", state | {"count": torch.ones(2, dtype=torch.int32)}).unmatched == ()
    with pytest.raises(ModelError, match="count is 2 int64 in the model, 2 complex64 in the checkpoint"):
        build("usernets:counts", state | {"count": torch.ones(2, dtype=torch.complex64)})


def test_a_model_without_memory_is_filled(state: State, build: Build) -> None:
    with pytest.raises(ModelError, match="mask of usernets:meta is on the meta device"):
        build("usernets:meta", state)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("resnet18", "expected mlp or module:function"),
        ("usernets:", "expected mlp or module:function"),
        ("usernets:Net()", "not written as module:function"),
        ("../usernets:Net", "not written as module:function"),
        ("absent:Net", "absent:Net: there is no module absent"),
        ("usernets:absent", "usernets has no absent"),
        ("usernets:Net.absent", "usernets has no Net.absent"),
        ("usernets:value", "is a int, not a function"),
        ("usernets:number", "returned a int, not an nn.Module"),
        ("usernets:script", "TorchScript"),
        ("usernets:lazy", "no shape yet"),
        ("usernets:broken", "usernets:broken failed: RuntimeError: no weights"),
        ("usernets:leaves", "usernets:leaves failed: SystemExit: 3"),
        ("usernets:needs", "missing 1 required positional argument: 'argument'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_source_that_gives_no_model_is_one_line(source: str, problem: str, state: State, build: Build) -> None:
    path = sys.path[:]
    with pytest.raises((ModelError, UsageError), match=problem) as caught:
        build(source, state)
    assert "\n" not in str(caught.value)
    assert path == sys.path


def test_the_users_own_traceback_stays_reachable(state: State, build: Build) -> None:
    with pytest.raises(ModelError) as caught:
        build("usernets:broken", state)
    cause = caught.value.__cause__
    assert isinstance(cause, RuntimeError)
    frames = []
    trace = cause.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "broken"


def test_two_folders_with_one_module_name_give_their_own_models(tmp_path: Path) -> None:
    widths = []
    for width in (4, 6, 4):
        folder = tmp_path / str(width)
        folder.mkdir(exist_ok=True)
        (folder / "sizes.py").write_text(f"WIDTH = {width}")
        (folder / "samename.py").write_text(
            "from torch import nn\nfrom sizes import WIDTH\ndef net(): return nn.Linear(WIDTH, 2)"
        )
        state = nn.Linear(width, 2).state_dict()
        loaded = loaded_model.build("samename:net", checkpoint(folder, state), base=folder)
        widths.append(next(loaded.module.parameters()).shape[1])
    assert widths == [4, 6, 4]


# The mlp that is rebuilt from its tensors.


def mlp_state(layers: nn.Module, prefix: str = "") -> State:
    return {prefix + name: tensor for name, tensor in layers.state_dict().items()}


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "identity"])
@pytest.mark.parametrize("linear_head", [1, 2, 3])
def test_an_mlp_computes_what_the_network_did(activation: str, linear_head: int, build: Build) -> None:
    make = ACTIVATIONS[activation]
    assert make is not None
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for index, width in enumerate([6, 7, 5]):
        layers.append(nn.Linear(width, [7, 5, 3][index], bias=index != 1))
        layers += [make()] if index < 3 - linear_head else []
    network = nn.Sequential(*layers)
    loaded = build("mlp", network.state_dict(), activation=activation, linear_head=linear_head)
    inputs = torch.randn(4, 1, 2, 3)
    assert torch.equal(network(inputs), loaded.module(inputs))
    assert loaded.module.state_dict().keys() == network.state_dict().keys()
    assert (5, 5) == (loaded.matched, loaded.total)


def test_an_mlp_names_its_activations_after_the_layers_they_follow(build: Build) -> None:
    state = {
        "body.layers.0.weight": torch.rand(4, 3),
        "body.layers.1.weight": torch.rand(4, 4),
        "head.weight": torch.rand(2, 4),
    }
    loaded = build("mlp", prefixed("module.", state), activation="relu", linear_head=1)
    modules = [name for name, module in loaded.module.named_modules() if isinstance(module, nn.Linear | nn.ReLU)]
    assert modules == ["body.layers.0", "body.layers.0_relu", "body.layers.1", "body.layers.1_relu", "head"]
    assert loaded.prefix_map == (("module.", ""),)


@pytest.mark.parametrize(
    "names",
    [
        ("a1", "a1_relu", "a2"),
        ("a1", "a1_relu", "a1_relu_", "a1_relu__"),
        ("a1", "a1_relu.3", "a1_relu.4"),
        ("a.1", "a.1_relu", "a.1_relu_relu"),
        ("a.1", "a.1_relu.0", "a.1_relu.0_relu"),
        ("a1", "a1.2", "a1.2_relu"),
    ],
)
def test_an_mlp_computes_its_chain_whatever_its_layers_are_called(names: tuple[str, ...], build: Build) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(5, 5) for _ in names[1:]] + [torch.randn(3, 5)]
    state = {f"{name}.weight": W for name, W in zip(names, weights, strict=True)}
    loaded = build("mlp", state, activation="relu", linear_head=1)
    inputs = values = torch.randn(7, 5)
    for W in weights[:-1]:
        values = torch.relu(values @ W.T)
    torch.testing.assert_close(loaded.module(inputs), values @ weights[-1].T)
    assert loaded.module.state_dict().keys() == state.keys()


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "2.weight"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.uint16, torch.bool], ids=str)
def test_an_mlp_of_other_numbers_is_refused(dtype: torch.dtype, name: str, build: Build) -> None:
    state = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()
    state[name] = state[name].to(dtype)
    with pytest.raises(ModelError, match=f"{name} .*{str(dtype).removeprefix('torch.')}"):
        build("mlp", state, activation="relu", linear_head=1)


def test_an_mlp_without_activations_is_linear(build: Build) -> None:
    loaded = build(
        "mlp", nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict(), activation="identity", linear_head=1
    )
    assert [type(module) for module in loaded.module.children()] == [nn.Linear, nn.Linear]


def test_an_mlp_of_half_precision_is_widened(build: Build) -> None:
    state = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).bfloat16().state_dict()
    loaded = build("mlp", state, activation="relu", linear_head=1)
    assert ("bfloat16", "float32") == (loaded.stored_dtype, loaded.compute_dtype)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, r'write activation = "relu" .* linear_head = 1 .* under \[model\] in ncscan.toml'),
        ({"activation": "relu"}, "linear_head = 1"),
        ({"linear_head": 1}, 'activation = "relu"'),
        ({"activation": "relu6!", "linear_head": 1}, "known: relu, leaky_relu"),
        ({"activation": "relu", "linear_head": 0}, "linear_head = 0, but the mlp has 2 layers"),
        ({"activation": "relu", "linear_head": 3}, "linear_head = 3, but the mlp has 2 layers"),
    ],
)
def test_an_mlp_asks_for_what_tensors_do_not_tell(settings: dict[str, object], problem: str, build: Build) -> None:
    state = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict()
    with pytest.raises(ModelError, match=problem):
        build("mlp", state, **settings)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"conv.weight": (3, 1, 3, 3)}, r"conv.weight \(3×1×3×3\) is no weight or bias of a linear layer"),
        ({"0.weight": (4, 3), "1.running_mean": (4,)}, r"1.running_mean \(4\) is no weight"),
        ({"0.weight": (4, 3), "1.weight": (4,), "1.bias": (4,)}, r"1.weight \(4\) is no weight"),
        ({"0.weight": (4, 3), "0.bias": (5,)}, r"0.bias \(5\) is no weight or bias"),
        ({"0.weight": (4, 3), "1.bias": (4,)}, r"1.bias \(4\) is no weight or bias"),
        ({"0.weight": (4, 3), "1.weight": (2, 5)}, r"do not chain \(0.weight 4×3|do not chain \(0 4×3, 1 2×5\)"),
        ({"weight": (4, 3), "bias": (4,)}, r"weight \(4×3\) is no weight or bias"),
        ({"0.weight": (4, 3), "scale": ()}, r"scale \(a single number\)"),
        ({"b.weight": (4, 4), "a.weight": (4, 4)}, "chain in more than one order"),
        ({"decoder.weight": (4, 4), "encoder.weight": (4, 4)}, "chain in more than one order"),
        ({"a.b.weight": (4, 3), "a.weight": (2, 4)}, "'a' is the name of two modules"),
        ({f"{letter}.weight": (4, 4) for letter in "abcdefg"}, "do not share one numbering"),
        ({"type.weight": (4, 4)}, "type"),
        ({"0.weight": (0, 4), "2.weight": (3, 0)}, r"0.weight holds no numbers \(0×4\)"),
        ({"0.weight": (5, 0), "2.weight": (3, 5)}, r"0.weight holds no numbers \(5×0\)"),
    ],
)
def test_an_mlp_that_is_none_is_refused(shapes: dict[str, tuple[int, ...]], problem: str, build: Build) -> None:
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ModelError, match=problem):
        build("mlp", state, activation="relu", linear_head=1)


def test_a_chain_is_ordered_by_number_and_by_shape() -> None:
    widths = list(range(3, 15))
    state = {f"{i}.weight": torch.zeros(widths[i + 1], widths[i]) for i in range(11)}
    assert chain(dict(sorted(state.items()))) == tuple(str(i) for i in range(11))
    named = {
        "classifier.weight": torch.zeros(2, 6),
        "features.1.weight": torch.zeros(6, 5),
        "features.0.weight": torch.zeros(5, 4),
    }
    assert chain(named) == ("features.0", "features.1", "classifier")
