"""What weight decay implies: a checkpoint whose every number is known, identities, and a net that is really trained."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from theory_heads import KINDS, random_head, stats_of
from torch import nn

from ncscan.activations.tracer import trace
from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.layer_graph import TapGraph
from ncscan.metrics.head_readers import Weights
from ncscan.theory.claims import Claim, at_least, at_most, equality
from ncscan.theory.linear_head import HeadStats, head_stats
from ncscan.theory.statements import ALWAYS_TRUE
from ncscan.theory.weight_decay import DECAY_CLAIMS, _balance_at_rest, _floor, decay_claims
from ncscan.training_settings import Train

EXACT = 1e-9
"""What the known answer is asked for; float64 gives it to 1e-13."""

K, L, LAMBDA = 10, 5, 1e-3
T = 0.9979796820534
"""The largest root of λK = (1 − t^L)t^{L−2}, as theory.md has it."""

TRAIN: Train = {"loss": "mse", "optimizer": "sgd", "lr": 0.1, "weight_decay": 2 * LAMBDA / K}


def seen(
    net: nn.Sequential, x: torch.Tensor, y: torch.Tensor, n_classes: int
) -> tuple[HeadStats | Undefined, Weights, TapGraph]:
    """What a report has of a network: the moments of its head, its weights, its graph."""
    graph = trace(net.eval(), x[:3]).graph
    state = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    weights = {m.name: (state[m.weight], state[m.bias] if m.bias else None) for m in graph.maps}
    reads = graph.map(graph.head[0]).reads
    h = x
    with torch.no_grad():
        for name, module in net.named_children():
            if name == graph.head[0]:
                break
            h = module(h)
    names = [reads, *graph.head]
    features = h.numpy()
    chunks = [(0, features[:7]), (7, features[7:])]
    return (
        head_stats(lambda: chunks, y.numpy(), n_classes, [weights[m] for m in graph.head], names),
        weights,
        graph,
    )


def mlp(
    widths: Sequence[int], head: int = 1, *, bias: bool = False, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear maps in float64 with an activation after each, but for those of the head."""
    modules: list[nn.Module] = []
    for depth, (a, b) in enumerate(pairwise(widths)):
        modules.append(nn.Linear(a, b, bias=bias, dtype=torch.float64))
        if depth < len(widths) - 1 - head:
            modules.append(activation())
    return nn.Sequential(*modules)


def claims_of(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor, train: Train = TRAIN) -> dict[str, Claim]:
    """Claims by `claim.quantity.layer`, without the dots that end it."""
    stats, weights, graph = seen(net, x, y, int(y.max()) + 1)
    claims = decay_claims(stats, weights, graph, train)
    named = {f"{c.claim}.{c.quantity}.{c.layer}".rstrip(".").replace("..", "."): c for c in claims}
    assert len(named) == len(claims)
    assert all((c.value is None) == bool(c.reason) for c in claims)
    return named


def known_net() -> nn.Sequential:
    net = mlp([K] * (L + 1))
    for p in net.parameters():
        p.data = T * torch.eye(K, dtype=torch.float64)
    return net


@pytest.fixture(scope="module")
def known() -> dict[str, Claim]:
    """Inputs e_c, three of each class; all W_k = tI."""
    y = torch.arange(3 * K) % K
    return claims_of(known_net(), torch.eye(K, dtype=torch.float64)[y], y)


def value(claim: Claim) -> float:
    assert claim.value is not None, claim.reason
    return claim.value


def target(claim: Claim) -> float:
    assert claim.target is not None
    return claim.target


def test_known_answer_has_the_lambda_of_its_loss(known: dict[str, Claim]) -> None:
    assert math.isclose(LAMBDA, value(known["weight_decay.lambda"]), rel_tol=EXACT)
    assert math.isclose(LAMBDA * K, (1 - T**L) * T ** (L - 2), rel_tol=1e-10)  # t has 13 digits


