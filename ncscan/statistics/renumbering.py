"""Find whether decisions match the labels once the classes are numbered otherwise.

In: the label and the decision of each sample. Out: a `Renumbering`, where it is certain. The best numbering is a linear
assignment on the confusion matrix, and always matches at least as well as the labels do: of a network that guesses,
too, and the more classes and the fewer samples there are, the better. So one is believed only when it was found on
half of the samples and holds on the other half, and when permuted labels have none that is nearly as good.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from scipy.optimize import linear_sum_assignment

MOST_CELLS = 2**22
"""Cells of a confusion matrix; larger ones take minutes, and are not looked at."""
ALMOST_ALL = 0.999
"""From this accuracy on nothing is looked for."""
MAJORITY = 0.5
"""The share of the samples that must match: of the classes that move, and on the way from chance to 1 of all."""
FORMERLY = 0.2
"""Of that share, the most that may match before: two classes that a network confuses are not numbered otherwise."""
CLEAR = 8
"""Samples that must match in addition, in each half."""
PERMUTATIONS = 5


@dataclass(frozen=True)
class Renumbering:
    """One numbering of the classes under which decisions match the labels."""

    outputs: Int64[np.ndarray, "outputs"]
    """The class of the network that each label means, from label 0 on: a permutation.

    Labels without samples keep theirs where nothing else has it.
    """
    moved: Int64[np.ndarray, "moved"]
    """The labels with samples that mean another class."""
    before: float
    """The share of samples that match as the labels are."""
    after: float
    """The share that matches once they are numbered anew."""
    chance: float
    """The share that the best numbering of permuted labels reaches."""

    @property
    def order(self) -> list[int]:
        """Return the labels in the order of the outputs that mean them."""
        return [int(label) for label in np.argsort(self.outputs)]


def renumbering(
    labels: Int64[np.ndarray, "N"], decisions: Int64[np.ndarray, "N"], n_outputs: int
) -> Renumbering | None:
    """Return the renumbering of the classes under which the decisions match, where it is certain that there is one.

    >>> decided = np.repeat([0, 1, 2, 3], 20)
    >>> found = renumbering((decided + 1) % 4, decided, 4)
    >>> found.before, found.after, found.order
    (0.0, 1.0, [1, 2, 3, 0])
    >>> renumbering(np.tile([0, 1, 2, 3], 20), decided, 4) is None
    True
    """
    match, before = best_match(labels, decisions, n_outputs), float(np.mean(labels == decisions))
    if match is None or before >= ALMOST_ALL:
        return None
    present = np.unique(labels)
    moved = present[match[present] != present]
    half = _every_other(labels)
    if not len(moved) or not all(_holds(labels, decisions, n_outputs, each) for each in (half, ~half)):
        return None
    after, chance = float(np.mean(match[labels] == decisions)), _by_chance(labels, decisions, n_outputs)
    if after <= chance + MAJORITY * (1 - chance) or not _is_clear(match, moved, labels, decisions):
        return None
    return Renumbering(_completed(match, present), moved, before, after, chance)


def best_match(
    labels: Int64[np.ndarray, "n"], decisions: Int64[np.ndarray, "n"], n_outputs: int
) -> Int64[np.ndarray, "outputs"] | None:
    """Return for each label the output that it means under the numbering that matches most decisions.

    Where several match as many it is the one that moves fewest. None where there is no table of labels × outputs: some
    label has no output, or there are too many.
    """
    present, rows = np.unique(labels, return_inverse=True)
    if not len(present) or present[-1] >= n_outputs or len(present) * n_outputs > MOST_CELLS:
        return None
    counts = np.bincount(rows * n_outputs + decisions, minlength=len(present) * n_outputs)
    gain = counts.reshape(len(present), n_outputs).astype(np.float64) * 2
    gain[np.arange(len(present)), present] += 1 / n_outputs
    match = np.arange(n_outputs)
    match[present] = linear_sum_assignment(gain, maximize=True)[1]
    return match


def _every_other(labels: Int64[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Return a mask of every other sample of each class."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], labels[order])
    mask = np.empty(len(labels), bool)
    mask[order] = (np.arange(len(labels)) - first) % 2 == 0
    return mask


def _holds(
    labels: Int64[np.ndarray, "N"], decisions: Int64[np.ndarray, "N"], n_outputs: int, found_on: Bool[np.ndarray, "N"]
) -> bool:
    """Return whether the numbering that one half of the samples gives holds on the other."""
    match = best_match(labels[found_on], decisions[found_on], n_outputs)
    if match is None:
        return False
    present = np.unique(labels[found_on])
    return _is_clear(match, present[match[present] != present], labels[~found_on], decisions[~found_on])


def _is_clear(
    match: Int64[np.ndarray, "outputs"],
    moved: Int64[np.ndarray, "moved"],
    labels: Int64[np.ndarray, "n"],
    decisions: Int64[np.ndarray, "n"],
) -> bool:
    """Return whether most samples of the classes that move match then, and few of them match now."""
    own = np.isin(labels, moved)
    matched, before = (int((given[own] == decisions[own]).sum()) for given in (match[labels], labels))
    return matched >= MAJORITY * int(own.sum()) and before <= FORMERLY * matched and matched - before >= CLEAR


def _by_chance(labels: Int64[np.ndarray, "N"], decisions: Int64[np.ndarray, "N"], n_outputs: int) -> float:
    """Return the share of samples that match under the best numbering of permuted labels, on average."""
    random = np.random.default_rng(0)
    shares = []
    for _ in range(PERMUTATIONS):
        permuted = random.permutation(labels)
        match = best_match(permuted, decisions, n_outputs)
        shares.append(0.0 if match is None else float(np.mean(match[permuted] == decisions)))
    return float(np.mean(shares))


def _completed(match: Int64[np.ndarray, "outputs"], present: Int64[np.ndarray, "K"]) -> Int64[np.ndarray, "outputs"]:
    """Return a permutation: labels without samples keep their outputs, or take those that are left, in order."""
    taken = set(match[present].tolist())
    absent = [label for label in range(len(match)) if label not in set(present.tolist())]
    kept = {label for label in absent if label not in taken}
    free = iter(sorted(set(range(len(match))) - taken - kept))
    whole = match.copy()
    for label in absent:
        whole[label] = label if label in kept else next(free)
    return whole
