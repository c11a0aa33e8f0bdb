"""Class by class and pair by pair: what the mean over classes hides.

In: a LayerView. Out: rows for classes.csv.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.metrics.layers.nearest_class_center import require_apart
from ncscan.metrics.layers.self_duality import class_cosines, pair_cosines
from ncscan.metrics.view import Definition, LayerView
from ncscan.statistics import MOST_PAIRED, LayerStats, distance_blocks, true_value

ONE_SAMPLE = "the class has one sample, which is its own mean"


@dataclass(frozen=True)
class ClassRow:
    """One number of a class, or of a pair of classes."""

    class_index: int
    other_index: int | None
    """The other class of a pair, the greater one where their order plays no part; None for one class alone."""
    metric: str
    quantity: str
    value: float | None
    reason: str
    """Why there is no value, else empty."""


def class_rows(view: LayerView) -> list[ClassRow]:
    """Return every number of every class, then of every pair, in the order of CLASS_METRICS."""
    rows = [row for metric in CLASS_METRICS if metric.asked(view) for row in _rows(metric, view)]
    return [row for row in rows if row.other_index is None] + [row for row in rows if row.other_index is not None]


@dataclass(frozen=True)
class ClassMetric(Definition):
    """One row of the table of what is given for every class, or for every pair."""

    function: Callable[[LayerView], Float64[np.ndarray, "..."]]
    """Returns a value for every class (K,), or for every pair (K, K); NaN where there is none."""
    missing: str = ONE_SAMPLE
    """The meaning of NaN there."""
    quantity: str = ""
    pairs: bool = False
    ordered: bool = False
    """Whether c, c' is another pair than c', c."""
    asked: Callable[[LayerView], bool] = lambda view: True
    power: int = 0
    """The power of the unit of the activations in which its values are."""


def _rows(metric: ClassMetric, view: LayerView) -> Iterator[ClassRow]:
    K, classes = view.stats.n_classes, view.stats.classes
    if metric.pairs and K > MOST_PAIRED:
        return
    one, other = _places(metric, K)
    obstacle = view.stats.obstacle
    found = Undefined(obstacle) if obstacle else attempt(lambda: metric.function(view))
    values, reason = (None, str(found)) if isinstance(found, Undefined) else (found, "")
    for i, c in enumerate(one):
        b = None if other is None else int(other[i])
        value, why = (None, reason) if values is None else _true(values[c] if b is None else values[c, b], metric, view)
        yield ClassRow(
            class_index=int(classes[c]),
            other_index=None if b is None else int(classes[b]),
            metric=metric.name,
            quantity=metric.quantity,
            value=value,
            reason=why,
        )


def _true(value: np.floating, metric: ClassMetric, view: LayerView) -> tuple[float | None, str]:
    """Return a value as it is, or why there is none."""
    if not np.isfinite(value):
        return None, metric.missing
    found = attempt(partial(true_value, value, metric.power * view.stats.exponent))
    return (None, str(found)) if isinstance(found, Undefined) else (found, "")


def _places(metric: ClassMetric, K: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the class of each row, and the other one of a pair."""
    if not metric.pairs:
        return np.arange(K), None
    one, other = np.nonzero(~np.eye(K, dtype=bool)) if metric.ordered else np.triu_indices(K, k=1)
    return one, other


def around_mean(values: Float64[np.ndarray, "K"], stats: LayerStats) -> Float64[np.ndarray, "K"]:
    """Return values about samples around their class mean; NaN for a class of one, which is its own mean."""
    return np.where(stats.counts > 1, values, np.nan)


def errors(view: LayerView) -> np.ndarray:
    stats, counts = view.stats, view.stats.counts
    require_apart(stats)
    return around_mean(1 - stats.right / counts, stats)


def _disagreements(view: LayerView) -> np.ndarray:
    if view.decisions_obstacle:
        raise Undefined(view.decisions_obstacle)
    disagreements = view.stats.disagreements
    if disagreements is None:
        raise Undefined("the network's decisions are not known")
    require_apart(view.stats)
    return around_mean(disagreements / view.stats.counts, view.stats)


def _centred_norms(view: LayerView) -> np.ndarray:
    return np.asarray(np.linalg.norm(view.stats.centred(view.weighting), axis=1))


def _distances(view: LayerView) -> np.ndarray:
    ((_, distances),) = distance_blocks(view.stats.coordinates)  # so few classes that they fit one block
    return distances


def _cosines(view: LayerView) -> np.ndarray:
    vectors = view.stats.centred(view.weighting)
    norms = np.linalg.norm(vectors, axis=1)
    norms[norms <= view.stats.tolerance] = np.nan
    unit = vectors / norms[:, None]
    return np.asarray(unit @ unit.T)


def _pair_cdnv(view: LayerView) -> np.ndarray:
    distances = _distances(view)
    distances[distances <= view.stats.tolerance] = np.nan
    v = around_mean(view.stats.within / view.stats.counts, view.stats)
    return np.asarray((v[:, None] + v) / (2 * distances**2))


def _confusion(view: LayerView) -> np.ndarray:
    nearest, counts = view.stats.nearest, view.stats.counts
    if nearest is None:
        raise Undefined("which class is taken for which was not counted")
    require_apart(view.stats)
    return np.asarray((nearest + nearest.T) / (counts[:, None] + counts))


