"""NC1: how far samples stray from their class mean, against how far the class means lie apart.

In: a LayerView. Out: one number a metric, 0 at collapse.
"""

import numpy as np

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView, Metric
from ncscan.statistics import LayerStats, Rank, Weighting, between, centred_rank, require_extent


def nc1_pinv(view: LayerView) -> float:
    """Return the within-class scatter in units of the between-class scatter, direction by direction: tr(Σ_W Σ_B⁺)/K.

    Σ_B⁺ inverts the at most K−1 directions of the centred class means that stand above the storage precision, so
    nothing of Σ_W outside their span counts.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse. Not changed by any scaling or rotation of the features.

    Raises: Undefined when every class has one sample, or the class means coincide.

    Source: Papyan, Han and Donoho 2020; Zhu et al. 2021; Kothapalli 2023.
    """
    return _noise_to_signal(view.stats, view.weighting) / view.stats.n_classes


def separation(view: LayerView) -> float:
    """Return D of the law of data separation: tr(Σ_W Σ_B⁺), classes weighted by their samples.

    Args:
        view: any layer; its weighting plays no part.

    Returns: ≥ 0, no unit; 0 at collapse. K times `nc1_pinv` where classes are balanced.

    Raises: Undefined when every class has one sample, or the class means coincide.

    Source: He and Su 2023.
    """
    return _noise_to_signal(view.stats, "sample")


def nc1_trace(view: LayerView) -> float:
    """Return the total within-class variance over total between-class variance: tr Σ_W / tr Σ_B.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse. One direction with much noise counts as much as many with little.

    Raises: Undefined when every class has one sample, or the class means coincide.

    Source: Tirer and Bruna 2022; Jacot, Súkeník, Wang and Mondelli 2024 (their NC1).
    """
    stats = view.stats
    _require_spread(stats)
    squares, _ = between(stats, view.weighting)
    return float(stats.within.sum() / stats.n_samples / squares.sum())


def nc1_normalized(view: LayerView) -> float:
    """Return the share of the within-class variance in all variance: tr Σ_W / (tr Σ_W + tr Σ_B).

    Args:
        view: any layer.

    Returns: in [0, 1]; 0 at collapse, 1 where class means coincide.

    Raises: Undefined when every class has one sample, or all samples are one point.

    Source: Rangamani, Lindegaard, Galanti and Poggio 2023.
    """
    stats = view.stats
    _require_spread(stats)
    require_extent(stats)
    noise = stats.within.sum() / stats.n_samples
    signal = stats.weights(view.weighting) @ np.square(stats.centred(view.weighting)).sum(axis=1)
    return float(noise / (noise + signal))


def vci(view: LayerView) -> float:
    """Return the variability collapse index: 1 − tr(Σ_T⁺ Σ_B)/rank Σ_B, classes weighted by their samples.

    With S what no other direction foretells of Σ_W in the span of M̃, this is the mean of g/(1 + g) over the
    eigenvalues g of Σ_B^{−½} S Σ_B^{−½}: the same, without the difference of two numbers near 1.

    Args:
        view: a layer with a Gram matrix; its weighting plays no part.

    Returns: in [0, 1]; 0 at collapse. Not changed by any invertible linear map of the features. An estimate where it
        depends on directions that cannot be told from rounding: low-rank layers of few samples.

    Raises: Undefined when every class has one sample, the class means coincide, d > 4096, so that there is no Gram
        matrix, or samples are too few to tell: then a linear map of the features reads any labels.

    Source: Xu and Liu 2023.
    """
    stats = view.stats
    _require_spread(stats)
    squares, _ = between(stats, "sample")
    if stats.unexplained is None:
        raise Undefined(_without_gram(stats))
    if stats.unexplained.trivial:
        raise Undefined(_TRIVIAL)
    s = np.sqrt(squares)
    ratios = stats.unexplained.scatter / stats.n_samples / s / s[:, None]
    if not np.isfinite(ratios).all():
        raise Undefined("activations are so small that their squares underflow")
    g = np.maximum(np.linalg.eigvalsh(ratios), 0.0)
    return float(np.mean(g / (1 + g)))


def vci_rank(view: LayerView) -> Rank:
    """Return the rank of Σ_B, and whether directions that may be rounding are too few to matter."""
    found = view.stats.unexplained
    return Rank(sample_rank(view).value, certain=found is None or found.doubtful <= _NEGLIGIBLE)


def cdnv(view: LayerView) -> float:
    """Return the class-distance normalised variance: mean over c ≠ c' of (v_c + v_c')/(2‖μ_c − μ_c'‖²).

    v_c is the mean of ‖h − μ_c‖² over class c.

    Args:
        view: any layer.

    Returns: ≥ 0, no unit; 0 at collapse.

    Raises: Undefined when every class has one sample, or two class means coincide.

    Source: Galanti, György and Hutter 2021.
    """
    stats = view.stats
    _require_spread(stats)
    v, pairs = stats.within / stats.counts, stats.n_classes * (stats.n_classes - 1) / 2
    if stats.frame.crowding.distance <= stats.tolerance:
        one, other = stats.classes[list(stats.frame.crowding.pair)]
        raise Undefined(f"the means of classes {one} and {other} coincide, as far as rounding of the means can tell")
    return float(v @ stats.frame.crowding.inverse_squares / 2 / pairs)  # each v_c stands in K − 1 pairs


