"""List all metrics of a layer, in the order of the rows.

In: the rows in the files of their functions. Out: METRICS and NETWORK, from which rows and docs/metrics.md are made.
"""

from ncscan.metrics.layers.class_means import CLASS_MEANS
from ncscan.metrics.layers.classifier import CLASSIFIER_BIAS, CLASSIFIER_FRAME
from ncscan.metrics.layers.imbalance import IMBALANCE, IMBALANCE_OF_CLASSIFIER
from ncscan.metrics.layers.nearest_class_center import NEAREST_CLASS_CENTER
from ncscan.metrics.layers.self_duality import SELF_DUALITY
from ncscan.metrics.layers.spectrum import SPECTRUM
from ncscan.metrics.layers.variability import VARIABILITY, VARIABILITY_COLLAPSE_INDEX
from ncscan.metrics.view import Definition, Metric

FEATURES: tuple[Metric, ...] = (*VARIABILITY, *CLASS_MEANS, *NEAREST_CLASS_CENTER, *IMBALANCE)
"""The metrics that need class means and scatter alone."""
SIZES: tuple[Metric, ...] = (*VARIABILITY_COLLAPSE_INDEX, *SPECTRUM)
"""The metrics of a layer's size and spectrum."""
CLASSIFIER: tuple[Metric, ...] = (*CLASSIFIER_FRAME, *SELF_DUALITY, *CLASSIFIER_BIAS, *IMBALANCE_OF_CLASSIFIER)
"""The metrics that compare a layer with a linear map."""
METRICS: tuple[Metric, ...] = (*FEATURES, *SIZES, *CLASSIFIER)
"""The metrics of a layer, in the order of the rows."""

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
"""The metrics of the network as a whole, from its logits."""
