"""Describe a traced forward pass: which tensors are layers, which linear map reads which layer.

In: nothing. Out: the dataclasses that tracer.py makes, a dump keeps, and measures and reports read.
No torch here: a dump is understood without the model that made it. The only file that knows what a selector means.
"""

import math
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import FrameType
from typing import Literal, get_args

from ncscan.errors import UsageError
from ncscan.wording import visible

LayerKind = Literal[
    "input",
    "linear",
    "convolution",
    "embedding",
    "normalisation",
    "activation",
    "pooling",
    "residual",
    "attention",
    "recurrent",
    "block",
    "other",
]
KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
"""The kinds of operations that compute a value; the closed list of the `kind` column."""


BETWEEN = ".."
"""What stands between the names of two linear maps where programs read them together."""


def joined(first: str, last: str) -> str:
    """Return what a pair of linear maps is called, or a product from one to another, where programs read it.

    >>> joined("fc1", "fc2"), joined("fc1", "")
    ('fc1..fc2', 'fc1')
    """
    return f"{first}{BETWEEN}{last}" if last else first


def joined_in_words(first: str, last: str) -> str:
    """Return what the same is called where people read it.

    >>> joined_in_words("fc1", "fc2"), joined_in_words("fc1", "")
    ('fc1 → fc2', 'fc1')
    """
    return f"{first} → {last}" if last else first


def parted(name: str) -> tuple[str, str]:
    """Return the two names that `joined` put together; the second is empty where there is one.

    >>> parted("fc1..fc2"), parted("fc1")
    (('fc1', 'fc2'), ('fc1', ''))
    """
    first, _, last = name.partition(BETWEEN)
    return first, last


@dataclass(frozen=True)
class Tap:
    """One value of the forward pass that can be kept as a layer."""

    name: str
    """Innermost name: `layer1.0.relu` for a module, `layer1.0/relu` for a call, `…:1` for a second call."""
    aliases: tuple[str, ...]
    """Other names of the same value: the modules that returned it unchanged, inner to outer."""
    kind: LayerKind
    depth: int
    """Rank in execution order among the taps of the graph; 0 is the input, unless the input is token numbers."""
    shape: tuple[int, ...]
    """Shape of one sample, without the batch dimension."""
    dtype: str
    """`float32`, `bfloat16`, `int64`, … as the pass computed it."""
    channel_dim: int | None
    """Which dimension of `shape` is the feature axis; the others are positions. None for a plain vector."""
    activated_by: str
    """Name of the activation that reads this value (then it is a pre-activation), else empty."""
    is_output: bool
    """Whether this value is what the model returns: the logits."""
    types: tuple[str, ...] = ()
    """What made it and what returned it, as `name` and `aliases` go: class names of modules, or a function's name."""
    minor: bool = False
    """Whether `all` leaves it out: a result that no linear map reads (scalar arithmetic, masks, slices, …)."""

    @property
    def is_preactivation(self) -> bool:
        return bool(self.activated_by)


@dataclass(frozen=True)
class LinearMap:
    """One linear map as the pass executed it: y = W x + b."""

    name: str
    """The tap that it writes, by name."""
    kind: Literal["linear", "convolution", "embedding"]
    weight: str
    """Name of the parameter or buffer (for a computed weight, of the first parameter behind it)."""
    bias: str
    """Name of the bias parameter, empty when there is none."""
    reads: str
    """Name of the tap it reads. Token numbers are no layer: what an embedding reads has a name here but no tap."""
    shape: tuple[int, ...]
    """Shape of the weight as (outputs, inputs, …)."""


@dataclass(frozen=True)
class Link:
    """Two linear maps of which the second reads what came of the first, with no other linear map between."""

    first: str
    next: str
    between: tuple[LayerKind, ...]
    """The kinds of what stands between on the shortest way, in order; views and dropout do not count. Empty: the
    product W₂W₁ is exact. A way stops at its second residual sum: what is carried past it belongs to later blocks."""


@dataclass(frozen=True)
class TapGraph:
    """A traced forward pass."""

    taps: tuple[Tap, ...]
    """The taps in execution order: depth 0 is the input."""
    maps: tuple[LinearMap, ...]
    """The linear maps in execution order."""
    links: tuple[Link, ...]
    head: tuple[str, ...]
    """The linear maps at the end of the pass with nothing between them, first to last: the linear head."""
    not_executed: tuple[str, ...]
    """Modules with parameters of their own of which the pass read none."""

    @property
    def output(self) -> Tap:
        """Return the tap of the logits."""
        return next(tap for tap in self.taps if tap.is_output)

    @property
    def n_outputs(self) -> int:
        """Return how many classes the network decides between: as many as it has logits, or two by the sign of one."""
        output = self.output
        n = 1 if not output.shape else output.shape[-1 if output.channel_dim is None else output.channel_dim]
        return 2 if n == 1 else n

    @property
    def has_one_logit(self) -> bool:
        """Return whether the sign of one logit decides between two classes."""
        return math.prod(self.output.shape) == 1

    @property
    def last(self) -> LinearMap | None:
        """Return the linear map that decides: the end of the linear head, else the last one that ran."""
        if self.head:
            return self.map(self.head[-1])
        return self.maps[-1] if self.maps else None

    def tap(self, name: str) -> Tap:
        """Return the tap of that name or alias; KeyError when there is none."""
        for tap in self.taps:
            if name == tap.name or name in tap.aliases:
                return tap
        raise KeyError(name)

    def map(self, name: str) -> LinearMap:
        """Return the linear map of that name; KeyError when there is none."""
        for linear_map in self.maps:
            if linear_map.name == name:
                return linear_map
        raise KeyError(name)


