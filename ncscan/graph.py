"""The plain facts of a traced forward pass: which tensors are layers, which linear map reads which.

In: nothing. Out: the dataclasses that taps.py makes, a dump keeps, and measures and reports read.
No torch here: a dump is understood without the model that made it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

Kind = Literal[
    "input",
    "linear",
    "convolution",
    "embedding",
    "normalisation",
    "activation",
    "pooling",
    "residual",
    "attention",
    "block",
    "other",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What computed a value; the closed list of the `kind` column."""


@dataclass(frozen=True)
class Tap:
    """One value of the forward pass that can be kept as a layer."""

    name: str
    """Innermost name: `layer1.0.relu` for a module, `layer1.0/relu` for a call, `…:1` for a second call."""
    aliases: tuple[str, ...]
    """Other names of the same value: the modules that returned it unchanged, inner to outer."""
    kind: Kind
    depth: int
    """Rank in execution order among the taps of the graph, 0 for the input."""
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
    """Name of the parameter (for a parametrised weight, of the first parameter behind it)."""
    bias: str
    """Name of the bias parameter, empty when there is none."""
    reads: str
    """Name of the tap it reads."""
    shape: tuple[int, ...]
    """Shape of the weight as (outputs, inputs, …)."""


@dataclass(frozen=True)
class Link:
    """Two linear maps of which the second reads what came of the first, with no other map between."""

    first: str
    next: str
    between: tuple[Kind, ...]
    """Kinds of what stands between, in order; views and dropout do not count. Empty: the product W₂W₁ is exact."""


@dataclass(frozen=True)
class TapGraph:
    """A traced forward pass."""

    taps: tuple[Tap, ...]
    """In execution order: depth 0 is the input."""
    maps: tuple[LinearMap, ...]
    """In execution order."""
    links: tuple[Link, ...]
    head: tuple[str, ...]
    """The maps at the end of the pass with nothing between them, first to last: the linear head."""
    not_executed: tuple[str, ...]
    """Modules with parameters of their own of which the pass read none."""

    def tap(self, name: str) -> Tap:
        """The tap of that name or alias; KeyError when there is none."""
        for tap in self.taps:
            if name == tap.name or name in tap.aliases:
                return tap
        raise KeyError(name)

    def map(self, name: str) -> LinearMap:
        """The linear map of that name; KeyError when there is none."""
        for linear_map in self.maps:
            if linear_map.name == name:
                return linear_map
        raise KeyError(name)

    def readers(self, tap: Tap) -> tuple[LinearMap, ...]:
        """The linear maps that read a tap."""
        return tuple(m for m in self.maps if m.reads == tap.name)

    def to_plain(self) -> dict[str, Any]:
        """Lists, dicts and plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The graph that `to_plain` wrote, also after a round trip through JSON."""
        return cls(
            taps=tuple(Tap(**_tuples(tap)) for tap in plain["taps"]),
            maps=tuple(LinearMap(**_tuples(m)) for m in plain["maps"]),
            links=tuple(Link(**_tuples(link)) for link in plain["links"]),
            head=tuple(plain["head"]),
            not_executed=tuple(plain["not_executed"]),
        )


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples: every sequence becomes one again."""
    return {
        key: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for key, value in plain.items()
    }
