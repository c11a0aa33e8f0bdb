"""How well a checkpoint fits its data, and what is doubtful about that before anything is measured.

In: a source of activations. Out: a line on it, and doubts in words.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64
from scipy.stats import binom

from ncscan.activations import ActivationSource, Provenance
from ncscan.ordering import PlaceInRun
from ncscan.pipeline.events import Finished
from ncscan.splits import OUTSIDE, TRAINING
from ncscan.statistics import Members, Renumbering, best_match, renumbering
from ncscan.wording import listed

_NAMED = 3
"""The number of classes that a doubt names; of the others it gives the count."""
ACCURACY_NOTES = ("train_accuracy", "train_acc", "accuracy", "acc", "best_accuracy", "best_acc", "val_acc", "test_acc")
"""Names under which training loops note an accuracy, a training accuracy first."""

ACCURACY_TOLERANCE = 0.05
"""A replay without augmentation and dropout differs by a little; wrong preprocessing differs by much."""

NEAR_CHANCE = 0.1
"""An accuracy this share of the way from chance to 1 counts as near chance."""
FAR_FROM_CHANCE = 0.2
"""One this share of the way shows that the run has learned: an earlier checkpoint may well be near chance."""
CERTAIN = 1e-6
"""The probability under which an accuracy is no accident of decisions that have nothing to do with the labels."""
LISTED_CLASSES = 20
"""The number of classes whose order a doubt gives in full."""
ORDER_FILE = "class-order.txt"
"""The file in the folder of a run's dumps that holds the order of more of them."""
_CAUSE = "wrong preprocessing is the usual cause: see --normalize, or let --try-preprocessing try the usual ones"


def summed_up(source: ActivationSource, details: str, doubts: Sequence[str] = ()) -> Finished:
    """Sum a source up in one line: the accuracy of the replay, and what is doubtful about it.

    A replay that fits badly is diagnosed in the order of certainty: classes that are numbered otherwise, an accuracy
    that is not the one that the checkpoint notes, one that is below chance, one that is near it. The last two say
    little of a checkpoint whose run has only begun: they are pending until the others are known.
    """
    own = source.provenance
    name = label(own) + ("" if own.split == TRAINING else f" ({own.split})")
    if own.split == OUTSIDE:
        return Finished(name, None, len(source.labels), details, (*source.doubts, *doubts))
    decisions, n_outputs = source.logits.argmax(axis=1), source.logits.shape[1]
    accuracy = float(np.mean(decisions == source.labels))
    chance = float(np.bincount(source.labels).max() / len(source.labels))
    pending = ""
    if own.split == TRAINING:
        found = renumbered(source)
        if found is not None:
            doubts = (numbered_otherwise(found, own.class_names), *doubts)
        elif noted := noted_otherwise(accuracy, own.notes):
            doubts = (*noted, *doubts)
        elif not has_noted(own.notes) and not _is_untrained(own):
            pending = below_chance(source.labels, decisions, n_outputs) or near_chance(accuracy, chance)
    doubts = (*lacking(source.labels, n_outputs, own.class_names), *source.doubts, *doubts)
    is_accurate = accuracy >= chance + FAR_FROM_CHANCE * (1 - chance)
    return Finished(name, accuracy, len(source.labels), details, tuple(doubts), pending, is_accurate)


def _is_untrained(own: Provenance) -> bool:
    """Return whether a checkpoint counts no training: a step that is 0 beside a later epoch is no count."""
    counts = [count for count in (own.step, own.epoch) if count is not None]
    return bool(counts) and max(counts) == 0


def label(provenance: Provenance) -> str:
    """Return the label of a checkpoint in tables and messages."""
    return f"{provenance.run}/{provenance.checkpoint}"


def still_doubted(found: Sequence[tuple[Provenance, Finished]], places: Mapping[str, PlaceInRun]) -> dict[str, str]:
    """Return the pending doubts that hold once all checkpoints are known, by the label of the checkpoint.

    Those of a checkpoint go where a later one of its run is accurate, or one that stands beside the run, as the best
    does. Where the place of a checkpoint is not known its doubt stays.

    Args:
        found: where each checkpoint comes from, and what became of it.
        places: by label; without those that only are other names of one that is there.
    """
    training = [(own, finished) for own, finished in found if own.split == TRAINING and finished.label in places]
    accurate: dict[str, list[int | None]] = {}
    for own, finished in training:
        if finished.is_accurate:
            accurate.setdefault(own.run, []).append(places[finished.label].step)

    def has_only_begun(run: str, step: int | None) -> bool:
        return step is not None and any(later is None or later > step for later in accurate.get(run, ()))

    return {
        finished.label: finished.pending
        for own, finished in training
        if finished.pending and not has_only_begun(own.run, places[finished.label].step)
    }


def renumbered(source: ActivationSource) -> Renumbering | None:
    """Return the numbering of the classes under which the decisions match the labels, where that is certain."""
    if not np.isfinite(source.logits).all():
        return None
    return renumbering(source.labels, source.logits.argmax(axis=1), source.logits.shape[1])


def numbered_otherwise(found: Renumbering, class_names: Sequence[str]) -> str:
    """Return in words that the data numbers the classes otherwise than the network, how, and what to do about it."""
    K = len(found.outputs)
    shares = f"{found.after:.1%} of the decisions match after one renumbering, {found.before:.1%} as they are"
    said = f"the data numbers its classes otherwise than the network: {shares} (by chance {found.chance:.1%})"
    order = ",".join(map(str, found.order)) if K <= LISTED_CLASSES else f"FILE, the order found is in {ORDER_FILE}"
    effect = "the error, NC3 and NC4 compare other classes until then"
    return f"{said}; {_moves(found, class_names)}: --class-order {order}; {effect}"


