"""Report what happens to each input of a command, and keep a failing input from ending the others.

In: work on one input after the other. Out: `Outcome`, with what was skipped; `on_event` is called at each step. An
input that cannot be used is skipped with its reason, and the others go on.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeVar

from ncscan.errors import NcscanError, NoRoom, UsageError, unexpected
from ncscan.files import cannot_write
from ncscan.wording import alike

Result = TypeVar("Result")


@dataclass(frozen=True)
class Advanced:
    """Reported as work on one input goes on: batches replayed, layers measured."""

    label: str
    done: int
    total: int


@dataclass(frozen=True)
class Skipped:
    """Reported for an input that cannot be used, or for a part of one."""

    label: str
    reason: str
    exit_code: int = 1
    """The exit code of the command where every input is skipped like this one."""
    trace: str = ""
    """The traceback of an exception that nobody foresaw, or that lies behind the reason; else empty."""

    @classmethod
    def because(cls, label: str, error: BaseException) -> "Skipped":
        """Return the event for the input of that label, with what was raised while it was worked on."""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, NcscanError):
            return cls(label, str(error), error.exit_code, trace if error.__cause__ is not None else "")
        return cls(label, unexpected(error), trace=trace)

    @property
    def is_usage(self) -> bool:
        """Return whether the command asks for what this input does not have: then perhaps all of them lack it."""
        return self.exit_code == UsageError.exit_code

    @property
    def kind(self) -> str:
        """Return what the reasons of inputs that are skipped alike have in common."""
        return alike(self.reason.replace(self.label, "…"), PurePath(self.label.partition(" (")[0]).name)


def passed_over(troubles: Sequence[tuple[Path, NcscanError]]) -> list[Skipped]:
    """Return an event for each path with nothing in it: it is skipped."""
    return [Skipped.because(str(path)[:200], error) for path, error in troubles]


@dataclass(frozen=True)
class Finished:
    """Reported when one input is done."""

    label: str
    accuracy: float | None
    """The accuracy of the replayed network on the data it saw: what every other number stands on, so it comes first.
    None where the data belongs to no class."""
    n_samples: int
    details: str
    doubts: tuple[str, ...]
    pending: str = ""
    """A doubt that is none where a later checkpoint of the same run is accurate; else empty."""
    is_accurate: bool = False
    """Whether the accuracy is far from chance."""


@dataclass(frozen=True)
class Remarked:
    """Reported once for a run: what is worth knowing and no reason for doubt."""

    label: str
    text: str


@dataclass(frozen=True)
class Doubted:
    """Reported for a doubt about an input that was done before, once the others are known."""

    label: str
    doubt: str


Event = Advanced | Skipped | Finished | Remarked | Doubted
OnEvent = Callable[[Event], None]


@dataclass
class Outcome:
    """Describes what became of the inputs of one command."""

    done: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Return 0 if all are done, 4 if some are skipped; if none is done 2 if each was refused as usage, else 1."""
        if not self.skipped:
            return 0
        if self.done:
            return 4
        return UsageError.exit_code if all(skipped.is_usage for skipped in self.skipped) else 1

    @contextmanager
    def guarding(self, label: str, on_event: OnEvent) -> Iterator[None]:
        """Work on one input: whatever it raises skips it, by name and with the reason, and the others go on.

        Only a full disk goes up: no other input could be written either.
        """
        try:
            yield
        except NoRoom:
            raise
        except (KeyboardInterrupt, GeneratorExit):
            raise
        # The one guard around an input: a bug met in one must not cost the others, nor a model that calls sys.exit(),
        # nor code of anybody's that raises what is no Exception.
        except BaseException as error:
            self.skip(Skipped.because(label, error), on_event)

    @contextmanager
    def counting(self, label: str, on_event: OnEvent) -> Iterator[None]:
        """Work on one input likewise, and count it when it is done."""
        with self.guarding(label, on_event):
            yield
            self.done += 1

    def skip(self, skipped: Skipped, on_event: OnEvent) -> None:
        """Skip an input that cannot be used, by name."""
        self.skipped.append(skipped)
        on_event(skipped)

    def require_some(self) -> None:
        """Raise UsageError where every input is refused for one reason that lies in the command: it is one mistake."""
        if self.done or not all(each.is_usage for each in self.skipped) or len({e.kind for e in self.skipped}) != 1:
            return
        first = self.skipped[0].reason
        others = f" ({len(self.skipped) - 1} other inputs are refused alike)"
        raise UsageError(first + others * (len({each.reason for each in self.skipped}) > 1))


def attempt_part(label: str, work: Callable[[], Result]) -> Result | Skipped:
    """Return what work on a part of an input gives; where it fails unexpectedly, the part as skipped.

    Raises: NcscanError, since a file that is damaged in one place is not believed in another.
    """
    try:
        return work()
    except NcscanError:
        raise
    except Exception as error:
        return Skipped.because(label, error)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses inside into one line: no permission, no room, a file there. The folder is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise cannot_write(folder, error) from error
