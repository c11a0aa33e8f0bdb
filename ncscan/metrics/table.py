"""The visible table: what is measured, how it is defined, and how to read it.

In: its parts, in the files beside this one. Out: METRICS and NETWORK, from which rows and docs/metrics.md are made.
"""

from ncscan.metrics.table_classifier import CLASSIFIER
from ncscan.metrics.table_features import FEATURES
from ncscan.metrics.table_sizes import SIZES
from ncscan.metrics.view import Definition, Metric

METRICS: tuple[Metric, ...] = (*FEATURES, *SIZES, *CLASSIFIER)
"""What is measured at a layer, in the order of the rows."""

NETWORK: tuple[Definition, ...] = (
    Definition(
        name="error",
        formula="P[y ≠ argmax_c f_c]",
        range="[0, 1]",
        at_collapse="0",
        convention="over samples; ties go to the lowest class",
        source="–",
        reading="Neural collapse is a statement about the phase after it has reached 0 on the training set.",
        undefined="logits are not finite",
    ),
    Definition(
        name="loss",
        formula="`mse` mean over i, c of (f_c − 1[c = y])²; `cross_entropy` mean over i of log Σ_c exp f_c − f_y",
        range="[0, ∞)",
        at_collapse="–",
        convention="`mse` is torch's MSELoss against one-hot labels; `cross_entropy` in nats; no weight decay",
        source="–",
        reading="Both are given, whichever the network was trained with.",
        undefined="logits are not finite",
    ),
)
"""What is measured of the network as a whole, from its logits."""
