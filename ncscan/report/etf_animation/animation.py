"""Collapse as a moving picture: class means, samples and rows of the classifier on their way to the simplex.

In: the tables of a report. Out: a GIF. A frame is an Altair chart, so that it looks as the figures do.
"""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float64
from PIL import Image

from ncscan.errors import UsageError
from ncscan.report.etf_animation.paths import PlacedCheckpoint, Track, tracks
from ncscan.report.etf_animation.simplex import Positions, seen, vertices
from ncscan.report.figures.panels import PALETTE, inline, short
from ncscan.report.figures.rendering import pixels
from ncscan.report.figures.scales import short_names, spread_out
from ncscan.wording import visible

FEWEST_CLASSES, MOST_CLASSES = 3, 4
"""The fewest and the most classes of an animation: three are seen in their plane, four in space."""
MOST_RUNS = 3
MOST_STEPS = 24
"""The number of checkpoints of a timeline; beyond, an even choice, first and last included."""
MOST_FRAMES = 64
STILL, MOVING, HELD = 300, 60, 2500
"""The milliseconds of a checkpoint, of a frame between two, and of the last."""
SIZE = 210
"""The size of a panel, in points; a frame has 1.25 pixels for each."""
SCALE = 1.25
COLOURS = 96
"""The number of colours of the palette that all frames share."""
NEARLY_WHITE = 244
TURN = math.pi
"""How far four classes turn in all."""
NEAREST, FARTHEST = 1.3, 1.7
"""A panel goes so far at least and at most, counted in mean lengths of a class mean; what lies beyond is not shown."""
GAP = 14

INK, FRAME, ONSET = "#222222", "#8a8a8a", "#b03a00"


@dataclass(frozen=True)
class Moving:
    """An animation, and what it does not show."""

    gif: bytes
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """The content of one frame for one run."""

    at: Positions | None
    words: str
    """Describes the step, or where it is going from and to; or why nothing is shown."""
    reason: str
    terminal: bool


def animation(tables: Mapping[str, pd.DataFrame], wanted: Sequence[str] = ()) -> Moving:
    """Return a GIF of up to three runs side by side, each frame a checkpoint or on the way from one to the next.

    The same tables give the same bytes.

    Args:
        tables: `geometry` and `trajectory` of a report.
        wanted: names or numbers of three or four classes; the first three by default.

    Raises: UsageError when there is no such class, or nothing that could move.
    """
    found, missing = tracks(tables, wanted, FEWEST_CLASSES)
    moving = [track for track in found if len(track.checkpoints) > 1]
    missing += [f"{t.run}: one checkpoint, so nothing moves" for t in found if len(t.checkpoints) < 2]
    if not moving:
        why = visible("; ".join(missing)) or "no layer that a classifier reads was measured"
        raise UsageError(f"--animation: nothing to animate: {why}")
    shown = _first_of_groups(moving)
    missing += [f"{track.run}: an animation shows {MOST_RUNS} runs" for track in moving if track not in shown]
    timeline = _timeline(shown)
    left_out = [visible(f"not in the animation: {why}") for why in missing]
    if (steps := len(_steps(shown))) > len(timeline):
        left_out.append(f"in the animation: {len(timeline)} of {steps} checkpoints")
    reach = _reach(shown)
    template = _template(shown, reach)
    drawn = (
        (
            pixels({**template, "datasets": {**template["datasets"], **_datasets(shown, frames, angle, reach)}}, SCALE),
            lasts,
        )
        for frames, angle, lasts in _frames(shown, timeline)
    )
    return Moving(_gif(drawn), tuple(left_out))


def _first_of_groups(found: Sequence[Track]) -> list[Track]:
    """Return as many runs as fit side by side: one of each group before others of the same, in their own order."""
    first = list({track.group or track.run: track for track in reversed(found)}.values())[::-1]
    chosen = [*first, *(track for track in found if track not in first)][:MOST_RUNS]
    return [track for track in found if track in chosen]


