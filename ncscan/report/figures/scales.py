"""How numbers are laid along an axis, how many of them are shown, and what they are called there.

In: values and names. Out: scales as Vega-Lite knows them, even choices, short labels. Page and figures share them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ncscan.wording import visible

Item = TypeVar("Item")

LABEL = 20
"""Characters of a layer name on an axis; a longer one loses its middle."""


@dataclass(frozen=True)
class Scale:
    """Describes how a quantity is laid along an axis."""

    type: Literal["linear", "log", "symlog"]
    domain: tuple[float, float]
    ticks: tuple[float, ...]
    """The ticks of the axis; empty where Vega chooses."""
    constant: float = 1.0
    """The value at which a symlog scale turns from linear to logarithmic."""

    def to_vega(self) -> dict[str, Any]:
        """Return the scale as Vega-Lite writes it: the properties `scale` and `values` of an axis."""
        scale: dict[str, Any] = {"type": self.type, "domain": list(self.domain), "nice": False}
        if self.type == "linear":
            scale["zero"] = False
        if self.type == "symlog":
            scale["constant"] = self.constant
        return {"scale": scale, "values": list(self.ticks)} if self.ticks else {"scale": scale}

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1; on a log scale what is not above 0 lies at 0.

        >>> Scale("log", (1e-4, 1.0), ()).share(1e-2), Scale("linear", (0.0, 4.0), ()).share(1.0)
        (0.5, 0.25)
        """
        low, value, high = (self._along(each) for each in (self.domain[0], value, self.domain[1]))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def _along(self, value: float) -> float:
        if self.type == "log":
            return math.log(max(value, self.domain[0]))
        return math.asinh(value / self.constant) if self.type == "symlog" else value


def scale_of(values: Iterable[float], *, decades: float = 1.0) -> Scale:
    """Return a logarithmic scale for positive values that span more than `decades`; linear near zero if zeros occur.

    >>> [scale_of(values).type for values in ([1e-3, 1.0], [0.0, 1e-3, 1.0], [2.0, 3.0], [-1.0, 9.0])]
    ['log', 'symlog', 'linear', 'linear']
    """
    present = sorted(set(values))
    low, high = (present[0], present[-1]) if present else (0.0, 1.0)
    positive = [value for value in present if value > 0]
    spread = math.log10(high) - math.log10(positive[0]) if low >= 0 and positive else 0.0
    if spread > decades and low > 0:
        return Scale("log", (low / 1.15, high * 1.15), _round_ticks(low, high))
    if spread > decades:
        return Scale("symlog", (0.0, high * 1.15), (0.0, *_round_ticks(positive[0], high)), constant=positive[0])
    if low >= 0 and (low <= high / 2 or low == high):
        return Scale("linear", (0.0, high * 1.05 if high > 0 else 1.0), ())
    margin = (high - low or abs(high)) * 0.05
    return Scale("linear", (low - margin, high + margin), ())


def spread_out(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many of the items, evenly chosen, first and last included.

    >>> spread_out(range(10), 4), spread_out("abc", 4), spread_out("abc", 1)
    ([0, 3, 6, 9], ['a', 'b', 'c'], ['c'])
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)] if most > 1 else [items[-1]]


def shade_of(i: int, several: int, shades: int) -> int:
    """Return which of so many colours the i-th of several things has; a single one has the last.

    >>> [shade_of(i, 3, 12) for i in range(3)], shade_of(0, 1, 12)
    ([0, 6, 11], 11)
    """
    return shades - 1 if several < 2 else round(i * (shades - 1) / (several - 1))


def shade_of_share(share: float, shades: int) -> int:
    """Return which of so many colours a share of one has.

    >>> [shade_of_share(share, 12) for share in (0.0, 0.5, 1.0)]
    [0, 6, 11]
    """
    return min(int(share * shades), shades - 1)


def shade_of_deviation(off: float, shades: int) -> int:
    """Return which of so many colours a deviation has: the middle one for none, the others finer near it.

    A cosine that is off by 0.01 is seen.

    >>> [shade_of_deviation(off, 11) for off in (-4.0, -0.01, 0.0, 0.01, 1.0)]
    [0, 5, 5, 5, 10]
    """
    middle = shades // 2
    return max(0, min(2 * middle, middle + round(middle * math.copysign(math.sqrt(abs(off)), off))))


def short_names(names: Sequence[str]) -> list[str]:
    """Return names short enough for an axis, and still different from each other.

    >>> short_names(["fc", "encoder.layer.1.attention.dense", "encoder.layer.2.attention.dense"])
    ['fc', 'encoder.l…tion.dense #1', 'encoder.l…tion.dense #2']
    """
    return apart([_middle_out(visible(name)) for name in names])


def apart(names: Sequence[str]) -> list[str]:
    """Return the same names, numbered where several are alike.

    >>> apart(["crane", "dog", "crane"])
    ['crane #0', 'dog', 'crane #2']
    """
    count = Counter(names)
    return [f"{name} #{i}" if count[name] > 1 else name for i, name in enumerate(names)]


def _middle_out(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL // 2 - 1]}…{name[-LABEL // 2 :]}"


def _round_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return at most six powers of ten between two positive numbers; their multiples too where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [float(f"1e{power}") for power in powers]
    inside: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [ten * step for ten in tens for step in steps]
        inside = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.15]
        if len(inside) >= 3:
            break
    every = math.ceil(len(inside) / 6)
    return tuple(inside[::-1][::every][::-1])
