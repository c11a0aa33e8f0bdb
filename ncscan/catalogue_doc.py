"""docs/metrics.md, made from the tables, so that what is written is what is measured.

In: the parts of METRICS, CLASS_METRICS, NETWORK and WEIGHT_METRICS. Out: the page as text.
"""

from collections.abc import Sequence

from ncscan.metrics import (
    CLASS_METRICS,
    CLASSIFIER,
    FEATURES,
    GRADIENT_DEFINITIONS,
    HELD_OUT,
    NETWORK,
    SIZES,
    WEIGHT_METRICS,
    Definition,
)

_INTRODUCTION = """\
# What ncscan measures

This page is made from the tables of definitions in `ncscan/`; a test fails when it is stale.

## Notation

K classes that have samples; class c has n_c samples; N = Σ n_c. At one layer the activations of a sample are a vector
h ∈ R^d. μ_c is the mean of class c, M the d×K matrix of class means, μ_G = Σ_c w_c μ_c and M̃ = M − μ_G 1ᵀ. Z holds
the activations of all samples, f the outputs (logits) of the network. W_ℓ, b_ℓ are weight and bias of linear map ℓ; W
is the classifier's.

    Σ_W = (1/N) Σ_i (h_i − μ_{y_i})(·)ᵀ      Σ_B = Σ_c w_c (μ_c − μ_G)(·)ᵀ      ETF_K = (I − 11ᵀ/K)/√(K−1)

‖·‖ is the operator norm, ‖·‖_F Frobenius; s_1 ≥ s_2 ≥ … singular values; κ the largest over the smallest non-zero one.

## Conventions that change published numbers

- `weighting`: w_c = 1/K (`class`, the default) or n_c/N (`sample`). Imbalanced classes have a row of each; where
  classes are balanced the two agree, and one row says `class`. Empty where they play no part.
- `centred`: whether a frame is made of M̃ (a simplex) or of M (an orthogonal frame, what ReLU features become). Of
  rows of W: whether they are taken minus their mean.
- `classifier`: the linear map that the layer was compared with. In a head of several linear maps each layer is compared
  with the product of those that follow, `first..last`, with the bias of the whole.
- **Classes that the data lacks.** K counts the classes that have samples, in 1/(K−1), ETF_K, means over classes and
  pairs of them alike, whatever their labels. Where the network knows more classes (it has more outputs), W stands for
  the rows of the classes that the data has; as a frame, in `nc2_…_w`, `nc3_distance`, `nc3_etf`, `nc3_uniform` and
  `nc3_subspace`, minus their mean, since only all rows together sum to zero at collapse. `classifier_row_sum`,
  `etf_swap_error`, `error`, `loss` and the decisions of `nc4_mismatch` are over all outputs. A doubt of the report
  says which classes are lacking.
- **One logit for two classes.** A network with one output z (with a sigmoid, or BCEWithLogitsLoss) decides for class 1
  where z > 0. Its classifier w, b counts as the two rows −w/2, w/2 with biases −b/2, b/2, its logits as (−z/2, z/2): of
  all two-row heads with the same decisions and the same cross-entropy (log(1 + e^∓z), the binary one) the one of least
  norm, to which weight decay takes two rows. So the rows sum to zero, as at collapse; a row of zeros and w would miss
  the simplex by their mean. Weights alone (balancedness, conditioning) are of w itself. `loss mse` has no value, since
  the two targets are not known, and the theory, which has a row for each class, is not applied.
- **A class of one sample** is its own mean: it has no variance and no error of the nearest class mean of its own. In
  what is summed over all samples or classes it counts as the formula has it.
- `rank`: how many singular values a number rests on. Class means count in directions above
  τ = (√d + √K)·max(2ω_p, 16√B·ω_53), what rounding to the storage precision p (ω_p², the mean of ulp²/12) and summing B
  batches in float64 can give, or above twice what the second pass finds rounding to have moved them by, where that is
  more; at most K−1 when centred. Weights count above (√n + √m)·2ω_p.
- `estimate`: the singular values of Z come from a Gram matrix, whose eigenvalues have an error e: eps·s_1², and above
  N·d² = 2³³ the rounding of float32 products of the samples minus their class means, as measured on a block. Those with
  s² > 50 e are right to 1 % and count. Where something may lie between √(50 e) and the (√N + √d)·2ω_p of the stored
  activations, κ is over those that count, and the row says `estimate`. So does `vci` where directions that may be
  rounding (up to 300 times that of storage in squares, what a float32 forward pass can add) are over 1 % of the
  samples that are free: N less the classes and the directions that count.
- A metric that has no value says why in `reason`; its `value` is empty, never NaN.
"""


def document() -> str:
    """Return the page docs/metrics.md."""
    parts = [
        _INTRODUCTION,
        _section("Per layer", [*FEATURES, *SIZES]),
        _section("The classifier, and any map against the layer it reads", CLASSIFIER),
        _section("Class by class and pair by pair", CLASS_METRICS),
        _section("The network", NETWORK),
        _section("Weights", WEIGHT_METRICS),
        _section("Other data beside the training set", HELD_OUT),
        _section("By gradients, where they were asked for", GRADIENT_DEFINITIONS),
    ]
    return "\n".join(parts)


def _section(title: str, definitions: Sequence[Definition]) -> str:
    return f"## {title}\n\n" + "\n".join(_entry(d) for d in definitions)


def _entry(d: Definition) -> str:
    facts = (
        ("Range", d.range),
        ("At collapse", d.at_collapse),
        ("Convention", d.convention),
        ("Undefined when", d.undefined),
        ("Source", d.source),
    )
    lines = [f"- {name}: {text}" for name, text in facts if text not in ("", "–")]
    return f"### `{d.name}`\n\n    {d.formula}\n\n{d.reading}\n\n" + "\n".join(lines) + "\n"
