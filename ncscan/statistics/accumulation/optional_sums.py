"""Accumulate optional sums of the passes: sketches of wide layers, numbers per sample, class sums of permuted labels.

In: blocks of rows on the device, as the passes have them. Out: `Sketch`, `PerSample`, `Permuted`. Each class lives as
long as a pass, and no sum here is wider than d×l, N×K or P×K×d.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from ncscan.statistics import Permuted, PerSample, Sketch, join


class SketchSum:
    """Σ x (xᵀΩ) in float64, whatever the device: two thin products a block."""

    def __init__(self, columns: Float64[np.ndarray, "d l"], device: torch.device) -> None:
        self._columns = columns
        self._omega = torch.tensor(columns, device=device)
        self._product = torch.zeros(columns.shape, dtype=torch.float64, device=device)
        self._square = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, x: Float64[torch.Tensor, "n d"]) -> None:
        """Add rows."""
        if x.device.type == "cpu":  # numpy's BLAS takes two thirds of the time of torch's
            rows = x.numpy()
            self._product += torch.from_numpy(rows.T @ (rows @ self._columns))
        else:
            self._product.addmm_(x.T, x @ self._omega)
        self._square += torch.linalg.vector_norm(x).square()

    def sketch(self) -> Sketch:
        """Return the sketch of what was added so far."""
        return Sketch(self._columns, self._product.cpu().numpy(), float(self._square))


class SampleRows:
    """A few numbers of every sample, in the order they came."""

    def __init__(self) -> None:
        self._parts: list[PerSample] = []

    def add(
        self,
        labels: Int64[torch.Tensor, "n"],
        squares: Float64[torch.Tensor, "n"],
        projections: Float64[torch.Tensor, "n r"],
        nearest: Int64[torch.Tensor, "n"],
        disagrees: Bool[torch.Tensor, "n"] | None,
        cosines: Float64[torch.Tensor, "n"] | None,
    ) -> None:
        """Keep copies: the passes write into their blocks again."""
        self._parts.append(
            PerSample(
                labels=_copy(labels),
                squares=_copy(squares),
                projections=_copy(projections),
                nearest=_copy(nearest),
                disagrees=None if disagrees is None else _copy(disagrees),
                cosines=None if cosines is None else _copy(cosines),
            )
        )

    def samples(self) -> PerSample | None:
        """Return all that were added; None where none was."""
        return join(self._parts) if self._parts else None


class PermutedSum:
    """Class sums under P permutations of the labels, all from one pass: P additions a number."""

    def __init__(self, labels: Int64[np.ndarray, "N"], K: int, d: int, P: int, seed: int, device: torch.device) -> None:
        rng = np.random.default_rng(seed)
        self._labels = labels
        self._permuted = np.stack([rng.permutation(labels) for _ in range(P)]).astype(np.int32)
        self._on_device = torch.tensor(self._permuted, device=device)
        self._sums = torch.zeros(P, K, d, dtype=torch.float64, device=device)

    def add(self, at: int, x: Float64[torch.Tensor, "n d"]) -> None:
        """Add rows at … at + n, minus their class mean under the true labels."""
        for sums, labels in zip(self._sums, self._on_device, strict=True):
            sums.index_add_(0, labels[at : at + len(x)], x)

    def permuted(self) -> Permuted:
        """Return what was added so far."""
        return Permuted(self._sums.cpu().numpy(), self._permuted.astype(np.int64), self._labels)


def _copy(x: torch.Tensor) -> np.ndarray:
    return np.array(x.cpu().numpy())
