"""A replay must be a function of its sample: what depends on chance, on the pass before or on neighbours is refused."""

import copy
import random
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from dumping import CPU, D, K, network, samples
from test_taps import EACH
from torch import nn

from ncscan.activations.repeatability import Repeated, _among, _checked, _chosen, digits_of, require_repeatable
from ncscan.activations.tracer import trace
from ncscan.data.convert import Inputs
from ncscan.data.dataset import Dataset, from_arrays
from ncscan.errors import ModelError
from ncscan.layer_graph import select

Middle = Callable[[nn.Module, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Two linear layers with something of one's own between them."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.a = nn.Linear(D, 32)
        self.b = nn.Linear(32, K)
        self.register_buffer("seen", torch.zeros(32))
        self.middle = middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.b(self.middle(self, F.relu(self.a(x))))
        return logits


def checked(model: nn.Module) -> str:
    return looked_at(model, samples())


def looked_at(model: nn.Module, dataset: Dataset, *selectors: str) -> str:
    traced = trace(model, dataset.batch(0, 3))
    return require_repeatable(model, dataset, traced, select(traced.graph, selectors or ["all"]), CPU).doubt


def fixed_mask(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
    """Dropout whose seed is set anew in each pass: the mask depends on the place in the batch."""
    return h * (torch.rand(h.shape, generator=torch.Generator().manual_seed(0), dtype=h.dtype) > 0.3)


def running_mean(net: nn.Module, h: torch.Tensor) -> torch.Tensor:
    net.seen = 0.9 * net.seen + 0.1 * h.detach().mean(0)  # type: ignore[operator]
    return h - net.seen


def attended(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
    return torch.softmax(h @ h.T / 100, dim=1) @ h


RANDOM: dict[str, Middle] = {
    "dropout": lambda _, h: F.dropout(h, 0.3),
    "rare dropout": lambda _, h: F.dropout(h, 0.001),
    "noise": lambda _, h: h + 1e-6 * torch.randn_like(h),
    "stochastic depth": lambda _, h: h * (torch.rand(len(h), 1) > 0.05).to(h.dtype),
    "numpy": lambda _, h: h * float(np.random.default_rng().random()),
    "Python": lambda _, h: h * random.uniform(0.9, 1.1),  # noqa: S311 - no secret
}
OF_THE_BATCH: dict[str, Middle] = {
    "BatchNorm without running statistics": lambda _, h: F.batch_norm(h, None, None, training=True),
    "centring": lambda _, h: h - h.mean(0),
    "slight centring": lambda _, h: h - 1e-4 * h.mean(0),
    "attention over the batch": attended,
    "largest of the batch": lambda _, h: h / h.amax(),
    "place in the batch": lambda _, h: h * torch.linspace(1, 2, len(h), dtype=h.dtype)[:, None],
    "a draw with a fixed seed": fixed_mask,
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_pass_that_draws_is_refused_at_its_layer(name: str) -> None:
    with pytest.raises(ModelError, match=r"differ from pass to pass, first at layer (/\w+|b)") as error:
        checked(Net(RANDOM[name]).eval())
    assert ("draws random numbers" in str(error.value)) == (name != "numpy")  # a generator that nobody sees


@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_a_pass_that_sees_its_neighbours_is_refused_at_its_layer(name: str) -> None:
    with pytest.raises(ModelError, match=r"depend on the batch it is in, first at layer (/\w+|b)\b"):
        checked(Net(OF_THE_BATCH[name]).eval())


def test_a_pass_that_remembers_is_refused() -> None:
    with pytest.raises(ModelError, match="keeps something from one pass to the next"):
        checked(Net(running_mean).eval())


class Counting(nn.Module):
    """Is another network from its 20th pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return h * (1.0 if self.passes < 20 else 2.0)


class Drawing(nn.Module):
    """Drops all at a probability of 5 %, by a generator of its own."""

    def __init__(self, generator: torch.Generator | np.random.Generator | random.Random) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        own = self.generator
        drawn = torch.rand(1, generator=own).item() if isinstance(own, torch.Generator) else own.random()
        return h * float(drawn > 0.05)


@pytest.mark.parametrize(
    "module",
    [
        Counting(),
        # With these seeds the first drop is between the 25th and the 36th pass.
        Drawing(torch.Generator().manual_seed(15)),
        Drawing(np.random.default_rng(14)),
        Drawing(random.Random(0)),  # noqa: S311 - no secret
    ],
    ids=["counter", "torch", "numpy", "Python"],
)
def test_what_happens_once_in_many_passes_has_a_chance_to_show(module: nn.Module) -> None:
    net = Net(lambda net, h: net.get_submodule("own")(h))
    net.own = module
    with pytest.raises(
        ModelError, match=r"differ from pass to pass, first at layer own(: the model keeps|, because .* draws)"
    ):
        checked(net.eval())


def test_only_what_is_kept_must_be_a_function_of_its_sample() -> None:
    """As among experts, which see the tokens of a batch in an order of their own."""

    def middle(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        _aside = h[h.sum(1).argsort()].exp()
        return h

    net = Net(middle).eval()
    assert looked_at(net, samples(), "all") == ""
    with pytest.raises(ModelError, match="depend on the batch"):
        looked_at(net, samples(), "every")


def test_a_layer_beside_the_logits_can_be_left_out() -> None:
    def middle(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        order = h[:, 0].argsort()
        out = torch.zeros_like(h)
        out[order] = h[order].exp()
        return out

    net = Net(middle).eval()
    with pytest.raises(ModelError, match=r"the logits do not depend on it.*leave them out with --layers .*'!/exp'"):
        looked_at(net, samples(), "all", "/exp")
    assert looked_at(net, samples(), "all", "!/exp", "!/getitem*") == ""


COUNT = [0]
SOURCE = torch.Generator()


def counted(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
    COUNT[0] += 1
    return h


def enclosed() -> Middle:
    passes = 0

    def middle(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return h

    return middle


def appended(net: nn.Module, h: torch.Tensor) -> torch.Tensor:
    net.__dict__.setdefault("history", []).append(h.detach())
    return h


def written(net: nn.Module, h: torch.Tensor) -> torch.Tensor:
    net.seen.add_(1)  # type: ignore[operator]
    return h


@pytest.mark.parametrize(
    ("middle", "name"),
    [
        (counted, r"test_repeatable\.COUNT\.0"),
        (enclosed(), "passes"),
        (appended, r"history\.\d+, history.length"),
        (written, "seen"),
    ],
    ids=["global", "closure", "list", "buffer"],
)
def test_a_state_that_passes_change_is_a_doubt_by_name(middle: Middle, name: str) -> None:
    assert re.search(f"the forward pass changes {name}; 128 passes .* agreed", checked(Net(middle).eval()))


def test_what_a_pass_keeps_without_a_change_is_no_doubt() -> None:
    """The features of the last batch, a table made once, a generator that is seeded anew."""

    def middle(net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        net.__dict__["last"] = h
        table = net.__dict__.setdefault("table", torch.arange(32.0))
        SOURCE.manual_seed(0)
        moved: torch.Tensor = h * table.to(h) + torch.rand(32, generator=SOURCE)
        return moved

    assert checked(Net(middle).eval()) == ""


def test_a_generator_of_the_models_file_is_found() -> None:
    def middle(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        return h * float(torch.rand(1, generator=SOURCE).item() > 0.04)

    SOURCE.manual_seed(0)
    with pytest.raises(ModelError, match="first at layer /mul, because the forward pass draws random numbers"):
        checked(Net(middle).eval())


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_rounding_that_a_layer_amplifies_is_no_dependence_on_the_batch(scale: float) -> None:
    """Equal weights, whose LayerNorm is of rounding alone, in a model that insists on float32."""

    def middle(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        assert h.dtype == torch.float32
        # Batches of one and of an odd number round differently, as they may in any product.
        return F.layer_norm(h * (1 + 2**-23 * (len(h) % 2)) - h, (32,)) * torch.sin(
            1e9 * h * (1 + 2**-23 * (len(h) % 2))
        )

    net = Net(middle).eval()
    for parameter in net.parameters():
        parameter.data.fill_(0.1 * scale)
    assert "rounding alone moves samples at layer" in checked(net)


def test_a_draw_that_moves_nothing_is_a_doubt() -> None:
    """As in wav2vec 2, which draws whether to skip a layer also where it never does."""

    def middle(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        torch.rand([])
        return h

    assert "draws random numbers" in checked(Net(middle).eval())


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_honest_models_pass(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Inputs], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model, few = build().eval(), inputs()
    dtype = torch.float32 if name == "recurrent" else dtype  # torch has no bfloat16 LSTM on a CPU
    several = {n: torch.cat([v] * 9) for n, v in few.items()} if isinstance(few, dict) else torch.cat([few] * 9)
    y = np.arange(len(next(iter(several.values())) if isinstance(several, dict) else several)) % 2
    dataset = replace(from_arrays(several, y), floats=dtype)
    model = model.to(dtype)
    traced = trace(model, dataset.batch(0, 3))
    taps = traced.graph.taps
    assert require_repeatable(model, dataset, traced, taps, CPU) == Repeated()
    # The same without the float64 twin, where the tolerance is that of the type itself.
    assert _checked(copy.deepcopy(model), dataset, traced, taps, CPU, digits_of(model)) == Repeated()


def test_a_model_that_cannot_be_copied_or_widened_is_looked_at_as_it_is() -> None:
    class Stubborn(Net):
        def __deepcopy__(self, memo: object) -> "Stubborn":
            raise TypeError("no copies")

    assert checked(Stubborn(lambda _, h: h).eval()) == ""
    with pytest.raises(ModelError, match="depend on the batch"):
        checked(Stubborn(lambda _, h: h - h.mean(0)).eval())


def test_a_model_that_insists_on_its_type_or_its_batch_is_looked_at_as_it_is() -> None:
    """Its own code may raise anything in the float64 twin, or for a sample alone."""

    def insists(_net: nn.Module, h: torch.Tensor) -> torch.Tensor:
        assert h.dtype == torch.float32
        if len(h) < 2:
            raise LookupError("two samples or more")
        return h

    assert checked(Net(insists).eval()) == ""
    with pytest.raises(ModelError, match="depend on the batch"):
        checked(Net(lambda net, h: insists(net, h) - h.mean(0)).eval())


def test_the_model_stays_as_it_was_and_needs_no_single_samples() -> None:
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert checked(model) == ""
    assert all(
        torch.equal(value, before[name]) and value.dtype == before[name].dtype
        for name, value in model.state_dict().items()
    )
    assert checked(Net(lambda _, h: h if len(h) > 1 else h[:0]).eval()) == ""


@pytest.mark.parametrize("n", [3, 4, 7, 20])
def test_few_samples_are_enough_to_see_the_batch(n: int) -> None:
    torch.manual_seed(0)
    dataset = from_arrays(torch.randn(n, D), np.arange(n) % 2)
    model = Net(lambda _, h: h - h.mean(0)).eval()
    with pytest.raises(ModelError, match="depend on the batch"):
        looked_at(model, dataset)


def test_samples_are_spread_and_stand_elsewhere_in_the_other_batch() -> None:
    rows, others = _chosen(1000, 8)
    assert (0, 999, 8) == (rows[0], rows[-1], len(rows))
    assert not set(rows) & set(others)
    mixed, places = _among(rows, others)
    assert [mixed[place] for place in places] == rows[::-1].tolist()
    assert len(mixed) != len(rows)
    assert sorted(mixed) == sorted([*rows, *others])
