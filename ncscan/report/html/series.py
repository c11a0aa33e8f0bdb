"""Prepare the numbers of layers and linear maps for a page: for each run and number an array of steps × layers.

In: the frame of all points. Out: plain values for JSON, and in words what was left out. A value is kept as a float32,
about seven digits; the CSV files have all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ncscan.report.figures.scales import Scale, apart, scale_of, short_names, spread_out
from ncscan.report.html.packing import floats, stretches
from ncscan.rows import is_leading
from ncscan.tables import KEYS, MAPS, checkpoint_names, over_seeds, read_layer
from ncscan.wording import visible

MOST_RUNS = 8
"""The number of runs whose numbers a page carries, beside the means of groups; the tables have all of them."""
MOST_NUMBERS = 560_000
"""The most numbers: 3 MB. Beyond, only each metric's leading quantity is kept, then fewer steps, then layers."""
FEWEST_STEPS = 24
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class PageNumber:
    """One number that layers or linear maps have: a metric with its quantity and convention."""

    table: str
    metric: str
    quantity: str
    weighting: str
    centred: bool | None
    scale: Scale
    leads: bool
    """Whether it is what its metric means where no quantity and no convention is named."""

    @property
    def label(self) -> str:
        """Return the label that a list of numbers has for it."""
        parts = [self.metric, self.quantity, "by samples" if self.weighting == "sample" else ""]
        return visible(" · ".join(filter(None, parts)))

    @property
    def convention(self) -> str:
        """Return in words the convention that changes it."""
        frame = {True: "centred", False: "not centred", None: ""}[self.centred]
        weighting = f"classes weighted by {self.weighting}" if self.weighting else ""
        return ", ".join(filter(None, [weighting, frame]))

    def to_plain(self) -> dict[str, Any]:
        """Return the number as the page's script has it."""
        return {
            "metric": visible(self.metric),
            "label": self.label,
            "convention": self.convention,
            "type": self.scale.type,
            "domain": self.scale.domain,
            "constant": self.scale.constant,
            "axis": self.scale.to_vega(),
        }


def carried(frame: pd.DataFrame, signed: frozenset[str]) -> tuple[list[PageNumber], list[dict[str, Any]], list[str]]:
    """Return the numbers of a page, its runs with their arrays, and what was left out.

    Args:
        frame: `points` of the report.
        signed: metrics that may be negative, whose axis stays linear.

    The means over the seeds of a group come first, as runs of their own; then the runs. Of the numbers of one metric
    the one that leads it comes first.
    """
    runs = list(dict.fromkeys(frame["run"]))
    left_out = [f"the first {MOST_RUNS} of {len(runs)} runs"] if len(runs) > MOST_RUNS else []
    own = frame[frame["run"].isin(runs[:MOST_RUNS])].assign(mean=False, seeds=0)
    means = over_seeds(frame).rename(columns={"runs": "seeds"}).assign(mean=True)
    both = pd.concat([means, own], ignore_index=True) if len(means) else own
    leads = frame[is_leading(frame)][list(KEYS)].drop_duplicates()
    both, thinned = _thinned(both, leads)
    heads = set(leads.itertuples(index=False, name=None))
    numbers = [_number(key, rows, signed, leads=key in heads) for key, rows in both.groupby(list(KEYS), sort=False)]
    metrics = list(dict.fromkeys((n.table, n.metric) for n in numbers))
    numbers.sort(key=lambda n: (metrics.index((n.table, n.metric)), not n.leads))
    at = {(n.table, n.metric, n.quantity, n.weighting): i for i, n in enumerate(numbers)}
    found = [_run(rows, at) for _, rows in both.groupby(["mean", "run"], sort=False)]
    told = apart([run["name"] for run in found if not run["seeds"]])
    for run, name in zip((run for run in found if not run["seeds"]), told, strict=True):
        run["name"] = name
    return numbers, found, left_out + thinned


