"""What a dump costs beside what it cannot do without: python tests/benchmarks/bench_extract.py IDX_FOLDER [OUT]

Full MNIST through the nine-layer network, all layers kept. `extract` (replay, write, verify, rename) against the sum of
a bare forward pass over the same batches and plain h5py writing the same bytes; then reading all layers through `Dump`
against bare h5py. The variants take turns; medians. IDX_FOLDER holds MNIST's idx files, OUT is where dumps may stand.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

from ncscan.activations.batches import default_batch_size, replay
from ncscan.activations.source import Provenance
from ncscan.activations.tracer import Trace, trace, width
from ncscan.data.dataset import Dataset, open_dataset
from ncscan.dumps.writer import Dump, write_dump
from ncscan.layer_graph import select

RUNS = 7
CPU = torch.device("cpu")
BATCH = default_batch_size(CPU)


def network() -> nn.Module:
    """784-512×6 ReLU, two linear layers of 512, a linear classifier: weights do not matter for the time."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (784, *[512] * 5):
        layers += [nn.Linear(inputs, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 10)).eval()


def provenance(dataset: Dataset) -> Provenance:
    return Provenance(
        run="bench",
        group="bench",
        checkpoint="random",
        checkpoint_sha256="",
        tensors_sha256="",
        checkpoint_format="",
        step=0,
        epoch=None,
        file_number=None,
        notes={},
        model_source="mlp",
        prefix_map=(),
        matched=0,
        total=0,
        unmatched=(),
        stored_dtype="float32",
        compute_dtype="float32",
        activation="",
        linear_head=None,
        dataset=dataset.spec,
        dataset_fingerprint=dataset.fingerprint,
        split="train",
        class_names=dataset.class_names,
        selectors=("all",),
        reduction="mean",
        dtype="as computed",
        device="cpu",
        batch_size=BATCH,
        versions={},
        train={},
    )


def extract(model: nn.Module, dataset: Dataset, traced: Trace, path: Path) -> None:
    path.unlink(missing_ok=True)
    taps = select(traced.graph, ["all"])
    write_dump(
        path,
        provenance(dataset),
        traced,
        taps,
        dataset.labels,
        lambda start: replay(model, dataset, traced, taps, device=CPU, batch_size=BATCH, start=start),
    )


def forward(model: nn.Module, dataset: Dataset) -> None:
    with torch.no_grad():
        for start in range(0, dataset.n_samples, BATCH):
            model(dataset.batch(start, min(start + BATCH, dataset.n_samples)))


def write(widths: list[int], n_samples: int, path: Path) -> None:
    """Random rows of the same shapes into chunks of a batch, without checksums, flushes or verification."""
    path.unlink(missing_ok=True)
    rows = {d: np.random.default_rng(0).standard_normal((BATCH, d), dtype=np.float32) for d in set(widths)}
    with h5py.File(path, "w") as file:
        targets = [file.create_dataset(str(i), (n_samples, d), "f4", chunks=(BATCH, d)) for i, d in enumerate(widths)]
        for start in range(0, n_samples, BATCH):
            stop = min(start + BATCH, n_samples)
            for target, d in zip(targets, widths, strict=True):
                target[start:stop] = rows[d][: stop - start]


def read_dump(path: Path) -> None:
    with Dump(path) as dump:
        for layer in dump.layers:
            for _ in dump.chunks(layer):
                pass


def read_bare(path: Path) -> None:
    with h5py.File(path, "r") as file:
        for group in file["layers"].values():
            source = group["activations"]
            for start in range(0, len(source), source.chunks[0]):
                source[start : start + source.chunks[0]]


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds, the kernel's for us included, all threads."""
    wall, cpu = time.perf_counter(), os.times()
    work()
    spent = os.times()
    return time.perf_counter() - wall, spent.user - cpu.user + spent.system - cpu.system


def interleaved(variants: dict[str, Callable[[], None]]) -> dict[str, tuple[float, float]]:
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for run in range(RUNS + 1):
        for name, work in variants.items():
            figures = timed(work)
            if run:  # the first round warms caches and threads up
                seen[name].append(figures)
    for name, each in seen.items():
        print(f"{name:10} wall " + " ".join(f"{wall:.2f}" for wall, _ in each))
    return {
        name: (statistics.median(w for w, _ in each), statistics.median(c for _, c in each))
        for name, each in seen.items()
    }


def peak_memory(data: str, folder: Path, part: int) -> int:
    """MB at most, in a process that extracts one part of the samples (1: all, 2: half) and nothing else."""
    command = [sys.executable, __file__, data, str(folder), str(part)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def opened(data: str, part: int = 1) -> tuple[nn.Module, Dataset, Trace]:
    dataset = open_dataset(f"idx:{data}", normalize=((0.1307,), (0.3081,)))
    if part > 1:
        n = dataset.n_samples // part
        dataset = Dataset(
            dataset.spec,
            dataset.labels[:n],
            dataset.class_names,
            dataset.fingerprint,
            dataset.normalize,
            dataset.source,
        )
    model = network()
    return model, dataset, trace(model, dataset.batch(0, 3))


def main() -> None:
    data = sys.argv[1]
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    if len(sys.argv) > 3:
        extract(*opened(data, int(sys.argv[3])), folder / "part.h5")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    model, dataset, traced = opened(data)
    dump, plain = folder / "dump.h5", folder / "plain.h5"
    widths = [width(tap, "mean") for tap in select(traced.graph, ["all"])] + [10]
    print(f"{dataset.n_samples} samples, batches of {BATCH}, {sum(widths)} features, {torch.get_num_threads()} threads")
    figures = interleaved(
        {
            "extract": lambda: extract(model, dataset, traced, dump),
            "forward": lambda: forward(model, dataset),
            "write": lambda: write(widths, dataset.n_samples, plain),
        }
    )
    for i, kind in enumerate(("wall", "CPU")):
        ours, passes, writes = (figures[name][i] for name in ("extract", "forward", "write"))
        ratio = ours / (passes + writes)
        print(f"{kind}: extract {ours:.2f} s, forward {passes:.2f} s, write {writes:.2f} s: {ratio:.2f}")
    figures = interleaved({"dump": lambda: read_dump(dump), "bare": lambda: read_bare(dump)})
    ours, bare = figures["dump"][0], figures["bare"][0]
    print(f"read: {ours:.2f} s, bare h5py {bare:.2f} s: {ours / bare:.2f}")
    print(f"dump {dump.stat().st_size / 1e6:.0f} MB, plain {plain.stat().st_size / 1e6:.0f} MB")
    print(f"peak memory {peak_memory(data, folder, 1)} MB, with half the samples {peak_memory(data, folder, 2)} MB")


if __name__ == "__main__":
    main()
