"""The classifier itself: the frame of its rows, what its bias does, and whether a fixed simplex would do as well.

In: a LayerView with the linear map that leads from it to the logits. Out: one number a metric; 0 at collapse.
"""

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.metrics.layers.class_means import equiangular, equinorm, etf_distance
from ncscan.metrics.view import LayerView, Metric
from ncscan.statistics import in_true_units, nearest_simplex, require_room, true_value, unit_exponent


def nc2_equinorm_w(view: LayerView) -> float:
    """Return the spread of the lengths of the classifier's rows: std_c‖w_c‖ / mean_c‖w_c‖, with ddof 1, not centred.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, √K], no unit; 0 at collapse.

    Raises: Undefined when W is zero or not finite.

    Source: Papyan, Han and Donoho 2020.
    """
    return equinorm(_frame(view))


def nc2_equiangular_w(view: LayerView) -> float:
    """Return the mean distance of the rows' angles from a simplex's: mean over c ≠ c' of |cos(w_c, w_c') + 1/(K−1)|.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, 1 + 1/(K−1)]; 0 at collapse, 1/(K−1) for orthogonal rows.

    Raises: Undefined when a row of W is zero, W is not finite, or d < K − 1.

    Source: Papyan, Han and Donoho 2020.
    """
    require_room(view.stats.n_features, view.stats.n_classes)
    W = _frame(view)
    zero = np.flatnonzero(np.linalg.norm(W, axis=1) == 0)
    if len(zero):
        raise Undefined(f"row {view.stats.classes[zero[0]]} of the classifier is zero: it has no direction")
    return equiangular(W)


def nc2_etf_w(view: LayerView) -> float:
    """Return the distance of the Gram matrix of the rows from a simplex: ‖WWᵀ/‖WWᵀ‖_F − ETF_K‖_F, not centred.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, √2]; 0 at collapse, √(2 − 2√((K−1)/K)) for orthogonal rows.

    Raises: Undefined when W is zero or not finite, or d < K − 1.

    Source: Zhu et al. 2021 (their NC2).
    """
    require_room(view.stats.n_features, view.stats.n_classes)
    return etf_distance(_frame(view))


def bias_collapse(view: LayerView) -> float:
    """Return the classifier's output at the global mean, up to what all classes share: ‖C(W μ_G + b)‖, C = I − 11ᵀ/K.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: ≥ 0, in the unit of the logits; 0 at collapse.

    Raises: Undefined when W or b is not finite.

    Source: Zhu et al. 2021, centred: a shift of all logits decides nothing.
    """
    logits = _central_logits(view)
    return _length(logits - logits.mean())


def bias_collapse_raw(view: LayerView) -> float:
    """Return the norm of the classifier's output at the global mean: ‖W μ_G + b‖.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: ≥ 0, in the unit of the logits; 0 at collapse under cross-entropy, 1/√K under square loss with a free bias.

    Raises: Undefined when W or b is not finite.

    Source: Zhu et al. 2021.
    """
    if view.is_partial:
        few = f"the data has {view.stats.n_classes} of the network's {view.outputs} classes"
        raise Undefined(f"{few}: the mean of all, on which it rests, is not known")
    return _length(_central_logits(view))


def classifier_row_sum(view: LayerView) -> float:
    """Return how far the rows of the classifier are from cancelling: ‖Wᵀ1‖/(√K ‖W‖_F).

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, 1]; 0 at collapse onto a simplex, 1/√K for orthogonal rows of one length, 1 for equal rows.

    Raises: Undefined when W is zero or not finite.

    Source: known as NC0; it is conserved by training under cross-entropy, but for weight decay.
    """
    W = _scaled(view.whole_weight)
    return float(np.linalg.norm(W.sum(axis=0)) / (np.sqrt(len(W)) * np.linalg.norm(W)))


def etf_swap_error(view: LayerView) -> float:
    """Return the error of the simplex ETF nearest to the classifier in its place, no bias: P[y ≠ argmax_c ⟨e_c, h⟩].

    Args:
        view: a layer from which a linear map leads to the logits, accumulated with it.

    Returns: in [0, 1]; the network's own error at collapse.

    Raises: Undefined when d < K − 1, the centred rows of W span fewer than K − 1 directions, or W is not finite.

    Source: Zhu et al. 2021; Yang et al. 2022 (classifiers fixed to a simplex).
    """
    nearest_simplex(
        view.whole_weight, view.classifier.precision if view.classifier else "float64"
    )  # which says why where there is none
    errors = view.stats.swap_errors
    if errors is None:
        raise Undefined("the activations were accumulated without the classifier")
    return float(errors.sum() / view.stats.n_samples)


def _central_logits(view: LayerView) -> Float64[np.ndarray, "K"]:
    """Return W μ_G + b."""
    products = view.rows @ view.stats.global_mean(view.weighting)
    exponent = view.row_exponent + view.stats.exponent
    if not view.bias.any():
        return in_true_units(products, exponent)
    logits: Float64[np.ndarray, K] = np.ldexp(products, exponent) + view.bias
    return logits


