"""The table of metrics, and the numbers of one layer.

In: a LayerView. Out: one Row per number, with the conventions it was made under, or the reason why there is none.
A new metric is one function in one of the files beside this one, and one row of METRICS.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int64

from ncscan.errors import Undefined
from ncscan.metrics.decision import cross_entropy, mean_squared_error, nc4_mismatch, ncc_error, training_error
from ncscan.metrics.duality import nc3_cosine, nc3_distance, nc3_etf
from ncscan.metrics.frame import nc2_condition, nc2_equiangular, nc2_equinorm, nc2_etf, uncentred_rank
from ncscan.metrics.spectrum import feature_condition, feature_rank, negativity
from ncscan.metrics.variability import cdnv, means_rank, nc1_pinv, nc1_trace
from ncscan.metrics.view import Classifier, Definition, LayerView, Metric
from ncscan.statistics import Rank

__all__ = ["METRICS", "Classifier", "Definition", "LayerView", "Metric", "Row", "measure", "network_rows"]

Result = TypeVar("Result")

METRICS: tuple[Metric, ...] = (
    Metric(
        name="nc1_pinv",
        function=nc1_pinv,
        formula="tr(Σ_W Σ_B⁺)/K",
        range="[0, ∞)",
        at_collapse="0",
        weighted=True,
        rank=means_rank,
        convention="Σ_W over all samples; Σ_B⁺ over the directions of the centred class means above storage precision, at most K−1",
        source="Papyan, Han, Donoho 2020; Zhu et al. 2021; Kothapalli 2023",
        reading="Noise within classes in units of the distance between them, where classes differ. Under 0.01 is collapsed for most purposes.",
        undefined="a class has no samples; the class means coincide",
    ),
    Metric(
        name="nc1_trace",
        function=nc1_trace,
        formula="tr Σ_W / tr Σ_B",
        range="[0, ∞)",
        at_collapse="0",
        weighted=True,
        rank=means_rank,
        convention="all directions count, also those in which classes do not differ",
        source="Tirer & Bruna 2022; Jacot, Súkeník, Wang, Mondelli 2024 (their NC1)",
        reading="Total noise over total signal. Permuted labels read about (N−K)/(K−1).",
        undefined="a class has no samples; the class means coincide",
    ),
    Metric(
        name="cdnv",
        function=cdnv,
        formula="mean over c≠c' of (v_c + v_c')/(2‖μ_c − μ_c'‖²), v_c = mean ‖h − μ_c‖² over class c",
        range="[0, ∞)",
        at_collapse="0",
        convention="every pair of classes counts alike, whatever their sizes",
        source="Galanti, György, Hutter 2021",
        reading="Noise over distance, pair by pair: two classes that are close dominate it.",
        undefined="a class has no samples; two class means coincide",
    ),
    Metric(
        name="nc2_equinorm",
        function=nc2_equinorm,
        formula="std_c‖μ̃_c‖ / mean_c‖μ̃_c‖",
        range="[0, √K]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ddof 1",
        source="Papyan, Han, Donoho 2020",
        reading="Whether all classes are equally far from the centre; imbalanced classes usually are not.",
        undefined="a class has no samples; the class means coincide; K = 2 with class weighting (0 by construction)",
    ),
    Metric(
        name="nc2_equiangular",
        function=nc2_equiangular,
        formula="mean over c≠c' of |cos(μ̃_c, μ̃_c') + 1/(K−1)|",
        range="[0, 1 + 1/(K−1)]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="",
        source="Papyan, Han, Donoho 2020",
        reading="Whether all classes are equally far from each other, seen from the centre.",
        undefined="a class has no samples or its mean is the global mean; K = 2 with class weighting (0 by construction)",
    ),
    Metric(
        name="nc2_etf",
        function=nc2_etf,
        formula="‖M̃ᵀM̃/‖M̃ᵀM̃‖_F − ETF_K‖_F",
        range="[0, √2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ETF_K = (I − 11ᵀ/K)/√(K−1)",
        source="Zhu et al. 2021; Kothapalli 2023",
        reading="Lengths and angles in one number. Random means in d dimensions read √(2 − 2/√(1+K/d)): a wide layer looks collapsed by chance.",
        undefined="a class has no samples; the class means coincide; K = 2 with class weighting (0 by construction)",
    ),
    Metric(
        name="nc2_condition",
        function=nc2_condition,
        formula="κ(M) = s_1/s_K",
        range="[1, ∞)",
        at_collapse="1",
        centred=False,
        rank=uncentred_rank,
        convention="an infinite κ is said as rank < K",
        source="Jacot, Súkeník, Wang, Mondelli 2024 (their NC2)",
        reading="Whether the class means form an orthogonal frame, as features after a ReLU do at collapse.",
        undefined="a class has no samples; the rank of M is under K",
    ),
    Metric(
        name="ncc_error",
        function=ncc_error,
        formula="P[y ≠ argmin_c ‖h − μ_c‖]",
        range="[0, 1]",
        at_collapse="0",
        convention="over samples; ties go to the lowest class; classes without samples are never chosen",
        source="Papyan, Han, Donoho 2020; Galanti, György, Hutter 2021",
        reading="Error of the simplest classifier on this layer; the first layer where it is as good as the network is its effective depth.",
        undefined="only where activations are not finite",
    ),
    Metric(
        name="nc4_mismatch",
        function=nc4_mismatch,
        scope="decisions",
        formula="P[argmax_c f_c ≠ argmin_c ‖h − μ_c‖]",
        range="[0, 1]",
        at_collapse="0",
        convention="over samples; f are the network's real logits, bias included",
        source="Papyan, Han, Donoho 2020",
        reading="Whether the network decides as the nearest class centre of this layer does.",
        undefined="only where activations are not finite",
    ),
    Metric(
        name="feature_condition",
        function=feature_condition,
        scope="spectrum",
        formula="κ(Z) = s_1 / smallest non-zero s",
        range="[1, ∞)",
        at_collapse="–",
        centred=False,
        rank=feature_rank,
        convention="over the singular values that storage and arithmetic resolve; an estimate where others may hide under them",
        source="Jacot, Súkeník, Wang, Mondelli 2024",
        reading="Read it with its rank: dead units and low-rank layers leave fewer directions, not a larger κ.",
        undefined="min(N, d) > 4096; all activations are zero",
    ),
    Metric(
        name="negativity",
        function=negativity,
        scope="negative part",
        quantities=("op", "fro"),
        formula="‖Z − relu(Z)‖/‖Z‖",
        range="op [0, ∞), fro [0, 1]",
        at_collapse="0",
        centred=False,
        convention="of a pre-activation; quantity `op` in the operator norm (the paper's), `fro` in the Frobenius norm",
        source="Jacot, Súkeník, Wang, Mondelli 2024",
        reading="How far the ReLU after this layer is from the identity: 0 where the layer is linear in effect.",
        undefined="all activations are zero; `op` where min(N, d) > 4096",
    ),
    Metric(
        name="nc3_distance",
        function=nc3_distance,
        scope="classifier",
        formula="‖Wᵀ/‖W‖_F − M̃/‖M̃‖_F‖_F",
        range="[0, 2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="not squared",
        source="Papyan, Han, Donoho 2020; Rangamani & Banburski-Fahey 2022",
        reading="Whether the classifier is the class means, up to scale. Unrelated directions read √2.",
        undefined="a class has no samples; the class means coincide; W is zero",
    ),
    Metric(
        name="nc3_etf",
        function=nc3_etf,
        scope="classifier",
        formula="‖W M̃/‖W M̃‖_F − ETF_K‖_F",
        range="[0, 2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ETF_K = (I − 11ᵀ/K)/√(K−1)",
        source="Zhu et al. 2021; Kothapalli 2023",
        reading="Whether the classifier tells the class means apart evenly. Unrelated directions read √2.",
        undefined="a class has no samples; the classifier sees nothing of the class means",
    ),
    Metric(
        name="nc3_cosine",
        function=nc3_cosine,
        scope="classifier",
        quantities=("samples", "means"),
        formula="(1/N) Σ_i cos(h_i, W_{y_i})",
        range="[−1, 1]",
        at_collapse="1",
        centred=False,
        convention="quantity `samples` is the formula, `means` the same over class means",
        source="Jacot, Súkeník, Wang, Mondelli 2024 (their NC3)",
        reading="Whether each sample points along its own row of the classifier.",
        undefined="a row of W, a sample or a class mean is zero",
    ),
)
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
        formula="`mse`: mean over samples and classes of (f_c − 1[c = y])²; `cross_entropy`: mean of log Σ_c exp f_c − f_y",
        range="[0, ∞)",
        at_collapse="–",
        convention="`mse` is torch's MSELoss against one-hot labels; `cross_entropy` in nats; both without weight decay",
        source="–",
        reading="Both are given, whichever the network was trained with.",
        undefined="logits are not finite",
    ),
)
"""What is measured of the network as a whole, from its logits."""


@dataclass(frozen=True)
class Row:
    """One number of one layer, and how it was made."""

    metric: str
    quantity: str
    """Which of a metric's numbers: `op`, `fro`, `samples`, …; empty where it has one."""
    value: float | None
    reason: str
    """Why there is no value, else empty."""
    weighting: str
    """`class` or `sample`; empty where the weighting of classes plays no part."""
    centred: bool | None
    rank: int | None
    estimate: bool
    classifier: str
    """Name of the linear map that the layer was compared with, else empty."""


