"""A numbering of the classes is found where there is one, and nowhere else: a network that errs is not renumbered."""

from collections.abc import Callable

import numpy as np
import pytest

from ncscan.statistics.renumbering import MOST_CELLS, best_match, renumbering

Classes = np.ndarray


def right(random: np.random.Generator, labels: Classes, K: int, accuracy: float) -> Classes:
    """Decisions of a network that is as accurate, and errs at random."""
    return np.where(random.random(len(labels)) < accuracy, labels, random.integers(0, K, len(labels)))


SIZES = [(2, 100), (4, 240), (10, 1000), (100, 2000), (1000, 4000), (1000, 20_000)]


@pytest.mark.parametrize(("K", "N"), SIZES)
@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.55, 0.8, 0.95, 1.0])
def test_an_honest_network_is_not_renumbered(K: int, N: int, accuracy: float) -> None:
    random = np.random.default_rng(K + N)
    labels = np.arange(N) % K
    assert renumbering(labels, right(random, labels, K, accuracy), K) is None


@pytest.mark.parametrize(("K", "N"), SIZES)
@pytest.mark.parametrize("accuracy", [0.9, 1.0])
def test_a_renumbered_network_is(K: int, N: int, accuracy: float) -> None:
    random = np.random.default_rng(K + N)
    outputs = np.array([1, 0]) if K == 2 else random.permutation(K)
    labels = random.permutation(N) % K
    found = renumbering(labels, right(random, outputs[labels], K, accuracy), K)
    assert found is not None
    assert accuracy - 0.05 < found.after <= 1
    assert found.before < 0.3
    assert np.mean(found.outputs == outputs) > (0.99 if K < 1000 else 0.97)
    assert list(range(K)) == sorted(found.order)
    assert found.order == np.argsort(found.outputs).tolist()


def noise(random: np.random.Generator) -> tuple[Classes, Classes, int]:
    labels = np.arange(1000) % 10
    return random.integers(0, 10, 1000), labels, 10


def one_class(_: np.random.Generator) -> tuple[Classes, Classes, int]:
    return np.where(np.arange(1000) < 900, 0, np.arange(1000) % 10), np.full(1000, 3), 10


def flipped(random: np.random.Generator) -> tuple[Classes, Classes, int]:
    """Labels of which 60 % of one class are of another, and the reverse: more match once the two are exchanged."""
    decisions = np.arange(2000) % 10
    other = {3: 5, 5: 3}
    exchanged = np.array([other.get(int(c), int(c)) for c in decisions])
    return np.where(random.random(2000) < 0.6, exchanged, decisions), decisions, 10


def confused(random: np.random.Generator) -> tuple[Classes, Classes, int]:
    """Each class is taken for one other in two of three cases."""
    labels = np.arange(3000) % 100
    return labels, np.where(random.random(3000) < 0.35, labels, random.permutation(100)[labels]), 100


def long_tail(random: np.random.Generator) -> tuple[Classes, Classes, int]:
    weights = 1 / np.arange(1, 1001)
    labels, guesses = random.choice(1000, (2, 4000), p=weights / weights.sum())
    return labels, np.where(random.random(4000) < 0.1, labels, guesses), 1000


def one_sample_a_class(random: np.random.Generator) -> tuple[Classes, Classes, int]:
    return np.arange(500), random.permutation(500), 500


def mostly_wrong_of_two(random: np.random.Generator) -> tuple[Classes, Classes, int]:
    labels = np.arange(400) % 2
    return labels, np.where(random.random(400) < 0.3, labels, 1 - labels), 2


def too_few(_: np.random.Generator) -> tuple[Classes, Classes, int]:
    return np.array([0, 0, 1, 1, 2, 2]), np.array([1, 1, 2, 2, 0, 0]), 3


@pytest.mark.parametrize(
    "case", [noise, one_class, flipped, confused, long_tail, one_sample_a_class, mostly_wrong_of_two, too_few]
)
@pytest.mark.parametrize("seed", range(3))
def test_what_only_looks_like_a_renumbering_is_none(
    case: Callable[[np.random.Generator], tuple[Classes, Classes, int]], seed: int
) -> None:
    labels, decisions, K = case(np.random.default_rng(seed))
    assert renumbering(labels, decisions, K) is None


def test_two_of_ten_classes_that_are_exchanged_are_found() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    outputs = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9])
    found = renumbering(labels, right(random, outputs[labels], 10, 0.9), 10)
    assert found is not None
    assert ([3, 5], outputs.tolist()) == (found.moved.tolist(), found.outputs.tolist())


def test_classes_without_samples_keep_their_numbers_where_these_are_free() -> None:
    labels = np.repeat([0, 1, 4], 40)
    found = renumbering(labels, np.array([1, 0, 2, 3, 3])[labels], 6)
    assert found is not None
    assert [1, 0, 2, 4, 3, 5] == found.outputs.tolist()


def test_labels_off_by_one_are_found() -> None:
    labels = np.arange(1000) % 10
    found = renumbering(labels, labels + 1, 11)
    assert found is not None
    assert {1} == set((found.outputs - np.arange(11))[found.moved].tolist())
    assert [10, *range(10)] == found.order


def test_what_has_no_table_has_no_match() -> None:
    labels = np.arange(10)
    assert best_match(labels, labels, 9) is None
    assert best_match(np.arange(MOST_CELLS // 4), np.zeros(MOST_CELLS // 4, int), MOST_CELLS) is None
