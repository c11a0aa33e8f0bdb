"""What a report draws beside its page: its charts as files, figures for papers, and the animation of collapse.

In: the tables of a report, and what is wanted. Out: files in its folder `figures`; what cannot be drawn is a trouble of
its own, and the rest is drawn.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from ncscan.errors import NcscanError, RefusedPlan, UsageError
from ncscan.report.animation import FEWEST_CLASSES, MOST_CLASSES, animation
from ncscan.report.figures import PRESETS, figure, preset
from ncscan.report.figures.charted import charted
from ncscan.report.rendering import FORMATS, as_file

FOLDER = "figures"
CHARTS = "charts"
"""What stands for the page's own charts among the names of figures, and the folder they go to, which is ours alone."""


@dataclass(frozen=True)
class Pictures:
    """What is wanted beside the standard files."""

    figures: tuple[str, ...] = ()
    """Names of PRESETS, or CHARTS for those of the page."""
    form: str = "svg"
    """Of the figures: one of FORMATS."""
    animation: str = ""
    """A GIF: a bare name stands for a file beside the figures; empty for none."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes of the animation; the first three by default."""

    def check(self) -> None:
        """UsageError when something is wanted that does not exist."""
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

    files: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What an animation does not show, in words."""
    troubles: list[NcscanError] = field(default_factory=list)


def draw(pictures: Pictures, tables: Mapping[str, pd.DataFrame], out: Path) -> Drawn:
    """Draw what is wanted into the folder of a report; pictures of an earlier report there go."""
    drawn = Drawn()
    folder = out / FOLDER
    for stale in _stale(folder):
        stale.unlink()
    for emptied in [*sorted((folder / CHARTS).rglob("*/"), reverse=True), folder / CHARTS]:
        if emptied.is_dir() and not any(emptied.iterdir()):
            emptied.rmdir()
    for path, made in _wanted(pictures, tables, folder, drawn):
        try:
            data = made()
            _write_whole(path, data)
        except NcscanError as trouble:
            drawn.troubles.append(trouble)
        else:
            drawn.files.append(path)
    return drawn


def _wanted(
    pictures: Pictures, tables: Mapping[str, pd.DataFrame], folder: Path, drawn: Drawn
) -> Iterator[tuple[Path, Callable[[], bytes]]]:
    for name in dict.fromkeys(pictures.figures):
        if name == CHARTS:
            for chart in charted(tables):
                path = folder / CHARTS / f"{chart.name}.{pictures.form}"
                yield path, partial(as_file, chart.spec, pictures.form, chart.label)
            continue
        yield folder / f"{name}.{pictures.form}", partial(figure, name, tables, pictures.form)
    if pictures.animation:
        path = Path(pictures.animation)
        # A name with a folder, be it `./`, is a path of the user's own.
        own = len(path.name) < len(pictures.animation)

        def made() -> bytes:
            moving = animation(tables, pictures.classes)
            drawn.left_out += moving.left_out
            return moving.gif

        yield (path if own else folder / path), made


def _stale(folder: Path) -> Iterator[Path]:
    for one in PRESETS:
        yield from (path for form in FORMATS if (path := folder / f"{one.name}.{form}").is_file())
    yield from sorted(folder.glob("*.gif"))
    yield from sorted(path for form in FORMATS for path in (folder / CHARTS).rglob(f"*.{form}"))


def _write_whole(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RefusedPlan(f"{path}: cannot write there: {error.strerror or error}; choose another place") from error
