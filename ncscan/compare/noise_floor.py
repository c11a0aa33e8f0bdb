"""How far two values may lie apart by chance: the noise floor of a difference.

In: pairs of values with what is known of each side. Out: for each a floor, where it comes from, and whether the
difference is beyond it. docs/comparing.md documents the formulas.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.special import stdtrit

from ncscan.rows import leading
from ncscan.tables import SAME

SOURCES = ("bootstrap", "estimate", "seeds", "storage")
"""The sources of a noise floor, the best first; `storage` has no size."""

CONFIDENCE = 0.95

_GROUP = ("group", "step", "step_unit", *SAME)


def with_spread(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers with `runs`, how many runs of its group have a value at this step, and their `std` (ddof 1).

    A run counts once at a step, by its first checkpoint there. Runs without a group stand alone.
    """
    # Checkpoints without a step are of no step that another run has too.
    once = leading(numbers[(numbers["group"] != "") & numbers["step"].notna()], [*_GROUP, "run"])
    spread = once.groupby(list(_GROUP), sort=False, dropna=False)["value"].agg(runs="count", std="std").reset_index()
    return numbers.merge(spread, on=list(_GROUP), how="left")


def noise_floors(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns noise, noise_source and beyond_noise of pairs of values.

    Args:
        pairs: a, b, and of each side what the numbers and `with_spread` give: low, high, at_floor, estimate, runs, std.

    Returns: `noise` NaN and `beyond_noise` missing where nothing is known. The floor is
        - bootstrap: hypot of the half widths of the two 95 % intervals;
        - estimate: of values that are known only up to an interval, the sum of the half widths, for they are no chance;
        - seeds: t·hypot(s_a, s_b), s the spread over the runs of a group, n of them, t the 97.5 % quantile of Student's
          law with (s_a² + s_b²)²/(s_a⁴/(n_a − 1) + s_b⁴/(n_b − 1)) degrees of freedom (Welch): with two runs a side
          and equal spreads t is 4.3, not 2, since two runs show little of the spread;
        - storage: both values may be made by rounding. Its size is not known, and nothing is beyond it, also where one
          of the others is known.
        Equal values are beyond no noise.
    """
    side = {end: {name: pairs[f"{name}_{end}"] for name in ("low", "high", "estimate", "runs", "std")} for end in "ab"}
    half = {end: (own["high"] - own["low"]) / 2 for end, own in side.items()}
    certain = pd.Series(data=False, index=pairs.index)
    for own in side.values():
        certain |= own["estimate"].fillna(value=False).astype(bool)
    interval = half["a"].notna() & half["b"].notna()
    several = (side["a"]["runs"] >= 2) & (side["b"]["runs"] >= 2)
    both = pairs["a"].notna() & pairs["b"].notna()
    floor = (pairs["at_floor_a"] & pairs["at_floor_b"]).fillna(value=False).astype(bool) & both
    spread = seed_noise(*(side[end][name].to_numpy(np.float64) for name in ("std", "runs") for end in "ab"))
    kinds = [both & interval & ~certain, both & interval & certain, both & several, floor]
    sizes = [np.hypot(half["a"], half["b"]), half["a"] + half["b"], spread, np.full(len(pairs), np.nan)]
    noise = np.select(kinds, sizes, default=np.nan)
    source = pd.Series(np.select(kinds, SOURCES, default=""), index=pairs.index, dtype=object)
    difference = (pairs["b"] - pairs["a"]).abs()
    beyond = pd.Series(difference > noise, index=pairs.index).astype("boolean")
    beyond = beyond.mask(np.isnan(noise)).mask(floor | (difference == 0), other=False)
    return pd.DataFrame({"noise": noise, "noise_source": source, "beyond_noise": beyond}, index=pairs.index)


def seed_noise(
    s_a: Float64[np.ndarray, "n"],
    s_b: Float64[np.ndarray, "n"],
    n_a: Float64[np.ndarray, "n"],
    n_b: Float64[np.ndarray, "n"],
) -> Float64[np.ndarray, "n"]:
    """Return what the difference of two runs stays under for 95 % of seeds, as in `noise_floors`; NaN where unknown.

    >>> seed_noise(*(np.array([x]) for x in (3.0, 4.0, 1e9, 1e9))).round(2).tolist()
    [9.8]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        # By the ratio to the larger of the two, so that the fourth power of a small spread does not vanish.
        largest = np.maximum(s_a, s_b)
        a, b = (s_a / largest) ** 2, (s_b / largest) ** 2
        freedom = (a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1))
        floor = stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.hypot(s_a, s_b)
    return np.asarray(np.where(largest == 0, 0.0, floor), np.float64)
