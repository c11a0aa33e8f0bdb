"""NC3: whether the rows of the classifier point where the class means point, and which directions any linear map reads.

In: a LayerView with the linear map that leads from it to the logits, or that reads it. Out: one number a metric.
"""

import numpy as np
from jaxtyping import Float64

from ncscan.errors import Undefined
from ncscan.metrics.layers.class_means import cross_etf_distance
from ncscan.metrics.view import LayerView, Metric, Value
from ncscan.statistics import LayerStats, Rank, lengths, product_blocks, require_room, spread


def nc3_distance(view: LayerView) -> float:
    """Return the distance of the classifier from the centred class means, both of norm 1: ‖Wᵀ/‖W‖_F − M̃/‖M̃‖_F‖_F.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, 2]; 0 at collapse, √2 (rms) for unrelated directions.

    Raises: Undefined when the class means coincide, or W is zero or not finite.

    Source: Papyan, Han and Donoho 2020 (who plot its square); Rangamani and Banburski-Fahey 2022.
    """
    stats = view.stats
    W, M = _nonzero(view), stats.means - stats.global_mean(view.weighting)
    if np.linalg.norm(stats.centred(view.weighting)) <= stats.tolerance:
        raise Undefined("the class means coincide, as far as the storage precision can tell")
    return float(np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)))


def nc3_distance_squared(view: LayerView) -> float:
    """Return the square of `nc3_distance`, which the PNAS paper plots: ‖Wᵀ/‖W‖_F − M̃/‖M̃‖_F‖_F².

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, 4]; 0 at collapse, 2 (mean) for unrelated directions.

    Raises: Undefined when `nc3_distance` is.

    Source: Papyan, Han and Donoho 2020 (figure 5).
    """
    return nc3_distance(view) ** 2


def nc3_etf(view: LayerView) -> float:
    """Distance of the logits of the centred class means from a simplex: ‖W M̃/‖W M̃‖_F − ETF_K‖_F.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, 2]; 0 at collapse, √2 (rms) for unrelated directions.

    Raises: Undefined when W sees nothing of the class means, W is not finite, d < K − 1, or the data has two of more
        classes: their centred logits are a simplex or its opposite, whatever the network.

    Source: Zhu et al. 2021; Kothapalli 2023.
    """
    view.require_free_rows()
    stats = view.stats
    require_room(stats.n_features, stats.n_classes)
    W = _nonzero(view)
    seen, means = W @ stats.basis.T, stats.centred(view.weighting)
    size = np.sqrt(sum(np.vdot(block, block) for _, block in product_blocks(seen, means)))
    if size <= np.linalg.norm(W) * stats.tolerance:
        raise Undefined("the classifier sees nothing of the centred class means")
    return cross_etf_distance(seen, means)


def nc3_cosine(view: LayerView) -> Value:
    """Return the alignment of features with their row of the classifier, not centred: (1/N) Σ_i cos(h_i, W_{y_i}).

    Quantity `samples` is the formula; `means` is the same over class means, (1/K) Σ_c cos(μ_c, W_c).

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: both in [−1, 1]; 1 at collapse.

    Raises: Undefined when a row of W, a sample or a class mean is zero, or W is not finite.

    Source: Jacot, Súkeník, Wang and Mondelli 2024 (their NC3).
    """
    W, stats = view.rows, view.stats
    _require_nonzero_rows(W, stats)
    return {"samples": _sample_cosine(stats), "means": _mean_cosine(W, stats)}


def nc3_uniform(view: LayerView) -> float:
    """Return how evenly the classifier follows the class means: Var_c cos(w_c, μ̃_c), ddof 0.

    Args:
        view: a layer from which a linear map leads to the logits.

    Returns: in [0, 1]; 0 at collapse, also where all cosines are the same and not 1.

    Raises: Undefined when a class sits at the global mean, or a row of W is zero.

    Source: Wu and Papyan 2024.
    """
    view.require_free_rows()
    return float(np.var(class_cosines(view)))


