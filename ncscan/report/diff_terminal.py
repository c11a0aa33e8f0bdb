"""Show a comparison in the terminal: what changed most, how much of it is noise, what is judged otherwise.

In: a `Comparison` of two reports. Out: rich renderables, not printed here. Text of others is never markup, and what
cannot be seen in it is made visible.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ncscan.compare import Comparison, counts, is_changed, main_rows, missing, most_changed, run_and_step
from ncscan.wording import number, visible

MOST_GONE = 8
"""The number of lines on what one side lacks."""
MOST_ROWS = 15
"""The number of rows of numbers, and of statements of the theory; the page has more, and diff.csv all."""


def render_comparison(found: Comparison, names: Sequence[str], kinds: Sequence[str]) -> Iterator[RenderableType]:
    """Yield the two sides, what was left out, the table, changed verdicts, and how many rows are of which kind.

    Args:
        found: the comparison.
        names, kinds: what A and B are called, and what they were taken for.
    """
    for side, name, kind in zip("AB", names, kinds, strict=True):
        yield _text(f"{side}: {name} ({'a report' if kind == 'report' else kind})")
    pairs = found.frame[["run_a", "run_b", "checkpoint_a", "checkpoint_b"]].drop_duplicates()
    yield from _table(found, pairs)
    gone = missing(most_changed(found.frame))
    yield from (_text(f"gone: {each}") for each in gone[:MOST_GONE])
    if len(gone) > MOST_GONE:
        yield _text(f"gone: and {len(gone) - MOST_GONE:,} more, in diff.csv")
    judged = Counter((verdict.claim, verdict.before, verdict.after) for verdict in found.verdicts)
    for (claim, before, after), count in judged.most_common(MOST_ROWS):
        times = f", at {count} of {len(pairs)} pairs" if len(pairs) > 1 else ""
        yield _text(f"judged otherwise: {claim}: {before} → {after}{times}")
    if len(judged) > MOST_ROWS:
        yield _text(f"judged otherwise: and {len(judged) - MOST_ROWS:,} more statements")
    said = (f"{count:,} {kind}" for kind, count in counts(found.frame).items() if count)
    yield _text(f"{len(found.frame):,} numbers: {', '.join(said)}")


def _table(found: Comparison, pairs: pd.DataFrame) -> Iterator[Table]:
    """Yield the table of what changed most, nothing where nothing changed.

    It has the leading number of every metric at a layer, at the step where it changed most.
    """
    runs = pairs["run_a"].nunique() > 1
    moved = most_changed(main_rows(found.frame))
    moved = moved[is_changed(moved)].drop_duplicates(["table", "run_a", "split", "layer", "metric"]).head(MOST_ROWS)
    if moved.empty:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="what moved most", title_justify="left")
    first = ["run and step" if runs else "step"] if len(pairs) > 1 else []
    for heading in (*first, "layer", "metric"):
        table.add_column(heading, overflow="fold", min_width=5)
    for heading in ("A", "B", "B − A", "× noise"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in moved.to_dict("records"):
        run, step = run_and_step(row, unit=False)
        where = [f"{run} {step}" if runs else step] if first else []
        where += [row["layer"], " ".join(part for part in (row["metric"], row["quantity"]) if part)]
        values = [number(row[name]) for name in ("a", "b", "difference")]
        table.add_row(*map(_text, where), *values, _times(abs(row["difference"]), row["noise"]))
    yield table


def _times(size: float, noise: float) -> str:
    """Return how many times the noise a difference is; a dash where no size of the noise is known."""
    if math.isnan(noise):
        return "–"
    return f"{size / noise:.1f}" if noise else "∞"


def _text(text: str) -> Text:
    return Text(visible(text))
