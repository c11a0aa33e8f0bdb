"""Measure what needs gradients: the feature ansatz, the distance from a critical point, the sharpness.

In: a traced model, its data set and its objective. Out: plain rows, each a value or the reason why there is none.
The only files that differentiate; they work on a copy, so the caller's model does not change.

Losses and gradients are means over the samples that were drawn: over all samples they are exact, over a part they
are estimates, and the rows say so. The model is in eval mode, so BatchNorm's statistics are constants.
"""

import math

import torch
from torch import nn

from ncscan.activations import GradientRow, Gradients, Trace
from ncscan.data import Dataset
from ncscan.errors import Undefined
from ncscan.metrics.gradients.criticality import criticality
from ncscan.metrics.gradients.differentiable import GradientResult, drawn, exactly, explained, prepared
from ncscan.metrics.gradients.feature_ansatz import feature_ansatz
from ncscan.metrics.gradients.objective import Objective
from ncscan.metrics.gradients.sharpness import sharpness

__all__ = ["GRADIENT_METRICS", "Objective", "measure_gradients"]

GRADIENT_METRICS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("feature_ansatz", ("uncentred", "centred")),
    ("objective", ("loss", "decay")),
    ("gradient_norm", ("loss", "objective", "relative")),
    ("stationarity", ("residual", "relative", "identity")),
    ("sharpness", ("loss", "objective", "bound", "bound_momentum", "ratio")),
)
"""The measures, with their quantities, in the order of the rows; docs/gradients.md defines them."""

OF_WEIGHTS_ALONE = {("objective", "decay"), ("sharpness", "bound"), ("sharpness", "bound_momentum")} | {
    ("stationarity", quantity) for quantity in dict(GRADIENT_METRICS)["stationarity"]
}
"""These are exact on any samples: what the loss adds to the residual of a pair cancels, sample by sample."""


def measure_gradients(
    model: nn.Module,
    traced: Trace,
    dataset: Dataset,
    objective: Objective,
    *,
    n_samples: int,
    device: torch.device,
    batch_size: int,
) -> Gradients:
    """Return every measure that takes gradients.

    Args:
        model: in eval mode, on the device, as it was traced; it is copied, and left as it is.
        traced: its traced pass.
        dataset: where the samples come from.
        objective: what was minimised.
        n_samples: how many samples to draw, see `drawn`; all of them make the numbers exact.
        device: where to compute.
        batch_size: samples at once.
    """
    rows = drawn(dataset.labels, n_samples)
    part = len(rows) < dataset.n_samples
    with exactly():
        try:
            with explained():
                work = prepared(model, traced, dataset, objective, rows, device, batch_size)
        except Undefined as why:
            found = [GradientResult("", metric, why) for metric, _ in GRADIENT_METRICS]
        else:
            found = [*feature_ansatz(work, traced), *criticality(work, model, traced), sharpness(work)]
    quantities = dict(GRADIENT_METRICS)
    return Gradients(
        n_samples=len(rows),
        rows=tuple(
            _row(each, quantity, len(rows), part=part) for each in found for quantity in quantities[each.metric]
        ),
    )


def _row(found: GradientResult, quantity: str, n_samples: int, *, part: bool) -> GradientRow:
    value = found.values if isinstance(found.values, Undefined) else found.values[quantity]
    if isinstance(value, float) and not math.isfinite(value):
        value = Undefined("it is not finite")
    defined = not isinstance(value, Undefined)
    return GradientRow(
        layer_or_map=found.place,
        metric=found.metric,
        quantity=quantity,
        value=None if isinstance(value, Undefined) else value,
        reason="" if defined else str(value),
        n_samples=n_samples,
        estimate=defined and (found.probed or (part and (found.metric, quantity) not in OF_WEIGHTS_ALONE)),
    )