def _penultimate(graph: TapGraph) -> set[str]:
    return {graph.last.reads} if graph.last else set()


def _head(graph: TapGraph) -> set[str]:
    return {name for m in graph.maps if m.name in graph.head for name in (m.reads, m.name)}


WORDS: tuple[tuple[str, Callable[[TapGraph], set[str]]], ...] = (
    ("all", lambda graph: {tap.name for tap in graph.taps if not tap.minor}),
    ("every", lambda graph: {tap.name for tap in graph.taps}),
    ("input", lambda graph: {tap.name for tap in graph.taps if tap.kind == "input"}),
    ("penultimate", _penultimate),
    ("head", _head),
    ("output", lambda graph: {tap.name for tap in graph.taps if tap.is_output}),
)
"""Reserved selectors, resolved from the graph: they come before modules that happen to have such a name."""


MAX_SELECTOR = 1000
"""Characters of a selector."""
COMPARED = 100
"""Characters of a selector for which similar names are looked for."""
SEARCHING = 5.0
"""Seconds of the processor that a regular expression may take over all names of layers."""


def select(graph: TapGraph, selectors: Sequence[str]) -> tuple[Tap, ...]:
    """Return the taps that the selectors name, in execution order.

    A selector is a word of `WORDS`, a glob over names and aliases (`layer*.relu*`), `re:` and a regular expression
    searched in them, `type:` and a module class, a function or a kind in any case (`type:BatchNorm2d`, `type:relu`),
    or `!` and any of these, which removes. They apply from left to right; a list that
    starts by removing starts from `all`.

    Raises:
        UsageError: when a selector matches nothing (close names are offered), or when nothing is left.
    """
    check_selectors(selectors)
    chosen = _matches(graph, "all") if not selectors or selectors[0].startswith("!") else set[str]()
    for selector in selectors:
        if selector.startswith("!"):
            chosen -= _matches(graph, selector[1:])
        else:
            chosen |= _matches(graph, selector)
    if not chosen:
        raise UsageError(f"--layers {' '.join(selectors)} leaves no layer; `ncscan layers` lists what there is")
    return tuple(tap for tap in graph.taps if tap.name in chosen)


def check_selectors(selectors: Sequence[str]) -> None:
    """Refuse selectors that mean nothing whatever the layers are.

    Raises: UsageError when one is empty, too long, or no regular expression after its `re:`.
    """
    for selector in selectors:
        if len(selector) > MAX_SELECTOR:
            raise UsageError(
                f"--layers {visible(selector[:60])}…: {len(selector):,} characters; at most {MAX_SELECTOR:,} are read"
            )
        bare = selector.removeprefix("!")
        if not bare.strip():
            raise UsageError(f"--layers {selector!r}: names no layer; `ncscan layers` lists what there is")
        if bare.startswith("re:"):
            with _understood(bare[3:]):
                re.compile(bare[3:])


def _matches(graph: TapGraph, selector: str) -> set[str]:
    """Return the names of the taps that one selector means, without its `!`."""
    pattern = selector.partition(":")[2]
    if selector in dict(WORDS):
        # What an embedding reads has a name but no tap.
        found = dict(WORDS)[selector](graph) & {tap.name for tap in graph.taps}
    elif selector.startswith("re:"):
        found = _matching(pattern, graph)
    elif selector.startswith("type:"):
        found = {tap.name for tap in graph.taps if pattern.lower() in _types(tap)}
    else:
        found = {tap.name for tap in graph.taps if any(fnmatchcase(name, selector) for name in _names(tap))}
    if not found:
        raise UsageError(f"--layers {selector} matches no layer; {_hint(graph, selector)}")
    return found


def _matching(pattern: str, graph: TapGraph) -> set[str]:
    """Return the taps in whose names a regular expression is found, in bounded time."""
    with _understood(pattern):
        wanted = re.compile(pattern)
        return {tap.name for tap in graph.taps if any(wanted.search(name) for name in _names(tap))}


@contextmanager
def _understood(pattern: str) -> Iterator[None]:
    """Inside, a regular expression that cannot be used is a UsageError, and takes bounded time."""
    try:
        with _limited(SEARCHING), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read differently
            yield
    except TimeoutError:
        raise UsageError(f"--layers re:{pattern}: takes longer than {SEARCHING:g} seconds; write it simpler") from None
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"--layers re:{pattern}: not a regular expression ({what})") from None


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside after so much time of the processor.

    `re` tries an expression like `(a+)+$` in every way, and looks for signals meanwhile. They exist in the main thread
    alone, and not on Windows: elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _names(tap: Tap) -> tuple[str, ...]:
    return (tap.name, *tap.aliases)


def _types(tap: Tap) -> set[str]:
    return {tap.kind, *(name.lower() for name in tap.types)}


def _hint(graph: TapGraph, selector: str) -> str:
    """Return names that look like what was asked for, else where to find them."""
    if selector.startswith("type:"):
        known, asked = sorted({name for tap in graph.taps for name in (tap.kind, *tap.types)}), selector[5:]
    else:
        known, asked = [word for word, _ in WORDS] + [name for tap in graph.taps for name in _names(tap)], selector
    close = get_close_matches(asked, known, n=3) if len(asked) <= COMPARED else []  # the search takes their square
    return f"did you mean {', '.join(close)}?" if close else "`ncscan layers` lists what there is"