def _steps(shown: Sequence[Track]) -> list[int]:
    """Return the steps of all runs; where they count in different units, the ranks of the checkpoints."""
    if len({track.step_unit for track in shown}) > 1:
        return list(range(max(len(track.checkpoints) for track in shown)))
    return sorted({checkpoint.step for track in shown for checkpoint in track.checkpoints})


def _timeline(shown: Sequence[Track]) -> list[list[int]]:
    """Return for each time the checkpoint that every run is at: the last that is not later."""
    mixed = len({track.step_unit for track in shown}) > 1
    times = []
    for step in spread_out(_steps(shown), MOST_STEPS):
        at = []
        for track in shown:
            passed = step + 1 if mixed else sum(checkpoint.step <= step for checkpoint in track.checkpoints)
            at.append(min(max(passed, 1), len(track.checkpoints)) - 1)
        times.append(at)
    return times


def _frames(shown: Sequence[Track], timeline: list[list[int]]) -> Iterator[tuple[list[Picture], float, int]]:
    """Yield what every frame shows, seen from which side, and for how long."""
    between = max(1, min(5, (MOST_FRAMES - len(timeline)) // (len(timeline) - 1)))
    total = (len(timeline) - 1) * (between + 1)
    count = 0
    for before, after in zip(timeline, [*timeline[1:], timeline[-1]], strict=True):
        last = count == total
        for part in range(1 if last else between + 1):
            eased = _eased(part / (between + 1))
            frames = [_frame(track, a, b, eased) for track, a, b in zip(shown, before, after, strict=True)]
            yield frames, TURN * (count / total - 0.5), HELD if last else MOVING if part else STILL
            count += 1


def _eased(share: float) -> float:
    return share * share * (3 - 2 * share)


def _frame(track: Track, before: int, after: int, share: float) -> Picture:
    a, b = track.checkpoints[before], track.checkpoints[after]
    unit = f"{short(track.step_unit)} " if track.step_unit else "step "
    words = f"{unit}{a.step:,}" if share == 0 or before == after else f"{unit}{a.step:,} → {b.step:,}"
    return Picture(_between(a, b, share), words, a.reason, track.onset is not None and a.step >= track.onset)


def _between(a: PlacedCheckpoint, b: PlacedCheckpoint, share: float) -> Positions | None:
    if a.at is None or b.at is None:
        return a.at
    mixed = [
        None if p is None or q is None else (1 - share) * p + share * q
        for p, q in ((a.at.means, b.at.means), (a.at.samples, b.at.samples), (a.at.rows, b.at.rows))
    ]
    means, samples, rows = mixed
    return None if means is None or samples is None else Positions(means, samples, rows)


def _template(shown: Sequence[Track], reach: float) -> dict[str, Any]:
    """Return what all frames have in common: a chart that lacks its data, which every frame brings along by name."""
    panels = [_panel(i, track, reach) for i, track in enumerate(shown)]
    names = short_names(shown[0].names)
    whole: Any = alt.vconcat(alt.hconcat(*panels, spacing=GAP), _key(names, len(panels)), spacing=8)
    spec: dict[str, Any] = whole.properties(config=_CONFIG).to_dict(validate=False)
    return spec


def _reach(shown: Sequence[Track]) -> float:
    """Return how far a panel goes: nearly all there is at any time, and never so far that the simplex becomes small."""
    placed = [m.at for track in shown for m in track.checkpoints if m.at is not None]
    lengths = [np.linalg.norm(np.vstack([at.means, at.samples]), axis=1) for at in placed]
    most = float(np.quantile(np.concatenate(lengths), 0.95)) if lengths else 0.0
    return min(max(NEAREST, 1.1 * most), FARTHEST)


def _panel(number: int, track: Track, reach: float) -> Any:
    """Return the panel of one run; `x` and `y` of all its data are positions in the picture."""
    scale = alt.Scale(domain=[-reach, reach], nice=False, zero=False)
    places = {"x": alt.X("x:Q", scale=scale, axis=None), "y": alt.Y("y:Q", scale=scale, axis=None)}
    to = {"x2": "x2:Q", "y2": "y2:Q"}
    k = len(track.names)
    classes = alt.Scale(domain=list(range(k)), range=list(PALETTE[:k]))
    size, opacity = alt.Size("size:Q", scale=None), alt.Opacity("opacity:Q", scale=None)

    def data(name: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(f"{name}{number}"))

    def marks(name: str, shape: Literal["circle", "triangle-up"]) -> alt.Chart:
        drawn = data(name).mark_point(shape=shape, stroke="white", strokeWidth=0.7, clip=True)
        fill = alt.Fill("class:O", scale=classes, legend=None)
        encoded: alt.Chart = drawn.encode(**places, fill=fill, size=size, opacity=opacity)
        return encoded

    title = inline(pd.DataFrame({"text": [visible(short(track.run))]}))
    # From back to front: the standing simplex, samples, rows of the classifier, class means, words.
    layers: list[Any] = [
        data("edges").mark_rule(color=FRAME, strokeDash=[3, 3], strokeWidth=1).encode(**places, **to),
        data("corners")
        .mark_point(shape="diamond", size=90, color=FRAME, strokeWidth=1.5, filled=False, opacity=1)
        .encode(**places),
        marks("samples", "circle"),
        data("rows")
        .mark_rule(strokeWidth=1.6, clip=True)
        .encode(**places, **to, opacity=opacity, color=alt.Color("class:O", scale=classes, legend=None)),
        marks("rows", "triangle-up"),
        marks("means", "circle"),
        title.mark_text(fontSize=11, fontWeight="bold", color=INK, baseline="middle", limit=SIZE).encode(
            x=alt.value(SIZE / 2), y=alt.value(-26), text="text:N"
        ),
        data("words")
        .mark_text(fontSize=11, baseline="middle", limit=SIZE)
        .encode(**places, text="text:N", color=alt.Color("colour:N", scale=None)),
    ]
    whole: Any = alt.layer(*layers)
    return whole.properties(width=SIZE, height=SIZE)


def _datasets(shown: Sequence[Track], frames: Sequence[Picture], angle: float, reach: float) -> dict[str, Any]:
    """Return what the panels of one frame show, by the names in the template."""
    point = 2 * reach / SIZE
    found: dict[str, Any] = {}
    for i, (track, frame) in enumerate(zip(shown, frames, strict=True)):
        k = len(track.names)
        corners = [dict(zip("xy", map(_short, corner), strict=True)) for corner in seen(vertices(k), angle)[:, :2]]
        found[f"corners{i}"] = corners
        found[f"edges{i}"] = [
            {**corners[a], "x2": corners[b]["x"], "y2": corners[b]["y"]} for a in range(k) for b in range(a)
        ]
        words = [(reach + 11 * point, frame.words, INK), (0.0, frame.reason, INK)]
        if frame.terminal:
            words.append((8 * point - reach, "terminal phase: no training error", ONSET))
        found[f"words{i}"] = [{"x": 0, "y": y, "text": text, "colour": colour} for y, text, colour in words if text]
        at = frame.at
        found[f"samples{i}"] = [] if at is None else _points(at.samples, track.owners.tolist(), angle, 16.0, 0.55)
        found[f"means{i}"] = [] if at is None else _points(at.means, range(k), angle, 110.0)
        rows = [] if at is None or at.rows is None else _points(at.rows, range(k), angle, 70.0)
        found[f"rows{i}"] = [{**row, "x2": 0, "y2": 0} for row in rows]
    return found


def _points(
    where: Float64[np.ndarray, "n d"], classes: Sequence[int], angle: float, size: float, opacity: float = 1.0
) -> list[dict[str, float]]:
    """Return the points so that the nearer are larger and clearer, and drawn over what is farther."""
    across, up, near = seen(where, angle).T
    depth = np.clip(near, -1.0, 1.0)
    sizes = size * (1 + 0.4 * depth)
    opacities = opacity * (1 - 0.15 * (1 - depth) * (where.shape[1] > 2))
    return [
        {
            "x": _short(across[i]),
            "y": _short(up[i]),
            "class": classes[i],
            "size": _short(sizes[i]),
            "opacity": _short(opacities[i]),
        }
        for i in np.argsort(near, kind="stable")
    ]


def _short(number: float) -> float:
    """Return a number with four decimals, the last under a tenth of a pixel."""
    return round(float(number), 4)


def _key(names: Sequence[str], panels: int) -> Any:
    """Return the legend of colours and shapes: in one line where it fits, else in two."""
    wide = panels * SIZE + (panels - 1) * GAP
    things = (
        ("mean", "circle", 90.0, True),
        ("classifier", "triangle-up", 60.0, True),
        ("sample", "circle", 16.0, True),
        ("simplex", "diamond", 70.0, False),
    )
    columns = ["x", "y", "text", "colour", "shape", "size", "filled"]
    rows: list[tuple[float, float, str, str, str, float, bool]] = []
    at = 6.0
    for name, colour in zip(names, PALETTE[: len(names)], strict=True):
        rows.append((at, 8.0, name, colour, "square", 90.0, True))
        at += 22 + 6.2 * len(name)
    start = wide - sum(22 + 5.6 * len(word) for word, *_ in things)
    two_lines = at > start
    at = 6.0 if two_lines else start
    for word, shape, size, filled in things:
        rows.append((at, 26.0 if two_lines else 8.0, word, "#444444" if filled else FRAME, shape, size, filled))
        at += 22 + 5.6 * len(word)
    data = pd.DataFrame(rows, columns=columns)
    height = 34 if two_lines else 16
    places = {
        "x": alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, wide], nice=False)),
        "y": alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False)),
    }
    drawn = {
        "color": alt.Color("colour:N", scale=None),
        "shape": alt.Shape("shape:N", scale=None),
        "size": alt.Size("size:Q", scale=None),
    }
    whole: Any = alt.layer(
        inline(data[data["filled"]]).mark_point(filled=True, opacity=1).encode(**places, **drawn),
        inline(data[~data["filled"]]).mark_point(filled=False, opacity=1).encode(**places, **drawn),
        inline(data)
        .mark_text(align="left", dx=8, fontSize=11, color=INK, baseline="middle")
        .encode(**places, text="text:N"),
    )
    return whole.properties(width=wide, height=height, view=alt.ViewConfig(stroke=None))


def _gif(drawn: Iterable[tuple[bytes, int]]) -> bytes:
    """Return a GIF with one palette for all frames, made of the first, the middle and the last; the loop has no end."""
    pictures, durations = zip(*drawn, strict=True)
    frames = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width, height = frames[0].size
    sample = Image.new("RGB", (width, 3 * height), "white")
    for i, frame in enumerate((frames[0], frames[len(frames) // 2], frames[-1])):
        sample.paste(frame, (0, i * height))
    palette = sample.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.putpalette(_with_white(palette.getpalette() or []))
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    file = io.BytesIO()
    first.save(
        file, "GIF", save_all=True, append_images=others, duration=list(durations), loop=0, optimize=False, disposal=1
    )
    return file.getvalue()


def _with_white(palette: Sequence[int]) -> list[int]:
    """Return the palette with what is nearly white made white: means of whites and of the edges of lines are tints."""
    colours = [palette[i : i + 3] for i in range(0, len(palette), 3)]
    return [part for colour in colours for part in ([255, 255, 255] if min(colour) >= NEARLY_WHITE else colour)]


_CONFIG = {
    "background": "white",
    "padding": 6,
    "font": "sans-serif",
    "view": {"stroke": "#dddddd"},
    "axis": {"grid": False},
}
