"""Run by hand: certificates, theorem 3.1 and the bounds of weight decay on many random heads, none to be violated.

    python tests/benchmarks/bench_certificates.py 2000 7

Heads of each kind and a seed. Ends with 1 when a bound that holds is called violated.
"""

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from theory_heads import KINDS, random_heads

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.theory.certificates import certify
from ncscan.theory.claims import Claim
from ncscan.theory.linear_head import HeadStats
from ncscan.theory.theorem_3_1 import _bounds
from ncscan.theory.weight_decay import _balance_at_rest, _floor


def judged(head: HeadStats, lam: float) -> list[Claim]:
    """Every claim about a head that holds whatever its training was."""
    claims = certify(head)
    for made in (
        lambda: _balance_at_rest(head, lam),
        lambda: _floor(head, {"loss": "mse"}),
        lambda: list(_bounds(head)),
    ):
        found = attempt(made)
        claims += [] if isinstance(found, Undefined) else found
    return claims


def main(n: int, seed: int) -> int:
    """Print a line for each kind; return the exit code."""
    alarms = 0
    for kind in KINDS:
        began, verdicts, broken = time.monotonic(), 0, Counter[str]()
        rng = np.random.default_rng(seed)
        for head in random_heads(kind, n, seed):
            claims = judged(head, float(10 ** rng.uniform(-8, 0)))
            verdicts += sum(claim.holds is not None for claim in claims)
            broken.update(claim.claim for claim in claims if claim.holds is False)
            loose = [claim for claim in claims if claim.holds and claim.slack is not None and claim.slack < 1]
            broken.update(f"slack of {claim.claim}" for claim in loose)
        print(f"{kind:15} {n} heads {verdicts:8,} verdicts {time.monotonic() - began:6.0f} s", dict(broken), flush=True)
        alarms += broken.total()
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
