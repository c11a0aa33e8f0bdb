"""What weight decay implies where training has come to rest, and how near to rest this checkpoint is.

In: the moments of the linear head, the weights of all linear maps, the traced graph, and the [train] section. Out:
claims. Of everything here only `balance_at_rest` and `floor` hold for every checkpoint, and only they are bounds: the
others are equalities of a critical point of (1/2N)Σ‖y_i − f_i‖² + (λ/2)Σ‖W_k‖_F², given as a value, its target and how
far it is from that, without a verdict.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64
from scipy.linalg import solve

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.layer_graph import TapGraph, joined
from ncscan.metrics import Weights
from ncscan.theory.claims import Claim, at_least, at_most, distance, equality, fact, hypothesis, undefined
from ncscan.theory.homogeneity import scaling_norms
from ncscan.theory.linear_head import HeadStats
from ncscan.training_settings import SQUARE_LOSSES, Train, number, optimizer_kind, ridge, text

DECAY_CLAIMS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("weight_decay", ("lambda",), "λ = K·wd/(2c) for a loss of c·MSELoss"),
    ("ridge_form", ("sigma_w", "features"), "‖W_L − W*‖_F/‖W_L‖_F, W* what the features and λ make of W_L"),
    (
        "stationarity",
        ("",),
        "‖∂/∂W_ℓ‖_F/(λ‖W_ℓ‖_F) of a map of the head: 0 at a critical point",
    ),
    ("balance_at_rest", ("",), "‖D_ℓ‖ ≤ (‖W_{ℓ+1}‖‖g_{ℓ+1}‖ + ‖W_ℓ‖‖g_ℓ‖)/λ, g the gradients: at rest D is 0"),
    ("radial", ("",), "λ‖W_k‖_F² beside its target (1/N)Σ⟨y_i − f_i, f_i − b_L⟩, the same for every map"),
    ("norm_spread", ("",), "std/mean of ‖W_k‖_F over the maps that `radial` is said of; target 0"),
    ("loss_identity", ("",), "the loss with decay beside (λ/2)Σ_{k≠j}‖W_k‖_F² + (1/2N)Σ⟨y_i − b_L, y_i − f_i⟩"),
    (
        "interpolation",
        ("epsilon", "delta", "asymmetry"),
        "mean of 1 − f_y; mean output off target; rms distance from that",
    ),
    ("prediction_applies", ("noise", "asymmetry"), "‖W_LΣ_W‖_F/(λ‖W_L‖_F) and asymmetry/ε, each to be under 0.1"),
    (
        "predicted_classifier",
        ("two_parameter", "paper", "two_parameter_norm", "paper_norm"),
        "‖W_L − W*‖_F/‖W_L‖_F and mean ‖W_c‖² beside what ε and δ predict; the paper's has δ = ε/(K − 1)",
    ),
    ("zero_sum", ("",), "mean_i |Σ_c f_c|: whether outputs sum to zero, as those of a simplex do"),
    ("floor", ("universal", "at_scale"), "what outputs of that sum cost at least, (1/2N)Σ‖y_i − f_i‖²"),
)
"""Claim, its quantities, and its statement."""

NEGLIGIBLE = 0.1
"""A term under this share is left out of a prediction."""

LEAST_SHARE = 1e-10
"""Under this share of the trace of second moments, λ changes them by less than a million roundings of theirs."""

ZERO_SUM = 0.05
"""Beyond this mean_i |Σ_c f_c| outputs are not zero-sum, and nothing keeps their loss from 0."""


def decay_claims(stats: HeadStats | Undefined, weights: Weights, graph: TapGraph, train: Train) -> list[Claim]:
    """Return every statement of theory about weight decay, for one checkpoint.

    Args:
        stats: moments of the linear head, or why there are none.
        weights: those of all linear maps.
        graph: what stands between the linear maps.
        train: the [train] section of the run; a note of the checkpoint may stand in it for what it leaves out.

    Returns: claims with the names and quantities of DECAY_CLAIMS, each with a value or the reason why it has none.
        `layer` is the linear map that a claim is about.

    Source: Rangamani and Banburski-Fahey 2022 (`radial`, `interpolation`, the paper's `predicted_classifier`); the
        other forms are derived, and hold with imbalanced classes and a last bias.
    """
    parts: tuple[tuple[str, Callable[[], list[Claim]]], ...] = (
        ("weight_decay", lambda: [fact("weight_decay", _lambda(stats, train), quantity="lambda")]),
        ("ridge_form", lambda: _ridge_form(_known(stats), _lambda(stats, train))),
        ("stationarity", lambda: _stationarity(_known(stats), _lambda(stats, train))),
        ("balance_at_rest", lambda: _balance_at_rest(_known(stats), _lambda(stats, train))),
        ("radial", lambda: _radial(_known(stats), _lambda(stats, train), graph, weights)),
        ("norm_spread", lambda: _norm_spread(graph, weights, train)),
        ("loss_identity", lambda: _loss_identity(_known(stats), _lambda(stats, train), graph, weights)),
        ("interpolation", lambda: _interpolation(_known(stats), train)),
        ("prediction_applies", lambda: _prediction_applies(_known(stats), _lambda(stats, train))),
        ("predicted_classifier", lambda: _predicted_classifier(_known(stats), _lambda(stats, train))),
        ("zero_sum", lambda: [fact("zero_sum", _known(stats).row_sum)]),
        ("floor", lambda: _floor(_known(stats), train)),
    )
    claims: list[Claim] = []
    for (name, quantities, _), (_, made) in zip(DECAY_CLAIMS, parts, strict=True):
        found = attempt(made)
        if isinstance(found, Undefined):
            found = [undefined(name, found, quantity=quantity) for quantity in quantities]
        claims += found
    return claims


def _known(stats: HeadStats | Undefined) -> HeadStats:
    if isinstance(stats, Undefined):
        raise stats
    return stats


def _lambda(stats: HeadStats | Undefined, train: Train) -> float:
    return ridge(train, _known(stats).n_classes)


def _ridge_form(stats: HeadStats, lam: float) -> list[Claim]:
    """Return W_L as the solution of its critical equation, with f − y given (`sigma_w`) or the features alone given."""
    W, b = stats.classifier.weight, stats.classifier.bias
    M, p, noise = stats.features.means, stats.shares, stats.features.noise
    S_W = noise @ noise.T
    forms = {
        "sigma_w": (stats.mean_errors * p @ M.T, S_W),  # W(λI + Σ_W) = R̄ diag(n_c/N) Mᵀ
        "features": ((np.eye(len(p)) - b[:, None]) * p @ M.T, S_W + M * p @ M.T),  # W(λI + ZZᵀ/N) = (Y − b1ᵀ)Zᵀ/N
    }
    return [
        distance("ridge_form", _apart(_ridge(right, moment, lam), W), quantity=name)
        for name, (right, moment) in forms.items()
    ]


def _ridge(
    right: Float64[np.ndarray, "K d"], moment: Float64[np.ndarray, "d d"], lam: float
) -> Float64[np.ndarray, "K d"]:
    """Return right·(moment + λI)⁻¹; Undefined where λ is within the moments' rounding, so that it decides nothing."""
    size = float(np.trace(moment))
    if not np.isfinite(size) or lam < LEAST_SHARE * size:
        raise Undefined(f"λ = {lam:.3g} is lost in the rounding of the features' second moments, of trace {size:.3g}")
    solution: Float64[np.ndarray, "K d"] = solve(moment + lam * np.eye(len(moment)), right.T, assume_a="pos").T
    return solution


def _apart(predicted: Float64[np.ndarray, "K d"], W: Float64[np.ndarray, "K d"]) -> float:
    size = float(np.linalg.norm(W))
    if size == 0:
        raise Undefined("the classifier is zero")
    return float(np.linalg.norm(W - predicted)) / size


def _gradients(stats: HeadStats, lam: float) -> list[tuple[Float64[np.ndarray, "_ _"], float]]:
    """Return ∂/∂W_ℓ = λW_ℓ − T_ℓᵀ(1/N)Σ(y_i − f_i)z_iᵀ of every linear map of the head.

    T_ℓ is W_L…W_{ℓ+1}, and z is what the linear map reads.

    Each with the size of the two terms, which cancel at a critical point: rounding goes with it, not with what is left.
    """
    gradients = []
    T = None
    for linear, below in zip(reversed(stats.maps), reversed(stats.layers[:-1]), strict=True):
        errors = stats.mean_errors * stats.shares @ below.means.T - stats.outputs.noise @ below.noise.T
        decay, loss = lam * linear.weight, errors if T is None else T.T @ errors
        gradients.append((decay - loss, float(np.linalg.norm(decay) + np.linalg.norm(loss))))
        T = linear.weight if T is None else T @ linear.weight
    return gradients[::-1]


def _stationarity(stats: HeadStats, lam: float) -> list[Claim]:
    claims = []
    for linear, (g, _) in zip(stats.maps, _gradients(stats, lam), strict=True):
        size = lam * float(np.linalg.norm(linear.weight))
        if size == 0:
            claims.append(undefined("stationarity", "the map is zero", layer=linear.name))
        else:
            claims.append(distance("stationarity", float(np.linalg.norm(g)) / size, layer=linear.name))
    return claims


def _balance_at_rest(stats: HeadStats, lam: float) -> list[Claim]:
    """Return λD_ℓ = W_{ℓ+1}ᵀg_{ℓ+1} − g_ℓW_ℓᵀ, which holds exactly at every point.

    What the loss adds to the two linear maps cancels.
    """
    if len(stats.maps) < 2:
        raise Undefined("the head is a single map")
    gradients = _gradients(stats, lam)
    claims = []
    for i, (first, following) in enumerate(zip(stats.maps[:-1], stats.maps[1:], strict=True)):
        layer = joined(first.name, following.name)
        if first.has_bias:
            claims.append(undefined("balance_at_rest", "the first map has a bias", layer=layer))
            continue
        D = following.weight.T @ following.weight - first.weight @ first.weight.T
        apart = float(np.linalg.norm(D, 2))
        (g, size), (g_next, size_next) = gradients[i : i + 2]
        moved = following.norm * np.linalg.norm(g_next, 2) + first.norm * np.linalg.norm(g, 2)
        # Both sides vanish in exact balance at rest, and then rounding would decide.
        largest = following.norm * size_next + first.norm * size
        rounding = float(1e3 * np.finfo(np.float64).eps * largest / lam)
        claims.append(at_most("balance_at_rest", apart, float(moved) / lam, layer=layer, rounding=rounding))
    return claims


def _radial(stats: HeadStats, lam: float, graph: TapGraph, weights: Weights) -> list[Claim]:
    return [
        undefined("radial", norm, layer=name)
        if isinstance(norm, Undefined)
        else equality("radial", lam * norm**2, stats.radial, layer=name)
        for name, norm in scaling_norms(graph, weights).items()
    ]


def _norm_spread(graph: TapGraph, weights: Weights, train: Train) -> list[Claim]:
    """Return the equalities that hold whatever the loss: each λ‖W_k‖_F² equals the same −⟨∇_f L, f − b_L⟩."""
    if number(train, "weight_decay") <= 0:
        raise Undefined("trained without weight decay")
    if optimizer_kind(train) == "decoupled":
        raise Undefined("decoupled weight decay: it is no term of the loss")
    norms = [norm for norm in scaling_norms(graph, weights).values() if not isinstance(norm, Undefined)]
    if len(norms) < 2:
        reasons = [norm for norm in scaling_norms(graph, weights).values() if isinstance(norm, Undefined)]
        raise Undefined(f"fewer than two maps scale the outputs: {reasons[-1] if reasons else 'there is one map'}")
    if not any(norms):
        raise Undefined("the maps are zero")
    return [distance("norm_spread", float(np.std(norms) / np.mean(norms)))]


def _loss_identity(stats: HeadStats, lam: float, graph: TapGraph, weights: Weights) -> list[Claim]:
    """Return one row per linear map j left out; they differ as far as the norms do."""
    every = sum(float(np.linalg.norm(W.astype(np.float64))) ** 2 for W, _ in weights.values())
    on_bias = float(stats.classifier.bias @ (stats.mean_errors @ stats.shares)) / 2
    claims = []
    for name, norm in scaling_norms(graph, weights).items():
        if isinstance(norm, Undefined):
            claims.append(undefined("loss_identity", norm, layer=name))
            continue
        target = lam / 2 * (every - norm**2) + stats.error_on_target - on_bias
        claims.append(equality("loss_identity", stats.loss + lam / 2 * every, target, layer=name))
    return claims


def _pattern(stats: HeadStats) -> tuple[float, float, float]:
    """Return ε, δ, and the distance of the outputs' class means from 1 − ε on target and δ off it: rms over classes.

    What the outputs vary within classes is no asymmetry: Σ_W counts it.
    """
    K, F = stats.n_classes, stats.outputs.means
    on = float(stats.shares @ np.diag(F))
    off = float(stats.shares @ (F.sum(axis=0) - np.diag(F))) / (K - 1)
    pattern = (on - off) * np.eye(K) + off
    return 1 - on, off, float(np.sqrt(stats.shares @ np.sum((F - pattern) ** 2, axis=0)))


def _require_square_loss(train: Train) -> None:
    loss = text(train, "loss")
    if loss not in SQUARE_LOSSES:
        raise Undefined(f"the loss is {loss}: this is said of the square loss")


def _interpolation(stats: HeadStats, train: Train) -> list[Claim]:
    _require_square_loss(train)
    values = zip(("epsilon", "delta", "asymmetry"), _pattern(stats), strict=True)
    return [fact("interpolation", value, quantity=quantity) for quantity, value in values]


def _applicability(stats: HeadStats, lam: float) -> dict[str, float]:
    epsilon, _, asymmetry = _pattern(stats)
    size = lam * float(np.linalg.norm(stats.classifier.weight))
    if size == 0 or epsilon <= 0:
        raise Undefined("the classifier is zero" if size == 0 else f"the outputs overshoot: ε is {epsilon:.2g}")
    return {"noise": stats.classifier_noise / size, "asymmetry": asymmetry / epsilon}


def _prediction_applies(stats: HeadStats, lam: float) -> list[Claim]:
    shares = _applicability(stats, lam)
    return [
        hypothesis("prediction_applies", value, NEGLIGIBLE, holds=value < NEGLIGIBLE, quantity=name)
        for name, value in shares.items()
    ]


def _predicted_classifier(stats: HeadStats, lam: float) -> list[Claim]:
    if len(set(stats.counts.tolist())) > 1:
        raise Undefined("the classes are not balanced")
    for name, share in _applicability(stats, lam).items():
        if share >= NEGLIGIBLE:
            raise Undefined(f"{name} is not negligible: {share:.2g}, not under {NEGLIGIBLE:g}")
    K, W, M = stats.n_classes, stats.classifier.weight, stats.features.means
    epsilon, delta, _ = _pattern(stats)
    mean = M.mean(axis=1, keepdims=True)
    norm = float(np.mean(np.sum(W**2, axis=1)))
    on_bias = float(stats.classifier.bias.mean()) * (epsilon - (K - 1) * delta)  # W_cμ_c is f_c − b_c
    forms = {
        "two_parameter": (
            ((epsilon + delta) * M - K * delta * mean).T / (lam * K),
            (epsilon * (1 - epsilon) - (K - 1) * delta**2 - on_bias) / (lam * K),
        ),
        "paper": (
            epsilon * (M - mean).T / (lam * (K - 1)),
            (epsilon - K * epsilon**2 / (K - 1)) / (lam * K),
        ),
    }
    claims = [
        distance("predicted_classifier", _apart(predicted, W), quantity=quantity)
        for quantity, (predicted, _) in forms.items()
    ]
    for quantity, (_, square) in forms.items():
        claims.append(equality("predicted_classifier", norm, square, quantity=f"{quantity}_norm"))
    return claims


def _floor(stats: HeadStats, train: Train) -> list[Claim]:
    """Return (1/2N)Σ‖y − f‖² ≥ ½[(1 − α)² + (α − s)²/(K − 1)], after Jensen.

    Here α is the mean output on target, and s that of Σ_c f_c.

    With zero-sum outputs this is the cost of a simplex of scale α, and over all α at least 1/(2K).
    """
    _require_square_loss(train)
    K, s = stats.n_classes, stats.row_sum
    if s > ZERO_SUM:
        raise Undefined(f"the outputs are not zero-sum: mean |Σf| is {s:.2g}, over {ZERO_SUM:g}")
    alpha = 1 - _pattern(stats)[0]
    at_scale = ((1 - alpha) ** 2 + max(abs(alpha) - s, 0) ** 2 / (K - 1)) / 2
    return [
        at_least("floor", stats.loss, (1 - s) ** 2 / (2 * K), quantity="universal"),
        at_least("floor", stats.loss, at_scale, quantity="at_scale"),
    ]
