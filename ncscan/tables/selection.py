"""Find the layer that the classifier reads, at which collapse is judged, compared and gated.

In: rows of the table metrics. Out: those of the layers that a classifier is compared with. Only this file decides it.
"""

import pandas as pd

COMPARED = "nc3_distance"
"""The metric whose rows exist exactly where a linear map leads to the logits, whatever it reads."""


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a checkpoint and layer of a linear head, by depth; the last one is what the classifier reads."""
    own = rows[(rows["metric"] == COMPARED) & (rows["classifier"] != "") & (rows["weighting"] != "sample")]
    return own.sort_values("depth", kind="stable")


def read_layer(rows: pd.DataFrame) -> str | None:
    """Return the layer that the classifier of one run reads; None where no linear map writes the logits."""
    own = compared(rows)
    return str(own["layer"].iloc[-1]) if len(own) else None
