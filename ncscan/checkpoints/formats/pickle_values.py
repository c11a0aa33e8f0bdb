"""What the content of a pickle becomes, and what is counted on the way.

In: nothing. Out: the descriptions of tensors, inert names, and dictionaries whose keys are hashed in bounded time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_KEY_BITS = 1000
MAX_KEY = 16
"""Values in a tuple that is a key, tuples within it included."""
MAX_ODD_KEYS = 10_000
"""The number of keys that are neither text, in tuples or not, nor small integers. Of others any number can be made
that share one hash."""


class BadPickle(ValueError):  # noqa: N818 - the sibling of BadArchive
    """A pickle that must not be loaded; its text gives the reason and stands after the file's name."""


@dataclass(frozen=True, eq=False)
class Named:
    """A name that a pickle would import, or get from calling it; nothing can be done with it."""

    name: str


class Storage(NamedTuple):
    """Bytes of which tensors are views; they lie in a member of the archive."""

    key: str
    dtype: str
    n_elements: int


class View(NamedTuple):
    """A tensor as the pickle describes it: sizes and strides in elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool
    negative: bool


class Context:
    """The state of reading: what a pickle has asked for so far."""

    def __init__(self, tensor: Callable[[View], object]) -> None:
        self.tensor = tensor
        self.foreign: set[str] = set()
        self.n_tensors = self.n_odd_keys = self.n_pairs = 0

    def key(self, value: Any) -> Any:
        """Return a key that is hashed in bounded time, and is one of few wherever a file could choose its hash."""
        self.n_odd_keys += not _is_text(value)
        if self.n_odd_keys > MAX_ODD_KEYS:
            raise BadPickle(f"has more than {MAX_ODD_KEYS:,} keys that are neither text nor small integers")
        parts = _parts(value, MAX_KEY)
        if len(parts) > MAX_KEY:
            raise BadPickle(f"nests tuples of more than {MAX_KEY} values in the key of a dictionary")
        if any(isinstance(part, int) and part.bit_length() > MAX_KEY_BITS for part in parts):
            raise BadPickle(f"has an integer of more than {MAX_KEY_BITS:,} bits in the key of a dictionary")
        return value


def set_items(target: object, items: list[Any], context: Context) -> None:
    """Set keys and values, which take turns, of a dictionary; what is inert stays as it is."""
    if len(items) % 2:
        raise BadPickle("holds a damaged pickle (a key without a value)")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            small = type(key) is str or (type(key) is int and -(2**31) <= key < 2**31)
            target[key if small else context.key(key)] = value
    elif not isinstance(target, Named):
        raise BadPickle("sets an item of what is no dictionary")


def _is_text(key: Any) -> bool:
    """Return whether Python hashes a key by a secret: no file can choose many that share one hash."""
    return isinstance(key, tuple) and all(type(part) in (str, bytes) for part in key)


def _parts(value: Any, most: int) -> list[Any]:
    """Return a value and, where it is a tuple, those in it, each as often as it comes: at most one beyond `most`."""
    parts: list[Any] = []
    waiting = [value]
    while waiting and len(parts) <= most:
        parts.append(waiting.pop())
        if isinstance(parts[-1], tuple):
            waiting += parts[-1][: most + 1]
    return parts
