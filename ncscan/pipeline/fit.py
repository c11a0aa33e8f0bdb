"""How well a checkpoint fits its data, and what is doubtful about that before anything is measured.

In: a source of activations. Out: a line on it, and doubts in words.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from ncscan.activations import ActivationSource, Provenance
from ncscan.pipeline.events import Finished
from ncscan.splits import OUTSIDE, TRAINING
from ncscan.statistics import Members
from ncscan.wording import listed

_NAMED = 3
"""The number of classes that a doubt names; of the others it gives the count."""
ACCURACY_NOTES = ("train_accuracy", "train_acc", "accuracy", "acc", "best_accuracy", "best_acc", "val_acc", "test_acc")
"""Names under which training loops note an accuracy, a training accuracy first."""

ACCURACY_TOLERANCE = 0.05
"""A replay without augmentation and dropout differs by a little; wrong preprocessing differs by much."""

NEAR_CHANCE = 0.1
"""An accuracy this share of the way from chance to 1 counts as near chance."""


def summed_up(source: ActivationSource, details: str, doubts: Sequence[str] = ()) -> Finished:
    """Sum a source up in one line: the accuracy of the replay, and what is doubtful about it."""
    own = source.provenance
    name = label(own) + ("" if own.split == TRAINING else f" ({own.split})")
    if own.split == OUTSIDE:
        return Finished(name, None, len(source.labels), details, (*source.doubts, *doubts))
    accuracy = float(np.mean(source.logits.argmax(axis=1) == source.labels))
    chance = float(np.bincount(source.labels).max() / len(source.labels))
    untrained = 0 in (own.step, own.epoch)
    if own.split == TRAINING:
        doubts = (*accuracy_doubts(accuracy, chance, own.notes, untrained=untrained), *doubts)
    doubts = (*lacking(source.labels, source.logits.shape[1], own.class_names), *source.doubts, *doubts)
    return Finished(name, accuracy, len(source.labels), details, tuple(doubts))


def label(provenance: Provenance) -> str:
    """Return the label of a checkpoint in tables and messages."""
    return f"{provenance.run}/{provenance.checkpoint}"


def accuracy_doubts(accuracy: float, chance: float, notes: Mapping[str, object], *, untrained: bool) -> list[str]:
    """Return what is doubtful about a replay's accuracy: far from the checkpoint's own note, or near chance.

    Args:
        accuracy: of the replay, in [0, 1].
        chance: share of the largest class.
        notes: of the checkpoint; an accuracy above 1 is read as per cent.
        untrained: whether this is an initialisation, which may well be at chance.

    >>> accuracy_doubts(0.12, 0.1, {}, untrained=True)
    []
    """
    cause = "wrong preprocessing is the usual cause: see --normalize"
    for name in ACCURACY_NOTES:
        note = notes.get(name)
        if isinstance(note, int | float) and not isinstance(note, bool) and 0 <= note <= 100:
            own = note / 100 if note > 1 else note
            # A noted test accuracy lies below the training accuracy by rights, so there only a lower replay is odd.
            below, above = own - accuracy, accuracy - own if name.startswith("train") else 0
            if max(below, above) > ACCURACY_TOLERANCE:
                return [f"accuracy {accuracy:.1%}, but the checkpoint's own {name} is {own:.1%}; {cause}"]
            return []
    if not untrained and accuracy < chance + NEAR_CHANCE * (1 - chance):
        return [f"accuracy {accuracy:.1%} is near chance, {chance:.1%}; {cause}"]
    return []


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
