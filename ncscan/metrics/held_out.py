"""Other data through the same network: a held-out split, or data of another distribution, against the training set.

In: activations and logits of the other data, and the LayerStats of the training set at the same layer. Out: rows.
The class means are always those of the training set; the other data may have no labels that mean anything.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from ncscan.errors import DataError, Undefined
from ncscan.metrics.evaluate import Row
from ncscan.metrics.view import Definition
from ncscan.statistics import LayerStats, between, lengths, unit_exponent

QUANTILES: Mapping[str, float] = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
"""The quantiles of a distribution; its mean comes first."""
_BLOCK_NUMBERS = 2**20
"""Numbers in a block of rows, which stays in the cache."""

HELD_OUT: tuple[Definition, ...] = (
    Definition(
        name="ood_orthogonality",
        formula="mean_c |cos(μ_c, μ_G of the other data)|",
        range="[0, 1]",
        at_collapse="0",
        convention="not centred; only for data of another distribution (`--ood`)",
        source="Ammar, Belkhir, Popescu, Manzanera, Franchi 2024 (NC5)",
        reading="Whether data that belongs to no class lies apart from what the class means span.",
        undefined="a mean is zero; activations are not finite",
    ),
    Definition(
        name="nearest_distance",
        formula="min_c ‖h − μ_c‖ / √(tr Σ_B)",
        range="[0, ∞)",
        at_collapse="0",
        convention="quantities `mean`, `p05`, `p50`, `p95` over samples; means and Σ_B (class) of the training set",
        source="–",
        reading="How far samples are from the class means, in units of the radius of the frame of class means.",
        undefined="the class means of the training set coincide; activations are not finite",
    ),
    Definition(
        name="max_softmax",
        formula="max_c softmax(f)_c",
        range="[1/K, 1]",
        at_collapse="–",
        convention="quantities `mean`, `p05`, `p50`, `p95` over samples",
        source="Hendrycks & Gimpel 2017",
        reading="How sure the network is. Square loss leaves it far under 1 even at collapse.",
        undefined="logits are not finite",
    ),
    Definition(
        name="ood_auroc",
        formula="P[score of the training data > score of the other] + ½ P[equal]",
        range="[0, 1]",
        at_collapse="–",
        convention="quantity `softmax`: by max_softmax; `distance`: by minus nearest_distance, layer by layer",
        source="Hendrycks & Gimpel 2017",
        reading="How well the score tells the two apart: ½ is chance, 1 is perfectly.",
        undefined="as the score",
    ),
)
"""The measures of data beside the training set."""

MEANS_OF_TRAINING = ("ncc_error", "nc4_mismatch")
"""Measures of a held-out split that ask for the class means of the training set."""


@dataclass(frozen=True)
class HeldOut:
    """Describes where samples lie among the class means of the training set."""

    nearest: Int64[np.ndarray, "N"]
    """The label of the nearest mean; of ties the lowest."""
    distances: Float64[np.ndarray, "N"]
    """The distance to that mean, in units of √(tr Σ_B)."""
    mean: Float64[np.ndarray, "d"]
    """The mean of all samples."""


@np.errstate(over="ignore", invalid="ignore")  # what overflows has its reason
def placed(chunks: Callable[[], Iterable[tuple[int, Float[np.ndarray, "n d"]]]], train: LayerStats) -> HeldOut:
    """Return where samples lie among the class means of the training set, in one pass.

    Args:
        chunks: called once; yields (start row, activations).
        train: the training set at the same layer.

    Raises: Undefined when the class means coincide, or activations are not finite.
    """
    if train.obstacle:
        raise Undefined(train.obstacle)
    radius = math.sqrt(float(between(train, "class")[0].sum()))
    # Only the part in the span of the class means tells them apart; the rest is the same distance for each.
    origin, lengths = train.means.mean(axis=0), np.einsum("kr,kr->k", train.coordinates, train.coordinates)
    nearest, squares, total, n_samples = [], [], np.zeros(train.n_features), 0
    rows = max(1, _BLOCK_NUMBERS // max(train.n_features, train.n_classes))
    for _, chunk in chunks():
        if chunk.shape[1] != train.n_features:
            raise DataError(f"{chunk.shape[1]} features where the training set has {train.n_features}")
        for at in range(0, len(chunk), rows):
            x = np.ldexp(chunk[at : at + rows].astype(np.float64), -train.exponent)
            total += x.sum(axis=0)
            n_samples += len(x)
            x -= origin
            along = x @ train.basis.T
            own = _nearest(along, train.coordinates, lengths)
            x -= along @ train.basis
            along -= train.coordinates[own]
            nearest.append(train.classes[own])
            squares.append(np.einsum("nr,nr->n", along, along) + np.einsum("nd,nd->n", x, x))
            if not np.isfinite(squares[-1]).all():
                far = "squares of distances from the class means exceed float64"
                raise Undefined(far if np.isfinite(x).all() else "activations are not finite")
    distances = np.sqrt(np.concatenate(squares)) / radius
    return HeldOut(np.concatenate(nearest).astype(np.int64), distances, total / n_samples)


def _nearest(
    along: Float64[np.ndarray, "n r"], means: Float64[np.ndarray, "K r"], lengths: Float64[np.ndarray, "K"]
) -> Int64[np.ndarray, "n"]:
    """Return argmin_c ‖h − μ_c‖², by products; where they leave it open by rounding, by differences."""
    scores = along @ means.T
    scores *= -2.0
    scores += lengths
    own = scores.argmin(axis=1)
    scale = np.einsum("nr,nr->n", along, along) + lengths.max()
    limit = scores[np.arange(len(own)), own] + 16 * np.finfo(np.float64).eps * scale
    close = scores <= limit[:, None]
    for i in np.flatnonzero(close.sum(axis=1) > 1):
        rivals = np.flatnonzero(close[i])
        own[i] = rivals[np.square(along[i] - means[rivals]).sum(axis=1).argmin()]
    return np.asarray(own)


def held_out_rows(
    there: HeldOut,
    train: LayerStats,
    labels: Int64[np.ndarray, "N"],
    decisions: Int64[np.ndarray, "N"] | None,
) -> list[Row]:
    """Return the rows of a held-out split at a layer, by the class means of the training set.

    `ncc_error` is over the samples whose class has a mean there; any mean would be wrong for the others.
    """
    known = np.isin(labels, train.classes)
    wrong = there.nearest[known] != labels[known]
    none = Undefined("no sample is of a class that the training set has")
    rows = [_row("ncc_error", "", float(np.mean(wrong)) if len(wrong) else none)]
    if decisions is not None:
        rows.append(_row("nc4_mismatch", "", float(np.mean(there.nearest != decisions))))
    return rows + distance_rows(there)


def distance_rows(there: HeldOut) -> list[Row]:
    """Return the distribution of distances to the nearest class mean."""
    return [_row("nearest_distance", name, value) for name, value in _distribution(there.distances).items()]


def outside_rows(outside: HeldOut, inside: HeldOut, train: LayerStats) -> list[Row]:
    """Return the rows of data of another distribution at a layer."""
    return [
        _row("ood_orthogonality", "", _orthogonality(outside.mean, train)),
        *distance_rows(outside),
        _row("ood_auroc", "distance", auroc(-inside.distances, -outside.distances)),
    ]


def confidences(logits: Float[np.ndarray, "N K"]) -> Float64[np.ndarray, "N"]:
    """Return max_c softmax(f)_c of every sample.

    >>> confidences(np.zeros((1, 4))).tolist()
    [0.25]
    """
    largest = np.empty(len(logits))
    step = max(1, _BLOCK_NUMBERS // logits.shape[1])
    for start in range(0, len(logits), step):
        shifted = logits[start : start + step].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        largest[start : start + step] = 1 / np.exp(shifted, out=shifted).sum(axis=1)
    return largest


def confidence_rows(own: Float64[np.ndarray, "N"], inside: Float64[np.ndarray, "M"] | None = None) -> list[Row]:
    """Return the distribution of max_softmax, and how well it tells the data from the training set, where given."""
    rows = [_row("max_softmax", name, value) for name, value in _distribution(own).items()]
    return rows if inside is None else [*rows, _row("ood_auroc", "softmax", auroc(inside, own))]


def auroc(inside: Float64[np.ndarray, "n"], outside: Float64[np.ndarray, "m"]) -> float:
    """Return P[a score from inside > one from outside] + ½ P[equal], of finite scores.

    >>> auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    others = np.sort(outside)
    below, not_above = (np.searchsorted(others, inside, side) for side in ("left", "right"))
    return float(below.sum() + not_above.sum()) / (2 * len(inside) * len(outside))


def undefined_rows(metrics: Iterable[tuple[str, str]], why: Undefined) -> list[Row]:
    """Return a row for each (metric, quantity), with the reason why there is no value."""
    return [_row(metric, quantity, why) for metric, quantity in metrics]


def _orthogonality(mean: Float64[np.ndarray, "d"], train: LayerStats) -> float | Undefined:
    mean = np.ldexp(mean, -unit_exponent(float(np.abs(mean).max())))
    sizes = lengths(train.means) * np.linalg.norm(mean)
    if not sizes.all():
        return Undefined("a mean is zero: it has no direction")
    return float(np.mean(np.abs(train.means @ mean / sizes)))


def _distribution(values: Float64[np.ndarray, "N"]) -> dict[str, float]:
    quantiles = np.quantile(values, list(QUANTILES.values()))
    return {"mean": float(values.mean()), **dict(zip(QUANTILES, map(float, quantiles), strict=True))}


def _row(metric: str, quantity: str, value: float | Undefined) -> Row:
    return Row(
        metric=metric,
        quantity=quantity,
        value=None if isinstance(value, Undefined) else value,
        reason=str(value) if isinstance(value, Undefined) else "",
        weighting="",
        centred=None,
        rank=None,
        estimate=False,
        classifier="",
    )