@pytest.mark.parametrize("name", ["ridge_form.sigma_w", "ridge_form.features", "stationarity.8", "norm_spread"])
def test_known_answer_is_a_critical_point(known: dict[str, Claim], name: str) -> None:
    assert abs(value(known[name])) < EXACT


def test_known_answer_is_critical_along_every_layer(known: dict[str, Claim]) -> None:
    for layer in ("0", "2", "4", "6", "8"):
        radial, identity = known[f"radial.{layer}"], known[f"loss_identity.{layer}"]
        assert math.isclose(LAMBDA * K * T**2, value(radial), rel_tol=EXACT)
        assert math.isclose(value(radial), target(radial), rel_tol=EXACT)
        assert math.isclose(value(identity), target(identity), rel_tol=EXACT)
    loss = (1 - T**L) ** 2 / 2 + LAMBDA / 2 * L * K * T**2
    assert math.isclose(loss, value(known["loss_identity.0"]), rel_tol=EXACT)


EQUALITIES = ("ridge_form", "stationarity", "radial", "norm_spread", "loss_identity", "predicted_classifier")


def test_an_equality_has_a_target_and_a_deviation_and_no_slack(known: dict[str, Claim]) -> None:
    said = set()
    for claim in known.values():
        if claim.value is None:
            continue
        if claim.claim in EQUALITIES:
            said.add(claim.claim)
            assert (None, None, None) == (claim.bound, claim.slack, claim.holds)
            away = abs(value(claim) - target(claim))
            assert claim.deviation == pytest.approx(away / abs(target(claim)) if target(claim) else away)
        else:
            assert (None, None) == (claim.target, claim.deviation)
    assert set(EQUALITIES) == said


@pytest.mark.parametrize(
    ("value", "target", "deviation"), [(0.75, 1.0, 0.25), (-2.0, -1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, None)]
)
def test_a_deviation_is_relative_to_the_target(value: float, target: float, deviation: float | None) -> None:
    claim = equality("radial", value, target)
    assert (target, deviation, None, None) == (claim.target, claim.deviation, claim.slack, claim.holds)


def test_known_answer_interpolates_symmetrically(known: dict[str, Claim]) -> None:
    assert math.isclose(1 - T**L, value(known["interpolation.epsilon"]), rel_tol=EXACT)
    assert abs(value(known["interpolation.delta"])) < EXACT
    assert abs(value(known["interpolation.asymmetry"])) < EXACT
    assert all(value(known[f"prediction_applies.{share}"]) < EXACT for share in ("noise", "asymmetry"))


def test_known_answer_is_predicted_by_two_parameters_and_missed_by_the_papers(known: dict[str, Claim]) -> None:
    assert abs(value(known["predicted_classifier.two_parameter"])) < EXACT
    norm = known["predicted_classifier.two_parameter_norm"]
    assert math.isclose(T**2, value(norm), rel_tol=EXACT)
    assert math.isclose(value(norm), target(norm), rel_tol=EXACT)
    assert math.isclose(1 / math.sqrt(K - 1), value(known["predicted_classifier.paper"]), rel_tol=EXACT)


def test_known_answer_has_no_floor_because_its_outputs_do_not_sum_to_zero(known: dict[str, Claim]) -> None:
    assert math.isclose(T**L, value(known["zero_sum"]), rel_tol=EXACT)
    assert "not zero-sum" in known["floor.universal"].reason


def test_claims_are_those_of_the_table(known: dict[str, Claim]) -> None:
    listed = {(name, quantity) for name, quantities, _ in DECAY_CLAIMS for quantity in quantities}
    assert listed == {(claim.claim, claim.quantity) for claim in known.values()}


def test_claims_are_explained_on_their_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8").split("## Weight decay")[1]
    assert [] == [name for name, _, _ in DECAY_CLAIMS if f"`{name}`" not in page]


