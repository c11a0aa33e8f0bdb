"""What becomes of the classes over the depth of a network, from tables made by hand and from traced networks."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from test_trajectory_steps import NO_WEIGHTS, metrics_of
from torch import nn

from ncscan.activations.tracer import trace
from ncscan.trajectory.evaluate import stages, trajectory_rows

STAGES = ("input", "a", "b", "c", "logits")


def over_depth(metric: str, values: Sequence[float], error: float = 0.0) -> pd.DataFrame:
    """The findings of one checkpoint, from one metric over STAGES."""
    numbers: Mapping[tuple[str, str, str], Sequence[float]] = {
        ("logits", "error", ""): (error,),
        **{(stage, metric, ""): (value,) for stage, value in zip(STAGES, values, strict=True)},
    }
    table = trajectory_rows(metrics_of(numbers, (7,)), NO_WEIGHTS, {}, {"a": STAGES})
    return table[table["checkpoint"] == "7.pt"]


def finding(table: pd.DataFrame, name: str, quantity: str = "stage") -> tuple[float | str, str]:
    """Value or reason, and layer."""
    own = table[(table["finding"] == name) & (table["quantity"] == quantity)]
    ((value, reason, layer),) = zip(own["value"], own["reason"], own["layer"], strict=True)
    return reason or value, layer


def test_separation_law_finds_a_known_rho_and_leaves_the_outputs_out() -> None:
    table = over_depth("separation", [8 * 0.5**stage for stage in range(4)] + [1e-9])
    assert math.isclose(math.log(0.5), float(finding(table, "separation_law", "log_rho")[0]), rel_tol=1e-12)
    assert math.isclose(1, float(finding(table, "separation_law", "r2")[0]), rel_tol=1e-12)
    assert 4 == finding(table, "separation_law", "points")[0]
    assert [7] == list(dict.fromkeys(table["step"]))


def test_separation_law_keeps_the_number_of_a_stage_when_another_has_no_value() -> None:
    table = over_depth("separation", [8, 4, np.nan, 1, np.nan])
    assert math.isclose(math.log(0.5), float(finding(table, "separation_law", "log_rho")[0]), rel_tol=1e-12)


def test_separation_law_is_undefined_with_two_points() -> None:
    table = over_depth("separation", [8, 4, np.nan, np.nan, 1])
    assert "2 points with a value" in str(finding(table, "separation_law", "log_rho")[0])


def test_monotone_collapse_names_the_largest_rise() -> None:
    table = over_depth("nc1_pinv", [8, 4, 6, 2, 2.5])
    assert (2.0, "") == finding(table, "monotone_collapse", "violations")
    assert (1.5, "b") == finding(table, "monotone_collapse", "largest")


def test_monotone_collapse_takes_rounding_for_no_rise() -> None:
    table = over_depth("nc1_pinv", [8, 4, 4 * (1 + 1e-8), 2, 2])
    assert (0.0, "") == finding(table, "monotone_collapse", "violations")


def test_monotone_collapse_has_no_ratio_when_it_rises_from_zero() -> None:
    table = over_depth("nc1_pinv", [8, 4, 0, 0, 1])
    assert (1.0, "") == finding(table, "monotone_collapse", "violations")
    assert ("it rises from 0", "logits") == finding(table, "monotone_collapse", "largest")


def test_monotone_collapse_is_no_violation_where_all_is_zero() -> None:
    table = over_depth("nc1_pinv", [8, 4, 0, 0, 0])
    assert (0.0, "") == finding(table, "monotone_collapse", "violations")
    assert 1.0 == finding(table, "monotone_collapse", "largest")[0]


def test_effective_depth_is_the_first_stage_as_good_as_the_network() -> None:
    assert (2.0, "b") == finding(over_depth("ncc_error", [0.5, 0.4, 0.11, 0.2, 0.1], 0.1), "effective_depth")
    assert "no stage" in str(finding(over_depth("ncc_error", [0.5, 0.4, 0.3, 0.2, 0.2], 0.1), "effective_depth")[0])


def test_tunnel_starts_where_nothing_changes_any_more() -> None:
    assert (1.0, "a") == finding(over_depth("ncc_error", [0.5, 0.01, 0.005, 0, 0]), "tunnel_start")
    assert (2.0, "b") == finding(over_depth("numerical_rank", [40, 20, 10, 9, 3]), "tunnel_start")


def test_tunnel_is_undefined_when_it_changes_up_to_the_last_stage() -> None:
    assert "no tunnel" in str(finding(over_depth("ncc_error", [0.5, 0.1, 0.05, 0, 0]), "tunnel_start")[0])


def test_first_collapsed_is_the_first_stage_that_stays_collapsed() -> None:
    assert (3.0, "c") == finding(over_depth("nc1_pinv", [8, 0.05, 0.2, 0.09, 0.01]), "first_collapsed")
    assert "not under 0.1" in str(finding(over_depth("nc1_pinv", [8, 0.05, 0.2, 0.09, 0.3]), "first_collapsed")[0])


def test_depth_has_no_findings_when_the_stages_are_not_known() -> None:
    table = trajectory_rows(metrics_of({("fc", "nc1_pinv", ""): (1.0,)}, (7,)), NO_WEIGHTS, {}, {})
    assert (table["checkpoint"] == "").all()


class Residual(nn.Module):
    """Two blocks beside a skip, the second of which changes the width."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(4, 8), nn.Linear(6, 3)
        self.one, self.two = nn.Linear(8, 5), nn.Linear(5, 8)
        self.three, self.four, self.down = nn.Linear(8, 5), nn.Linear(5, 6), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.stem(x))
        h = torch.relu(h + self.two(torch.relu(self.one(h))))
        h = torch.relu(self.down(h) + self.four(torch.relu(self.three(h))))
        return torch.as_tensor(self.out(h))


@pytest.mark.parametrize("kind", ["chain", "residual"])
def test_stages_are_what_maps_read_but_not_what_a_skip_passes_by(kind: str) -> None:
    chain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
    graph = trace((chain if kind == "chain" else Residual()).eval(), torch.ones(3, 4)).graph
    found = stages(graph)
    assert graph.output.name == found[-1]
    if kind == "chain":
        assert ("input", "1", "2", "3") == found
    else:
        # The input, the two sums after their ReLU, the outputs.
        assert 4 == len(found)
        assert ["input", "activation", "activation", "linear"] == [graph.tap(name).kind for name in found]
        assert graph.map("out").reads == found[2]
