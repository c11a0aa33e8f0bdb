"""A few class means, rows of the classifier and samples in the space that the means span: what a picture is drawn from.

In: LayerStats of the layer that the classifier reads, its activations, the classifier's rows. Out: rows of coordinates.
The numbers of a report never come from here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.statistics import LayerStats, lengths

MOST_CLASSES = 10
"""Classes that are pictured; they span one dimension less."""
MOST_SAMPLES = 16
"""Samples of each, the first ones of the data: the same at every checkpoint, so that each can be followed."""

VectorKind = Literal["mean", "classifier", "sample"]


@dataclass(frozen=True)
class PicturedVector:
    """The position of one vector."""

    item: VectorKind
    class_index: int
    sample: int | None
    """Its number in the data set; None for what is no sample."""
    norm: float
    """Its length, also of what lies outside the span: for a mean and a sample from the centre of the pictured means,
    for a row of the classifier from zero."""
    coordinates: tuple[float, ...]
    """The coordinates in an orthonormal basis of the span of the pictured means, at most MOST_CLASSES − 1 of them. A
    mean and a sample are seen from the centre; a row of the classifier is a direction and only projected."""


def pictured(stats: LayerStats, wanted: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the classes of a picture: those that are wanted, then the first others, as far as they have samples."""
    present = stats.classes.tolist()
    return tuple(dict.fromkeys([*(c for c in wanted if c in set(present)), *present]))[:MOST_CLASSES]


def places(
    stats: LayerStats,
    chunks: Callable[[], Iterable[tuple[int, np.ndarray]]],
    labels: Int64[np.ndarray, "N"],
    classifier: Float64[np.ndarray, "outputs d"] | None,
    classes: Sequence[int],
) -> list[PicturedVector]:
    """Return the means of these classes, the classifier's rows for them and a few of their samples.

    Args:
        stats: of the layer; nothing comes of one whose activations are not finite.
        chunks: yields (start row, activations (n, d)); read only as far as the samples reach.
        labels: class of every sample.
        classifier: rows w_c of the linear map from this layer to the logits, where there is one.
        classes: two or more, all of which have samples.
    """
    if stats.obstacle or len(classes) < 2:
        return []
    means, unit = stats.means[np.searchsorted(stats.classes, classes)], stats.exponent
    centre = means.mean(axis=0)
    basis = _basis(means - centre)
    found = _placed("mean", np.ldexp(means - centre, unit), basis, classes)
    if classifier is not None and len(classifier) > max(classes):
        found += _placed("classifier", classifier[list(classes)], basis, classes)
    rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:MOST_SAMPLES] for c in classes]))
    for start, chunk in chunks():
        inside = rows[(rows >= start) & (rows < start + len(chunk))]
        vectors = np.ldexp(chunk[inside - start].astype(np.float64), -unit) - centre
        found += _placed("sample", np.ldexp(vectors, unit), basis, labels[inside].tolist(), inside.tolist())
        if start + len(chunk) > rows[-1]:
            break
    return found


def _basis(centred: Float64[np.ndarray, "k d"]) -> Float64[np.ndarray, "r d"]:
    """Return orthonormal rows of what k points around their centre span, in a direction that rounding does not flip."""
    axes = np.linalg.svd(centred, full_matrices=False)[2][: len(centred) - 1]
    largest = np.abs(axes).argmax(axis=1)
    basis: Float64[np.ndarray, "r d"] = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return basis


def _placed(
    item: VectorKind,
    vectors: Float64[np.ndarray, "n d"],
    basis: Float64[np.ndarray, "r d"],
    classes: Sequence[int],
    samples: Sequence[int | None] = (),
) -> list[PicturedVector]:
    coordinates, norms = vectors @ basis.T, lengths(vectors)
    return [
        PicturedVector(item, c, sample, float(norm), tuple(map(float, x)))
        for c, sample, norm, x in zip(classes, samples or [None] * len(norms), norms, coordinates, strict=True)
    ]
