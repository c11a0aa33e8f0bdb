"""Which tensor of what a model returns its logits are, and what is looked through to the map that writes them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional

from ncscan.activations.tracer import Trace, trace, watch
from ncscan.errors import TapError, UsageError

CLASSES, WIDTH = 4, 7
Ending = Callable[["Net", torch.Tensor, torch.Tensor], Any]


class Net(nn.Module):
    """A network whose output is made of its features h and its logits by a function of the test."""

    def __init__(self, ending: Ending, classes: int = CLASSES) -> None:
        super().__init__()
        self.ending = ending
        self.a, self.b = nn.Linear(5, WIDTH), nn.Linear(WIDTH, classes)
        self.act = nn.ReLU()
        self.log_scale = nn.Parameter(torch.tensor(0.5))
        self.below = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x: torch.Tensor) -> Any:
        h = self.act(self.a(x))
        return self.ending(self, h, self.b(h))


@dataclass
class Plain:
    h: torch.Tensor
    z: torch.Tensor


class Pair(NamedTuple):
    h: torch.Tensor
    out: torch.Tensor


def traced(
    ending: Ending, *, n_classes: int | None = CLASSES, classes: int = CLASSES, asked: str | None = None
) -> Trace:
    torch.manual_seed(0)
    return trace(Net(ending, classes).eval(), torch.randn(4, 5), n_classes=n_classes, logits=asked)


def found(own: Trace) -> tuple[str, tuple[str, ...]]:
    return own.graph.output.name, own.graph.head


CHOSEN: dict[str, Ending] = {
    "bare": lambda _m, _h, z: z,
    "features first": lambda _m, h, z: (h, z),
    "logits first": lambda _m, h, z: (z, h),
    "dict of both": lambda _m, h, z: {"features": h, "scores": z},
    "logits and their softmax": lambda _m, _h, z: {"probs": z.softmax(-1), "logits": z},
    "dataclass": lambda _m, h, z: Plain(h, z),
    "namedtuple": lambda _m, h, z: Pair(h, z),
    "an object": lambda _m, h, z: SimpleNamespace(h=h, logits=z),
    "nested": lambda _m, h, z: {"aux": [h, {"out": z}]},
    "with what is no candidate": lambda _m, h, z: (z.argmax(1), h.mean(), h[:, None], z, h.T),
    "an entropy of them": lambda _m, _h, z: (z, -(z.softmax(1) * z.log_softmax(1)).sum(1)),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_logits_are_found_among_what_a_model_returns(name: str) -> None:
    assert found(traced(CHOSEN[name])) == ("b", ("b",))


KEEPS_ORDER: dict[str, Ending] = {
    "softmax": lambda _m, _h, z: functional.softmax(z, dim=1),
    "module": lambda _m, _h, z: nn.LogSoftmax(dim=-1)(z),
    "log_softmax": lambda _m, _h, z: z.log_softmax(1),
    "sigmoid": lambda _m, _h, z: torch.sigmoid(z),
    "temperature": lambda _m, _h, z: z / 2.5,
    "learned scale": lambda m, _h, z: m.log_scale.exp() * z,
    "in place": lambda _m, _h, z: z.div_(3).add_(1),
    "log of a clamped softmax": lambda _m, _h, z: z.softmax(1).clamp(min=1e-8).log(),
    "softmax by hand": lambda _m, _h, z: (e := (z - z.amax(1, keepdim=True)).exp()) / e.sum(1, keepdim=True),
    "log softmax by hand": lambda _m, _h, z: z - z.logsumexp(1, keepdim=True),
    "by the norm of features": lambda _m, h, z: z / (h.norm(dim=1, keepdim=True) + 1e-6),
    "tanh, scaled": lambda _m, _h, z: 5 * torch.tanh(z / 5) - 1,
    "features, probabilities": lambda _m, h, z: (h, z.softmax(1)),
}


@pytest.mark.parametrize("name", KEEPS_ORDER)
def test_what_keeps_the_order_of_a_row_is_looked_through(name: str) -> None:
    own = traced(KEEPS_ORDER[name])
    assert found(own) == ("b", ("b",))
    assert own.passed


@pytest.mark.parametrize("name", KEEPS_ORDER)
def test_logits_are_those_before_it_and_decide_alike(name: str) -> None:
    torch.manual_seed(0)
    model, x = Net(KEEPS_ORDER[name]).eval(), torch.randn(30, 5)
    own = trace(model, x[:4], n_classes=CLASSES)
    with watch(model, own, (), lambda _i, _value: None) as forward:
        logits = forward(x)
    with torch.no_grad():
        assert torch.equal(logits, model.b(model.act(model.a(x))))
        output = model(x)
    assert torch.equal(logits.argmax(1), (output[1] if isinstance(output, tuple) else output).argmax(1))


BREAKS_ORDER: dict[str, Ending] = {
    "square": lambda _m, _h, z: z**2,
    "negative": lambda _m, _h, z: -z,
    "negative scale": lambda _m, _h, z: z * -2.0,
    "negative learned scale": lambda m, _h, z: z * m.below,
    "a factor of unknown sign": lambda _m, h, z: z * h.sum(1, keepdim=True).sub(1),
    "softmax over the batch": lambda _m, _h, z: (z * z).softmax(0),
    "a shift for each class": lambda _m, _h, z: z + torch.arange(4.0),
    "a reversed difference": lambda _m, _h, z: 1 - z,
    "a narrow clamp": lambda _m, _h, z: z.softmax(1).clamp(0.2, 0.3),
    "relu": lambda _m, _h, z: z.relu(),
}


@pytest.mark.parametrize("name", BREAKS_ORDER)
def test_what_may_change_the_order_is_not(name: str) -> None:
    own = traced(BREAKS_ORDER[name])
    assert own.graph.output.name != "b"
    assert own.graph.head == ()


def test_a_cosine_head_is_read_as_the_pass_used_it() -> None:
    own = traced(
        lambda m, h, _z: 16 * functional.linear(functional.normalize(h), functional.normalize(m.b.weight)),
    )
    assert found(own) == ("/linear", ("/linear",))
    assert own.graph.map("/linear").reads == "/normalize"
    torch.testing.assert_close(own.weights["/linear"][0].norm(dim=1), torch.ones(CLASSES))


# Several that may be


def test_several_that_may_be_the_logits_are_an_error_that_lists_them() -> None:
    with pytest.raises(
        TapError, match=r"2 tensors that may be its logits: 0 \(layer b, 4 numbers a sample, written by lin"
    ):
        traced(lambda m, h, z: (z, m.b(h + 1)))


def test_width_decides_only_where_it_is_known() -> None:
    def ending(m: Net, h: torch.Tensor, z: torch.Tensor) -> object:
        return z, functional.linear(h, m.b.weight[:3])

    with pytest.raises(TapError, match="may be its logits"):
        traced(ending, n_classes=None)
    assert ["b", "/linear"] == [found(traced(ending, n_classes=n))[0] for n in (4, 3)]


@pytest.mark.parametrize(("asked", "tap"), [("0", "b"), ("1", "b:1"), ("b", "b"), ("a", "a"), ("b:1", "b:1")])
def test_logits_that_are_asked_for_are_taken(asked: str, tap: str) -> None:
    own = traced(lambda m, h, z: (z, m.b(h + 1)), asked=asked)
    assert found(own) == (tap, (tap,))


def test_logits_of_a_name_that_there_is_not_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"--logits nothing: the model returns 0, 1, and no layer has that name"):
        traced(lambda _m, h, z: (h, z), asked="nothing")


def test_logits_that_are_no_rows_are_an_error_that_names_the_option() -> None:
    with pytest.raises(TapError, match=r"--logits 0 is float32 of shape \(4, 1, 7\)"):
        traced(lambda _m, h, z: (h[:, None], z), asked="0")


def test_a_field_called_logits_that_is_a_sequence_is_not_passed_over() -> None:
    with pytest.raises(TapError, match=r"float32 of shape \(4, 1, 4\), not one row of logits"):
        traced(lambda _m, h, z: {"logits": z[:, None], "pooled": h})


# One logit


ONE: dict[str, Ending] = {
    "(n, 1)": lambda _m, _h, z: z,
    "(n,)": lambda _m, _h, z: z.squeeze(-1),
    "sigmoid": lambda _m, _h, z: z.sigmoid(),
    "sigmoid, squeezed": lambda _m, _h, z: z.sigmoid()[:, 0],
    "clamped sigmoid": lambda _m, _h, z: z.sigmoid().clamp(1e-6, 1 - 1e-6),
    "tanh": lambda _m, _h, z: torch.tanh(z / 3),
    "features, (n, 1)": lambda _m, h, z: (h, z),
    "a vector of weights": lambda m, h, _z: h @ m.b.weight[0],
}


@pytest.mark.parametrize("name", ONE)
def test_one_logit_decides_between_two_classes_by_its_sign(name: str) -> None:
    torch.manual_seed(0)
    model, x = Net(ONE[name], 1).eval(), torch.randn(50, 5)
    own = trace(model, x[:4], n_classes=2)
    assert own.graph.has_one_logit
    assert own.graph.n_outputs == 2
    (last,) = own.graph.head
    with watch(model, own, (), lambda _i, _value: None) as forward:
        logits = forward(x)
    with torch.no_grad():
        z = torch.nn.functional.linear(model.act(model.a(x)), *own.weights[last])[:, 0]
    torch.testing.assert_close(logits, torch.stack([-z / 2, z / 2], dim=1))
    assert 0 < int(logits.argmax(1).sum()) < 50
    assert torch.equal(logits.argmax(1), (z > 0).long())


def test_a_shift_of_one_logit_moves_its_threshold_and_is_not_looked_through() -> None:
    own = traced(lambda _m, _h, z: z + 1.0, classes=1, n_classes=2)
    assert own.graph.head == ()
