"""The statements of theorem 3.1 and of the certificates, in words: what is claimed, its source, when it is silent.

In: nothing. Out: `CLAIMS`, for the documentation, the pages and the verdict; what weight decay implies is described in
weight_decay.py.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Statement:
    """The documentation of a claim."""

    name: str
    kind: Literal["hypothesis", "bound", "identity", "number"]
    """A hypothesis that fails makes a theorem not apply; a bound or an identity that fails is a bug, here or in the
    data."""
    statement: str
    source: str
    undefined: str
    """The conditions under which there is no value, or no verdict."""


CLAIMS: tuple[Statement, ...] = (
    Statement(
        "theorem31_linear_head",
        "hypothesis",
        "at least two linear maps stand at the end: L2 ≥ 2",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_bias_free",
        "hypothesis",
        "no map of the head has a bias: max‖b‖ = 0",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_balanced",
        "hypothesis",
        "all classes have as many samples: max n_c/min n_c = 1",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_epsilon1",
        "hypothesis",
        "ε1 = ‖Z_L − Y‖_F < min(s_K(Y), √((K−1)N/(4K))); with a last bias also of Z_L − b_L1ᵀ",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "–",
    ),
    Statement(
        "theorem31_epsilon2",
        "number",
        "ε2 = max‖D_l‖ over neighbouring maps of the head",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the head has one linear map",
    ),
    Statement(
        "theorem31_r",
        "number",
        "r = max(‖Z_{L−2}‖, ‖Z_{L−1}‖, ‖W_l‖) over the head",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the head has one linear map",
    ),
    Statement(
        "theorem31_condition",
        "number",
        "κ(W_L…W_{L1+1}); enters only what the paper says of NC2 and NC3",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "its rank is below K",
    ),
    Statement(
        "theorem31_wide",
        "hypothesis",
        "the first layer is at least N wide",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the network is no chain of linear maps",
    ),
    Statement(
        "theorem31_pyramid",
        "hypothesis",
        "widths do not increase after the first layer: max n_{l+1}/n_l ≤ 1",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "the network is no chain of linear maps",
    ),
    Statement(
        "theorem31_smooth",
        "hypothesis",
        "activations are smooth, with a slope bounded below; no value, only a verdict",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "an activation that is not in the table",
    ),
    Statement(
        "theorem31_nc1",
        "bound",
        "nc1_trace(Z_{L−1}) ≤ (r²/N)Ψ²/(√((K−1)/K) − 2ε1/√N)²",
        "Jacot, Súkeník, Wang, Mondelli 2024",
        "ε1 is not below its threshold; the head has one linear map; no verdict where it does not apply",
    ),
    Statement(
        "imbalance_leak",
        "bound",
        "‖A_l‖² ≤ Σ_{j≥l}‖D_j‖ + ρ²",
        "derived",
        "no verdict where both are rounding",
    ),
    Statement(
        "imbalance_leak_bias",
        "bound",
        "‖[A, (I−P)b_{L−1}]‖² ≤ ‖D − b_{L−1}b_{L−1}ᵀ‖ + ρ²",
        "derived",
        "absent where W_{L−1} has no bias; no verdict where both are rounding",
    ),
    Statement(
        "nc1_split",
        "identity",
        "tr Σ_W(Z_l) = tr(G⁺QS_WQ) + tr(A Σ_W(Z_{l−1}) Aᵀ)",
        "derived",
        "the head has one linear map; no verdict where rounding decides",
    ),
    Statement(
        "nc1_output_share",
        "number",
        "tr(G⁺QS_WQ)/tr Σ_B(Z_l): the noise of the outputs, seen through the maps",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_imbalance_share",
        "number",
        "tr(A Σ_W(Z_{l−1}) Aᵀ)/tr Σ_B(Z_l): what only imbalance lets through; 0 at a critical point with decay",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_upper",
        "bound",
        "nc1_trace(Z_l) ≤ (tr(G⁺QS_WQ) + ‖A‖² tr Σ_W(Z_{l−1}))/tr(G⁺QS_BQ)",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_upper_spectral",
        "bound",
        "the same with (1/N)Σ s_i(A)² s_i(Z_{l−1}(I−Π))² for the second term",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_lower",
        "bound",
        "nc1_trace(Z_l) ≥ tr(G⁺QS_WQ)/(tr(G⁺QS_BQ) + ‖A‖² tr Σ_B(Z_{l−1}))",
        "derived",
        "the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc1_interpolation",
        "bound",
        "nc1_upper from ‖Q(Z_L − Y)‖_F and the largest and smallest singular value of V alone",
        "derived",
        "‖Q(Z_L − Y)‖_F is not below ‖QY(Π−J)‖_F; the class means coincide; the outputs do not tell the classes apart",
    ),
    Statement(
        "nc2_target_free",
        "bound",
        "κ_k(M) ≤ (s_1/s_k(T))·hypot(s_1(T)/s_k, β)",
        "derived",
        "T has a lower rank; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc2_upper",
        "bound",
        "κ_k(M) ≤ s_1/(1−e)·hypot((1+e)/s_k, β/α)",
        "derived",
        "e ≥ 1; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc2_lower",
        "bound",
        "κ_k(M) ≥ (1−e)/s_k / hypot((1+e)/s_1, β/α)",
        "derived",
        "e ≥ 1; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc3_class",
        "bound",
        "cos(Vᵀu_c, Mu_c) ≥ (1−e)/hypot((κ+1/κ)/2 + eκ, s_1β_c)",
        "derived",
        "e ≥ 1; V reads fewer than k directions; a mean or row is zero; no verdict where both are rounding",
    ),
    Statement(
        "nc3_samples",
        "bound",
        "|mean_{i in c} cos(h_i, w_c) − cos(μ_c, w_c)| ≤ 2√v_c/‖μ_c‖",
        "derived",
        "a sample, a mean or a row of W_L is zero; no verdict where both are rounding",
    ),
    Statement(
        "head_power",
        "bound",
        "‖W_:W_:ᵀ − (W_LW_Lᵀ)^{L2}‖ ≤ η = (L2(L2−1)/2) r^{2(L2−1)} ε2",
        "derived",
        "ε2 is rounding; the head has one linear map",
    ),
    Statement(
        "head_condition",
        "bound",
        "κ(W_L) ≤ [(s_1(W_:)²+η)/(s_K(W_:)²−η)]^{1/(2 L2)}; `relative`: ≤ [κ(W_:)²(1+d*)/(1−d*)]^{1/(2 L2)}",
        "derived",
        "η ≥ s_K(W_:)², or ε2 is rounding; d* ≥ 1, or κ(W_L)^{2 L2} is beyond float64; the head has one linear map",
    ),
    Statement(
        "nc2_head",
        "bound",
        "κ_K(M) ≤ κ̄·hypot(1+e, s_Kβ/α)/(1−e), κ̄ the smaller bound of head_condition",
        "derived",
        "head_condition has no bound; e ≥ 1; V reads fewer than k directions; K = 2 in the simplex form",
    ),
    Statement(
        "nc3_head",
        "bound",
        "nc3_class with κ̄ in the place of κ",
        "derived",
        "as nc2_head",
    ),
)
"""Theorem 3.1 and the certificates, in the order of the rows; what weight decay implies is in weight_decay.py."""

ALWAYS_TRUE = frozenset(statement.name for statement in CLAIMS if statement.kind in ("bound", "identity")) | {
    *("balance_at_rest", "floor"),  # the two bounds of weight_decay.py, where all else is of a critical point
}
"""Claims that hold for every linear head and all data: one that does not is a bug, or its dump is damaged."""
