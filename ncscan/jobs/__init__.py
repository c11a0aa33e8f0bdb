"""What the commands do: the stages wired together, one input after the other.

In: paths and flags. Out: dumps (extraction.py), reports (reporting.py), and facts for whoever asked; `tell` hears of
each step as it happens. An input that cannot be used is skipped with its reason, and the others go on.
"""

import errno
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ncscan.errors import NcscanError, NoRoom, RefusedPlan, UsageError, unexpected


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
    exit_code: int = 1
    """What the command ends with where every input is skipped like this one."""
    trace: str = ""
    """The traceback of an exception that nobody foresaw, else empty."""

    @classmethod
    def because(cls, label: str, error: Exception) -> "Skipped":
        """The input of that label, and what was raised while it was worked on."""
        if isinstance(error, NcscanError):
            return cls(label, str(error), error.exit_code)
        return cls(label, unexpected(error), trace="".join(traceback.format_exception(error)))


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
        """0 all done, 4 some skipped; where nothing is done 2 if each was refused as usage, else 1."""
        if not self.skipped:
            return 0
        if self.done:
            return 4
        return 2 if all(skipped.exit_code == UsageError.exit_code for skipped in self.skipped) else 1

    @contextmanager
    def guarding(self, label: str, tell: Tell) -> Iterator[None]:
        """Work on one input: whatever it raises skips it, by name and with the reason, and the others go on.

        Only a full disk goes up: no other input could be written either.
        """
        try:
            yield
        except NoRoom:
            raise
        except Exception as error:  # the one guard around an input: a bug met in one must not cost the others
            self.skip(Skipped.because(label, error), tell)

    @contextmanager
    def counting(self, label: str, tell: Tell) -> Iterator[None]:
        """The same, and the input is counted when it is done."""
        with self.guarding(label, tell):
            yield
            self.done += 1

    def skip(self, skipped: Skipped, tell: Tell) -> None:
        """An input that cannot be used, named."""
        self.skipped.append(skipped)
        tell(skipped)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside, the folder is there, and what the disk refuses is one line: no permission, no room, a file there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        kind = NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else RefusedPlan
        raise kind(f"{folder}: cannot write there: {error.strerror or error}; choose another --out") from error
