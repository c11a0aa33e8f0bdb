"""Draw the optional files of a report: its charts, figures for papers, and the animation of collapse.

In: the tables of a report, and what is wanted. Out: files in its folder `figures`; what cannot be drawn is a trouble of
its own, and the rest is drawn.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from ncscan.errors import NcscanError, UsageError, unexpected
from ncscan.files import cannot_write, write_whole
from ncscan.report import (
    CHARTS,
    FEWEST_CLASSES,
    FIGURES,
    FORMATS,
    MOST_CLASSES,
    animation,
    as_file,
    charted,
    figure,
    preset,
    stamped,
)


@dataclass(frozen=True)
class Pictures:
    """The pictures that are wanted in addition to the standard files."""

    figures: tuple[str, ...] = ()
    """Names of PRESETS, or CHARTS for those of the page."""
    form: str = "svg"
    """The form of the figures: one of FORMATS."""
    animation: str = ""
    """A GIF: a bare name stands for a file beside the figures; empty for none."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes of the animation; the first three by default."""

    def check(self) -> None:
        """Raise UsageError when something is wanted that does not exist."""
        for name in self.figures:
            if name != CHARTS:
                preset(name)
        if self.form not in FORMATS:
            raise UsageError(f"no format {self.form!r} of figures; there are {', '.join(FORMATS)}")
        if self.animation and not self.animation.lower().endswith(".gif"):
            raise UsageError(f"--animation {self.animation}: it is a GIF; name a file that ends with .gif")
        if self.animation and self.classes and not FEWEST_CLASSES <= len(self.classes) <= MOST_CLASSES:
            raise UsageError(f"--classes: an animation shows three or four classes, not {len(self.classes)}")


NONE = Pictures()


@dataclass
class Drawn:
    """What was drawn, and what could not be."""

    files: dict[str, bytes] = field(default_factory=dict)
    """The files by their paths below the folder of the report."""
    elsewhere: dict[Path, bytes] = field(default_factory=dict)
    """The files that go to a path of the user's own."""
    left_out: list[str] = field(default_factory=list)
    """Describes what an animation does not show."""
    troubles: list[NcscanError] = field(default_factory=list)


def draw(pictures: Pictures, tables: Mapping[str, pd.DataFrame], out: Path, report_id: str) -> Drawn:
    """Draw what is wanted of a report that goes to the folder `out`; nothing is written yet."""
    drawn = Drawn()
    for place, made in _wanted(pictures, tables, drawn):
        try:
            if isinstance(place, str):
                _check(out, place)
            picture = stamped(str(place), made(), report_id)
        except NcscanError as trouble:
            drawn.troubles.append(trouble)
        except Exception as error:  # a bug in one picture must not cost the report
            drawn.troubles.append(NcscanError(f"{place}: {unexpected(error)}"))
        else:
            if isinstance(place, str):
                drawn.files[place] = picture
            else:
                drawn.elsewhere[place] = picture
    return drawn


def put_elsewhere(drawn: Drawn) -> list[Path]:
    """Write what goes to paths of the user's own, each whole or not at all; give those that could be written."""
    written = []
    for path, content in drawn.elsewhere.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            drawn.troubles.append(cannot_write(path, error, "place"))
        else:
            written.append(path)
    return written


def _wanted(
    pictures: Pictures, tables: Mapping[str, pd.DataFrame], drawn: Drawn
) -> Iterator[tuple[str | Path, Callable[[], bytes]]]:
    """Yield where each picture goes, as text below the folder of the report, and what draws it."""
    for name in dict.fromkeys(pictures.figures):
        if name == CHARTS:
            for chart in charted(tables):
                place = f"{FIGURES}/{CHARTS}/{chart.name}.{pictures.form}"
                yield place, partial(as_file, chart.spec, pictures.form, chart.label)
            continue
        yield f"{FIGURES}/{name}.{pictures.form}", partial(figure, name, tables, pictures.form)
    if pictures.animation:
        path = Path(pictures.animation)
        # A name with a folder, be it `./`, is a path of the user's own.
        own = len(path.name) < len(pictures.animation)

        def made() -> bytes:
            moving = animation(tables, pictures.classes)
            drawn.left_out += moving.left_out
            return moving.gif

        yield (path if own else f"{FIGURES}/{path}"), made


def _check(out: Path, name: str) -> None:
    """Raise RefusedPlan where something of the user's own is in the way of a picture, so that the rest is written."""
    path = out / name
    for above in path.parents[: name.count("/")]:
        if above.is_symlink() or (above.exists() and not above.is_dir()):
            raise cannot_write(path, NotADirectoryError(errno.ENOTDIR, f"{above.name} is no folder"), "place")
    if path.is_dir():
        raise cannot_write(path, IsADirectoryError(errno.EISDIR, "a folder has that name"), "place")
