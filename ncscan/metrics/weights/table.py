"""The visible table of what is measured of the weights alone.

In: nothing. Out: WEIGHT_METRICS, from which docs/metrics.md is made.
"""

from ncscan.metrics.view import Definition

WEIGHT_METRICS: tuple[Definition, ...] = (
    Definition(
        name="balancedness",
        formula="‖D‖, D = W_{ℓ+1}ᵀW_{ℓ+1} − W_ℓW_ℓᵀ",
        range="[0, ∞)",
        at_collapse="0",
        convention="`op`, `fro` raw; `op_relative`, `fro_relative` over the smaller of the two terms' norms",
        source="Arora et al. 2018; Jacot, Súkeník, Wang, Mondelli 2024",
        reading="Gradient flow keeps D, weight decay shrinks it: at 0 neighbouring maps share their singular values.",
        undefined="anything stands between; a convolution or an embedding; `relative` where a map is zero; not finite",
    ),
    Definition(
        name="balancedness_bias",
        formula="‖D − b_ℓb_ℓᵀ‖",
        range="[0, ∞)",
        at_collapse="0",
        convention="as balancedness; only where the first map has a bias",
        source="derived",
        reading="What gradient flow conserves where layers have biases.",
        undefined="as balancedness",
    ),
    Definition(
        name="balancedness_diagonal",
        formula="‖diag(D − b_ℓb_ℓᵀ)‖",
        range="[0, ∞)",
        at_collapse="0",
        convention="across one ReLU; `op` is the largest entry, `fro` the Euclidean norm; relative as balancedness",
        source="derived",
        reading="Across a ReLU only the diagonal is conserved: incoming against outgoing norm, unit by unit.",
        undefined="a convolution or an embedding; `relative` where a map is zero; not finite",
    ),
    Definition(
        name="alignment",
        formula="mean of the j singular values of V_j(W_{ℓ+1})ᵀU_j(W_ℓ)",
        range="[0, 1]",
        at_collapse="1",
        convention="j = min(K, their ranks), given as rank; K outputs of the last map; only with nothing between",
        source="Ji & Telgarsky 2019 (deep linear networks)",
        reading="Whether a map listens where the one before it speaks. 1 under exact balance.",
        undefined="as balancedness; j is all of the width; s_j = s_{j+1}, so that no j directions are the strongest",
    ),
    Definition(
        name="weight_condition",
        formula="κ(W_ℓ) = s_1/s_r over non-zero s",
        range="[1, ∞)",
        at_collapse="–",
        convention="`condition`, `s_1`, `s_r`, `stable_rank` ‖W‖_F²/‖W‖², `fro`; zero is what rounding can make of 0",
        source="Jacot, Súkeník, Wang, Mondelli 2024",
        reading="Read it with its rank.",
        undefined="a convolution or an embedding; W is zero or not finite",
    ),
    Definition(
        name="head_condition",
        formula="κ(W_L…W_{L1+1}); κ^{1/L2}",
        range="[1, ∞)",
        at_collapse="1",
        convention="`condition` of the product, `root` κ^{1/L2}, `last` κ(W_L), each over non-zero s",
        source="Jacot, Súkeník, Wang, Mondelli 2024",
        reading="The linear head as one map. Under exact balance `root` equals `last`.",
        undefined="there is no linear head; a map of it is zero or not finite",
    ),
    Definition(
        name="norm_spread",
        formula="std_ℓ‖W_ℓ‖_F / mean_ℓ‖W_ℓ‖_F",
        range="[0, ∞)",
        at_collapse="0",
        convention="ddof 0; over maps after the last bias but the output's own, not followed by normalisation",
        source="Rangamani & Banburski-Fahey 2022",
        reading="0 at every critical point of a chain of ReLU layers that are decayed alike.",
        undefined="fewer than two such maps; residual sums or attention between maps; a shared or non-finite weight",
    ),
)
"""The measures of the weights, in the order of the rows."""
