"""What takes gradients, against closed forms, explicit Jacobians and Hessians, and the real command line."""

import copy
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import networks
import numpy as np
import pytest
import torch
from dumping import CPU
from torch import nn

from ncscan.activations.source import Gradients
from ncscan.activations.tracer import trace
from ncscan.config import Setting
from ncscan.data.dataset import Dataset, from_arrays
from ncscan.errors import Undefined
from ncscan.metrics.gradients.differentiable import drawn, explained
from ncscan.metrics.gradients.evaluate import Objective, measure_gradients
from ncscan.metrics.gradients.feature_ansatz import MAX_PROBES, ansatz
from ncscan.metrics.gradients.sharpness import top_eigenvalue

TRAIN: Mapping[str, Setting] = {
    "loss": "mse",
    "loss_scale": 2.0,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.5,
    "weight_decay": 0.01,
}
FLOAT64 = 1e-8
"""Two ways to the same number in float64."""
LANCZOS = 1e-6
"""The square of the residual at which it stops, with a gap to spare."""
SINGLE = 1e-4
"""float32 products, and sums over a few thousand of them."""
FULL = 10**9


def close(expected: Any) -> Any:
    return pytest.approx(expected, rel=FLOAT64, abs=1e-12)


def data(*shape: int, n: int = 24, classes: int = 3, dtype: torch.dtype = torch.float64) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return from_arrays(x, torch.arange(n) % classes)


