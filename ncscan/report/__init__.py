"""Reports: the tables that other programs read, and the page that people read.

In: the tidy frames of the measures and what is known of each checkpoint. Out: files. Nothing here computes a measure.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncscan.report.page import page
from ncscan.report.tables import (
    METRIC_COLUMNS,
    WEIGHT_COLUMNS,
    conform,
    csv_text,
    json_text,
    metrics_frame,
    summary_frame,
    weights_frame,
)

__all__ = ["metrics_frame", "page", "summary_frame", "weights_frame", "write"]


def write(
    out: Path,
    *,
    metrics: pd.DataFrame,
    weights: pd.DataFrame,
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
) -> list[Path]:
    """Write every file of a report into a folder, which is made when it is missing; give their paths.

    The same arguments give the same bytes. A file is there whole or not at all: a reader, or an interruption, never
    meets half of one.
    """
    metrics, weights = conform(metrics, METRIC_COLUMNS), conform(weights, WEIGHT_COLUMNS)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in _files(metrics, weights, checkpoints, skipped, warnings):
        _write_whole(out / name, text)
        written.append(out / name)
    return written


def _files(
    metrics: pd.DataFrame,
    weights: pd.DataFrame,
    checkpoints: Sequence[Mapping[str, Any]],
    skipped: Sequence[tuple[str, str]],
    warnings: Sequence[str],
) -> Iterator[tuple[str, str]]:
    yield "metrics.csv", csv_text(metrics)
    yield "weights.csv", csv_text(weights)
    yield "summary.csv", csv_text(summary_frame(metrics, weights))
    yield "report.json", json_text(metrics, weights, checkpoints, skipped, warnings)
    yield "report.html", page(metrics, weights, checkpoints, skipped, warnings)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(text.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
