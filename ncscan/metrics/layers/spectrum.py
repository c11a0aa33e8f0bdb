"""Sizes: the singular values of a layer's activations, how long samples are, and what a ReLU takes from them.

In: a LayerView whose Gram matrices were accumulated. Out: condition numbers, ranks, norms and their ratios.
"""

import numpy as np

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView, Metric, Value
from ncscan.statistics import LayerStats, Negative, Rank, Spectrum, true_value

_NUMERICAL_RANK = 1e-3
"""The share of s_1 above which a direction counts, as the papers on the tunnel effect have it."""


def feature_condition(view: LayerView) -> float:
    """Return the condition number of the activations: κ(Z) = s_1 / smallest non-zero singular value, not centred.

    Args:
        view: a layer with a spectrum.

    Returns: ≥ 1, no unit. Where it is an estimate, some directions lie under what the Gram matrix resolves; κ is over
        the others, whose number is the rank, and those may be zero or make κ larger. At collapse the κ of the columns
        √n_c μ_c: 1 where classes are balanced and their means orthogonal, or a simplex around zero, of one length.

    Raises: Undefined when the layer is too wide for an exact spectrum, or all activations are zero.

    Source: Jacot, Súkeník, Wang and Mondelli 2024.
    """
    s = _nonzero_spectrum(view).values
    return float(s[0] / s[-1])


def feature_rank(view: LayerView) -> Rank:
    """Return how many singular values of Z are resolved, and whether that is all of them."""
    spectrum = _spectrum(view)
    return Rank(spectrum.rank, spectrum.complete)


def numerical_rank(view: LayerView) -> float:
    """Return how many directions carry more than a thousandth of the strongest: #{s_i > 10⁻³ s_1}, not centred.

    Args:
        view: a layer with a spectrum.

    Returns: 1 … min(N, d); K at collapse, K−1 where the class means sum to zero.

    Raises: Undefined when the layer is too wide for an exact spectrum, all activations are zero, or singular values
        of that size cannot be told from rounding.

    Source: Masarczyk et al. 2023 (the tunnel effect).
    """
    spectrum = _nonzero_spectrum(view)
    s = spectrum.values
    if spectrum.rank < spectrum.full and _hidden(spectrum) > _NUMERICAL_RANK * s[0]:
        raise Undefined("the tail of the spectrum is not resolved")
    return float((s > _NUMERICAL_RANK * s[0]).sum())


def stable_rank(view: LayerView) -> float:
    """Return the total square over that of the strongest direction: ‖Z‖_F²/‖Z‖², not centred.

    Args:
        view: a layer with a spectrum.

    Returns: in [1, min(N, d)]; K at collapse onto an orthogonal frame, K−1 onto a simplex around zero.

    Raises: Undefined when the layer is too wide for an exact spectrum, or all activations are zero.

    Source: Rudelson and Vershynin 2007.
    """
    found = float(view.stats.total_square / _nonzero_spectrum(view).values[0] ** 2)
    return max(found, 1.0)  # two sums of the same squares, each with its rounding


def effective_rank(view: LayerView) -> float:
    """Return the exponential of the entropy of the singular values: exp(−Σ p_i log p_i), p_i = s_i/Σs, not centred.

    Args:
        view: a layer with a spectrum.

    Returns: in [1, min(N, d)]; K at collapse onto an orthogonal frame, K−1 onto a simplex around zero. An estimate
        where something may lie under what the Gram matrix resolves.

    Raises: Undefined when the layer is too wide for an exact spectrum, all activations are zero, or what is not
        resolved may be more than 1 % of Σs.

    Source: Roy and Vetterli 2007; Garrido et al. 2023 (RankMe).
    """
    spectrum = _nonzero_spectrum(view)
    s = spectrum.values
    if (spectrum.full - spectrum.rank) * _hidden(spectrum) > 0.01 * s.sum():
        raise Undefined("the tail of the spectrum is not resolved")
    p = s / s.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def participation_ratio(view: LayerView) -> float:
    """Return how many directions share the total square: (Σ λ_i)²/Σ λ_i², λ_i = s_i², not centred.

    Args:
        view: a layer with a spectrum.

    Returns: in [1, min(N, d)]; K at collapse onto an orthogonal frame, K−1 onto a simplex around zero.

    Raises: Undefined when the layer is too wide for an exact spectrum, or all activations are zero.

    Source: Gao et al. 2017.
    """
    s = _nonzero_spectrum(view).values
    share = (s / s[0]) ** 2  # fourth powers of large numbers overflow
    return float(share.sum() ** 2 / np.square(share).sum())


def norms(view: LayerView) -> Value:
    """Return how long activations are, and how many are exactly zero.

    Quantities `global_mean` ‖μ_G‖, `mean` and `std` (ddof 0) of ‖h‖ over samples, `zeros` among all N·d numbers.

    Args:
        view: any layer.

    Returns: the first three ≥ 0 in the unit of the activations, `zeros` in [0, 1]. At collapse onto a simplex around
        zero `global_mean` is 0, onto an orthogonal frame `mean`/√K; `std` is 0 on both.

    Source: –
    """
    stats = view.stats
    mean = stats.global_mean(view.weighting)
    size = float(np.abs(mean).max())
    return {
        "global_mean": _true(stats, size * float(np.linalg.norm(mean / size)) if size else 0.0),
        "mean": _true(stats, stats.norms.mean),
        "std": _true(stats, float(np.sqrt(stats.norms.spread / stats.norms.count))),
        "zeros": stats.zeros / (stats.n_samples * stats.n_features),
    }