def measure(view: LayerView) -> list[Row]:
    """Every metric of the table that this layer has, in the order of the table."""
    return [row for metric in METRICS if _asked(metric, view) for row in _rows(metric, view)]


def network_rows(logits: Float[np.ndarray, "N K"], labels: Int64[np.ndarray, "N"]) -> list[Row]:
    """Training error and losses of the network, from its logits."""
    numbers = (
        ("error", "", training_error),
        ("loss", "mse", mean_squared_error),
        ("loss", "cross_entropy", cross_entropy),
    )
    return [_network_row(metric, quantity, lambda f=f: f(logits, labels)) for metric, quantity, f in numbers]


def _network_row(metric: str, quantity: str, number: Callable[[], float]) -> Row:
    value = _attempt(number)
    return Row(
        metric=metric,
        quantity=quantity,
        value=None if isinstance(value, Undefined) else value,
        reason=str(value) if isinstance(value, Undefined) else "",
        weighting="",
        centred=None,
        rank=None,
        estimate=False,
        classifier="",
    )


def _asked(metric: Metric, view: LayerView) -> bool:
    """Whether what the metric needs was accumulated: a layer that is no pre-activation has no negativity to miss."""
    return {
        "features": True,
        "decisions": view.stats.disagreements is not None,
        "spectrum": view.stats.spectrum is not None,
        "negative part": view.stats.negative is not None,
        "classifier": view.classifier is not None,
    }[metric.scope]


def _rows(metric: Metric, view: LayerView) -> Iterator[Row]:
    obstacle = Undefined(view.stats.obstacle) if view.stats.obstacle else None
    values = obstacle or _attempt(lambda: metric.function(view))
    rank = obstacle or (_attempt(lambda: metric.rank(view)) if metric.rank else None)
    known = rank if isinstance(rank, Rank) else None
    for quantity in metric.quantities:
        value = values[quantity] if isinstance(values, Mapping) else values
        yield Row(
            metric=metric.name,
            quantity=quantity,
            value=None if isinstance(value, Undefined) else value,
            reason=str(value) if isinstance(value, Undefined) else "",
            weighting=view.weighting if metric.weighted else "",
            centred=metric.centred,
            rank=known.count if known else None,
            estimate=known is not None and not known.certain,
            classifier=view.classifier.name if metric.scope == "classifier" and view.classifier else "",
        )


def _attempt(number: Callable[[], Result]) -> Result | Undefined:
    """The number, or why there is none: failure is a value here."""
    try:
        return number()
    except Undefined as why:
        return why
