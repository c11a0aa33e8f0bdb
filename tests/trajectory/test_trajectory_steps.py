"""What became of a run over its steps, from tables made of known laws, and from a net that is really trained."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ncscan.errors import Undefined
from ncscan.metrics.weights.balancedness import balance, balance_diagonal
from ncscan.tables.columns import METRIC_COLUMNS, WEIGHT_COLUMNS
from ncscan.tables.frames import conform
from ncscan.training_settings import Train
from ncscan.trajectory.evaluate import FINDINGS, group_frame, trajectory_rows
from ncscan.trajectory.series import log_linear

EXACT = 1e-12
"""Sums of a few logarithms in float64."""

STEPS = (0, 10, 20, 40, 80)
SGD: Train = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "schedule": "constant"}


def metrics_of(
    values: Mapping[tuple[str, str, str], Sequence[float]],
    steps: Sequence[int] = STEPS,
    run: str = "a",
    group: str = "",
    split: str = "train",
    unit: str = "iteration",
) -> pd.DataFrame:
    """The table of metrics.csv of one run, from the values of each (layer, metric, quantity) over the steps."""
    empty = {name: None for name, _ in METRIC_COLUMNS}
    records = [
        empty
        | {"run": run, "group": group, "checkpoint": f"{step}.pt", "step": step, "step_unit": unit, "split": split}
        | {"layer": layer, "depth": depth, "kind": "linear", "metric": metric, "quantity": quantity, "value": value}
        | {"reason": "no value here" if np.isnan(value) else ""}
        for depth, ((layer, metric, quantity), each) in enumerate(values.items())
        for step, value in zip(steps, each, strict=True)
    ]
    return conform(pd.DataFrame(records, columns=list(empty)), METRIC_COLUMNS)


def weights_of(
    values: Mapping[tuple[str, str, str], Sequence[float]], steps: Sequence[int] = STEPS, run: str = "a"
) -> pd.DataFrame:
    """The table of weights.csv of the pair of maps `8` and `9`."""
    empty = {name: None for name, _ in WEIGHT_COLUMNS}
    records = [
        empty
        | {"run": run, "group": "", "checkpoint": f"{step}.pt", "step": step, "step_unit": "iteration"}
        | {"map": first, "next_map": str(int(first) + 1), "metric": metric, "quantity": quantity}
        | {"value": value, "reason": "no value here" if np.isnan(value) else ""}
        for (first, metric, quantity), each in values.items()
        for step, value in zip(steps, each, strict=True)
    ]
    return conform(pd.DataFrame(records, columns=list(empty)), WEIGHT_COLUMNS)


NO_WEIGHTS = weights_of({})
ERRORS = {("out", "error", ""): (0.5, 0.1, 0.0, 0.0, 0.0)}


def findings(table: pd.DataFrame, finding: str, metric: str, layer: str = "out") -> dict[str, float | str]:
    """Quantity → value, or the reason where there is none."""
    own = table[(table["finding"] == finding) & (table["metric"] == metric) & (table["layer"] == layer)]
    return {
        quantity: reason or value
        for quantity, value, reason in zip(own["quantity"], own["value"], own["reason"], strict=True)
    }


def rows_of(
    values: Mapping[tuple[str, str, str], Sequence[float]], unit: str = "iteration", split: str = "train"
) -> pd.DataFrame:
    return trajectory_rows(metrics_of(values, unit=unit, split=split), NO_WEIGHTS, {}, {})


def balance_rows(train: Train, rate: float, *, relative: float = 1.0, steps: Sequence[int] = STEPS) -> pd.DataFrame:
    values = tuple(3 * math.exp(-rate * step) for step in steps)
    weights = weights_of(
        {("8", "balancedness", "op"): values, ("8", "balancedness", "op_relative"): [relative * v for v in values]},
        steps,
    )
    return trajectory_rows(metrics_of({("out", "error", ""): [0.5] * len(steps)}, steps), weights, {"a": train}, {})


def test_trajectory_rows_have_the_columns_of_the_contract_and_names_of_the_list() -> None:
    table = balance_rows(SGD, 0.01)
    columns = "run group checkpoint step step_unit layer finding metric quantity value reason"
    assert columns.split() == list(table.columns)
    assert set(table["finding"]) <= {finding.name for finding in FINDINGS}
    assert (table["value"].isna() == (table["reason"] != "")).all()


def test_terminal_phase_begins_at_the_first_checkpoint_without_error() -> None:
    assert {"onset": 20.0, "relapses": 0.0} == findings(rows_of(ERRORS), "terminal_phase", "error")


def test_terminal_phase_counts_relapses() -> None:
    table = rows_of({("out", "error", ""): (0.5, 0.0, 0.1, 0.0, 0.2)})
    assert {"onset": 10.0, "relapses": 2.0} == findings(table, "terminal_phase", "error")


def test_terminal_phase_says_how_near_it_came_when_there_is_none() -> None:
    table = rows_of({("out", "error", ""): (0.5, 0.1, 0.02, 0.03, 0.04)})
    assert "the training error never is 0: at least 0.02, at step 20" == table["reason"].iloc[0]


def test_terminal_phase_is_about_the_training_set() -> None:
    assert "the error is that of the test split" in rows_of(ERRORS, split="test")["reason"].iloc[0]


def test_at_onset_and_at_end_are_the_values_there() -> None:
    table = rows_of(ERRORS | {("fc", "nc1_pinv", ""): (5, 4, 3, 2, np.nan)})
    assert {"": 3.0} == findings(table, "at_onset", "nc1_pinv", "fc")
    assert {"": "no value here"} == findings(table, "at_end", "nc1_pinv", "fc")


def test_first_under_is_the_first_step_under_a_threshold_or_how_near_it_came() -> None:
    table = rows_of({("fc", "nc1_pinv", ""): (5, np.nan, 0.1, 0.05, 0.2)})
    assert {"< 0.1": 40.0, "< 0.01": "never: at least 0.05"} == findings(table, "first_under", "nc1_pinv", "fc")


def test_decay_finds_a_known_rate_in_the_terminal_phase_only() -> None:
    values = (9, 9, *(math.exp(-0.03 * step) for step in STEPS[2:]))
    found = findings(rows_of(ERRORS | {("fc", "nc1_pinv", ""): values}), "decay", "nc1_pinv", "fc")
    assert math.isclose(0.03, float(found["rate"]), rel_tol=EXACT)
    assert math.isclose(math.log(2) / 0.03, float(found["half_life"]), rel_tol=EXACT)
    assert math.isclose(1, float(found["r2"]), rel_tol=EXACT)
    assert 3 == found["points"]


@pytest.mark.parametrize(
    ("values", "unit", "why"),
    [
        ((9, 9, 1, np.nan, 0.1), "iteration", "2 points with a value, a fit needs 3"),
        ((9, 9, 1, 0.1, 0.0), "iteration", "1 of 3 values are not above 0"),
        ((9, 9, 1, 0.1, 0.01), "order", "nothing tells the steps"),
    ],
)
def test_decay_says_why_there_is_none(values: Sequence[float], unit: str, why: str) -> None:
    found = findings(rows_of(ERRORS | {("fc", "nc1_pinv", ""): values}, unit), "decay", "nc1_pinv", "fc")
    assert all(why in str(said) for said in found.values())


def test_decay_has_no_half_life_when_the_value_grows() -> None:
    found = findings(rows_of(ERRORS | {("fc", "cdnv", ""): (1, 1, 1, 2, 8)}), "decay", "cdnv", "fc")
    assert float(found["rate"]) < 0
    assert "it does not decay" == found["half_life"]


def test_log_linear_has_no_r2_when_nothing_changes() -> None:
    fit = log_linear(np.arange(5.0), np.full(5, 0.3))
    assert isinstance(fit.r2, Undefined)
    assert abs(fit.slope) < EXACT


def test_balance_decay_compares_the_fit_with_the_prediction() -> None:
    found = findings(balance_rows(SGD, 0.0019), "balance_decay", "balancedness", "8..9")
    assert math.isclose(0.0019, float(found["rate"]), rel_tol=1e-9)
    assert math.isclose(0.002, float(found["predicted"]), rel_tol=EXACT)
    assert math.isclose(0.95, float(found["ratio"]), rel_tol=1e-9)


def test_balance_decay_counts_steps_by_their_learning_rate_when_it_is_scheduled() -> None:
    rates = [(1 + math.cos(math.pi * t / 80)) / 2 for t in range(81)]
    values = [math.exp(-0.002 * sum(rates[:step])) for step in STEPS]
    weights = weights_of({("8", "balancedness", quantity): values for quantity in ("op", "op_relative")})
    train = {**SGD, "schedule": "cosine", "steps": 80}
    table = trajectory_rows(metrics_of(ERRORS), weights, {"a": train}, {})
    found = findings(table, "balance_decay", "balancedness", "8..9")
    assert math.isclose(1, float(found["ratio"]), rel_tol=1e-9)


def test_balance_decay_ends_where_float32_does() -> None:
    found = findings(balance_rows(SGD, 0.2), "balance_decay", "balancedness", "8..9")
    assert 4 == found["points"]  # 3·exp(−0.2·80) is under 1e-5


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"optimizer": "adamw"}, "decoupled weight decay"),
        ({"optimizer": "adam"}, "no rate is known"),
        ({"schedule": "step"}, "no rule for the schedule"),
        ({"weight_decay": None}, "notes no weight_decay"),
    ],
)
def test_balance_decay_keeps_its_fit_when_no_rate_is_predicted(said: Train, why: str) -> None:
    found = findings(balance_rows({**SGD, **said}, 0.002), "balance_decay", "balancedness", "8..9")
    assert math.isclose(0.002, float(found["rate"]), rel_tol=1e-9)
    assert why in str(found["predicted"])
    assert why in str(found["ratio"])


def test_balance_decay_predicts_no_change_without_weight_decay() -> None:
    found = findings(balance_rows({**SGD, "weight_decay": 0.0}, 1e-9), "balance_decay", "balancedness", "8..9")
    assert 0.0 == found["predicted"]
    assert "trained without weight decay" in str(found["ratio"])


def test_balance_decay_predicts_nothing_for_a_form_that_leaves_out_the_bias() -> None:
    values = [math.exp(-0.002 * step) for step in STEPS]
    forms = [("8", metric, quantity) for metric in ("balancedness", "balancedness_bias") for quantity in RELATIVE]
    table = trajectory_rows(metrics_of(ERRORS), weights_of(dict.fromkeys(forms, values)), {"a": SGD}, {})
    assert "has a bias" in str(findings(table, "balance_decay", "balancedness", "8..9")["ratio"])
    assert isinstance(findings(table, "balance_decay", "balancedness_bias", "8..9")["ratio"], float)


RELATIVE = ("op", "op_relative")
"""The quantities of balancedness that a fit needs."""


def trained(bias: bool, steps: Sequence[int]) -> pd.DataFrame:
    """The balances of a 6-16-16-16-4 net, ReLU after the first map, over a real training with SGD."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=generator, dtype=torch.float64)
    y = nn.functional.one_hot(torch.arange(64) % 4, 4).double()
    maps = [nn.Linear(a, b, bias=bias and b > 4, dtype=torch.float64) for a, b in pairwise((6, 16, 16, 16, 4))]
    for one in maps:
        nn.init.normal_(one.weight, std=one.in_features**-0.5, generator=generator)
    net = nn.Sequential(maps[0], nn.ReLU(), *maps[1:])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=2e-3)
    values: dict[tuple[str, str, str], list[float]] = {}
    for step in range(steps[-1] + 1):
        if step in steps:
            arrays = [one.weight.detach().numpy() for one in maps]
            biases = [None if one.bias is None else one.bias.detach().numpy() for one in maps]
            across = balance_diagonal(arrays[0], arrays[1], biases[0])
            between = balance(arrays[1], arrays[2], biases[1])
            for quantity in RELATIVE:
                form = "balancedness_bias" if bias else "balancedness"
                for key, found in ((("0", "balancedness_diagonal"), across), (("1", form), between)):
                    value = found[quantity]
                    assert isinstance(value, float)
                    values.setdefault((*key, quantity), []).append(value)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(net(x), y))
        optimizer.step()
    return weights_of(values, steps)


