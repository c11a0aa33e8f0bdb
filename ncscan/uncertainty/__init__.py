"""Estimate how far a number can be trusted: floors, chance levels, intervals."""

from ncscan.uncertainty.bootstrap import many_classes
from ncscan.uncertainty.evaluate import estimated, honest

__all__ = [
    "estimated",
    "honest",
    "many_classes",
]