def class_cosines(view: LayerView) -> Float64[np.ndarray, "K"]:
    """Return cos(w_c, μ̃_c) of every class; Undefined where one of the two has no direction."""
    W, M, norms = _directed(view)
    cosines: Float64[np.ndarray, K] = np.einsum("kd,kd->k", W, M) / norms / np.linalg.norm(W, axis=1)
    return cosines


def pair_cosines(view: LayerView) -> Float64[np.ndarray, "K K"]:
    """Return cos(w_c, μ̃_c') of every classifier row and every class mean; Undefined where one has no direction."""
    W, M, norms = _directed(view)
    cosines: Float64[np.ndarray, "K K"] = W @ M.T / norms / np.linalg.norm(W, axis=1)[:, None]
    return cosines


def _directed(
    view: LayerView,
) -> tuple[Float64[np.ndarray, "K d"], Float64[np.ndarray, "K d"], Float64[np.ndarray, "K"]]:
    """Return W, M̃ and the lengths of its columns; Undefined where one has no direction."""
    stats = view.stats
    W, M = view.frame_rows, stats.means - stats.global_mean(view.weighting)
    _require_nonzero_rows(W, stats)
    norms = np.linalg.norm(stats.centred(view.weighting), axis=1)
    at_centre = np.flatnonzero(norms <= stats.tolerance)
    if len(at_centre):
        raise Undefined(f"the mean of class {stats.classes[at_centre[0]]} is the global mean: it has no direction")
    return W, M, norms


def nc3_subspace(view: LayerView) -> float:
    """Return how far a linear map listens where class means differ: mean of the singular values of V_j(W)ᵀ U_j(M̃).

    V_j are the j strongest input directions of W, U_j those of M̃, j = min(rank M̃, rank W, K−1): with K directions
    exact collapse would read 0.90 to 0.93, because M̃ has no K-th.

    Args:
        view: a layer with the one linear map that reads it.

    Returns: in [0, 1], a mean cosine of principal angles; 1 at collapse. Random directions read about 8/(3π)·√(K/d).

    Raises: Undefined when the class means coincide, W is zero or not finite, or j = d.

    Source: Rangamani, Lindegaard, Galanti and Poggio 2023.
    """
    V, U = _subspaces(view)
    if len(V) == view.stats.n_features:
        raise Undefined(f"trivial: j = d = {len(V)} directions are all there are")
    return float(np.linalg.svd(V @ U.T, compute_uv=False).mean())


def subspace_rank(view: LayerView) -> Rank:
    """Return j, the number of directions that are compared."""
    return Rank(len(_subspaces(view)[0]), certain=True)


def _subspaces(view: LayerView) -> tuple[Float64[np.ndarray, "j d"], Float64[np.ndarray, "j d"]]:
    stats, (reader,) = view.stats, view.readers
    if view.weighting == "class":  # where every class counts once, as it does here
        s, axes = spread(stats, "class")
    else:
        _, s, axes = np.linalg.svd(stats.centred(view.weighting), full_matrices=False)
    rank = int((s > stats.tolerance).sum())
    if rank == 0:
        raise Undefined("the class means coincide, as far as the storage precision can tell")
    V = reader.strongest
    if V.shape[1] != stats.n_features:
        raise Undefined(f"{reader.name} reads {V.shape[1]} numbers where the layer has {stats.n_features}")
    j = min(rank, len(V), stats.n_classes - 1)
    return V[:j], axes[:j] @ stats.basis


def _sample_cosine(stats: LayerStats) -> float | Undefined:
    if stats.cosines is None:
        return Undefined("the activations were accumulated without the classifier")
    if stats.zero_samples:
        return Undefined(f"{stats.zero_samples} samples have all activations zero: no direction")
    return float(stats.cosines.sum() / stats.n_samples)


def _mean_cosine(W: Float64[np.ndarray, "K d"], stats: LayerStats) -> float | Undefined:
    M = stats.means
    norms = lengths(M)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        return Undefined(f"the mean of class {stats.classes[zero[0]]} is zero: no direction")
    return float(np.mean(np.einsum("kd,kd->k", W, M) / norms / lengths(W)))