def random_data(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(n_classes), torch.randint(n_classes, (n - n_classes,), generator=generator)])
    return torch.randn(n, d, generator=generator, dtype=torch.float64), y


def naive_ridge(h: np.ndarray, y: np.ndarray, b: np.ndarray, lam: float) -> np.ndarray:
    """The W that minimises (1/2N)Σ‖y_i − b − W h_i‖² + (λ/2)‖W‖_F², as least squares with rows of its own for λ."""
    N, d = h.shape
    left = np.vstack([h / np.sqrt(N), np.sqrt(lam) * np.eye(d)])
    right = np.vstack([(np.eye(len(b))[y] - b) / np.sqrt(N), np.zeros((d, len(b)))])
    return np.asarray(np.linalg.lstsq(left, right)[0].T)


def critical(h: np.ndarray, y: np.ndarray, b: np.ndarray | None, lam: float) -> dict[str, Claim]:
    """Claims about a classifier that is critical on the features h."""
    n_classes = int(y.max()) + 1
    net = mlp([h.shape[1], n_classes], bias=b is not None)
    last = net.get_submodule("0")
    last.get_parameter("weight").data = torch.from_numpy(
        naive_ridge(h, y, np.zeros(n_classes) if b is None else b, lam)
    )
    if b is not None:
        last.get_parameter("bias").data = torch.from_numpy(b)
    train: Train = {"loss": "mse", "optimizer": "sgd", "weight_decay": 2 * lam / n_classes}
    return claims_of(net, torch.from_numpy(h), torch.from_numpy(y), train)


@pytest.mark.parametrize("bias", [False, True])
def test_equalities_hold_at_the_ridge_solution_of_any_features(bias: bool) -> None:
    rng = np.random.default_rng(0)
    h, y = rng.standard_normal((50, 7)), np.concatenate([np.arange(4), rng.integers(0, 3, 46)])
    claims = critical(h, y, rng.standard_normal(4) if bias else None, 0.03)
    for name in ("ridge_form.sigma_w", "ridge_form.features", "stationarity.0"):
        assert value(claims[name]) < EXACT
    for name in ("radial.0", "loss_identity.0"):
        assert math.isclose(value(claims[name]), target(claims[name]), rel_tol=EXACT)


@pytest.mark.parametrize("bias", [None, 0.07])
def test_two_parameters_predict_the_classifier_of_a_shifted_frame(bias: float | None) -> None:
    y = np.arange(5)
    claims = critical(np.eye(5) + 0.3, y, None if bias is None else np.full(5, bias), 0.001)
    assert value(claims["interpolation.delta"]) != 0
    assert value(claims["predicted_classifier.two_parameter"]) < EXACT
    norm = claims["predicted_classifier.two_parameter_norm"]
    assert math.isclose(value(norm), target(norm), rel_tol=EXACT)


def test_the_papers_classifier_is_that_of_a_bias_at_its_optimum() -> None:
    # With b = 1/K and centred features the outputs sum to 1 over the classes, and δ = ε/(K − 1).
    frame = np.eye(5) - 0.2
    claims = critical(frame, np.arange(5), np.full(5, 0.2), 0.001)
    assert math.isclose(value(claims["interpolation.delta"]), value(claims["interpolation.epsilon"]) / 4, rel_tol=EXACT)
    assert value(claims["predicted_classifier.paper"]) < EXACT
    norm = claims["predicted_classifier.paper_norm"]
    assert math.isclose(value(norm), target(norm), rel_tol=EXACT)


