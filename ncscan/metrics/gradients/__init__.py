"""Measure what needs a backward pass."""

from ncscan.metrics.gradients.evaluate import measure_gradients
from ncscan.metrics.gradients.objective import Objective

__all__ = [
    "Objective",
    "measure_gradients",
]
