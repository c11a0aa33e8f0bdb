"""How coarse the arithmetic of a forward pass is: the same samples once more in float64, and the difference.

In: a model, a dataset and the taps. Out: the mean squared rounding of every feature, the floor that a dump alone cannot
know. After six layers of 512 in float32 it is some 300 times that of storage.
"""

import copy
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from ncscan.activations.batches import Batch, replay
from ncscan.activations.tracer import Trace
from ncscan.data import Dataset
from ncscan.layer_graph import Tap

SAMPLES = 64
"""So many samples give their features' mean squares to some ten per cent, and a floor is compared by powers of ten."""


def arithmetic_floor(
    model: nn.Module,
    dataset: Dataset,
    traced: Trace,
    taps: Sequence[Tap],
    *,
    reduction: str = "mean",
    device: torch.device,
    samples: int = SAMPLES,
) -> dict[str, Float64[np.ndarray, "_"]]:
    """Return the mean squared difference of each feature from a float64 replay of the first samples, by its tap's name.

    Args:
        model: in eval mode; it is not changed, the float64 one is a copy.
        dataset: where the samples come from.
        traced: the model's traced pass.
        taps: whose features to compare.
        reduction: one of `REDUCTIONS`, the same as in the dump.
        device: where to compute; it must know float64.
        samples: at most so many.
    """
    first = partial(_first_batch, traced=traced, taps=taps, reduction=reduction, device=device, samples=samples)
    working = first(model, dataset)
    exact = first(copy.deepcopy(model).double(), replace(dataset, floats=torch.float64))
    n = min(len(working.logits), len(exact.logits))  # where memory ran out one batch is smaller
    return {
        tap.name: forward_noise(one[:n], other[:n])
        for tap, one, other in zip(taps, working.features, exact.features, strict=True)
    }


def forward_noise(working: Float[torch.Tensor, "n d"], exact: Float[torch.Tensor, "n d"]) -> Float64[np.ndarray, "d"]:
    """Return (1/n) Σ_i (h_ij − ĥ_ij)² per feature, ĥ the same samples in float64.

    >>> forward_noise(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 2.0]])).tolist()
    [0.25, 0.0]
    """
    noise: Float64[np.ndarray, d] = (working.double() - exact.double()).square().mean(dim=0).cpu().numpy()
    return noise


def _first_batch(
    model: nn.Module,
    dataset: Dataset,
    *,
    traced: Trace,
    taps: Sequence[Tap],
    reduction: str,
    device: torch.device,
    samples: int,
) -> Batch:
    with closing(
        replay(model, dataset, traced, taps, reduction=reduction, device=device, batch_size=samples)
    ) as batches:
        return next(batches)
