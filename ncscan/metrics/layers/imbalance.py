"""What imbalance does to the smallest classes.

In: a LayerView of imbalanced classes. Out: the metrics `imbalance` and `imbalance_w`.
"""

from functools import partial

import numpy as np
from jaxtyping import Float64

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.metrics.layers.per_class import ONE_SAMPLE, around_mean, errors
from ncscan.metrics.view import LayerView, Metric, Value
from ncscan.statistics import true_value

SIZES = ("minority", "majority")
"""The smallest classes, and the largest."""


def imbalance(view: LayerView) -> Value:
    """Compare the smallest classes with the largest: how noisy, how far out, how well told apart.

    Quantities `ratio` n_max/n_min, and for `minority` and `majority`, the classes of n_min and of n_max samples, the
    mean over them of v_c (`variance_…`), of ‖μ̃_c‖ (`norm_…`) and of the error of the nearest class centre (`error_…`),
    and over pairs of them the mean of cos(μ̃_c, μ̃_c') (`cosine_…`).

    Args:
        view: any layer of imbalanced classes.

    Returns: ratio > 1; at collapse under imbalance `cosine_minority` rises with the ratio, up to 1: minority collapse.

    Raises: `cosine_…` alone is Undefined where only one class is that small, or large; `variance_…` and `error_…` where
        the classes of that size have one sample each: it is its own mean.

    Source: Fang, He, Long and Su 2021 (minority collapse).
    """
    stats = view.stats
    counts = stats.counts
    found: dict[str, float | Undefined] = {"ratio": float(counts.max() / counts.min())}
    vectors = stats.centred(view.weighting)
    per_class = {
        "variance": around_mean(stats.within / counts, stats),
        "norm": np.linalg.norm(vectors, axis=1),
        "error": attempt(partial(errors, view)),
    }
    groups = (counts == counts.min(), counts == counts.max())
    for name, values in per_class.items():
        for size, group in zip(SIZES, groups, strict=True):
            if isinstance(values, Undefined):
                found[f"{name}_{size}"] = values
                continue
            mean, power = float(values[group].mean()), _POWERS.get(name, 0)
            true = attempt(partial(true_value, mean, power * stats.exponent))
            found[f"{name}_{size}"] = Undefined(ONE_SAMPLE) if np.isnan(mean) else true
    for size, group in zip(SIZES, groups, strict=True):
        found[f"cosine_{size}"] = _mean_cosine(vectors[group], stats.tolerance)
    return found


_POWERS = {"variance": 2, "norm": 1}
"""The power of the unit of the activations in which each number is."""


def imbalance_w(view: LayerView) -> Value:
    """Compare the rows of the classifier for the smallest classes with those for the largest.

    Quantities `norm_…` mean ‖w_c‖ and `cosine_…` mean cos(w_c, w_c') over pairs, of `minority` and `majority`.

    Args:
        view: a layer of imbalanced classes, from which a linear map leads to the logits.

    Returns: `cosine_minority` is 1 where all small classes have one row: the network cannot tell them apart.

    Raises: Undefined when W is not finite; `cosine_…` alone where one class is that small, or a row is zero.

    Source: Fang, He, Long and Su 2021 (minority collapse).
    """
    W, counts = view.rows, view.stats.counts
    found: dict[str, float | Undefined] = {}
    groups = dict(zip(SIZES, (counts == counts.min(), counts == counts.max()), strict=True))
    for size, group in groups.items():
        norm = np.linalg.norm(W[group], axis=1).mean()
        found[f"norm_{size}"] = true_value(norm, view.row_exponent)
        found[f"cosine_{size}"] = _mean_cosine(W[group], 0.0)
    return found


def _mean_cosine(vectors: Float64[np.ndarray, "n r"], least: float) -> float | Undefined:
    if len(vectors) < 2:
        return Undefined("one class alone is of that size")
    norms = np.linalg.norm(vectors, axis=1)
    if norms.min() <= least:
        return Undefined("a class has no direction")
    n, along = len(vectors), (vectors / norms[:, None]).sum(axis=0)
    return float((along @ along - n) / (n * (n - 1)))  # ‖Σ u_c‖² = n + Σ_{c≠c'} ⟨u_c, u_c'⟩


IMBALANCE: tuple[Metric, ...] = (
    Metric(
        name="imbalance",
        function=imbalance,
        family="classes",
        scope="imbalance",
        quantities=(
            "ratio",
            "variance_minority",
            "variance_majority",
            "norm_minority",
            "norm_majority",
            "error_minority",
            "error_majority",
            "cosine_minority",
            "cosine_majority",
        ),
        formula="n_max/n_min; means of v_c, ‖μ̃_c‖, ncc error, cos(μ̃_c, μ̃_c') over the classes of n_min, of n_max",
        range="ratio (1, ∞)",
        at_collapse="–",
        weighted=True,
        unweighted=("ratio", "variance_minority", "variance_majority", "error_minority", "error_majority"),
        convention="only where classes are imbalanced",
        source="Fang, He, Long, Su 2021",
        reading="Minority collapse: `cosine_minority` rises with the ratio, and small classes are told apart no more.",
        undefined="`cosine` where one class is of that size; `variance`, `error` of one sample; `error` as ncc_error",
    ),
)


IMBALANCE_OF_CLASSIFIER: tuple[Metric, ...] = (
    Metric(
        name="imbalance_w",
        function=imbalance_w,
        family="classes",
        scope="imbalance of the classifier",
        quantities=("norm_minority", "norm_majority", "cosine_minority", "cosine_majority"),
        formula="means of ‖w_c‖ and of cos(w_c, w_c') over the classes of n_min, and of n_max, samples",
        range="norm [0, ∞), cosine [−1, 1]",
        at_collapse="–",
        centred=False,
        convention="rows of W, not centred; only where classes are imbalanced",
        source="Fang, He, Long, Su 2021",
        reading="`cosine_minority` 1 is minority collapse: the small classes have one row of the classifier.",
        undefined="`cosine` where one class is of that size or a row is zero; W is not finite",
    ),
)
