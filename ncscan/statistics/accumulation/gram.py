"""Gram matrices on the device: Σ xᵀx block by block, at half the work, with a measured rounding error.

In: blocks of rows, float64. Out: an upper triangle in float64. The only d×d matrices that are ever summed.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64

WIDEST_GRAM = 4096
"""Above this min(N, d) a spectrum is not exact any more: its Gram matrix costs min(N, d)² numbers."""

_MOST_KEPT = 2**29
"""Up to so many numbers N·d the activations of few samples with many features are kept for ZZᵀ: 2 GiB of float32."""


class Gram:
    """Σ xᵀx, upper triangle, from products in one type and sums in float64; and how far that can be trusted."""

    def __init__(self, d: int, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        self.total = torch.zeros(d, d, dtype=torch.float64, device=device)
        self.error: torch.Tensor | None = None
        """What rounding did to the first block, in units of its trace: the same is made again in float64."""
        self._scaled = torch.empty(rows, d, dtype=dtype, device=device)
        self._product = torch.zeros(d, d, dtype=dtype, device=device)

    def add(self, x: Float64[torch.Tensor, "n d"], norms: Float64[torch.Tensor, "n"]) -> None:
        """Add xᵀx; `norms` of the rows of x are known already."""
        if self._product.dtype == torch.float64:
            self.total += symmetric_product(x, self._product)
            return
        # The square of a small float32 underflows; a power of two brings the block near 1 and costs no digit.
        size = float(norms.max())
        scale = 2.0 ** math.floor(math.log2(size)) if size > 0 else 1.0
        product = symmetric_product(torch.mul(x, 1 / scale, out=self._scaled[: len(x)]), self._product)
        self.total.add_(product, alpha=scale**2)
        if self.error is None and size > 0:
            exact = symmetric_product(x, torch.zeros_like(self.total))
            self.error = (product.double() * scale**2 - exact) / norms.square().sum()


def symmetric_product(x: Float[torch.Tensor, "n d"], out: Float[torch.Tensor, "d d"]) -> Float[torch.Tensor, "d d"]:
    """Write xᵀx into the upper triangle of `out`, at little more than half the work of all of it; below stays zero."""
    if x.device.type == "cpu":
        # numpy sees that it is symmetric and makes half of it; scipy's BLAS would keep all other threads waiting.
        np.matmul(x.numpy().T, x.numpy(), out=out.numpy())
        return out.triu_()
    return in_column_blocks(x, out)


def in_column_blocks(x: Float[torch.Tensor, "n d"], out: Float[torch.Tensor, "d d"]) -> Float[torch.Tensor, "d d"]:
    """Return the same product where there is no symmetric product: up to eight strips, each from its diagonal on."""
    d = x.shape[1]
    width = max(128, -(-d // 8))
    for i in range(0, d, width):
        torch.mm(x[:, i : i + width].T, x[:, i:], out=out[i : i + width, i:])
    return out.triu_()


def is_wide(n_features: int) -> bool:
    """Return whether a layer has too many features for a Gram matrix of them."""
    return n_features > WIDEST_GRAM


def too_wide(n_samples: int, n_features: int) -> str:
    """Return why a spectrum is not exact here, else empty."""
    if n_features <= WIDEST_GRAM or (n_samples <= WIDEST_GRAM and n_samples * n_features <= _MOST_KEPT):
        return ""
    if min(n_samples, n_features) > WIDEST_GRAM:
        return f"{n_samples} samples of {n_features} features: a spectrum is exact up to min(N, d) = {WIDEST_GRAM}"
    return f"{n_samples} samples of {n_features} features would have to be kept for an exact spectrum"
