"""Define what the content of a pickle becomes, and what is counted on the way.

In: nothing. Out: descriptions of tensors and arrays, inert records of everything else, and dictionaries whose keys are
hashed in bounded time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

MAX_KEY_BITS = 1000
MAX_KEY = 16
"""Values in a tuple that is a key, tuples within it included."""
MAX_ODD_KEYS = 10_000
"""The number of keys that are neither text, in tuples or not, nor small integers. Of others any number can be made
that share one hash."""

USER_DICTS = ("collections.UserDict", "UserDict.UserDict", "UserDict.IterableUserDict")
"""Names of the class that keeps its entries in an attribute, the later ones in protocol 2."""


class BadPickle(ValueError):  # noqa: N818 - the sibling of BadArchive
    """A pickle that must not be loaded; its text gives the reason and stands after the file's name."""


@dataclass(frozen=True, eq=False)
class Named:
    """The name of a class or a function that a pickle would import; nothing can be done with it."""

    name: str


@dataclass(eq=False, slots=True)
class Record:
    """An object that a pickle would build by calling a class or a function: what it was given, as data.

    Nothing was imported or called for it. A record has no behaviour; it only keeps what the file holds.
    """

    name: str
    """The class or function, such as `argparse.Namespace`."""
    arguments: tuple[Any, ...] = ()
    state: Any = None
    """What the object would have taken as its attributes; None where the pickle gives none."""
    items: list[Any] = field(default_factory=list)
    """What would have been appended or added to it, in order."""
    entries: dict[Any, Any] = field(default_factory=dict)
    """What would have been set as its items."""

    def fields(self) -> Mapping[Any, Any]:
        """Return the named values in it: the entries of a dictionary of its own class, else its attributes."""
        if self.entries:
            return self.entries
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # (attributes, those in slots)
            state = next((part for part in state if isinstance(part, dict)), None)
        return state if isinstance(state, dict) else {}


class Storage(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of which tensors are views; they lie beside the pickle, or in it."""

    key: str
    """The member of the archive, or the number of the storage in a stream; `#3`: bytes that lie in the pickle."""
    dtype: str
    n_elements: int


class View(msgspec.Struct, frozen=True, array_like=True, tag="view"):
    """A tensor as the pickle describes it: sizes and strides in elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool
    negative: bool


class NumpyArray(msgspec.Struct, frozen=True, array_like=True, tag="array"):
    """A NumPy array as the pickle holds it: its bytes lie in the pickle."""

    dtype: str
    """As torch calls the type of an element."""
    big_endian: bool
    shape: tuple[int, ...]
    fortran: bool
    """Whether the first index is the fastest."""
    key: str
    """The bytes: `#3` is the fourth piece that the pickle holds."""


class Context:
    """The state of reading: what a pickle has asked for so far."""

    def __init__(self, n_bytes: int = 0) -> None:
        self.n_bytes = n_bytes
        """The size of the pickle, where it is known."""
        self.inert: set[str] = set()
        """Names that the pickle would import and that nothing here needs."""
        self.pieces: list[bytes] = []
        """Bytes of tensors and arrays that lie in the pickle itself; the key of one is `#` and its place here."""
        self.storages: dict[str, Storage] = {}
        """The storages that it names, by key."""
        self.embedded: Callable[[object, Context], Storage | Record] | None = None
        """Reads a storage whose bytes lie in the pickle; nothing does within such a storage."""
        self.n_tensors = self.n_odd_keys = self.n_pairs = self.n_encoded = 0

    def keep(self, piece: bytes) -> str:
        """Keep bytes that lie in the pickle, and return their key."""
        self.pieces.append(piece)
        return f"#{len(self.pieces) - 1}"

    def key(self, value: Any) -> Any:
        """Return a key that is hashed in bounded time, and is one of few wherever a file could choose its hash."""
        self.n_odd_keys += not _is_text(value) and not isinstance(value, Record)  # which no two share
        if self.n_odd_keys > MAX_ODD_KEYS:
            raise BadPickle(f"has more than {MAX_ODD_KEYS:,} keys that are neither text nor small integers")
        parts = _parts(value, MAX_KEY)
        if len(parts) > MAX_KEY:
            raise BadPickle(f"nests tuples of more than {MAX_KEY} values in the key of a dictionary")
        if any(isinstance(part, int) and part.bit_length() > MAX_KEY_BITS for part in parts):
            raise BadPickle(f"has an integer of more than {MAX_KEY_BITS:,} bits in the key of a dictionary")
        return value


def set_items(target: object, items: list[Any], context: Context) -> None:
    """Set keys and values, which take turns, of a dictionary or a record."""
    if len(items) % 2:
        raise BadPickle("holds a damaged pickle (a key without a value)")
    entries = target.entries if isinstance(target, Record) else target
    if isinstance(entries, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            small = type(key) is str or (type(key) is int and -(2**31) <= key < 2**31)
            entries[key if small else context.key(key)] = value
    else:
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
