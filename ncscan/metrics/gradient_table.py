"""What is measured by gradients, defined: the rows that `ncscan extract --gradients` leaves in a dump.

In: nothing. Out: GRADIENT_DEFINITIONS, for the documentation and the page. No torch here, unlike where they are made.
"""

from ncscan.metrics.view import Definition

GRADIENT_DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        name="feature_ansatz",
        formula="cos(W_ℓᵀW_ℓ, G_ℓ), G_ℓ = (1/n) Σ_i Σ_k ∇f_k(x_i) ∇f_k(x_i)ᵀ at what the map reads",
        range="[−1, 1]",
        at_collapse="1",
        convention="quantity `uncentred`: of the flattened matrices; `centred`: less the mean entry of each",
        source="Beaglehole, Súkeník, Mondelli, Belkin 2024; Radhakrishnan et al. 2024",
        reading="Whether a map looks at what the outputs depend on.",
        undefined="the map writes the logits (there it is 1); more than 4,096 features; a convolution or an embedding",
    ),
    Definition(
        name="objective",
        formula="loss_scale · loss + (wd/2) ‖θ‖²",
        range="[0, ∞)",
        at_collapse="–",
        convention="quantities `loss` and `decay`, the two terms, in torch's units",
        source="–",
        reading="What training minimised; the gradients below are its own.",
        undefined="nothing says the loss",
    ),
    Definition(
        name="gradient_norm",
        formula="‖∇loss + wd·θ‖",
        range="[0, ∞)",
        at_collapse="0",
        convention="quantities `loss` without decay, `objective`, `relative` over ‖wd·θ‖; of the network and each map",
        source="–",
        reading="The distance from a critical point. On a part of the data it is mostly that of the part.",
        undefined="nothing says the loss; no second derivative; `relative` without weight decay",
    ),
    Definition(
        name="stationarity",
        formula="‖R‖_F, R = W_{ℓ+1}ᵀg_{ℓ+1} − g_ℓW_ℓᵀ − g_b bᵀ",
        range="[0, ∞)",
        at_collapse="0",
        convention="quantities `residual`, `relative` over wd times the smaller term, `identity` against wd·D",
        source="derived",
        reading="Balancedness from the side of the gradient: 0 at rest, whatever the loss.",
        undefined="anything stands between the maps; decoupled or no weight decay",
    ),
    Definition(
        name="sharpness",
        formula="λ_max of the Hessian",
        range="(−∞, ∞)",
        at_collapse="–",
        convention="quantities `loss`, `objective` (plus wd), `bound` 2/lr, `bound_momentum`, `ratio` to that",
        source="Cohen et al. 2021 (edge of stability)",
        reading="Above the bound gradient descent leaves the minimum; near 1 training went to the edge.",
        undefined="no second derivative; the optimizer is not SGD (`bound`)",
    ),
)
"""The definitions in the order of the rows."""