def chain(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(*modules).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.requires_grad_(requires_grad=False)


def deep_linear(*, bias: bool = False) -> nn.Sequential:
    return chain(nn.Linear(5, 6, bias=bias), nn.Linear(6, 4, bias=bias), nn.Linear(4, 3, bias=bias))


def measured(
    model: nn.Module,
    dataset: Dataset,
    train: Mapping[str, Setting] = TRAIN,
    *,
    n_samples: int = FULL,
    batch_size: int = 7,
    notes: Mapping[str, Setting] | None = None,
) -> Gradients:
    traced = trace(model, dataset.batch(0, 3))
    objective = Objective(train, notes or {})
    return measure_gradients(model, traced, dataset, objective, n_samples=n_samples, device=CPU, batch_size=batch_size)


def numbers(found: Gradients) -> dict[tuple[str, str, str], float]:
    return {(r.layer_or_map, r.metric, r.quantity): r.value for r in found.rows if r.value is not None}


def reasons(found: Gradients) -> dict[tuple[str, str, str], str]:
    return {(r.layer_or_map, r.metric, r.quantity): r.reason for r in found.rows if r.value is None}


def naive_cosines(A: np.ndarray, B: np.ndarray) -> tuple[float, float]:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    a, b = A.ravel(), B.ravel()
    return cosine(a, b), cosine(a - a.mean(), b - b.mean())


def naive_outer_products(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """At each dense module, sample by sample, output by output; hooks keep what it read."""
    seen: dict[str, torch.Tensor] = {}
    total: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def before(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            seen[name] = args[0]

        return before

    model = copy.deepcopy(model).requires_grad_()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(keep(name))
    for sample in x:
        logits = model(sample[None].clone().requires_grad_())[0]
        for output in logits:
            for name, value in seen.items():
                (gradient,) = torch.autograd.grad(output, value, retain_graph=True, allow_unused=True)
                if gradient is not None:
                    g = gradient.reshape(-1, gradient.shape[-1]).numpy()
                    total[name] = total.get(name, 0) + g.T @ g / len(x)
    return total


def test_ansatz_is_that_of_the_product_of_maps_when_the_net_is_linear() -> None:
    model, dataset = deep_linear(), data(5)
    W1, W2, W3 = (p.numpy() for p in model.parameters())
    found = numbers(measured(model, dataset))
    for name, W, product in (("0", W1, W3 @ W2 @ W1), ("1", W2, W3 @ W2)):
        expected = naive_cosines(W.T @ W, product.T @ product)
        actual = [found[name, "feature_ansatz", quantity] for quantity in ("uncentred", "centred")]
        assert close(expected) == actual


def test_ansatz_is_one_when_a_head_is_balanced_and_orthogonal() -> None:
    model = chain(nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False))
    W1, W2 = model.parameters()
    Q = torch.linalg.qr(W1.T).Q
    W2.copy_(torch.eye(3, 4))
    W1.copy_(Q.T)
    W1[3] = 0  # balance: W₂ᵀW₂ = W₁W₁ᵀ
    assert numbers(measured(model, data(4)))["0", "feature_ansatz", "uncentred"] == close(1)


@pytest.mark.parametrize(
    ("model", "shape", "compared"),
    [
        (networks.mlp, (12,), {"1", "4", "6.0"}),
        (networks.mlp, (3, 4), {"1", "4", "6.0"}),
        (networks.LeNet, (1, 8, 8), {"fc1"}),
        (networks.Mixer, (5, 4), {"tokens", "gate"}),
        (networks.Encoder, (5, 8), {"layer.linear1", "layer.linear2"}),
    ],
)
def test_ansatz_equals_that_of_explicit_jacobians(
    model: Callable[[], nn.Module], shape: tuple[int, ...], compared: set[str]
) -> None:
    torch.manual_seed(0)
    net, dataset = model().double().eval(), data(*shape, n=9)
    expected = naive_outer_products(net, torch.as_tensor(dataset.batch(0, 9)))
    found = numbers(measured(net, dataset, batch_size=4))
    weights = {name: module.weight for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    for name in compared:
        W = weights[name].detach().numpy()
        actual = [found[name, "feature_ansatz", quantity] for quantity in ("uncentred", "centred")]
        assert close(naive_cosines(W.T @ W, expected[name])) == actual, name


class Across(nn.Module):
    """Features before positions: (n, channels, positions)."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.W, self.out = (nn.Parameter(torch.randn(4, k)) for k in (3, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.after((self.before @ x).tanh()))

    def after(self, h: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor((self.W @ h).tanh().mean(2) @ self.out)


def test_ansatz_takes_the_axis_of_the_features_when_positions_come_after() -> None:
    torch.manual_seed(0)
    net, dataset = Across().double().eval(), data(3, 5)
    with torch.no_grad():
        h = (net.before @ torch.as_tensor(dataset.batch(0, 24))).tanh()
    J = torch.autograd.functional.jacobian(lambda h: net.after(h).sum(0), h)  # type: ignore[no-untyped-call]  # torch's
    W = net.W.detach().numpy()
    expected = naive_cosines(W.T @ W, np.einsum("kncp,kndp->cd", J, J))
    found = numbers(measured(net, dataset))
    actual = [found["/matmul:1", "feature_ansatz", quantity] for quantity in ("uncentred", "centred")]
    assert close(expected) == actual


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_objective_gradient_and_sharpness_equal_those_of_autograd_functional(loss: str) -> None:
    model = chain(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    dataset, train = data(4), {**TRAIN, "loss": loss}
    x, y = torch.as_tensor(dataset.batch(0, 24)), torch.from_numpy(dataset.labels)
    sizes = [p.numel() for p in model.parameters()]

    def objective(flat: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(dict(model.named_parameters()), torch.split(flat, sizes), strict=True))
        parts = {name: part.view_as(model.get_parameter(name)) for name, part in parts.items()}
        logits = torch.func.functional_call(model, parts, (x,))
        squares = 0.01 / 2 * (flat**2).sum()
        mean = nn.MSELoss()(logits, torch.eye(3).double()[y]) if loss == "mse" else nn.CrossEntropyLoss()(logits, y)
        return torch.as_tensor(2.0 * mean + squares)

    theta = nn.utils.parameters_to_vector(model.parameters())
    g = torch.autograd.functional.jacobian(objective, theta)  # type: ignore[no-untyped-call]  # torch's
    H = torch.autograd.functional.hessian(objective, theta)  # type: ignore[no-untyped-call]  # torch's
    found = numbers(measured(model, dataset, train))
    whole = {quantity: value for (place, _, quantity), value in found.items() if not place}
    assert close(float(objective(theta))) == found["", "objective", "loss"] + whole["decay"]
    assert close(float(g.norm())) == found["", "gradient_norm", "objective"]
    assert close(float(g.norm() / (0.01 * theta.norm()))) == whole["relative"]
    assert pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=LANCZOS) == found["", "sharpness", "objective"]
    of_first = float(g[: sizes[0] + sizes[1]].norm())
    assert close(of_first) == found["0", "gradient_norm", "objective"]


def test_sharpness_is_the_largest_eigenvalue_of_the_covariance_when_the_net_is_one_linear_map() -> None:
    model, dataset = chain(nn.Linear(6, 3, bias=False)), data(6)
    X = torch.as_tensor(dataset.batch(0, 24))
    expected = 2 * 2.0 / (24 * 3) * float(torch.linalg.eigvalsh(X.T @ X)[-1])
    found = numbers(measured(model, dataset))
    assert close(expected) == found["", "sharpness", "loss"]
    assert close(expected + 0.01) == found["", "sharpness", "objective"]
    assert found["", "sharpness", "bound"] == pytest.approx(20)
    assert found["", "sharpness", "bound_momentum"] == pytest.approx(30)
    assert found["", "sharpness", "ratio"] == pytest.approx((expected + 0.01) / 30)


def test_sharpness_is_found_by_lanczos_when_the_hessian_is_too_wide_to_be_written_out() -> None:
    model, dataset = chain(nn.Linear(40, 3, bias=False)), data(40)
    X = torch.as_tensor(dataset.batch(0, 24))
    expected = 4.0 / (24 * 3) * float(torch.linalg.eigvalsh(X.T @ X)[-1])
    assert pytest.approx(expected, rel=LANCZOS) == numbers(measured(model, dataset))["", "sharpness", "loss"]


@pytest.mark.parametrize("p", [4, 30])
def test_sharpness_is_the_top_and_not_the_largest_in_size(p: int) -> None:
    spectrum = np.linspace(-5, 3, p)
    assert pytest.approx(3, rel=LANCZOS) == top_eigenvalue(lambda v: spectrum * v, p)
    assert top_eigenvalue(lambda v: 0 * v, p) == 0


def test_gradient_is_zero_at_the_minimiser_of_ridge() -> None:
    model, dataset = chain(nn.Linear(6, 3, bias=False)), data(6)
    X, Y = torch.as_tensor(dataset.batch(0, 24)), torch.eye(3).double()[torch.from_numpy(dataset.labels)]
    c = 2 * 2.0 / (24 * 3)
    next(model.parameters()).copy_(torch.linalg.solve(c * X.T @ X + 0.01 * torch.eye(6).double(), c * X.T @ Y).T)
    found = numbers(measured(model, dataset))
    assert found["", "gradient_norm", "relative"] < 1e-12
    assert found["", "gradient_norm", "loss"] > 1e-4


@pytest.mark.parametrize("bias", [False, True])
def test_stationarity_is_weight_decay_times_imbalance_anywhere(bias: bool) -> None:
    model, dataset = deep_linear(bias=bias), data(5)
    found = numbers(measured(model, dataset, n_samples=5))
    layers = [module for module in model if isinstance(module, nn.Linear)]
    for first, following in pairwise(layers):
        pair = f"{layers.index(first)}..{layers.index(following)}"
        W, V = first.weight.numpy(), following.weight.numpy()
        D = V.T @ V - W @ W.T - (np.outer(first.bias, first.bias) if bias else 0)
        assert close(0.01 * np.linalg.norm(D)) == found[pair, "stationarity", "residual"]
        assert found[pair, "stationarity", "identity"] < 1e-12


def test_stationarity_is_known_when_a_weight_lies_the_other_way_round() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Parameter(0.5 * torch.eye(4))  # symmetric: only its gradient tells how it lies
            self.second = nn.Parameter(torch.randn(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.first @ self.second

    torch.manual_seed(0)
    found = numbers(measured(Turned().double().eval(), data(4)))
    assert [found[key] < 1e-12 for key in found if key[2] == "identity"] == [True]


def test_ansatz_of_a_flattened_map_is_undefined_when_its_order_is_another() -> None:
    class Permuted(nn.Module):
        def __init__(self, *order: int) -> None:
            super().__init__()
            self.order, self.fc, self.out = order, nn.Linear(12, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.out(self.fc(x.permute(0, *self.order).flatten(1))))

    torch.manual_seed(0)
    dataset = data(2, 6)
    assert ("fc", "feature_ansatz", "centred") in numbers(measured(Permuted(1, 2).double().eval(), dataset))
    turned = reasons(measured(Permuted(2, 1).double().eval(), dataset))
    assert "order" in turned["fc", "feature_ansatz", "centred"]


def test_ansatz_is_close_when_random_signs_stand_for_many_outputs() -> None:
    many = 3 * MAX_PROBES
    model = chain(nn.Linear(6, 8, bias=False), nn.Linear(8, many, bias=False))
    W, V = (p.numpy() for p in model.parameters())
    found = measured(model, data(6, n=200), batch_size=100)
    row = next(row for row in found.rows if row.quantity == "uncentred")
    assert row.estimate
    assert naive_cosines(W.T @ W, (V @ W).T @ (V @ W))[0] == pytest.approx(row.value, abs=0.005)
    assert not any(row.estimate for row in found.rows if row.metric == "gradient_norm")


@pytest.mark.parametrize(
    ("W", "G", "why"),
    [
        (np.zeros((2, 3)), np.eye(3), "the map is zero"),
        (np.ones((2, 3)), np.zeros((3, 3)), "do not depend"),
        (np.eye(3), np.ones((3, 3)), "alike"),
        (np.full((2, 3), np.nan), np.eye(3), "not finite"),
    ],
)
def test_ansatz_is_undefined_when_there_is_nothing_to_compare(W: np.ndarray, G: np.ndarray, why: str) -> None:
    with pytest.raises(Undefined, match=why):
        ansatz(W, G)


def test_ansatz_is_the_same_when_everything_is_very_small() -> None:
    rng = np.random.default_rng(0)
    W, A = rng.standard_normal((3, 5)), rng.standard_normal((5, 5))
    assert close(ansatz(W, A @ A.T)) == ansatz(1e-90 * W, 1e-200 * A @ A.T)


def test_numbers_do_not_depend_on_the_batch_size_or_on_chance() -> None:
    model, dataset = chain(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), data(12)
    once = measured(model, dataset, batch_size=24)
    assert once == measured(model, dataset, batch_size=24)
    torch.manual_seed(99)
    assert pytest.approx(numbers(once), rel=LANCZOS, abs=1e-12) == numbers(measured(model, dataset, batch_size=5))


def test_samples_are_drawn_from_each_class_in_its_share() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])[np.random.default_rng(0).permutation(1000)]
    rows = drawn(labels, 50)
    assert [30, 15, 5] == np.bincount(labels[rows]).tolist()
    assert np.all(np.diff(rows) > 0)
    assert np.array_equal(np.arange(1000), drawn(labels, 2000))


def test_rows_say_that_they_are_estimates_when_samples_are_a_part() -> None:
    model, dataset = deep_linear(), data(5)
    part, whole = measured(model, dataset, n_samples=6), measured(model, dataset, n_samples=24)
    assert {6} == {row.n_samples for row in part.rows}
    assert {"decay", "bound", "bound_momentum", "residual", "identity"} <= {
        row.quantity for row in part.rows if row.value is not None and not row.estimate
    }
    assert all(row.estimate for row in part.rows if row.metric == "gradient_norm" and row.value is not None)
    assert not any(row.estimate for row in whole.rows)


@pytest.mark.parametrize("model", [networks.mlp, networks.ResNet, networks.FunctionalMlp, networks.RewritesViews])
def test_model_is_left_as_it_was(model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = model().eval()
    shape = {networks.mlp: (12,), networks.FunctionalMlp: (6,), networks.RewritesViews: (1, 5, 5)}.get(model, (3, 8, 8))
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(i % 2 == 0)

    def state() -> list[object]:
        tensors = [*net.parameters(), *net.buffers()]
        facts = [(t.requires_grad, t.grad, t._version, t.data_ptr(), t.dtype) for t in tensors]
        hooks = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
        return [facts, hooks, [t.detach().clone().numpy().tolist() for t in tensors], torch.is_grad_enabled()]

    dataset = data(*shape, dtype=torch.float32)
    inputs = dataset.batch(0, 24)
    before = state()
    found = measured(net, dataset)
    assert before == state()
    assert torch.equal(torch.as_tensor(inputs), torch.as_tensor(dataset.batch(0, 24)))
    assert math.isfinite(numbers(found)["", "sharpness", "loss"])
    with torch.no_grad():
        assert numbers(found) == numbers(measured(net, dataset))


def test_dropout_is_off_and_half_precision_is_widened() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3)).eval().bfloat16()
    dataset = data(6, dtype=torch.bfloat16)
    wide = copy.deepcopy(net).float()
    widened = from_arrays(torch.as_tensor(dataset.batch(0, 24)).float(), dataset.labels)
    assert pytest.approx(numbers(measured(wide, widened)), rel=SINGLE) == numbers(measured(net, dataset))


def test_ansatz_is_there_when_the_input_is_token_numbers() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc, self.out = nn.Embedding(7, 4), nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.out(self.fc(self.table(x).mean(1)).relu()))

    torch.manual_seed(0)
    dataset = from_arrays(torch.randint(0, 7, (24, 6)), torch.arange(24) % 3)
    found = measured(Tokens().eval(), dataset)
    assert "embedding" in reasons(found)["table", "feature_ansatz", "centred"]
    assert numbers(found)["fc", "feature_ansatz", "uncentred"] > 0
    assert numbers(found)["table", "gradient_norm", "objective"] > 0


def test_ansatz_is_that_of_what_was_read_when_it_is_overwritten_later() -> None:
    class Doubles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(5, 4), nn.Linear(6, 3)
            # Of a weight that takes gradients torch would keep what it reads, and refuse.
            self.register_buffer("mid", torch.randn(6, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            z = nn.functional.linear(y, self.get_buffer("mid"))
            y.mul_(2)
            return torch.as_tensor(self.out(z))

    torch.manual_seed(0)
    net = Doubles().double().eval()
    W, V = net.get_buffer("mid").numpy(), net.out.weight.detach().numpy()
    found = numbers(measured(net, data(5)))
    actual = [found["/linear", "feature_ansatz", quantity] for quantity in ("uncentred", "centred")]
    assert close(naive_cosines(W.T @ W, (V @ W).T @ (V @ W))) == actual


class Detached(nn.Module):
    """A network whose way from the weights to the outputs cannot be differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.as_tensor(self.out(self.fc(x)))


class Overwrites(Detached):
    """An in-place operation on what a gradient needs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(self.fc(x))
        z = self.out(y)
        y.add_(1)
        return torch.as_tensor(z)


@pytest.mark.parametrize(
    ("model", "train", "where", "why"),
    [
        (Detached, TRAIN, ("", "gradient_norm", "objective"), "that can be differentiated"),
        (Detached, TRAIN, ("", "sharpness", "loss"), "that can be differentiated"),
        (Detached, TRAIN, ("fc", "feature_ansatz", "centred"), "that can be differentiated"),
        (Overwrites, TRAIN, ("", "sharpness", "loss"), "in-place"),
        (deep_linear, {**TRAIN, "loss": None}, ("", "sharpness", "loss"), "notes no loss"),
        (deep_linear, {**TRAIN, "loss": "hinge"}, ("", "objective", "loss"), "'hinge' is none of mse, cross_entropy"),
        (deep_linear, {**TRAIN, "loss_scale": "big"}, ("", "objective", "loss"), "no number"),
        (deep_linear, {**TRAIN, "weight_decay": None}, ("0..1", "stationarity", "residual"), "notes no weight_decay"),
        (deep_linear, {**TRAIN, "weight_decay": 0.0}, ("", "gradient_norm", "relative"), "no weight decay"),
        (deep_linear, {**TRAIN, "optimizer": "adamw"}, ("", "sharpness", "objective"), "decoupled"),
        (deep_linear, {**TRAIN, "optimizer": "adam"}, ("", "sharpness", "bound"), "the optimizer is adam"),
        (deep_linear, {**TRAIN, "lr": None}, ("", "sharpness", "bound"), "notes no lr"),
        (deep_linear, {**TRAIN, "lr": 0.0}, ("", "sharpness", "ratio"), "nothing moves"),
        (deep_linear, {**TRAIN, "schedule": "cosine"}, ("", "sharpness", "bound"), "schedule"),
        (deep_linear, {**TRAIN, "momentum": 1.0}, ("", "sharpness", "bound_momentum"), "not in [0, 1)"),
    ],
)
def test_row_says_why_when_there_is_no_number(
    model: Callable[[], nn.Module], train: Mapping[str, Setting], where: tuple[str, str, str], why: str
) -> None:
    torch.manual_seed(0)
    dataset = data(5)
    net = model().double().eval()
    train = {key: value for key, value in train.items() if value is not None}
    found = measured(net, dataset, train)
    assert why in reasons(found)[where]


@pytest.mark.parametrize(
    ("raised", "why"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("derivative for aten::odd is not implemented"), "no second derivative"),
        (TypeError("cannot copy\nat all"), "cannot copy$"),
        (KeyError(), "KeyError"),
    ],
)
def test_reason_is_plain_when_torch_raises(raised: Exception, why: str) -> None:
    with pytest.raises(Undefined, match=why), explained():
        raise raised


def test_row_is_undefined_when_numbers_are_not_finite() -> None:
    model = deep_linear()
    for parameter in model.parameters():
        parameter.mul_(1e120)
    found = measured(model, data(5))
    assert "not finite" in reasons(found)["", "objective", "loss"]
    assert "not finite" in reasons(found)["", "gradient_norm", "relative"]
    assert "not finite" in reasons(found)["", "sharpness", "loss"]
    assert all(row.value is None or math.isfinite(row.value) for row in found.rows)


def test_learning_rate_is_that_of_the_checkpoint_when_a_schedule_changed_it() -> None:
    train = {**TRAIN, "schedule": "cosine", "steps": 100}
    assert pytest.approx(0.1) == Objective(train, {}, step=0).learning_rate()
    assert pytest.approx(0.05) == Objective(train, {}, step=50).learning_rate()
    assert Objective(train, {"lr": 0.03}, step=50).learning_rate() == 0.03
    with pytest.raises(Undefined, match="step"):
        Objective(train, {}).learning_rate()
    with pytest.raises(Undefined, match="Nesterov"):
        Objective(TRAIN, {"nesterov": True}).momentum_bound()
    assert pytest.approx(60) == Objective({**TRAIN, "dampening": 0.5}, {}).momentum_bound()