def _require_nonzero_rows(W: Float64[np.ndarray, "K d"], stats: LayerStats) -> None:
    zero = np.flatnonzero(lengths(W) == 0)
    if len(zero):
        raise Undefined(f"row {stats.classes[zero[0]]} of the classifier is zero: it has no direction")


def _nonzero(view: LayerView) -> Float64[np.ndarray, "K d"]:
    W = view.frame_rows
    if np.linalg.norm(W) == 0:
        raise Undefined("the classifier is zero" if not view.is_partial else "the rows of W are all the same")
    return W


SELF_DUALITY: tuple[Metric, ...] = (
    Metric(
        name="nc3_distance",
        function=nc3_distance,
        family="duality",
        scope="classifier",
        formula="‖Wᵀ/‖W‖_F − M̃/‖M̃‖_F‖_F",
        range="[0, 2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="not squared",
        source="Papyan, Han, Donoho 2020; Rangamani & Banburski-Fahey 2022",
        reading="Whether the classifier is the class means, up to scale. Unrelated directions read √2.",
        undefined="the class means coincide; W is zero or not finite",
    ),
    Metric(
        name="nc3_distance_squared",
        function=nc3_distance_squared,
        family="duality",
        scope="classifier",
        formula="‖Wᵀ/‖W‖_F − M̃/‖M̃‖_F‖_F²",
        range="[0, 4]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="the square of nc3_distance",
        source="Papyan, Han, Donoho 2020 (figure 5)",
        reading="What the PNAS paper plots. Unrelated directions read 2.",
        undefined="as nc3_distance",
    ),
    Metric(
        name="nc3_etf",
        function=nc3_etf,
        family="duality",
        scope="classifier",
        formula="‖W M̃/‖W M̃‖_F − ETF_K‖_F",
        range="[0, 2]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ETF_K = (I − 11ᵀ/K)/√(K−1)",
        source="Zhu et al. 2021; Kothapalli 2023",
        reading="Whether the classifier tells the class means apart evenly. Unrelated directions read √2.",
        undefined="the classifier sees nothing of the class means; d < K − 1; W is not finite; data of 2 of K > 2",
    ),
    Metric(
        name="nc3_cosine",
        function=nc3_cosine,
        family="duality",
        scope="classifier",
        quantities=("samples", "means"),
        formula="(1/N) Σ_i cos(h_i, W_{y_i})",
        range="[−1, 1]",
        at_collapse="1",
        centred=False,
        convention="quantity `samples` is the formula, `means` the same over class means",
        source="Jacot, Súkeník, Wang, Mondelli 2024 (their NC3)",
        reading="Whether each sample points along its own row of the classifier.",
        undefined="a row of W, a sample or a class mean is zero; W is not finite",
    ),
    Metric(
        name="nc3_uniform",
        function=nc3_uniform,
        family="duality",
        scope="classifier",
        formula="Var_c cos(w_c, μ̃_c)",
        range="[0, 1]",
        at_collapse="0",
        weighted=True,
        centred=True,
        convention="ddof 0",
        source="Wu & Papyan 2024",
        reading="Whether the classifier follows all class means equally well, or badly.",
        undefined="the mean of a class is μ_G; a row of W is zero; W is not finite",
    ),
    Metric(
        name="nc3_subspace",
        function=nc3_subspace,
        family="duality",
        scope="reader",
        formula="mean of the j singular values of V_j(W)ᵀU_j(M̃)",
        range="[0, 1]",
        at_collapse="1",
        weighted=True,
        centred=True,
        rank=subspace_rank,
        convention="j = min(rank M̃, rank W, K−1), given as rank; for every linear map that reads the layer",
        source="Rangamani, Lindegaard, Galanti, Poggio 2023",
        reading="Whether a map listens in the directions in which classes differ. Random: about 8/(3π)·√(K/d).",
        undefined="the class means coincide; W is zero or not finite; j = d; inner maps where data lacks classes",
    ),
)