def sample_rank(view: LayerView) -> Rank:
    """Return the rank of M̃ centred by samples."""
    return centred_rank(view.stats, "sample")


def means_rank(view: LayerView) -> Rank:
    """Return the rank of M̃, on which Σ_B⁺ rests."""
    return centred_rank(view.stats, view.weighting)


_NEGLIGIBLE = 0.01
"""A value that a decision on rounding moves by more is an estimate."""

_TRIVIAL = "trivially 0: samples are so few that directions without classes foretell any labels"


def _without_gram(stats: LayerStats) -> str:
    """Return why there is no vci of a layer whose features have no Gram matrix."""
    if stats.spectrum is None:
        return "no Gram matrix was accumulated"
    if stats.spectrum.reason:
        return stats.spectrum.reason
    if stats.spectrum.rank == stats.n_samples:  # no sample is a combination of the others: any labels are foretold
        return _TRIVIAL
    own = f"only {stats.spectrum.rank} of {stats.n_samples} samples are seen to be independent"
    return f"{stats.n_features} features have no Gram matrix, and {own}"


def _noise_to_signal(stats: LayerStats, weighting: Weighting) -> float:
    """Return tr(Σ_W Σ_B⁺)."""
    _require_spread(stats)
    squares, axes = between(stats, weighting)
    within = np.einsum("kr,kr->k", axes @ stats.projected, axes) / stats.n_samples  # diagonal of Σ_W in those axes
    return float(np.sum(within / squares))


def _require_spread(stats: LayerStats) -> None:
    """Raise Undefined when all classes have one sample, and so no spread: 0 would tell nothing of collapse."""
    if stats.n_samples == stats.n_classes:
        raise Undefined("one sample a class: nothing can vary within classes")


VARIABILITY: tuple[Metric, ...] = (
    Metric(
        name="nc1_pinv",
        function=nc1_pinv,
        family="variability",
        formula="tr(Σ_W Σ_B⁺)/K",
        range="[0, ∞)",
        at_collapse="0",
        weighted=True,
        rank=means_rank,
        convention="Σ_B⁺ over the directions of M̃ above τ, at most K−1",
        source="Papyan, Han, Donoho 2020; Zhu et al. 2021; Kothapalli 2023",
        reading="Noise within classes in units of the distance between them, where classes differ at all.",
        undefined="every class has one sample; the class means coincide",
    ),
    Metric(
        name="nc1_trace",
        function=nc1_trace,
        family="variability",
        formula="tr Σ_W / tr Σ_B",
        range="[0, ∞)",
        at_collapse="0",
        weighted=True,
        rank=means_rank,
        convention="all directions count, also those in which classes do not differ",
        source="Tirer & Bruna 2022; Jacot, Súkeník, Wang, Mondelli 2024 (their NC1)",
        reading="Total noise over total signal. Permuted labels read about (N−K)/(K−1).",
        undefined="every class has one sample; the class means coincide",
    ),
    Metric(
        name="nc1_normalized",
        function=nc1_normalized,
        family="variability",
        formula="tr Σ_W/(tr Σ_W + tr Σ_B)",
        range="[0, 1]",
        at_collapse="0",
        weighted=True,
        convention="all directions count",
        source="Rangamani, Lindegaard, Galanti, Poggio 2023",
        reading="The share of noise in all variance; comparable over depth, where tr Σ_B may vanish.",
        undefined="every class has one sample; all samples are one point",
    ),
    Metric(
        name="cdnv",
        function=cdnv,
        family="variability",
        formula="mean over c≠c' of (v_c + v_c')/(2‖μ_c − μ_c'‖²), v_c = mean ‖h − μ_c‖² over class c",
        range="[0, ∞)",
        at_collapse="0",
        convention="every pair of classes counts alike, whatever their sizes",
        source="Galanti, György, Hutter 2021",
        reading="Noise over distance, pair by pair: two classes that are close dominate it.",
        undefined="every class has one sample; two class means coincide",
    ),
    Metric(
        name="separation",
        function=separation,
        family="variability",
        formula="tr(Σ_W Σ_B⁺)",
        range="[0, ∞)",
        at_collapse="0",
        weighted=True,
        only="sample",
        rank=sample_rank,
        convention="always weighted by samples; Σ_B⁺ as in nc1_pinv, without 1/K",
        source="He & Su 2023",
        reading="The D of the law of data separation: it shrinks by about the same factor from layer to layer.",
        undefined="every class has one sample; the class means coincide",
    ),
)


VARIABILITY_COLLAPSE_INDEX: tuple[Metric, ...] = (
    Metric(
        name="vci",
        function=vci,
        family="variability",
        scope="spectrum",
        formula="1 − tr(Σ_T⁺Σ_B)/rank Σ_B",
        range="[0, 1]",
        at_collapse="0",
        weighted=True,
        only="sample",
        rank=vci_rank,
        convention="always weighted by samples; Σ_T = Σ_W + Σ_B",
        source="Xu & Liu 2023",
        reading="What a linear map of the features can still not tell of the classes. No linear map changes it.",
        undefined="d > 4096; too few samples; every class has one sample; the class means coincide",
    ),
)
