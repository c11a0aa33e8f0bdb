"""NC4, and how well the network does: decisions by the nearest class mean, by the network, and the truth.

In: a LayerView, or logits and labels. Out: fractions of samples, losses.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ncscan.errors import Undefined
from ncscan.metrics.view import LayerView, Metric
from ncscan.statistics import LayerStats, require_extent, true_value, unit_exponent

_BLOCK_NUMBERS = 2**22
"""The number of logits at once: 32 MiB."""


def ncc_error(view: LayerView) -> float:
    """Return the error of the nearest class centre: P[y ≠ argmin_c ‖h − μ_c‖].

    Classes without samples have no mean, so no sample is nearest to them; among equal distances the lowest class wins.

    Args:
        view: any layer.

    Returns: in [0, 1]; 0 at collapse.

    Raises: Undefined when all samples are one point, or float64 sums cannot tell two class means apart that are not
        equal.

    Source: Papyan, Han and Donoho 2020; Galanti, György and Hutter 2021.
    """
    stats = view.stats
    require_apart(stats)
    return float((stats.n_samples - stats.right.sum()) / stats.n_samples)


def nc4_mismatch(view: LayerView) -> float:
    """Return how often the network and the nearest class centre disagree: P[argmax_c f_c ≠ argmin_c ‖h − μ_c‖].

    The network's decision is the argmax of its real logits, bias included.

    Args:
        view: any layer, with the network's decisions.

    Returns: in [0, 1]; 0 at collapse.

    Raises: Undefined when the network's decisions are not known, its logits are not finite, or `ncc_error` is.

    Source: Papyan, Han and Donoho 2020.
    """
    if view.decisions_obstacle:
        raise Undefined(view.decisions_obstacle)
    disagreements = view.stats.disagreements
    if disagreements is None:
        raise Undefined("the network's decisions are not known")
    require_apart(view.stats)
    return float(disagreements.sum() / view.stats.n_samples)


def require_apart(stats: LayerStats) -> None:
    """Raise Undefined where rounding decides which mean is nearer: one point, a far offset, another class far away."""
    require_extent(stats)
    (one, other), means = stats.frame.crowding.pair, stats.means
    if not len(stats.basis):  # all are as near to each other: the first two that are not equal
        others = np.flatnonzero((means != means[0]).any(axis=1))
        one, other = (0, int(others[0])) if len(others) else (one, other)
    rounding = stats.with_mean_rounding(16 * np.finfo(np.float64).eps * float(np.linalg.norm(means)))
    unlike = (means[one] != means[other]).any() or 0 < stats.within.sum() <= stats.n_samples * rounding**2
    if stats.frame.crowding.distance <= rounding and unlike:
        one, other = stats.classes[[one, other]]
        raise Undefined(f"the means of classes {one} and {other} differ by no more than rounding of float64 sums")


@dataclass(frozen=True)
class Answers:
    """The findings of one pass over the logits: what the network decides, and what that costs."""

    decisions: Int64[np.ndarray, "N"]
    """argmax_c f_c; among equal logits the lowest class."""
    obstacle: str
    """The reason why the network decides nothing for some samples: their logits are not finite. Empty where all are."""
    largest: float
    """The largest |f_c|."""
    _labels: Int64[np.ndarray, "N"]
    _mean_square: float
    _exponent: int
    """`_mean_square` is in the unit 4^exponent; not 0 only where squares of logits would leave float64."""
    _losses: Float64[np.ndarray, "N"]

    def error(self) -> float:
        """Return the fraction of samples whose largest logit is not that of their label: P[y ≠ argmax_c f_c].

        Among equal logits the lowest class wins. In [0, 1]; 0 at collapse, which begins where it reaches 0 on the
        training set.

        Source: Papyan, Han and Donoho 2020 (the terminal phase of training).

        >>> answers(logit_blocks(np.array([[2.0, 1.0], [0.0, 3.0]])), np.array([0, 0])).error()
        0.5
        """
        self._require_finite()
        return float(np.mean(self.decisions != self._labels))

    def mean_squared_error(self) -> float:
        """Return the squared distance of the logits from one-hot labels: mean over i, c of (f_c − 1[c = y])².

        That is what torch's MSELoss gives: 1/K of the mean squared norm, without a factor ½ and without weight decay.
        ≥ 0, in squared units of the logits; 0 at collapse only where weight decay lets them reach their labels.

        Source: Rangamani and Banburski-Fahey 2022, whose loss is K/2 times this.

        >>> answers(logit_blocks(np.array([[1.0, 0.0], [0.0, 0.0]])), np.array([0, 1])).mean_squared_error()
        0.25
        """
        self._require_finite()
        return true_value(self._mean_square, 2 * self._exponent)

    def cross_entropy(self) -> float:
        """Return the negative log-likelihood of the labels under the softmax: mean over i of log Σ_c exp(f_c) − f_y.

        ≥ 0, in nats, log K for equal logits; 0 only in the limit of infinite logits, so positive at collapse.

        Source: Papyan, Han and Donoho 2020, who train with it.

        >>> round(answers(logit_blocks(np.array([[0.0, 0.0]])), np.array([0])).cross_entropy(), 6)
        0.693147
        """
        self._require_finite()
        return float(np.mean(self._losses))

    def _require_finite(self) -> None:
        if self.obstacle:
            raise Undefined(self.obstacle)


def answers(blocks: Iterable[tuple[int, Float[np.ndarray, "n K"]]], labels: Int64[np.ndarray, "N"]) -> Answers:
    """Return the network's answers, found in one pass over its logits.

    Args:
        blocks: (first row, logits) of some samples at a time, all of them once.
        labels: y (N,), classes 0 … K−1.
    """
    decisions, losses, finite = np.zeros(len(labels), np.int64), np.zeros(len(labels)), np.ones(len(labels), bool)
    largest, squares, exponent, size = 0.0, 0.0, 0, 1
    for start, block in blocks:
        rows, each = slice(start, start + len(block)), np.arange(len(block))
        finite[rows] = np.isfinite(block).all(axis=1)
        if not finite[rows].all():
            continue
        own, extent = labels[rows], float(max(block.max(initial=0.0), -block.min(initial=0.0)))
        decisions[rows] = np.argmax(block, axis=1)
        largest, size = max(largest, extent), len(labels) * block.shape[1]
        unit = max(unit_exponent(extent), 0)
        off = np.ldexp(block.astype(np.float64), -unit)
        off[each, own] -= np.ldexp(1.0, -unit)
        shared = max(unit, exponent)
        squares, exponent = (
            float(np.ldexp(squares, 2 * (exponent - shared)) + np.ldexp(np.vdot(off, off), 2 * (unit - shared))),
            shared,
        )
        del off
        shifted = block.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        of_label = shifted[each, own]
        losses[rows] = np.log(np.exp(shifted, out=shifted).sum(axis=1)) - of_label
    return Answers(decisions, _not_finite(finite), largest, labels, squares / size, exponent, losses)


def logit_blocks(logits: Float[np.ndarray, "N K"]) -> Iterator[tuple[int, Float[np.ndarray, "n K"]]]:
    """Yield some samples at a time: work on all logits of thousands of classes takes no more memory than they do."""
    step = most_at_once(logits.shape[1])
    for start in range(0, len(logits), step):
        yield start, logits[start : start + step]


def most_at_once(n_outputs: int) -> int:
    """Return for how many samples the logits are looked at at once."""
    return max(1, _BLOCK_NUMBERS // n_outputs)


def logits_obstacle(logits: Float[np.ndarray, "N K"]) -> str:
    """Return why the network decides nothing for some samples: their logits are not finite. Empty where all are.

    >>> logits_obstacle(np.array([[0.0, 1.0], [np.nan, 1.0]]))
    '1 samples have non-finite logits, first in sample 1'
    """
    return _not_finite(np.concatenate([np.isfinite(block).all(axis=1) for _, block in logit_blocks(logits)] or [_NONE]))


def _not_finite(finite: Bool[np.ndarray, "N"]) -> str:
    bad = np.flatnonzero(~finite)
    return f"{len(bad)} samples have non-finite logits, first in sample {bad[0]}" if len(bad) else ""


NO_TARGETS = "the square loss of one logit for two classes: its two targets are not known"
"""Why one logit has no mean squared error: 0 and 1, or −1 and 1, or others."""
_NONE = np.zeros(0, bool)


NEAREST_CLASS_CENTER: tuple[Metric, ...] = (
    Metric(
        name="ncc_error",
        function=ncc_error,
        family="decision",
        formula="P[y ≠ argmin_c ‖h − μ_c‖]",
        range="[0, 1]",
        at_collapse="0",
        convention="over samples; ties go to the lowest class; classes without samples are never chosen",
        source="Papyan, Han, Donoho 2020; Galanti, György, Hutter 2021",
        reading="Error of the simplest classifier on this layer; once it is the network's, later layers add little.",
        undefined="all samples are one point; two class means differ by no more than rounding",
    ),
    Metric(
        name="nc4_mismatch",
        function=nc4_mismatch,
        family="decision",
        scope="decisions",
        formula="P[argmax_c f_c ≠ argmin_c ‖h − μ_c‖]",
        range="[0, 1]",
        at_collapse="0",
        convention="over samples; f are the network's real logits, bias included",
        source="Papyan, Han, Donoho 2020",
        reading="Whether the network decides as the nearest class centre of this layer does.",
        undefined="logits are not finite; as ncc_error",
    ),
)