def _true(stats: LayerStats, length: float) -> float | Undefined:
    try:
        return true_value(length, stats.exponent)
    except Undefined as why:
        return why


def negativity(view: LayerView) -> Value:
    """Return the share of a pre-activation that the ReLU after it removes: ‖Z − relu(Z)‖/‖Z‖.

    Quantity `op` in the operator norm (the paper's; can exceed 1), `fro` in the Frobenius norm.

    Args:
        view: a pre-activation.

    Returns: op ≥ 0, fro in [0, 1]; both 0 where the ReLU changes nothing.

    Raises: Undefined when all activations are zero; `op` alone when the layer is too wide for an exact spectrum.

    Source: Jacot, Súkeník, Wang and Mondelli 2024.
    """
    negative, total = view.stats.negative, view.stats.total_square
    if negative is None:
        raise Undefined("not a pre-activation")
    if total == 0:
        raise Undefined("all activations are zero")
    return {"op": _operator_negativity(view, negative), "fro": float(np.sqrt(negative.square / total))}


def _operator_negativity(view: LayerView, negative: Negative) -> float | Undefined:
    try:
        s = _spectrum(view).values
    except Undefined as why:
        return why
    return Undefined("no Gram matrix was accumulated") if negative.largest is None else float(negative.largest / s[0])


def _nonzero_spectrum(view: LayerView) -> Spectrum:
    spectrum = _spectrum(view)
    if spectrum.rank == 0:
        raise Undefined("all activations are zero")
    return spectrum


def _hidden(spectrum: Spectrum) -> float:
    """Return how large a singular value can be that is not among the values."""
    return max(spectrum.resolution, spectrum.storage)


def _spectrum(view: LayerView) -> Spectrum:
    spectrum = view.stats.spectrum
    if spectrum is None:
        raise Undefined("no spectrum was accumulated")
    if spectrum.reason:
        raise Undefined(spectrum.reason)
    return spectrum


SPECTRUM: tuple[Metric, ...] = (
    Metric(
        name="feature_condition",
        function=feature_condition,
        family="spectrum",
        scope="spectrum",
        formula="κ(Z) = s_1 / smallest non-zero s",
        range="[1, ∞)",
        at_collapse="–",
        centred=False,
        rank=feature_rank,
        convention="over the singular values that are resolved; an estimate where others may hide under them",
        source="Jacot, Súkeník, Wang, Mondelli 2024",
        reading="Read it with its rank: dead units and low-rank layers leave fewer directions, not a larger κ.",
        undefined="min(N, d) > 4096; all activations are zero",
    ),
    Metric(
        name="numerical_rank",
        function=numerical_rank,
        family="spectrum",
        scope="spectrum",
        formula="#{s_i > 10⁻³ s_1}",
        range="1 … min(N, d)",
        at_collapse="K−1 or K",
        centred=False,
        convention="singular values of Z, not centred",
        source="Masarczyk et al. 2023",
        reading="How many directions a layer uses; where it falls with depth, the tunnel begins.",
        undefined="min(N, d) > 4096; all activations are zero; the tail of the spectrum is not resolved",
    ),
    Metric(
        name="stable_rank",
        function=stable_rank,
        family="spectrum",
        scope="spectrum",
        formula="‖Z‖_F²/‖Z‖²",
        range="[1, min(N, d)]",
        at_collapse="K−1 or K",
        centred=False,
        rank=feature_rank,
        convention="not centred",
        source="Rudelson & Vershynin 2007",
        reading="1 where a common mean is most of the activations.",
        undefined="min(N, d) > 4096; all activations are zero",
    ),
    Metric(
        name="effective_rank",
        function=effective_rank,
        family="spectrum",
        scope="spectrum",
        formula="exp(−Σ p_i log p_i), p_i = s_i/Σs",
        range="[1, min(N, d)]",
        at_collapse="K−1 or K",
        centred=False,
        rank=feature_rank,
        convention="entropy of singular values, not of their squares; not centred",
        source="Roy & Vetterli 2007; Garrido et al. 2023 (RankMe)",
        reading="A rank that weak directions enter by their share.",
        undefined="min(N, d) > 4096; all activations are zero; what is not resolved may be over 1 % of Σs",
    ),
    Metric(
        name="participation_ratio",
        function=participation_ratio,
        family="spectrum",
        scope="spectrum",
        formula="(Σ λ_i)²/Σ λ_i², λ_i = s_i²",
        range="[1, min(N, d)]",
        at_collapse="K−1 or K",
        centred=False,
        rank=feature_rank,
        convention="of squared singular values; not centred",
        source="Gao et al. 2017",
        reading="A rank that only strong directions enter.",
        undefined="min(N, d) > 4096; all activations are zero",
    ),
    Metric(
        name="norms",
        function=norms,
        family="spectrum",
        quantities=("global_mean", "mean", "std", "zeros"),
        formula="‖μ_G‖; mean and std of ‖h‖; share of h_ij = 0",
        range="[0, ∞); zeros [0, 1]",
        at_collapse="std 0 where classes are of one length",
        weighted=True,
        unweighted=("mean", "std", "zeros"),
        convention="mean and std (ddof 0) over samples, zeros over all N·d numbers",
        source="–",
        reading="Sizes, for judging all the others; zeros are what a ReLU leaves of a half space.",
        undefined="only where activations are not finite",
    ),
    Metric(
        name="negativity",
        function=negativity,
        family="spectrum",
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
)
