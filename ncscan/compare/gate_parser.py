"""Parse the text of a gate: `all(nc1_pinv[layer=head, step=last]) > 0.1`.

In: the text of a gate. Out: a `Gate`, or the character at which it cannot be understood. Nothing here knows a
report.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, NoReturn

from ncscan.errors import UsageError
from ncscan.wording import visible

KEYS = (
    *("run", "group", "checkpoint", "step", "split", "layer"),
    *("quantity", "weighting", "classifier", "table", "of"),
)
"""The keys by which a row can be chosen; `of` is for the rows of a diff."""

OF = ("difference", "ratio", "a", "b")
"""The numbers of a row of a diff that can be judged; the first is taken when none is named."""

MAX_LENGTH = 1000
"""Characters of a gate."""
SHOWN = 200
"""The number of its characters that a message shows."""
OPERATORS = (">=", "<=", "==", "!=", ">", "<")

Over = Literal["one", "all", "any"]


@dataclass(frozen=True)
class Pattern:
    """A condition on a name: a glob of `*` and `?`, or in quotes the name itself."""

    text: str
    literal: bool = False

    def __str__(self) -> str:
        return _quoted(self.text) if self.literal else self.text

    @property
    def is_glob(self) -> bool:
        """Return whether it may fit more than one name."""
        return not self.literal and bool({"*", "?"} & set(self.text))

    def fits(self) -> Callable[[str], bool]:
        """Return a test for names."""
        if not self.is_glob:
            return self.text.__eq__
        # Of its signs only * and ? mean something here. It never tries two ways, whatever the names are.
        glob = self.text.replace("[", "[[]")
        return lambda name: fnmatchcase(name, glob)


@dataclass(frozen=True)
class Gate:
    """A condition on the numbers of a report; the run fails when it holds."""

    metric: Pattern
    operator: str
    threshold: float
    where: tuple[tuple[str, Pattern], ...] = ()
    over: Over = "one"
    source: str = field(default="--fail-if", compare=False)
    """Where it was written, for messages."""

    def __str__(self) -> str:
        """Return the gate in its plain form, which reads back as the same gate."""
        keys = ", ".join(f"{key}={pattern}" for key, pattern in self.where)
        chosen = f"{self.metric}[{keys}]" if keys else f"{self.metric}"
        chosen = chosen if self.over == "one" else f"{self.over}({chosen})"
        return f"{chosen} {self.operator} {self.threshold!r}".removesuffix(".0")

    def get(self, key: str) -> Pattern | None:
        """Return what is asked of a key, if anything."""
        return dict(self.where).get(key)

    def holds(self, value: float) -> bool:
        """Return whether the condition holds for a number."""
        match self.operator:
            case ">":
                return value > self.threshold
            case ">=":
                return value >= self.threshold
            case "<":
                return value < self.threshold
            case "<=":
                return value <= self.threshold
            case "==":
                return value == self.threshold
        return value != self.threshold


def parse(text: str, source: str = "--fail-if") -> Gate:
    """Return the gate that a text describes.

    >>> str(parse("nc1_pinv[layer=head,step=last]>.1"))
    'nc1_pinv[layer=head, step=last] > 0.1'
    >>> parse("all(balancedness[layer='8..9']) >= 1e-3").over
    'all'

    Raises: UsageError, which names the place that cannot be understood.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"{source} {visible(text[:60])}…: {len(text):,} characters; at most {MAX_LENGTH:,} are read")
    return _Reader(text, source).gate()


_NAME = re.compile(r"[^\s\[\]()<>=!,'\"]+")
_BARE = re.compile(r"[^\[\],'\"]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_OVER = re.compile(r"(all|any)\s*\(")
_SPACE = re.compile(r"\s*")


class _Reader:
    """One way through a text, from left to right."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._at = 0

    def gate(self) -> Gate:
        self._skip()
        over = self._match(_OVER)
        metric = self._pattern(_NAME, "the name of a metric")
        where = self._keys() if self._take("[") else ()
        if over and not self._take(")"):
            self._fail(f'")", which closes {over.group(1)}(')
        operator = next((one for one in OPERATORS if self._take(one)), "")
        if not operator:
            hint = "" if where or self._text[self._at : self._at + 1] else "; write METRIC[key=value, ...] > NUMBER"
            self._fail(f"one of {' '.join(OPERATORS)}{hint}")
        self._skip()
        number = self._match(_NUMBER)
        if number is None or not math.isfinite(float(number.group())):
            self._fail("a finite number, like 0.1 or 1e-3", back=len(number.group()) if number else 0)
        self._skip()
        if self._at < len(self._text):
            self._fail("nothing more")
        asked: Over = "one" if over is None else "all" if over.group(1) == "all" else "any"
        return Gate(metric, operator, float(number.group()), where, asked, self._source)

    def _keys(self) -> tuple[tuple[str, Pattern], ...]:
        where: list[tuple[str, Pattern]] = []
        while not self._take("]"):
            if where and not self._take(","):
                self._fail('"," or "]"')
            self._skip()
            start = self._at
            name = self._match(_NAME)
            key = name.group() if name else ""
            if key not in KEYS:
                self._at = start
                close = get_close_matches(key, KEYS, n=1)
                self._fail(f"a key: {', '.join(KEYS)}" + (f" (did you mean {close[0]}?)" if close else ""))
            if key in dict(where):
                self._at = start
                self._fail(f"each key once, and {key} stands there already")
            if not self._take("="):
                self._fail(f'"=" after {key}')
            start = self._at
            pattern = self._pattern(_BARE, f"a value of {key}, in quotes where it has brackets, commas or quotes")
            if key == "of" and pattern.text not in OF:
                self._at = start
                self._fail(f"one of {', '.join(OF)}")
            where.append((key, pattern))
        return tuple(where)

    def _pattern(self, bare: re.Pattern[str], what: str) -> Pattern:
        self._skip()
        for quote in ("'", '"'):
            if self._take(quote):
                return Pattern(self._quoted(quote), literal=True)
        found = self._match(bare)
        text = found.group().strip() if found else ""
        if not text:
            self._fail(what)
        return Pattern(text)

    def _quoted(self, quote: str) -> str:
        """Read up to the closing quote; one that is doubled stands for itself."""
        parts = []
        while True:
            end = self._text.find(quote, self._at)
            if end < 0:
                self._at = len(self._text)
                self._fail(f"the closing {quote}")
            parts.append(self._text[self._at : end])
            self._at = end + 1
            if not self._text.startswith(quote, self._at):
                return quote.join(parts)
            self._at += 1

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _take(self, mark: str) -> bool:
        """Move past a mark and the space before it, when that is what comes, and return whether it did."""
        after = _SPACE.match(self._text, self._at)
        start = after.end() if after else self._at
        if not self._text.startswith(mark, start):
            return False
        self._at = start + len(mark)
        return True

    def _skip(self) -> None:
        self._match(_SPACE)

    def _fail(self, expected: str, back: int = 0) -> NoReturn:
        self._skip()
        self._at -= back
        rest = self._text[self._at : self._at + 20]
        place = f"at character {self._at + 1}, {rest!r}" if rest else "at its end"
        shown = f"{self._text!r}" if len(self._text) <= SHOWN else f"{self._text[:SHOWN]!r}…"
        raise UsageError(f"{self._source} {shown}: {place}: expected {expected}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
