"""Conditioning: the singular values of a layer's activations, and what a ReLU takes from them.

In: a LayerView whose Gram matrices were accumulated. Out: condition numbers and ratios of norms.
"""

import numpy as np

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView, Value
from ncscan.statistics import Negative, Rank, Spectrum


def feature_condition(view: LayerView) -> float:
    """Condition number of the activations: κ(Z) = s_1 / smallest non-zero singular value, not centred.

    Args:
        view: a layer with a spectrum.

    Returns: ≥ 1, no unit. Where it is an estimate, some directions lie under what the Gram matrix resolves; κ is over
        the others, whose number is the rank, and those may be zero or make κ larger. At collapse the κ of the columns
        √n_c μ_c: 1 where classes are balanced and their means orthogonal, or a simplex around zero, of one length.

    Raises: Undefined when the layer is too wide for an exact spectrum, or all activations are zero.

    Source: Jacot, Súkeník, Wang and Mondelli 2024.
    """
    s = _spectrum(view).values
    if len(s) == 0:
        raise Undefined("all activations are zero")
    return float(s[0] / s[-1])


def feature_rank(view: LayerView) -> Rank:
    """How many singular values of Z are resolved, and whether that is all of them."""
    spectrum = _spectrum(view)
    return Rank(spectrum.rank, spectrum.complete)


def negativity(view: LayerView) -> Value:
    """Share of a pre-activation that the ReLU after it removes: ‖Z − relu(Z)‖/‖Z‖.

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


def _spectrum(view: LayerView) -> Spectrum:
    spectrum = view.stats.spectrum
    if spectrum is None:
        raise Undefined("no spectrum was accumulated")
    if spectrum.reason:
        raise Undefined(spectrum.reason)
    return spectrum
