"""A small audit as the measures would give it: runs that collapse, layer by layer and step by step."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.report.output import files_of, put
from ncscan.tables.columns import METRIC_COLUMNS, WEIGHT_COLUMNS
from ncscan.tables.frames import tidy

LAYERS = ("input", *(f"block{i}.{part}" for i in range(1, 7) for part in ("linear", "relu")), "head.0", "head.1")
STEPS = (0, 50, 100, 300, 1000, 2000, 4000, 8000, 9000)
RUNS = ("square-s0", "square-s1", "cross-entropy")
CLASSES = tuple("0123456789")

FALLING = ("nc1_pinv", "nc1_trace", "cdnv", "nc2_equinorm", "nc2_equiangular", "nc2_etf", "ncc_error", "nc4_mismatch")
AT_CLASSIFIER = ("nc3_distance", "nc3_etf", "nc3_cosine")


@dataclass(frozen=True)
class Row:
    """What a measure gives, field by field as ncscan.metrics.evaluate has it."""

    metric: str
    quantity: str
    value: float | None
    reason: str = ""
    weighting: str = "class"
    centred: bool | None = None
    rank: int | None = None
    estimate: bool = False
    classifier: str = ""


@dataclass(frozen=True)
class WeightRow:
    """What a measure of weights gives, as ncscan.metrics.weights.evaluate has it."""

    map: str
    next_map: str
    metric: str
    quantity: str
    value: float | None
    rank: int | None = None
    reason: str = ""


def checkpoints(runs: tuple[str, ...] = RUNS, steps: tuple[int, ...] = STEPS) -> list[dict[str, Any]]:
    """What is known of each checkpoint, in order."""
    return [
        {
            "run": run,
            "group": run.split("-s")[0],
            "checkpoint": f"step_{step:06d}.pt",
            "step": step,
            "step_unit": "iteration",
            "split": "train",
            "accuracy": 1 - 0.9 * math.exp(-step / 500),
            "n_samples": 1500,
            "n_classes": 10,
            "class_names": CLASSES,
            "provenance": {
                "checkpoint_sha256": f"{hash_of(run, step):064x}",
                "prefix_map": [["module.", ""]],
                "matched": 18,
                "total": 18,
                "dataset": "npz:mnist.npz",
                "dataset_fingerprint": "ab" * 32,
                "notes": {"epoch": step // 50, "lr": 0.02, "best": math.inf},
                "versions": {"ncscan": "0.1.0", "torch": "2.13.0"},
            },
        }
        for run in runs
        for step in steps
    ]


def hash_of(run: str, step: int) -> int:
    """A number that looks like a hash, the same in every process."""
    return int.from_bytes(run.encode() * 2, "big") * (step + 7919) % 16**64


def entries(known: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any], Row]]:
    """Rows of metrics: falling with step and depth, faster with the square loss."""
    for at in known:
        slow = 3.0 if at["run"] == "cross-entropy" else 1.0
        for depth, layer in enumerate(LAYERS):
            kind = "input" if depth == 0 else "activation" if layer.endswith("relu") else "linear"
            facts = {"layer": layer, "depth": depth, "kind": kind, "reduction": "none"}
            progress = math.log1p(at["step"] / 50) * (depth + 1) / 15 / slow
            for i, metric in enumerate(FALLING):
                yield at, facts, Row(metric, "", (3 + i) * math.exp(-progress * (1 + i / 4)), centred=True, rank=9)
            if kind == "linear":
                yield at, facts, Row("negativity", "op", 0.6 * math.exp(-progress), weighting="")
                yield at, facts, Row("negativity", "fro", 0.3 * math.exp(-progress), weighting="")
            if depth == 0 or at["step"] == 0:
                yield at, facts, Row("feature_condition", "", None, "the features have rank 0")
            else:
                yield at, facts, Row("feature_condition", "", 40 * math.exp(-progress) + 1, rank=12)
            if layer == "head.0":
                for i, metric in enumerate(AT_CLASSIFIER):
                    value = 1 - math.exp(-progress - 0.1) if metric == "nc3_cosine" else math.exp(-progress * (i + 1))
                    yield at, facts, Row(metric, "", value, classifier="head.1")
            if layer == "head.1":
                yield at, facts, Row("error", "", 0.0 if at["step"] > 4000 else 1 - at["accuracy"], weighting="")
                yield at, facts, Row("loss", "mse", 0.3 * math.exp(-progress), weighting="")


def weight_entries(known: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], WeightRow]]:
    """Rows of weights: condition of each map, balancedness and alignment of each pair."""
    maps = [layer for layer in LAYERS if layer.endswith("linear") or layer.startswith("head")]
    for at in known:
        progress = math.log1p(at["step"] / 50)
        for depth, name in enumerate(maps):
            yield (
                at,
                WeightRow(name, "", "weight_condition", "condition", 1 + (9 + depth) * math.exp(-progress / 3), 10),
            )
        for depth, (first, following) in enumerate(pairwise(maps)):
            if not following.startswith("head.1"):
                reason = "an activation stands between the two maps"
                yield at, WeightRow(first, following, "balancedness", "op", None, reason=reason)
            else:
                yield at, WeightRow(first, following, "balancedness", "op", 0.9 * math.exp(-progress))
                yield at, WeightRow(first, following, "balancedness", "fro", 1.9 * math.exp(-progress))
            yield at, WeightRow(first, following, "balancedness_diagonal", "op", 2 * math.exp(-progress / (1 + depth)))
        yield at, WeightRow("head.0..head.1", "", "head_condition", "condition", 1 + 30 * math.exp(-progress), 10)


def metrics_frame(entries: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], object]]) -> pd.DataFrame:
    """The table of entries (what is known of the checkpoint, what is known of the layer, the row)."""
    return tidy(METRIC_COLUMNS, (({**checkpoint, **layer}, row) for checkpoint, layer, row in entries))


def weights_frame(entries: Iterable[tuple[Mapping[str, Any], object]]) -> pd.DataFrame:
    """The table of entries (what is known of the checkpoint, the row)."""
    return tidy(WEIGHT_COLUMNS, entries)


def write_report(out: Path, tables: Mapping[str, pd.DataFrame], *arguments: Any, **settings: Any) -> list[Path]:
    """Every file of a report in a folder; the arguments are those of `files_of`."""
    return put(out, files_of(tables, *arguments, **settings).contents)
