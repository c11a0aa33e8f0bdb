"""What [train] says in the units of the theory."""

import math

import numpy as np
import pytest

from ncscan.errors import Undefined
from ncscan.training_settings import Train, balance_rate, effective_steps, optimizer_kind, ridge

SGD: Train = {"loss": "mse", "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


def test_ridge_counts_the_classes_and_the_scale_of_the_loss() -> None:
    # c·MSELoss + (wd/2)Σ‖W‖² = (2c/K)·[(1/2N)Σ‖y − f‖² + (K·wd/4c)Σ‖W‖²], so λ/2 = K·wd/4c.
    assert math.isclose(10 * 1e-3 / (2 * 5), ridge({**SGD, "loss_scale": 5.0}, n_classes=10))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"weight_decay": None}, "notes no weight_decay"),
        ({"weight_decay": 0.0}, "without weight decay"),
        ({"loss": "cross_entropy"}, "the loss is cross_entropy"),
        ({"loss": None}, "notes no loss"),
        ({"optimizer": "AdamW"}, "decoupled weight decay"),
        ({"optimizer": None}, "notes no optimizer"),
        ({"optimizer": "shampoo"}, "nothing is known of the optimizer 'shampoo'"),
        ({"loss_scale": 0.0}, "loss_scale is not above 0"),
        ({"weight_decay": "much"}, "weight_decay is no number: 'much'"),
    ],
)
def test_ridge_says_why_there_is_none(said: Train, why: str) -> None:
    with pytest.raises(Undefined, match=why):
        ridge({**SGD, **said}, n_classes=10)


def test_ridge_is_there_for_adam_whose_decay_is_a_term_of_the_loss() -> None:
    assert ridge({**SGD, "optimizer": "Adam"}, 10) == ridge(SGD, 10)
    assert "adaptive" == optimizer_kind({"optimizer": "Adam"})


def test_balance_rate_of_momentum_and_dampening() -> None:
    assert math.isclose(2 * 0.1 * 1e-3 * (1 - 0.5) / (1 - 0.9), balance_rate({**SGD, "dampening": 0.5}))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"optimizer": "adamw"}, "decoupled weight decay"),
        ({"optimizer": "adam"}, "no rate is known"),
        ({"lr": None}, "notes no lr"),
        ({"momentum": 1.0}, "not in"),
        ({"lr": 0.0}, "not above 0"),
    ],
)
def test_balance_rate_says_why_there_is_none(said: Train, why: str) -> None:
    with pytest.raises(Undefined, match=why):
        balance_rate({**SGD, **said})


def test_effective_steps_of_a_cosine_are_the_sum_of_its_rates() -> None:
    T = 37
    rates = [(1 + math.cos(math.pi * t / T)) / 2 for t in range(T)]
    expected = [sum(rates[:s]) for s in range(T + 1)]
    np.testing.assert_allclose(
        expected, effective_steps(np.arange(T + 1), {"schedule": "cosine", "steps": T}), atol=1e-12
    )


def test_effective_steps_are_the_steps_when_no_schedule_is_noted() -> None:
    assert [0.0, 7.0] == effective_steps(np.array([0, 7]), {}).tolist()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"schedule": "cosine"}, "notes no steps"),
        ({"schedule": "cosine", "steps": 5}, "says nothing of step 9"),
        ({"schedule": "step"}, "no rule for the schedule 'step'; there are constant, cosine"),
    ],
)
def test_effective_steps_say_why_there_are_none(said: Train, why: str) -> None:
    with pytest.raises(Undefined, match=why):
        effective_steps(np.array([0, 9]), said)