@pytest.mark.parametrize("bias", [False, True])
def test_stationarity_is_the_gradient_that_autograd_finds(bias: bool) -> None:
    torch.manual_seed(0)
    x, y = random_data(30, 6, 4)
    net = mlp([6, 9, 8, 7, 4], head=3, bias=bias)
    lam = 0.03
    claims = claims_of(net, x, y, {"loss": "mse", "loss_scale": 1.0, "optimizer": "sgd", "weight_decay": lam / 2})
    loss = ((nn.functional.one_hot(y, 4) - net(x)) ** 2).sum() / (2 * len(x))
    loss = loss + lam / 2 * sum((p**2).sum() for p in net.parameters() if p.dim() == 2)
    torch.autograd.backward(loss)
    for name in ("2", "3", "4"):
        W = net.get_submodule(name).get_parameter("weight")
        assert W.grad is not None
        expected = float(W.grad.norm() / (lam * W.detach().norm()))
        assert math.isclose(expected, value(claims[f"stationarity.{name}"]), rel_tol=1e-9)


def test_radial_is_the_gradient_along_the_map() -> None:
    torch.manual_seed(1)
    x, y = random_data(30, 6, 4)
    net = mlp([6, 9, 8, 4], bias=False)
    claims = claims_of(net, x, y, {"loss": "mse", "optimizer": "sgd", "weight_decay": 0.01})
    loss = ((nn.functional.one_hot(y, 4) - net(x)) ** 2).sum() / (2 * len(x))
    torch.autograd.backward(loss)
    for name in ("0", "2", "4"):
        W = net.get_submodule(name).get_parameter("weight")
        assert W.grad is not None
        assert math.isclose(-float((W.grad * W.detach()).sum()), target(claims[f"radial.{name}"]), rel_tol=1e-9)


def test_balance_at_rest_bounds_the_balance_everywhere() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        x, y = random_data(20, 5, 3, seed)
        claims = claims_of(mlp([5, 6, 5, 3], head=3), x, y, {**TRAIN, "weight_decay": 10.0 ** -(seed % 5)})
        bounds = [claim for claim in claims.values() if claim.claim == "balance_at_rest"]
        assert 2 == len(bounds)
        assert all(claim.holds for claim in bounds)


def test_bounds_of_every_checkpoint_count_as_certificates() -> None:
    assert {"balance_at_rest", "floor"} <= ALWAYS_TRUE
    broken = at_most("balance_at_rest", 2.0, 1.0, layer="a..b"), at_least("floor", 0.1, 0.2, quantity="universal")
    assert 2 == sum(claim.holds is False and claim.claim in ALWAYS_TRUE for claim in broken)


def test_bounds_of_every_checkpoint_hold_for_heads_of_every_kind() -> None:
    """Heads whose outputs sum to zero, so that `floor` has a value: W_L and its bias minus their mean over classes."""
    judged = Counter[tuple[str, bool | None]]()
    for kind, seed in product(KINDS, range(12)):
        head = random_head(kind, np.random.default_rng([seed, KINDS.index(kind)]))
        for lam in (1e-14, 1e-3, 1e6):
            found = attempt(partial(_balance_at_rest, head, lam))
            judged.update((claim.claim, claim.holds) for claim in (() if isinstance(found, Undefined) else found))
    rng = np.random.default_rng(0)
    for K, scale in product((2, 3, 10), (1e-6, 1e-3, 1.0, 1e3)):
        y = np.repeat(np.arange(K), rng.integers(2, 9, K))
        Z, W = rng.standard_normal((len(y), 7)), scale * rng.standard_normal((K, 7))
        b = rng.standard_normal(K)
        outputs_sum_to_zero = [(W - W.mean(axis=0), b - b.mean())]
        claims = _floor(stats_of(Z, y, outputs_sum_to_zero), {"loss": "mse"})
        judged.update((claim.claim, claim.holds) for claim in claims)
    assert set(judged) == {("balance_at_rest", True), ("balance_at_rest", None), ("floor", True)}
    assert judged["balance_at_rest", True] > 200
    assert judged["floor", True] == 24


def test_an_equality_without_a_deviation_says_why() -> None:
    at_zero, beyond = equality("radial", 0.5, 0.0), equality("radial", 1e300, 1e-300)
    assert (at_zero.deviation, at_zero.reason) == (None, "no deviation: it is relative, and the target is 0")
    assert (beyond.deviation, beyond.reason) == (None, "no deviation: it exceeds the range of float64")
    both = equality("radial", 0.0, 0.0)
    assert (both.deviation, both.reason) == (0.0, "")
    missed = equality("nc1_split", 0.5, 0.0, always=True)
    assert missed.holds is False


