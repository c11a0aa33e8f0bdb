"""Runs that differ by their seed alone: mean and spread of every number over a group.

In: the tidy table of metrics. Out: one row per group, step and number.
"""

import numpy as np
import pandas as pd

from ncscan.rows import leading

PLACE = ("group", "step", "step_unit", "split", "layer", "depth", "kind", "reduction")
NUMBER = ("metric", "quantity", "weighting", "centred", "classifier")
"""The columns that two rows of a group share when they are the same number of two runs."""


def group_frame(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation (ddof 1) over the runs of a group, for every step, layer and number.

    Args:
        metrics: the table of metrics.csv. Runs without a group and checkpoints without a step are left out.

    Returns: the columns of PLACE and NUMBER, then `runs`, how many have a value; `mean` and `std` over those, NaN
        where there is none: a single run has no std.
    """
    keys = [*PLACE, *NUMBER]
    grouped = metrics[(metrics["group"] != "") & metrics["step"].notna()]
    # A run that was measured twice at one step is one run still.
    once = leading(grouped, [*keys, "run"])
    # "centred" is a flag that may be missing, and missing keys are keys too.
    table = once.groupby(keys, sort=False, dropna=False)["value"].agg(["count", "mean", "std"]).reset_index()
    return table.rename(columns={"count": "runs"}).astype({"runs": np.int64})
