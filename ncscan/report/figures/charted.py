"""The charts of the page as files: over steps, over depth, layer by step, runs side by side, class by class.

In: the tables of a report. Out: Vega-Lite's JSON of each chart with its rows, under a name. The charts are those of
charts.py; what the reader of a page chooses is here every run, every main number, and the last step.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ncscan.ordering import NOT_KNOWN
from ncscan.report.figures.charts import CHARTS, PHASE, ROWS, WIDTH, ChartRow, Spec, drawn, fit, template
from ncscan.report.figures.palette import SHADES
from ncscan.report.figures.scales import (
    Scale,
    scale_of,
    shade_of,
    shade_of_deviation,
    shade_of_share,
    short_names,
    spread_out,
)
from ncscan.rows import in_series, leading, of_training
from ncscan.tables import checkpoint_names, known_onsets, over_seeds, points, read_layer
from ncscan.trajectory import MAIN
from ncscan.wording import number, visible

ALL_RUNS = "all-runs"
"""The folder of what compares runs."""
MOST_RUNS = 8
MOST_LINES = 40
MOST_DOTS = 80
"""Up to so many values each has a dot."""


class Charted(NamedTuple):
    """One chart, ready to be rendered."""

    name: str
    """The name of its file, with the folder of its run, without a suffix: letters, digits, `.`, `_` and `-` alone."""
    spec: Spec
    label: str


def charted(tables: Mapping[str, pd.DataFrame]) -> Iterator[Charted]:
    """Yield every chart of the main numbers: of all runs together, then run by run."""
    frame = points(tables["metrics"], tables["weights"])
    frame = in_series(of_training(frame))
    main = pd.DataFrame(MAIN, columns=["metric", "quantity"])
    frame = leading(frame.merge(main, on=["metric", "quantity"]), ["run", "checkpoint", "layer", "metric", "quantity"])
    if frame.empty:
        return
    seeds, runs = over_seeds(frame), list(dict.fromkeys(frame["run"]))
    scales = {key: scale_of(own["value"].dropna()) for key, own in frame.groupby(["metric", "quantity"], sort=False)}
    folders = dict(zip(runs, _file_names([str(run) for run in runs]), strict=True))
    for (metric, quantity), scale in scales.items():
        yield from _of_all_runs(frame, seeds, str(metric), str(quantity), scale)
    began = known_onsets(tables["trajectory"])
    for run in runs[:MOST_RUNS]:
        for (metric, quantity), own in frame[frame["run"] == run].groupby(["metric", "quantity"], sort=False):
            if own["value"].notna().any():
                yield from _of_run(own, folders[run], scales[metric, quantity], began.get(str(run)))
        yield from _of_classes(tables["classes"][tables["classes"]["run"] == run], folders[run])


def _of_run(own: pd.DataFrame, folder: str, scale: Scale, onset: int | None) -> Iterator[Charted]:
    """Yield the charts of a run over steps, over depth and as a heat map, as far as there are two of either."""
    run, metric, quantity = (str(own[name].iloc[0]) for name in ("run", "metric", "quantity"))
    what, name = _called(metric, quantity), f"{folder}/{_file_name(f'{metric} {quantity}')}"
    own = own.sort_values(["depth", "step"], kind="stable")
    layers = list(dict.fromkeys(own["layer"]))
    checkpoints = own.drop_duplicates("checkpoint").sort_values("step", kind="stable")
    if checkpoints["step"].isna().any():
        checkpoints = checkpoints.iloc[-1:]  # the order of the run is not known: one is shown as if alone
    shades = {layer: shade_of(i, len(layers), SHADES["depth"]) for i, layer in enumerate(layers)}
    # Over steps: a line a layer, an even choice of layers where there are many.
    y = scale.to_vega()
    if len(checkpoints) > 1:
        kept = spread_out(layers, MOST_LINES)
        dot = int(len(kept) * len(checkpoints) <= MOST_DOTS)
        shown = own[own["layer"].isin(kept)]
        rows = [
            {"x": int(step), "y": _value(value), "line": layer, "shade": shades[layer], "dot": dot}
            for step, value, layer in zip(shown["step"], shown["value"], shown["layer"], strict=True)
        ]
        phase = [] if onset is None else [{"from": onset, "to": int(checkpoints["step"].max())}]
        label = f"{what} over steps, a line per layer; {visible(run)}"
        told = f"dark to light: {visible(str(layers[0]))} to {visible(str(layers[-1]))}" if len(layers) > 1 else ""
        yield _charted(f"{name}-steps", "trajectory", label, {ROWS: rows, PHASE: phase}, told, x=_steps(own), y=y)
    if len(layers) > 1:
        yield from _over_depth(own, checkpoints, layers, name, visible(run), what, scale)


def _over_depth(
    own: pd.DataFrame, checkpoints: pd.DataFrame, layers: Sequence[Any], name: str, run: str, what: str, scale: Scale
) -> Iterator[Charted]:
    """Yield the charts of a run over depth: of its first and last checkpoint, and of all in a heat map."""
    names = dict(zip(layers, short_names([str(layer) for layer in layers]), strict=True))
    first, last = checkpoints.iloc[0], checkpoints.iloc[-1]
    depth_rows = [
        {**_depth_row(row, names), "line": str(step), "shade": shade, "wide": wide, "dot": wide}
        for step, shade, wide in _ends(first["checkpoint"], last["checkpoint"])
        for row in own[own["checkpoint"] == step].itertuples()
    ]
    x = {
        "scale": {"type": "point", "padding": 0.3, "domain": list(names.values())},
        "values": spread_out(list(names.values()), 24),
    }
    label = f"{what} over depth, at the first and the last step; {run}"
    told = "thin: the first step; dashes: what chance reads"
    if pd.isna(last["step"]):
        label = f"{what} over depth, at {visible(str(last['checkpoint']))}; {run}"
        told = f"{NOT_KNOWN}; dashes: what chance reads"
    yield _charted(f"{name}-depth", "profile", label, {ROWS: depth_rows}, told, x=x, y=scale.to_vega())
    if len(checkpoints) > 1:
        # Both at once: layer × step.
        times = dict(zip(checkpoints["checkpoint"], checkpoint_names(checkpoints), strict=True))
        rows = [
            {"x": times[checkpoint], "y": names[layer], "shade": _heat(value, scale)}
            for checkpoint, layer, value in zip(own["checkpoint"], own["layer"], own["value"], strict=True)
        ]
        axes = {"x": {"scale": {"domain": list(times.values())}, "title": None}}
        axes["y"] = {"scale": {"domain": list(names.values())}}
        label = f"{what} by layer and step; {run}"
        told = f"pale to dark: {number(scale.domain[0])} to {number(scale.domain[1])}"
        height = 60 + 18 * len(layers)
        yield _charted(f"{name}-map", "map", label, {ROWS: rows}, told, height=height, **axes)


def _of_all_runs(
    frame: pd.DataFrame, seeds: pd.DataFrame, metric: str, quantity: str, scale: Scale
) -> Iterator[Charted]:
    """Yield a line per run or group, of the layer that the classifier reads; of several linear maps the worst."""
    groups = list(dict.fromkeys(frame["group"].where(frame["group"] != "", frame["run"])))
    averaged = set(seeds["group"])
    rows: list[ChartRow] = []
    for part, of_groups in ((seeds, True), (frame, False)):
        own = part[(part["metric"] == metric) & (part["quantity"] == quantity)]
        for (run, group), each in own.groupby(["run", "group"], sort=False):
            same = {
                "line": f"{run} (mean)" if of_groups else str(run),
                "shade": groups.index(group or run) % SHADES["series"],
                "wide": int(of_groups or group not in averaged),
            }
            at = _read(each, frame[frame["group" if of_groups else "run"] == run])
            spread = at[["low", "high"]] if of_groups else at[["low", "high"]] * np.nan
            for step, value, low, high in zip(at["step"], at["value"], spread["low"], spread["high"], strict=True):
                ends = {"low": _value(low), "high": _value(high)}
                if pd.isna(step):
                    continue  # where the order of a run is not known, it has no line
                rows.append({**same, "x": int(step), "y": _value(value), **ends, "dot": same["wide"]})
    if any(row["y"] is not None for row in rows) and len({row["x"] for row in rows}) > 1:
        label = f"{_called(metric, quantity)} over steps, a line per run or group"
        name = f"{ALL_RUNS}/{_file_name(f'{metric} {quantity}')}"
        x, y = _steps(frame), scale.to_vega()
        made = _charted(name, "compare", label, {ROWS: rows}, x=x, y=y)
        yield made._replace(spec=_with_legend(made.spec, [visible(str(group)) for group in groups]))


def _with_legend(spec: Spec, groups: Sequence[str]) -> Spec:
    """Return a chart with its legend: on paper nothing else shows which colour is which group."""
    shown = list(range(min(len(groups), SHADES["series"])))
    names = f"{json.dumps([groups[i] for i in shown])}[datum.value]"
    legend = {"title": None, "values": shown, "labelExpr": names, "symbolType": "circle", "symbolOpacity": 1}
    layers = [
        {**each, "encoding": {**each["encoding"], "color": {**each["encoding"]["color"], "legend": legend}}}
        for each in spec["layer"]
    ]
    return {**spec, "layer": layers}


def _read(own: pd.DataFrame, run: pd.DataFrame) -> pd.DataFrame:
    """Return at each step the row of the layer that the classifier reads; else the worst of those that have a value."""
    read = own[own["layer"] == read_layer(run)]
    rows = (read if len(read) else own).sort_values("value", ascending=False, na_position="last", kind="stable")
    return rows.drop_duplicates("step").sort_values("step", kind="stable")


def _of_classes(classes: pd.DataFrame, folder: str) -> Iterator[Charted]:
    """Yield the cosines of the class means, and of classifier rows with them, at the last layer of the last step."""
    for metric, own_class, what in (
        ("pair_cosine", "", "cosines of the class means"),
        ("nc3_pair_cosine", "nc3_class_cosine", "cosines of the classifier's rows (down) with the class means"),
    ):
        own = in_series(of_training(classes[classes["metric"].isin((metric, own_class))]))
        pairs = own[own["metric"] == metric]
        if pairs["value"].notna().sum() == 0:
            continue
        layer, checkpoint = pairs.sort_values("step", kind="stable")[["layer", "checkpoint"]].iloc[-1]
        own = own[(own["layer"] == layer) & (own["checkpoint"] == checkpoint)]
        index = sorted({int(c) for c in [*own["class_index"], *own["other_index"].dropna()]})
        names = {c: _class_name(own, c) for c in index}
        labels = dict(zip(index, short_names([names[c] for c in index]), strict=True))
        cells = {(c, c): 1.0 for c in index} if not own_class else {}
        for row in own.itertuples():
            other = row.class_index if pd.isna(row.other_index) else row.other_index
            cells[row.class_index, other] = row.value
            if not own_class:
                cells[other, row.class_index] = row.value
        rows = [
            {"x": labels[d], "y": labels[c], "shade": _deviation(value - (1.0 if c == d else -1 / (len(index) - 1)))}
            for (c, d), value in cells.items()
        ]
        axis = {"scale": {"domain": list(labels.values())}}
        label = f"{what} at {visible(str(checkpoint))}, layer {visible(str(layer))}; {visible(str(own['run'].iloc[0]))}"
        told = "pale: as in a simplex; blue: 1 less; brown: 1 more"
        yield _charted(f"{folder}/{metric}", "matrix", label, {ROWS: rows}, told, height=WIDTH, x=axis, y=axis)


def _class_name(own: pd.DataFrame, c: int) -> str:
    named = own["class_name"][own["class_index"] == c]
    return str(named.iloc[0] if len(named) else own["other_name"][own["other_index"] == c].iloc[0])


def _depth_row(row: Any, names: Mapping[str, str]) -> ChartRow:
    return {
        "x": names[row.layer],
        "y": _value(row.value),
        "low": _value(row.low),
        "high": _value(row.high),
        "base": _value(row.baseline),
    }


def _ends(first: str, last: str) -> Iterator[tuple[str, int, int]]:
    """Yield the first checkpoint thin, the last in full."""
    if first != last:
        yield first, 0, 0
    yield last, SHADES["step"] - 1, 1


def _charted(
    name: str,
    kind: str,
    label: str,
    datasets: Mapping[str, Sequence[ChartRow]],
    told: str = "",
    *,
    height: int = 0,
    **axes: Any,
) -> Charted:
    (chart,) = [each for each in CHARTS if each.name == kind]
    title = {"text": label, "subtitle": told, "fontSize": 11, "subtitleFontSize": 10, "limit": WIDTH, "anchor": "start"}
    spec = {**fit(template(chart), axes), "background": "white", "title": title}
    return Charted(name, drawn(spec, datasets, width=WIDTH, height=height or chart.height), label)


def _steps(rows: pd.DataFrame) -> dict[str, Any]:
    scale = scale_of([float(step) for step in rows["step"].dropna()], decades=2.0)
    units = [visible(str(unit)) for unit in dict.fromkeys(rows["step_unit"]) if unit]
    return {**scale.to_vega(), "title": ", ".join(units) or "step"}


def _heat(value: Any, scale: Scale) -> int:
    return -1 if pd.isna(value) else shade_of_share(scale.share(float(value)), SHADES["heat"])


def _deviation(off: Any) -> int:
    return -1 if pd.isna(off) else shade_of_deviation(float(off), SHADES["balance"])


def _value(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _called(metric: str, quantity: str) -> str:
    return visible(f"{metric} · {quantity}" if quantity else metric)


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text.strip()).strip(".-") or "unnamed"


def _file_names(texts: Sequence[str]) -> list[str]:
    """Return the name of a folder for each run; two that differ only in odd characters stay apart."""
    names = [_file_name(text) for text in texts]
    taken = [ALL_RUNS, *names]
    return [name if taken.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names, start=1)]
