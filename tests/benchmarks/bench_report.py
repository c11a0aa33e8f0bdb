"""What measuring a dump costs beside its floor: python tests/benchmarks/bench_report.py DUMP

The floor is reading the file twice with h5py and one float32 XᵀX a layer, by numpy (which makes half of the symmetric
product) and by torch (which makes all of it). All layers are measured with and without negativity; the variants take
turns; medians of wall and CPU seconds. Then κ of every layer against float64 singular values.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

from ncscan.activations.source import Layer
from ncscan.dumps.reader import Dump
from ncscan.metrics.evaluate import Classifier, LayerView, Row, measure
from ncscan.pipeline.measure import Options, measure_source
from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.parallel import in_threads
from ncscan.statistics.accumulation.passes import layer_stats

RUNS = 7


def measured(path: Path, *, negativity: bool) -> dict[str, Row]:
    """feature_condition by layer: everything that a report measures of the layers of a dump, as it does."""
    with Dump(path) as dump:
        decisions, last = dump.logits.argmax(axis=1), dump.graph.map(dump.graph.head[-1])
        head = Classifier(last.name, dump.weights[last.name][0].astype(np.float64))

        def rows(layer: Layer) -> tuple[str, Row]:
            classifier = head if last.reads == layer.tap.name else None
            stats = layer_stats(
                partial(dump.chunks, layer),
                dump.labels,
                len(dump.provenance.class_names),
                AccumulationOptions(
                    decisions=decisions,
                    classifier=None if classifier is None else classifier.weight,
                    negative_part=negativity and layer.tap.is_preactivation,
                    precision=layer.dtype,
                ),
            )
            by_metric = {row.metric: row for row in measure(LayerView(stats, classifier=classifier))}
            return layer.tap.name, by_metric["feature_condition"]

        with in_threads(rows, dump.layers) as conditions:
            return dict(conditions)


def everything(path: Path) -> int:
    """All that a report measures of a dump: layers, floors and chance, classes, weights, theory."""
    with Dump(path) as dump:
        return len(measure_source(dump, Options(), lambda _event: None).layers)


def floor(path: Path, product: Callable[[np.ndarray], object]) -> None:
    """Each layer read twice, into the same memory, and multiplied once."""
    with h5py.File(path, "r") as file:
        for group in file["layers"].values():
            source = group["activations"]
            rows = np.empty(source.shape, source.dtype)
            for _ in range(2):
                step = source.chunks[0]
                for start in range(0, len(source), step):
                    stop = min(start + step, len(source))
                    source.read_direct(rows, np.s_[start:stop], np.s_[start:stop])
            product(rows)


def by_numpy(rows: np.ndarray) -> object:
    return rows.T @ rows


def by_torch(rows: np.ndarray) -> object:
    values = torch.from_numpy(rows)
    return values.T @ values


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), os.times()
    work()
    spent = os.times()
    return time.perf_counter() - wall, spent.user - cpu.user + spent.system - cpu.system


def main() -> None:
    path = Path(sys.argv[1])
    variants: dict[str, Callable[[], object]] = {
        "floor, numpy": lambda: floor(path, by_numpy),
        "floor, torch": lambda: floor(path, by_torch),
        "without negativity": lambda: measured(path, negativity=False),
        "with negativity": lambda: measured(path, negativity=True),
        "everything": lambda: everything(path),
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for run in range(RUNS + 1):
        for name, work in variants.items():
            figures = timed(work)
            if run:  # the first round warms caches and threads up
                seen[name].append(figures)
    walls = {name: statistics.median(wall for wall, _ in each) for name, each in seen.items()}
    cpus = {name: statistics.median(cpu for _, cpu in each) for name, each in seen.items()}
    for name in variants:
        ratios = ", ".join(
            f"{walls[name] / walls[one]:.2f} of the {one} in wall time, {cpus[name] / cpus[one]:.2f} in CPU"
            for one in ("floor, numpy", "floor, torch")
        )
        print(f"{name:20} wall {walls[name]:.2f} s, CPU {cpus[name]:.2f} s: {ratios}", flush=True)
    conditions = measured(path, negativity=False)
    with Dump(path) as dump:
        for layer in dump.layers:
            Z = np.concatenate([rows for _, rows in dump.chunks(layer)]).astype(np.float64)
            s = np.linalg.svd(Z, compute_uv=False)
            row = conditions[layer.tap.name]
            assert row.value is not None
            assert row.rank is not None
            exact, whole = s[0] / s[row.rank - 1], s[0] / s[-1]
            estimate = "estimate" if row.estimate else "complete"
            print(
                f"{layer.tap.name:10} κ {row.value:.6g} over {row.rank} of {len(s)} ({estimate}); float64: {exact:.6g} "
                f"over as many, {abs(row.value / exact - 1):.1e} off; {whole:.4g} over all"
            )


if __name__ == "__main__":
    main()