def _has_classifier(view: LayerView) -> bool:
    return view.classifier is not None


def _has_decisions(view: LayerView) -> bool:
    return view.stats.disagreements is not None or bool(view.decisions_obstacle)


CLASS_METRICS: tuple[ClassMetric, ...] = (
    ClassMetric(
        name="class_samples",
        function=lambda view: view.stats.counts.astype(np.float64),
        formula="n_c",
        range="0, 1, …",
        at_collapse="–",
        convention="",
        source="–",
        reading="How many samples the other numbers of the class rest on.",
        undefined="only where activations are not finite",
    ),
    ClassMetric(
        name="class_variance",
        function=lambda view: around_mean(view.stats.within / view.stats.counts, view.stats),
        power=2,
        formula="v_c = mean ‖h − μ_c‖² over class c",
        range="[0, ∞)",
        at_collapse="0",
        convention="in squared units of the activations",
        source="Galanti, György, Hutter 2021",
        reading="Which classes have not collapsed yet.",
        undefined="the class has one sample",
    ),
    ClassMetric(
        name="class_norm",
        function=_centred_norms,
        power=1,
        formula="‖μ̃_c‖",
        range="[0, ∞)",
        at_collapse="the same for all",
        convention="μ_G weighted by class; in units of the activations",
        source="Papyan, Han, Donoho 2020",
        reading="What `nc2_equinorm` is the spread of: small classes usually lie further in, or further out.",
        undefined="only where activations are not finite",
    ),
    ClassMetric(
        name="ncc_error",
        function=errors,
        formula="P[c ≠ argmin_c' ‖h − μ_c'‖] over class c",
        range="[0, 1]",
        at_collapse="0",
        convention="as the metric of that name",
        source="Papyan, Han, Donoho 2020; Galanti, György, Hutter 2021",
        reading="Which classes the nearest class centre gets wrong.",
        undefined="the class has one sample; as the metric of that name",
    ),
    ClassMetric(
        name="nc4_mismatch",
        function=_disagreements,
        asked=_has_decisions,
        formula="P[argmax_c' f_c' ≠ argmin_c' ‖h − μ_c'‖] over class c",
        range="[0, 1]",
        at_collapse="0",
        convention="as the metric of that name",
        source="Papyan, Han, Donoho 2020",
        reading="For which classes the network decides otherwise than the nearest class centre.",
        undefined="the class has one sample; logits are not finite; as the metric of that name",
    ),
    ClassMetric(
        name="nc3_class_cosine",
        function=class_cosines,
        asked=_has_classifier,
        formula="cos(w_c, μ̃_c)",
        range="[−1, 1]",
        at_collapse="1",
        convention="μ_G weighted by class",
        source="Wu & Papyan 2024",
        reading="What `nc3_uniform` is the variance of.",
        undefined="any class sits at the global mean; a row of W is zero; W is not finite",
    ),
    ClassMetric(
        name="pair_cosine",
        function=_cosines,
        pairs=True,
        missing="a class sits at the global mean",
        formula="cos(μ̃_c, μ̃_c')",
        range="[−1, 1]",
        at_collapse="−1/(K−1)",
        convention="μ_G weighted by class; pairs are given up to 100 classes",
        source="Papyan, Han, Donoho 2020",
        reading="Which classes lie closer than the others, seen from the centre.",
        undefined="one of the two sits at the global mean",
    ),
    ClassMetric(
        name="nc3_pair_cosine",
        function=pair_cosines,
        asked=_has_classifier,
        pairs=True,
        ordered=True,
        formula="cos(w_c, μ̃_c')",
        range="[−1, 1]",
        at_collapse="−1/(K−1)",
        convention="c of the classifier, c' of the means; μ_G weighted by class; pairs are given up to 100 classes",
        source="Papyan, Han, Donoho 2020",
        reading="Which class means a row of the classifier points at beside its own: what it may mistake.",
        undefined="any class sits at the global mean; a row of W is zero; W is not finite",
    ),
    ClassMetric(
        name="pair_distance",
        function=_distances,
        power=1,
        pairs=True,
        formula="‖μ_c − μ_c'‖",
        range="[0, ∞)",
        at_collapse="the same for all",
        convention="in units of the activations; pairs are given up to 100 classes",
        source="–",
        reading="How far two classes lie apart.",
        undefined="only where activations are not finite",
    ),
    ClassMetric(
        name="pair_cdnv",
        function=_pair_cdnv,
        pairs=True,
        missing="one of the classes has one sample, or their means coincide",
        formula="(v_c + v_c')/(2‖μ_c − μ_c'‖²)",
        range="[0, ∞)",
        at_collapse="0",
        convention="pairs are given up to 100 classes",
        source="Galanti, György, Hutter 2021",
        reading="What `cdnv` is the mean of: one close pair can be most of it.",
        undefined="one of the two has one sample; their means coincide",
    ),
    ClassMetric(
        name="pair_confusion",
        function=_confusion,
        pairs=True,
        formula="P[the nearest class centre takes one of c, c' for the other]",
        range="[0, 1]",
        at_collapse="0",
        convention="over the samples of both; pairs are given up to 100 classes",
        source="–",
        reading="Where the errors of `ncc_error` go.",
        undefined="as the metric `ncc_error`",
    ),
)
"""The measures that are given class by class and pair by pair, in the order of the rows."""