def test_floor_holds_for_zero_sum_outputs_and_is_met_by_a_simplex() -> None:
    y = torch.arange(4)
    net = mlp([4, 4])
    alpha = 0.7
    simplex = alpha * (4 * torch.eye(4, dtype=torch.float64) - 1) / 3
    net.get_submodule("0").get_parameter("weight").data = simplex
    claims = claims_of(net, torch.eye(4, dtype=torch.float64), y)
    cost = ((1 - alpha) ** 2 + alpha**2 / 3) / 2
    assert math.isclose(cost, value(claims["floor.at_scale"]), rel_tol=EXACT)
    assert math.isclose(cost, claims["floor.at_scale"].bound or 0.0, rel_tol=EXACT)
    assert math.isclose(1 / 8, claims["floor.universal"].bound or 0.0, rel_tol=EXACT)
    assert claims["floor.at_scale"].holds
    assert claims["floor.universal"].holds


@pytest.mark.parametrize(
    ("said", "claim", "why"),
    [
        ({"weight_decay": None}, "weight_decay.lambda", "notes no weight_decay"),
        ({"loss": "cross_entropy"}, "ridge_form.sigma_w", "the loss is cross_entropy"),
        ({"loss": "cross_entropy"}, "interpolation.epsilon", "the loss is cross_entropy"),
        ({"optimizer": "adamw"}, "radial", "decoupled weight decay"),
        ({"optimizer": "adamw"}, "norm_spread", "decoupled weight decay"),
        ({"weight_decay": 0.0}, "norm_spread", "without weight decay"),
    ],
)
def test_claims_say_which_setting_is_in_the_way(said: Train, claim: str, why: str) -> None:
    y = torch.arange(K)
    assert why in claims_of(known_net(), torch.eye(K, dtype=torch.float64), y, {**TRAIN, **said})[claim].reason


def test_norm_spread_needs_no_square_loss() -> None:
    y = torch.arange(K)
    train = {**TRAIN, "loss": "cross_entropy"}
    assert value(claims_of(known_net(), torch.eye(K, dtype=torch.float64), y, train)["norm_spread"]) < EXACT


