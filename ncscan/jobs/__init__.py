"""What the commands do: the stages wired together, one input after the other.

In: paths and flags. Out: dumps (extraction.py), reports (reporting.py), and facts for whoever asked; `tell` hears of
each step as it happens. An input that cannot be used is skipped with its reason, and the others go on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ncscan.errors import NcscanError, RefusedPlan, UsageError


@dataclass(frozen=True)
class Advanced:
    """Told as work on one input goes on: batches replayed, layers measured."""

    label: str
    done: int
    total: int


@dataclass(frozen=True)
class Skipped:
    """Told of an input that cannot be used."""

    label: str
    reason: str


@dataclass(frozen=True)
class Finished:
    """Told when one input is done."""

    label: str
    accuracy: float | None
    """Of the replayed network on the data it saw: what every other number stands on, so it is said first. None where
    the data belongs to no class."""
    n_samples: int
    details: str
    doubts: tuple[str, ...]


Event = Advanced | Skipped | Finished
Tell = Callable[[Event], None]


@dataclass
class Outcome:
    """What became of the inputs of one command."""

    done: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all done, 4 some skipped, 1 nothing done."""
        if not self.skipped:
            return 0
        return 4 if self.done else 1

    @contextmanager
    def counting(self, label: str, tell: Tell) -> Iterator[None]:
        """One input: counted when it is done, named with the reason when it cannot be used.

        What concerns all inputs alike, a refused plan or a wrong flag, is no reason to skip one: it goes up.
        """
        try:
            yield
        except (RefusedPlan, UsageError):
            raise
        except NcscanError as error:
            self.skip(label, str(error), tell)
        else:
            self.done += 1

    def skip(self, label: str, reason: str, tell: Tell) -> None:
        """An input that cannot be used, named."""
        self.skipped.append(Skipped(label, reason))
        tell(self.skipped[-1])


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside, the folder is there, and what the disk refuses is one line: no permission, no room, a file there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RefusedPlan(f"{folder}: cannot write there: {error.strerror or error}; choose another --out") from error