def _thinned(frame: pd.DataFrame, leads: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return as many of the rows as a page may carry; `leads` are the numbers that lead their metrics."""
    said = []
    if len(frame) > MOST_NUMBERS:
        frame = frame.merge(leads, on=list(KEYS))
        said.append("the first quantity and weighting of each metric")
    if len(frame) > MOST_NUMBERS:
        # What has no step is kept by its name.
        at = frame["step"].astype(object).where(frame["step"].notna(), frame["checkpoint"])
        steps = {
            run: (sorted(set(own.dropna())), list(dict.fromkeys(at[own.index[own.isna()]])))
            for run, own in frame.groupby("run", sort=False)["step"]
        }
        longest = max(len(known) + len(names) for known, names in steps.values())
        most = max(FEWEST_STEPS, longest * MOST_NUMBERS // len(frame))
        kept = {run: {*spread_out(known, most), *spread_out(names, most)} for run, (known, names) in steps.items()}
        frame = frame[[step in kept[run] for run, step in zip(frame["run"], at, strict=True)]]
        said.append(f"{most} steps of each run")
    if len(frame) > MOST_NUMBERS:
        places = list(dict.fromkeys(frame["layer"]))
        most = max(2, len(places) * MOST_NUMBERS // len(frame))
        frame = frame[frame["layer"].isin(spread_out(places, most))]
        said.append(f"{most} of {len(places)} layers and maps")
    return frame, said


def _number(key: Any, rows: pd.DataFrame, signed: frozenset[str], *, leads: bool) -> PageNumber:
    table, metric, quantity, weighting = map(str, key)
    centred = rows["centred"].iloc[0]
    scale = scale_of(rows["value"].dropna(), decades=np.inf if metric in signed else 1.0)
    return PageNumber(table, metric, quantity, weighting, None if pd.isna(centred) else bool(centred), scale, leads)


def _run(rows: pd.DataFrame, at: Mapping[tuple[str, str, str, str], int]) -> dict[str, Any]:
    """Return one run, or the mean of a group.

    The checkpoints of a group are matched by step, since each run has its own names for them.
    """
    seeds = int(rows["seeds"].max())
    key = "step" if seeds else "checkpoint"
    checkpoints = rows.drop_duplicates(key).sort_values("step", kind="stable")
    places = rows.drop_duplicates("layer").sort_values(["table", "depth"], kind="stable")
    # Arrays are addressed by the place of a layer and of a step in these two orders.
    order = {place: i for i, place in enumerate(places["layer"])}
    steps = {checkpoint: i for i, checkpoint in enumerate(checkpoints[key])}
    reasons = {NOT_MEASURED: 0}
    read = read_layer(rows)
    names = [str(name) for name in places["layer"]]
    return {
        "name": visible(str(rows["run"].iloc[0])),
        "group": visible(str(rows["group"].iloc[0])),
        "seeds": seeds,
        "unit": visible(str(rows["step_unit"].iloc[0])),
        "steps": [None if pd.isna(step) else int(step) for step in checkpoints["step"]],
        "labels": checkpoint_names(checkpoints),
        "checkpoints": ["" if seeds else visible(str(name)) for name in checkpoints["checkpoint"]],
        "axis": scale_of([float(step) for step in checkpoints["step"].dropna()], decades=2.0).to_vega(),
        "places": [
            {
                "name": visible(name),
                "short": short,
                "kind": visible(str(kind)),
                "how": visible(str(how or "")),
                "map": kind == MAPS,
            }
            for name, short, kind, how in zip(
                names, short_names(names), places["kind"], places["reduction"], strict=True
            )
        ],
        "reads": None if read is None else order[read],
        "series": [
            {
                "split": visible(str(split)),
                "number": at[str(table), str(metric), str(quantity), str(weighting)],
                **_arrays(own, steps, order, key, reasons),
            }
            for (split, table, metric, quantity, weighting), own in rows.groupby(["split", *KEYS], sort=False)
        ],
        "reasons": list(reasons),
    }


def _arrays(
    own: pd.DataFrame, steps: Mapping[Any, int], order: Mapping[str, int], key: str, reasons: dict[str, int]
) -> dict[str, Any]:
    """Return one number of one split: an array of steps × layers, and what else is known where there is something."""
    where = own["layer"].map(order).to_numpy(np.int64)
    places, column = np.unique(where, return_inverse=True)
    at = own[key].map(steps).to_numpy(np.int64), column
    shape = len(steps), len(places)

    def spread(values: Any) -> np.ndarray:
        array = np.full(shape, np.nan)
        array[at] = np.asarray(values, np.float64)
        return array

    told = [-1 if reason == "" else reasons.setdefault(visible(str(reason)), len(reasons)) for reason in own["reason"]]
    why = np.nan_to_num(spread(told), nan=0).astype(np.int64)  # 0: not measured
    found: dict[str, Any] = {"places": places.tolist(), "value": floats(spread(own["value"]))}
    if (why >= 0).any():
        found["why"] = stretches(why)
    for name in ("low", "high", "baseline"):
        array = spread(own[name])
        if not np.isnan(array).all():
            # What chance reads is the same at every step, unless labels were permuted: then one row says it.
            alike = bool(((array == array[0]) | (np.isnan(array) & np.isnan(array[0]))).all())
            found[name] = floats(array[:1] if alike else array)
    floor = own["at_floor"].fillna(value=False).to_numpy(bool)
    if floor.any():
        found["floor"] = stretches(np.where(spread(floor) == 1, 0, -1))
    return found