class Twice(nn.Module):
    """One map used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.out(torch.relu(self.map(torch.relu(self.map(x))))))


@pytest.mark.parametrize(
    ("between", "why"),
    [
        ((nn.Tanh(),), "not a ReLU: Tanh"),
        ((nn.BatchNorm1d(5, dtype=torch.float64), nn.ReLU()), "normalisation after 0"),
        ((nn.Linear(5, 5, dtype=torch.float64), nn.ReLU()), "1 has a bias"),
    ],
)
def test_radial_says_what_keeps_the_outputs_from_scaling(between: tuple[nn.Module, ...], why: str) -> None:
    x, y = random_data(20, 4, 3)
    first, last = nn.Linear(4, 5, bias=False, dtype=torch.float64), nn.Linear(5, 3, dtype=torch.float64)
    claims = claims_of(nn.Sequential(first, *between, last), x, y)
    assert why in claims["radial.0"].reason
    assert why in claims["loss_identity.0"].reason
    assert why in claims["norm_spread"].reason
    assert claims[f"radial.{len(between) + 1}"].value is not None  # the last map scales them, bias or not


def test_radial_has_a_reason_where_an_activation_is_no_layer_of_the_graph() -> None:
    x, y = random_data(20, 4, 3)
    stats, weights, graph = seen(mlp([4, 5, 3]), x, y, 3)
    taps = tuple(replace(tap, activated_by="gone") if tap.name == "0" else tap for tap in graph.taps)
    claims = decay_claims(stats, weights, replace(graph, taps=taps), TRAIN)
    (reason,) = {claim.reason for claim in claims if claim.claim == "radial" and claim.layer == "0"}
    assert reason == "0 is activated by gone, which is no layer of the graph"
    assert any(claim.value is not None for claim in claims if claim.claim == "radial" and claim.layer == "2")


def test_radial_is_said_of_convolutions_in_a_chain() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 2, 4, 4, dtype=torch.float64), torch.arange(20) % 3
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False, dtype=torch.float64),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(3, 3, bias=False, dtype=torch.float64),
    )
    claims = claims_of(net, x, y)
    loss = ((nn.functional.one_hot(y, 3) - net(x)) ** 2).sum() / (2 * len(x))
    torch.autograd.backward(loss)
    W = net.get_submodule("0").get_parameter("weight")
    assert W.grad is not None
    assert math.isclose(-float((W.grad * W.detach()).sum()), target(claims["radial.0"]), rel_tol=1e-9)


def test_claims_say_so_when_there_is_no_head() -> None:
    graph = trace(Twice().eval(), torch.ones(3, 4)).graph
    weights = {m.name: (np.ones(m.shape), None) for m in graph.maps}
    claims = decay_claims(Undefined("class 3 has no samples"), weights, graph, TRAIN)
    by_name = {claim.claim: claim for claim in claims}
    assert "class 3 has no samples" == by_name["ridge_form"].reason
    assert "class 3 has no samples" == by_name["floor"].reason
    assert "used more than once" in by_name["norm_spread"].reason


def test_prediction_is_undefined_where_something_it_leaves_out_is_large() -> None:
    torch.manual_seed(0)
    x, y = random_data(40, 6, 4)
    claims = claims_of(mlp([6, 9, 4]), x, y)
    assert "not balanced" in claims["predicted_classifier.paper"].reason
    y = torch.arange(40) % 4
    claims = claims_of(mlp([6, 9, 4]), x, y)
    assert "noise is not negligible" in claims["predicted_classifier.two_parameter"].reason


def train(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor, lam: float, lr: float, steps: int) -> None:
    """Full-batch gradient descent on the objective itself, momentum 0.9, the learning rate down at the end."""
    targets = nn.functional.one_hot(y).to(x.dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=lam)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 0.001 + 4 * (1 - step / steps))
        optimizer.zero_grad()
        torch.autograd.backward(((targets - net(x)) ** 2).sum() / (2 * len(x)))
        optimizer.step()


def test_trained_net_comes_to_rest_where_two_parameters_predict_its_classifier() -> None:
    n_classes, lam = 4, 1e-2
    y = torch.arange(32) % n_classes
    noise = torch.randn(32, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = nn.functional.one_hot(y, 12) + 0.02 * noise
    torch.manual_seed(0)
    net = mlp([12, 32, 32, n_classes])
    for weight in net.parameters():
        nn.init.kaiming_normal_(weight)  # with torch's own a class is lost on the way
    train(net, x, y, lam, 0.2, 3000)
    claims = claims_of(net, x, y, {"loss": "mse", "optimizer": "sgd", "weight_decay": 2 * lam / n_classes})
    assert value(claims["norm_spread"]) < 1e-5
    for layer in ("0", "2", "4"):
        radial, identity = claims[f"radial.{layer}"], claims[f"loss_identity.{layer}"]
        assert math.isclose(value(radial), target(radial), rel_tol=0.01)
        assert math.isclose(value(identity), target(identity), rel_tol=1e-3)
    for rest in ("ridge_form.sigma_w", "ridge_form.features", "stationarity.4"):
        assert value(claims[rest]) < 0.01
    # Σ_W is left out of the prediction, and it is about as much off as that is large.
    assert value(claims["prediction_applies.noise"]) < 0.02
    assert value(claims["predicted_classifier.two_parameter"]) < 0.02
    assert value(claims["predicted_classifier.paper"]) > 0.5
