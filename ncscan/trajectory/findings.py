"""The closed list of what is found of a run, and the numbers that decide it.

In: nothing. Out: FINDINGS and the tables of thresholds, which docs/reports.md documents, and `Finding`, a row.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ncscan.errors import Undefined


class FindingDefinition(NamedTuple):
    """One row of the list of findings."""

    name: str
    quantities: tuple[str, ...]
    definition: str
    undefined: str
    """The conditions under which there is no value."""


FINDINGS: tuple[FindingDefinition, ...] = (
    FindingDefinition(
        "terminal_phase",
        ("onset", "relapses"),
        "`onset`: the step of the first checkpoint with training error 0; `relapses`: how many later ones have another",
        "the training error never is 0; it was not measured on the training set",
    ),
    FindingDefinition(
        "at_onset",
        ("of the metric",),
        "the value of each main metric at that first checkpoint",
        "there is no terminal phase; the metric has no value there",
    ),
    FindingDefinition(
        "at_end",
        ("of the metric",),
        "the value of each main metric at the last checkpoint of the run",
        "the metric has no value there",
    ),
    FindingDefinition(
        "first_under",
        ("`< threshold`",),
        "the step of the first checkpoint at which the metric is under the threshold; it may rise again",
        "it never is",
    ),
    FindingDefinition(
        "decay",
        ("rate", "half_life", "r2", "points"),
        "log value = a − rate·step by least squares over the terminal phase, from its onset to the last checkpoint; "
        "`half_life` is log 2/rate, in steps; read them with r² and the number of points",
        "there is no terminal phase; fewer than 3 points; a value that is not above 0; steps that are only an order",
    ),
    FindingDefinition(
        "balance_decay",
        ("rate", "half_life", "r2", "points", "predicted", "ratio"),
        "the same fit to the balancedness of two maps (operator norm) over the whole run, as long as its relative "
        "value is above 1e-5; where a schedule is noted, a step counts as much as its learning rate over the first; "
        "`predicted`: 2·lr·wd·(1 − dampening)/(1 − momentum), `ratio`: rate/predicted, 1 where the theory holds",
        "as decay; for predicted and ratio: another optimizer than SGD, settings that are not noted, steps that are no "
        "iterations; a bias that the form leaves out",
    ),
    FindingDefinition(
        "separation_law",
        ("log_rho", "r2", "points"),
        "log D_ℓ = a + ℓ log ρ by least squares over the stages of the network without its outputs, D the metric "
        "`separation` and ℓ the number of the stage, 0 for the input",
        "fewer than 3 points; a value that is not above 0; outputs or stages that were not measured",
    ),
    FindingDefinition(
        "monotone_collapse",
        ("violations", "largest"),
        "from one stage to the next the metric should not rise: how often it does, and the largest ratio of a stage's "
        "value to that before it, whose layer is named; a ratio above 1 + 1e-6 is a rise",
        "fewer than 2 stages with a value; a value of 0 before one that is not",
    ),
    FindingDefinition(
        "effective_depth",
        ("stage",),
        "the first stage whose ncc_error is at most the error of the network + 1 %",
        "there is none; either was not measured",
    ),
    FindingDefinition(
        "tunnel_start",
        ("stage",),
        "the first stage after which the metric changes no more up to the last one before the outputs: ncc_error stays "
        "within 1 % of its last value, numerical_rank within 1",
        "there is no tunnel: it changes up to the last stage; fewer than 2 stages with a value",
    ),
    FindingDefinition(
        "first_collapsed",
        ("stage",),
        "the first stage from which on nc1_pinv stays under 0.1, the outputs included",
        "there is none",
    ),
)
"""Over steps: terminal_phase to balance_decay. Over depth, for every checkpoint: separation_law to first_collapsed."""

MAIN = (
    ("error", ""),
    ("loss", "mse"),
    ("loss", "cross_entropy"),
    ("nc1_pinv", ""),
    ("nc1_trace", ""),
    ("cdnv", ""),
    ("nc2_etf", ""),
    ("nc2_equinorm", ""),
    ("nc2_equiangular", ""),
    ("nc2_condition", ""),
    ("nc3_distance", ""),
    ("nc3_etf", ""),
    ("nc3_cosine", "samples"),
    ("nc4_mismatch", ""),
    ("ncc_error", ""),
    ("balancedness", "op_relative"),
    ("balancedness_bias", "op_relative"),
    ("balancedness_diagonal", "op_relative"),
    ("head_condition", "condition"),
)
"""Metric and quantity of the numbers that are given at the onset and at the end."""

THRESHOLDS = (
    ("nc1_pinv", "", (0.1, 0.01)),
    ("nc1_trace", "", (0.1, 0.01)),
    ("nc2_etf", "", (0.1, 0.05)),
    ("nc2_equinorm", "", (0.1, 0.05)),
    ("nc2_equiangular", "", (0.1, 0.05)),
    ("nc3_distance", "", (0.1, 0.05)),
    ("nc4_mismatch", "", (0.01, 0.001)),
    ("ncc_error", "", (0.01, 0.001)),
    ("balancedness", "op_relative", (0.1, 0.01)),
)
"""Metric, quantity, and the thresholds of `first_under` for it."""

DECAYING = ("nc1_pinv", "nc1_trace", "cdnv", "nc2_etf", "nc3_distance")
"""Metrics whose `decay` over the terminal phase is fitted."""

BALANCES = ("balancedness", "balancedness_bias", "balancedness_diagonal")
"""Metrics whose `balance_decay` is fitted."""

BALANCE_FLOOR = 1e-5
"""Relative balancedness under which float32 weights and the size of a step, not weight decay, decide what is left."""

MONOTONE = ("nc1_pinv", "nc1_trace", "separation")
"""Metrics that should not rise from stage to stage."""

TUNNELS = (("ncc_error", 0.01), ("numerical_rank", 1.0))
"""Metrics by which a tunnel is recognised, and how far they may move inside it."""

RISE = 1e-6
"""A relative rise under this is the rounding of stored float32: invertible linear maps leave nc1 as it is."""

COLLAPSED = ("nc1_pinv", 0.1)
"""The metric and the threshold by which a stage counts as collapsed."""

EXCESS = 0.01
"""The ncc_error of the effective depth may exceed the error of the network by so much."""


@dataclass(frozen=True)
class Finding:
    """One finding about a run or a checkpoint."""

    checkpoint: str
    """The checkpoint; empty where it is about the whole run."""
    step: int | None
    layer: str
    finding: str
    metric: str
    quantity: str
    value: float | None
    reason: str
    """Why there is no value, else empty."""


def found(
    finding: str,
    metric: str,
    quantity: str,
    value: float | int | Undefined,
    *,
    layer: str = "",
    checkpoint: str = "",
    step: int | None = None,
) -> Finding:
    """Return a row from a number, or from why there is none."""
    return Finding(
        checkpoint=checkpoint,
        step=step,
        layer=layer,
        finding=finding,
        metric=metric,
        quantity=quantity,
        value=None if isinstance(value, Undefined) else float(value),
        reason=str(value) if isinstance(value, Undefined) else "",
    )
