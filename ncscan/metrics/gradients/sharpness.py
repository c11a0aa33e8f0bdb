"""Compute the sharpness, the largest eigenvalue of the Hessian, and the largest at which the optimizer is stable.

In: `Work`. Out: one eigenvalue and two bounds. The only file that differentiates twice; no Hessian is formed, Lanczos
takes its products with vectors.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64
from scipy.sparse.linalg import LinearOperator, eigsh

from ncscan.errors import Undefined
from ncscan.metrics.gradients.differentiable import GradientResult, Work, explained

KRYLOV = 20
"""Vectors that Lanczos holds; a Hessian no wider is written out."""
RESTARTS = 40
SETTLED = 1e-5
"""Lanczos stops at this ‖Hv − λv‖ over λ: λ itself is then off by its square over the gap."""

Product = Callable[[Float64[np.ndarray, "p"]], Float64[np.ndarray, "p"]]


def sharpness(work: Work) -> GradientResult:
    """Return the top eigenvalue of the loss's Hessian, with weight decay the objective's; and the bounds of SGD.

    Weight decay adds wd to every eigenvalue. Plain gradient descent leaves a minimum above 2/lr, with momentum β above
    2(1 + β)/lr; `ratio` is the objective's eigenvalue over the latter.

    Source: Cohen, Kaur, Li, Kolter and Talwalkar 2021.
    """
    loss = _or_reason(lambda: _top_of(work))
    wd = _or_reason(work.objective.weight_decay)
    objective = _with(loss, wd, lambda a, b: a + b)
    bound = _or_reason(work.objective.bound)
    bound_momentum = _or_reason(work.objective.momentum_bound)
    return GradientResult(
        "",
        "sharpness",
        {
            "loss": loss,
            "objective": objective,
            "bound": bound,
            "bound_momentum": bound_momentum,
            "ratio": _with(objective, bound_momentum, lambda a, b: a / b),
        },
    )


def top_eigenvalue(product: Product, p: int) -> float:
    """Return the largest eigenvalue (with its sign) of a symmetric matrix that is known by its products with vectors.

    Args:
        product: v (p,) → Hv (p,).
        p: the width of H.

    Raises: scipy's ArpackNoConvergence when the top eigenvalues lie too close.

    >>> top_eigenvalue(lambda v: np.array([3.0, -5.0]) * v, 2)
    3.0
    """
    if p <= KRYLOV:
        H = np.stack([product(e) for e in np.eye(p)])
        return float(np.linalg.eigvalsh((H + H.T) / 2)[-1])
    start = np.random.default_rng(0).standard_normal(p)
    first = product(start)
    if not np.isfinite(first).all():
        raise Undefined("a product with the Hessian is not finite")
    if not first.any():
        return 0.0  # a Hessian that gives a random vector nothing is none, and Lanczos would have nowhere to go
    operator = LinearOperator((p, p), matvec=product, dtype=np.float64)
    found = eigsh(
        operator, k=1, which="LA", v0=start, ncv=KRYLOV, maxiter=RESTARTS, tol=SETTLED, return_eigenvectors=False
    )
    return float(found[0])


def _top_of(work: Work) -> float:
    parameters = list(work.parameters.values())
    if not parameters:
        raise Undefined("the model has no parameters")

    def product(v: Float64[np.ndarray, "p"]) -> Float64[np.ndarray, "p"]:
        """Return Hv = ∇(∇loss · v), batch by batch."""
        flat = torch.from_numpy(np.ascontiguousarray(v).reshape(-1)).to(work.device)
        sizes = [p.numel() for p in parameters]
        parts = [x.view_as(p).to(p.dtype) for x, p in zip(torch.split(flat, sizes), parameters, strict=True)]
        total = torch.zeros_like(flat)
        for loss in work.losses():
            slopes = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            along = sum((g * x).sum() for g, x in zip(slopes, parts, strict=True) if g is not None)
            if not isinstance(along, torch.Tensor) or not along.requires_grad:
                continue  # the loss is linear in the weights
            curved = torch.autograd.grad(along, parameters, allow_unused=True)
            total += torch.cat(
                [
                    torch.zeros(p.numel(), dtype=torch.float64, device=work.device)
                    if h is None
                    else h.reshape(-1).double()
                    for h, p in zip(curved, parameters, strict=True)
                ]
            )
        return total.cpu().numpy()

    return top_eigenvalue(product, sum(p.numel() for p in parameters))


def _or_reason(compute: Callable[[], float]) -> float | Undefined:
    try:
        with explained():
            return compute()
    except Undefined as why:
        return why


def _with(a: float | Undefined, b: float | Undefined, combine: Callable[[float, float], float]) -> float | Undefined:
    """Return a third number made of two, or the reason of the first that is none."""
    if isinstance(a, Undefined):
        return a
    return b if isinstance(b, Undefined) else combine(a, b)
