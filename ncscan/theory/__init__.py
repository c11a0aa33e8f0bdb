"""Evaluate the theorems for one checkpoint."""

from ncscan.theory.certificates import certify
from ncscan.theory.claims import Claim, undefined
from ncscan.theory.linear_head import HeadStats, head_stats
from ncscan.theory.statements import ALWAYS_TRUE, CLAIMS
from ncscan.theory.theorem_3_1 import theorem_claims
from ncscan.theory.weight_decay import DECAY_CLAIMS, decay_claims

__all__ = [
    "ALWAYS_TRUE",
    "CLAIMS",
    "DECAY_CLAIMS",
    "Claim",
    "HeadStats",
    "certify",
    "decay_claims",
    "head_stats",
    "theorem_claims",
    "undefined",
]