def _moves(found: Renumbering, class_names: Sequence[str]) -> str:
    """Return how classes are renumbered: in one sentence where all move alike, else the first ones."""
    by = set((found.outputs[found.moved] - found.moved).tolist())
    several = len(found.moved) > 2
    if len(by) == 1 and several:
        (step,) = by
        size = "one" if abs(step) == 1 else str(abs(step))
        return f"each label is {size} {'less' if step > 0 else 'more'} than its class"
    first = found.moved[:_NAMED]
    names = [class_names[label] if label < len(class_names) else str(label) for label in first.tolist()]
    pairs = [f"label {name} is class {found.outputs[label]}" for name, label in zip(names, first, strict=True)]
    more = [f"{len(found.moved) - _NAMED} more of {len(found.outputs)} move"] if len(found.moved) > _NAMED else []
    return listed([*pairs, *more])


def has_noted(notes: Mapping[str, object]) -> bool:
    """Return whether the checkpoint notes its accuracy."""
    return _noted(notes) is not None


def _noted(notes: Mapping[str, object]) -> tuple[str, float] | None:
    """Return the first accuracy that a checkpoint notes, and its name; one above 1 is read as per cent."""
    for name in ACCURACY_NOTES:
        note = notes.get(name)
        if isinstance(note, int | float) and not isinstance(note, bool) and 0 <= note <= 100:
            return name, note / 100 if note > 1 else note
    return None


def noted_otherwise(accuracy: float, notes: Mapping[str, object]) -> list[str]:
    """Return a doubt where a replay's accuracy is far from the checkpoint's own note.

    >>> noted_otherwise(0.12, {"train_acc": 98.0})[0].partition(";")[0]
    "accuracy 12.0%, but the checkpoint's own train_acc is 98.0%"
    """
    if (noted := _noted(notes)) is None:
        return []
    name, own = noted
    # A noted test accuracy lies below the training accuracy by rights, so there only a lower replay is odd.
    below, above = own - accuracy, accuracy - own if name.startswith("train") else 0
    if max(below, above) <= ACCURACY_TOLERANCE:
        return []
    return [f"accuracy {accuracy:.1%}, but the checkpoint's own {name} is {own:.1%}; {_CAUSE}"]


def below_chance(labels: Int64[np.ndarray, "N"], decisions: Int64[np.ndarray, "N"], n_outputs: int) -> str:
    """Return a doubt where fewer decisions match than would if they had nothing to do with the labels; else empty.

    They do have to do with them, then, but under other numbers, or of inputs that mean the opposite.

    >>> below_chance(np.tile([0, 1, 2], 20), np.tile([1, 2, 0], 20), 3).partition(",")[0]
    'accuracy 0.0% is below chance'
    """
    N, right = len(labels), int((labels == decisions).sum())
    n_classes = max(n_outputs, int(labels.max()) + 1)
    shares = (np.bincount(given, minlength=n_classes) / N for given in (labels, decisions))
    # Where all decisions are of classes without samples, chance is what a guess among all classes gives.
    by_chance = float(np.prod(list(shares), axis=0).sum()) or 1 / n_classes
    if binom.cdf(right, N, by_chance) >= CERTAIN:
        return ""
    match = best_match(labels, decisions, n_outputs)
    best = "" if match is None else f" (the best matches {np.mean(match[labels] == decisions):.1%})"
    said = f"accuracy {right / N:.1%} is below chance, {by_chance:.1%}"
    why = f"labels of other classes or off by one, though no single renumbering is certain{best}, or inverted inputs"
    return f"{said}: {why}; see --class-order and --try-preprocessing"


def near_chance(accuracy: float, chance: float) -> str:
    """Return a doubt where an accuracy is near chance, the share of the largest class; else empty.

    >>> near_chance(0.5, 0.1)
    ''
    """
    if accuracy >= chance + NEAR_CHANCE * (1 - chance):
        return ""
    said = f"is near chance, {chance:.1%}" if accuracy else "means that no decision matches its label"
    return f"accuracy {accuracy:.1%} {said}; {_CAUSE}"


def lacking(labels: Int64[np.ndarray, "N"], n_outputs: int, class_names: Sequence[str]) -> list[str]:
    """Return a line on the classes that the network knows and the data has no sample of, where it lacks any.

    >>> lacking(np.array([0, 2]), 4, ("cat", "dog", "emu"))[0].partition(":")[0]
    "the data has 2 of the network's 4 classes, no samples of dog and 3"
    """
    absent = np.flatnonzero(~np.isin(np.arange(n_outputs), labels))
    if not len(absent):
        return []
    said = f"the data has {n_outputs - len(absent)} of the network's {n_outputs} classes, no samples of"
    what = "every metric is of the classes it has, NC3 of their rows of the classifier, and theory is not applied"
    return [f"{said} {_named(absent, class_names)}: {what}"]


def few_samples(known: Members, class_names: Sequence[str]) -> list[str]:
    """Return a line on the classes that have one sample."""
    single = known.classes[np.bincount(known.of) == 1]
    if not len(single):
        return []
    has = "one sample of class" if len(single) == 1 else "one sample of each of the classes"
    return [f"there is {has} {_named(single, class_names)}: it is its own mean, and nothing varies around it"]


def _named(classes: Int64[np.ndarray, "n"], class_names: Sequence[str]) -> str:
    """Return the first few by name, else by number."""
    names = [class_names[c] if c < len(class_names) else str(c) for c in classes[:_NAMED].tolist()]
    more = [f"{len(classes) - _NAMED} more"] if len(classes) > _NAMED else []
    return listed([*names, *more])
