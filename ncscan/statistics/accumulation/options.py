"""Choose what to accumulate of a layer in addition to class means and their scatter, and how.

In: nothing. Out: `AccumulationOptions`, which callers pass on whole, down to both passes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64


@dataclass(frozen=True)
class AccumulationOptions:
    """Defines what the two passes over a layer accumulate."""

    decisions: Int64[np.ndarray, "N"] | None = None
    """The label that the network decides for, of every sample: for `nc4_mismatch`."""
    classifier: Float64[np.ndarray, "outputs d"] | None = None
    """The rows w_c of the linear map from this layer to the logits: for `nc3_cosine` and `etf_swap_error`."""
    classifier_precision: str = "float64"
    """The format that those rows were stored in."""
    spectrum: bool = True
    """Whether to accumulate ZᵀZ: where min(N, d) ≤ 4096, else a sketch of it."""
    negative_part: bool = False
    """Whether to accumulate min(Z, 0), of a pre-activation."""
    precision: str | None = None
    """The storage format of the activations, where it is not the type of the chunks: bfloat16 is read as float32."""
    products: torch.dtype | None = None
    """The type in which centred activations are projected; by default float64 on a CPU, float32 elsewhere."""
    gram: torch.dtype | None = None
    """The type in which they are multiplied for the spectrum; by default float64 where that takes no time, else
    float32."""
    samples: bool = False
    """Whether to keep K + 3 numbers of every sample, for a bootstrap."""
    permutations: int = 0
    """Under how many permutations of the labels to make class sums too."""
    seed: int = 0
    """The seed of the permutations."""


DEFAULT = AccumulationOptions()
"""Accumulates what every layer has: class means, scatter, spectrum."""