@pytest.mark.parametrize("bias", [False, True])
def test_balance_decays_at_the_predicted_rate_in_a_trained_net(bias: bool) -> None:
    steps = (0, 100, 300, 600, 1000, 1500, 2000)
    errors = metrics_of({("out", "error", ""): [0.5] * len(steps)}, steps)
    train: Train = {"optimizer": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 2e-3}
    table = trajectory_rows(errors, trained(bias, steps), {"a": train}, {})
    form = "balancedness_bias" if bias else "balancedness"
    for metric, layer in ((form, "1..2"), ("balancedness_diagonal", "0..1")):
        found = findings(table, "balance_decay", metric, layer)
        assert 0.95 <= float(found["ratio"]) <= 1.05
        assert float(found["r2"]) > 0.999


def test_group_frame_is_mean_and_std_over_seeds() -> None:
    seeds = [
        metrics_of({("fc", "nc1_pinv", ""): values}, (0, 1, 2), run, "g")
        for run, values in (("a", (1, 2, 3)), ("b", (3, 6, np.nan)), ("c", (5, 10, np.nan)))
    ]
    alone = metrics_of({("fc", "nc1_pinv", ""): (7,)}, (0,), "d", "")
    table = group_frame(pd.concat([*seeds, alone]))
    assert [("g", 0), ("g", 1), ("g", 2)] == list(zip(table["group"], table["step"], strict=True))
    assert [3, 3, 1] == table["runs"].tolist()
    assert [3.0, 6.0, 3.0] == table["mean"].tolist()
    assert [2.0, 4.0] == table["std"].tolist()[:2]
    assert np.isnan(table["std"].iloc[2])
