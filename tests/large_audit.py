"""A large audit in tables: every number of every metric, for as many steps and layers as asked, without a network."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ncscan.metrics.evaluate import CLASS_METRICS, METRICS, NETWORK
from ncscan.rows import with_leads
from ncscan.tables.columns import (
    CLASS_COLUMNS,
    GEOMETRY_COLUMNS,
    LEADS,
    METRIC_COLUMNS,
    TABLES,
    WEIGHT_COLUMNS,
    Columns,
)
from ncscan.tables.frames import tidy

K = 10


def large_audit(n_steps: int, n_layers: int) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]]]:
    """The tables of one run, and what is known of its checkpoints."""
    steps = [int(step) for step in np.linspace(0, 100 * (n_steps - 1), n_steps)]
    layers = [f"layer{i // 10}.{i % 10}.conv" for i in range(n_layers)]
    names = [
        (metric.name, quantity, weighting)
        for metric in METRICS
        if metric.scope in ("features", "spectrum", "decisions")
        for quantity in metric.quantities
        for weighting in (("class", "sample") if metric.weighted and quantity not in metric.unweighted else ("",))
    ]
    metrics = _grid(METRIC_COLUMNS, steps, range(n_layers), range(len(names)))
    metrics["layer"] = np.array(layers, object)[metrics["at"]]
    metrics["depth"] = metrics["at"]
    for i, column in enumerate(("metric", "quantity", "weighting")):
        metrics[column] = np.array([name[i] for name in names], object)[metrics["what"]]
    metrics["value"] = np.exp(-metrics["at"] / 30 - metrics["step"] / 3000 - metrics["what"] / 20)
    metrics["baseline"] = 0.5
    last = metrics["at"] == n_layers - 1
    network = metrics[last & (metrics["what"] == 0)].assign(
        metric=NETWORK[0].name, quantity="", weighting="", baseline=None
    )
    compared = metrics[last & (metrics["what"] == 0)].assign(metric="nc3_distance", quantity="", classifier="head")

    maps = _grid(WEIGHT_COLUMNS, steps, range(n_layers), range(2))
    maps["map"] = np.array(layers, object)[maps["at"]]
    maps["metric"] = np.array(["weight_condition", "balancedness"], object)[maps["what"]]
    maps["next_map"] = np.where(maps["what"] == 1, np.array([*layers[1:], "head"], object)[maps["at"]], "")
    maps["quantity"] = "op"
    maps["value"] = np.exp(-maps["step"] / 3000) * (1 + maps["at"])
    tables = {name: tidy(columns, []) for name, columns in TABLES.items()} | {
        "metrics": _only(pd.concat([metrics, network, compared]), METRIC_COLUMNS),
        "weights": _only(maps, WEIGHT_COLUMNS),
        "classes": _only(_classes(steps, layers), CLASS_COLUMNS),
        "geometry": _only(_geometry(steps, layers[-1]), GEOMETRY_COLUMNS),
    }
    return tables, [_checkpoint(step) for step in steps]


def _grid(columns: Columns, steps: list[int], places: range, what: range) -> pd.DataFrame:
    index = np.array(list(product(range(len(steps)), places, what)), np.int64)
    frame = pd.DataFrame({name: None if kind != "object" else "" for name, kind in columns}, index=range(len(index)))
    frame["step"] = np.array(steps)[index[:, 0]]
    frame["run"], frame["group"], frame["step_unit"], frame["split"] = "run", "", "iteration", "train"
    frame["checkpoint"] = np.array([f"step_{step:06d}.pt" for step in steps], object)[index[:, 0]]
    return frame.assign(at=index[:, 1], what=index[:, 2])


def _classes(steps: list[int], layers: list[str]) -> pd.DataFrame:
    single = [metric.name for metric in CLASS_METRICS if not metric.pairs]
    frame = _grid(CLASS_COLUMNS, steps, range(len(layers)), range(len(single) * K))
    frame["metric"] = np.array(single, object)[frame["what"] // K]
    frame["class_index"] = frame["what"] % K
    frame["value"] = np.exp(-frame["at"] / 30 - frame["step"] / 3000)
    pairs = [(name, c, d) for name in ("pair_cosine", "nc3_pair_cosine") for c in range(K) for d in range(K) if c != d]
    pairs = [(name, c, d) for name, c, d in pairs if c < d or name != "pair_cosine"]
    matrices = _grid(CLASS_COLUMNS, steps, range(len(layers) - 2, len(layers)), range(len(pairs)))
    for i, column in enumerate(("metric", "class_index", "other_index")):
        matrices[column] = np.array([pair[i] for pair in pairs], object)[matrices["what"]]
    matrices["value"] = -1 / (K - 1) + 0.1 * np.sin(matrices["what"])
    both = pd.concat([frame, matrices])
    both["layer"] = np.array(layers, object)[both["at"]]
    both["class_name"] = both["class_index"].map(str)
    return both


def _geometry(steps: list[int], layer: str) -> pd.DataFrame:
    frame = _grid(GEOMETRY_COLUMNS, steps, range(K), range(18))
    items = np.array(["mean", "classifier", *["sample"] * 16], object)
    frame["item"], frame["layer"], frame["norm"] = items[frame["what"]], layer, 1.0
    frame["class_index"], frame["class_name"] = frame["at"], frame["at"].map(str)
    frame["sample"] = (frame["at"] * 16 + frame["what"]).where(frame["what"] > 1)
    noise = np.random.default_rng(0).standard_normal((len(frame), K - 1)) * 0.2
    axes = np.linalg.svd(np.eye(K) - 1 / K)[2][: K - 1].T
    for i in range(K - 1):
        frame[f"x{i + 1}"] = axes[frame["at"], i] + noise[:, i] * np.where(frame["what"] > 1, 1, 0)
    return frame


def _only(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    frame = frame[[name for name, _ in columns]].astype(dict(columns)).reset_index(drop=True)
    return with_leads(frame) if LEADS in columns else frame


def _checkpoint(step: int) -> dict[str, Any]:
    return {
        "run": "run",
        "group": "",
        "checkpoint": f"step_{step:06d}.pt",
        "step": step,
        "step_unit": "iteration",
        "split": "train",
        "accuracy": 1.0,
        "n_samples": 1000,
        "n_classes": K,
        "class_names": [str(c) for c in range(K)],
        "provenance": {"checkpoint_sha256": f"{step:064x}", "dataset": "npz:data.npz"},
    }