def _length(x: Float64[np.ndarray, "K"]) -> float:
    """Return ‖x‖, also where the squares leave float64."""
    exponent = unit_exponent(float(np.abs(x).max()))
    return true_value(np.linalg.norm(np.ldexp(x, -exponent)), exponent)


def _frame(view: LayerView) -> Float64[np.ndarray, "K d"]:
    """Return the rows of W as a frame, up to a factor; Undefined where it is zero, or a simplex by construction."""
    view.require_free_rows()
    return _scaled(view.frame_rows)


def _scaled(W: Float64[np.ndarray, "K d"]) -> Float64[np.ndarray, "K d"]:
    """Return W up to a factor; Undefined where it is zero."""
    size = np.abs(W).max()
    if size == 0:
        raise Undefined("the classifier is zero")
    scaled: Float64[np.ndarray, "K d"] = W / size
    return scaled


CLASSIFIER_FRAME: tuple[Metric, ...] = (
    Metric(
        name="nc2_equinorm_w",
        function=nc2_equinorm_w,
        family="classifier",
        scope="classifier",
        formula="std_c‖w_c‖ / mean_c‖w_c‖",
        range="[0, √K]",
        at_collapse="0",
        centred=False,
        centred_if_partial=True,
        convention="ddof 1; rows of W, not centred; minus their mean (`centred`) where the data lacks classes",
        source="Papyan, Han, Donoho 2020",
        reading="Whether the classifier treats all classes alike.",
        undefined="W is zero or not finite",
    ),
    Metric(
        name="nc2_equiangular_w",
        function=nc2_equiangular_w,
        family="classifier",
        scope="classifier",
        formula="mean over c≠c' of |cos(w_c, w_c') + 1/(K−1)|",
        range="[0, 1 + 1/(K−1)]",
        at_collapse="0",
        centred=False,
        centred_if_partial=True,
        convention="rows of W, not centred; minus their mean (`centred`) where the data lacks classes",
        source="Papyan, Han, Donoho 2020",
        reading="Orthogonal rows read 1/(K−1).",
        undefined="a row of W is zero; W is not finite; d < K − 1",
    ),
    Metric(
        name="nc2_etf_w",
        function=nc2_etf_w,
        family="classifier",
        scope="classifier",
        formula="‖WWᵀ/‖WWᵀ‖_F − ETF_K‖_F",
        range="[0, √2]",
        at_collapse="0",
        centred=False,
        centred_if_partial=True,
        convention="rows of W, not centred; minus their mean (`centred`) where the data lacks classes",
        source="Zhu et al. 2021 (their NC2)",
        reading="Orthogonal rows read √(2 − 2√((K−1)/K)): 0.320 at K = 10.",
        undefined="W is zero or not finite; d < K − 1",
    ),
)


CLASSIFIER_BIAS: tuple[Metric, ...] = (
    Metric(
        name="bias_collapse",
        function=bias_collapse,
        family="classifier",
        scope="classifier",
        formula="‖C(W μ_G + b)‖, C = I − 11ᵀ/K",
        range="[0, ∞)",
        at_collapse="0",
        weighted=True,
        convention="in the unit of the logits; up to a shift of all of them",
        source="Zhu et al. 2021, centred",
        reading="Which classes the network prefers before it has seen anything.",
        undefined="W or b is not finite",
    ),
    Metric(
        name="bias_collapse_raw",
        function=bias_collapse_raw,
        family="classifier",
        scope="classifier",
        formula="‖W μ_G + b‖",
        range="[0, ∞)",
        at_collapse="0 under cross-entropy",
        weighted=True,
        convention="in the unit of the logits",
        source="Zhu et al. 2021",
        reading="1/√K at collapse under square loss with a free bias.",
        undefined="the data lacks classes that the network knows; W or b is not finite",
    ),
    Metric(
        name="classifier_row_sum",
        function=classifier_row_sum,
        family="classifier",
        scope="classifier",
        formula="‖Wᵀ1‖/(√K ‖W‖_F)",
        range="[0, 1]",
        at_collapse="0",
        convention="over all rows of W, those of classes that the data lacks too",
        source="NC0",
        reading="1/√K for orthogonal rows: how much of W decides nothing.",
        undefined="W is zero or not finite",
    ),
    Metric(
        name="etf_swap_error",
        function=etf_swap_error,
        family="classifier",
        scope="classifier",
        formula="P[y ≠ argmax_c ⟨e_c, h⟩], E the simplex ETF nearest to W",
        range="[0, 1]",
        at_collapse="the network's error",
        convention="nearest up to scale (Procrustes), bias 0; ties go to the lowest class",
        source="Zhu et al. 2021; Yang et al. 2022",
        reading="Whether a simplex fixed beforehand would have done as well as the classifier that was learnt.",
        undefined="d < K − 1; the centred rows of W span fewer than K − 1 directions; W is not finite",
    ),
)
