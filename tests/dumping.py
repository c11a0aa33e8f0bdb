"""A small real network and its dump, for everything that needs one; as a program, writes one, or is killed doing so.

python dumping.py PATH SAMPLES [CALLS SECONDS]
"""

import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from stopping import stop_after
from torch import nn

from ncscan.activations.batches import Batch, replay
from ncscan.activations.source import Gradients, Provenance
from ncscan.activations.tracer import Trace, trace
from ncscan.data.dataset import Dataset, from_arrays
from ncscan.dumps import row_tables
from ncscan.dumps.writer import DumpFacts, write_dump
from ncscan.layer_graph import Tap, select

CPU = torch.device("cpu")
N, K, D = 150, 4, 12
BATCH = 32  # N is no multiple of it: the last batch is a part

PROVENANCE = Provenance(
    run="runs/a",
    group="a",
    checkpoint="step_7.pt",
    checkpoint_sha256="c0ffee",
    tensors_sha256="beef",
    checkpoint_format="torch-zip",
    step=7,
    epoch=None,
    file_number=7,
    notes={"lr": 0.1, "optimizer": "sgd", "nesterov": True, "best": float("nan")},
    model_source="mlp",
    prefix_map=(("module.", ""),),
    matched=6,
    total=6,
    unmatched=(),
    stored_dtype="float32",
    compute_dtype="float32",
    activation="",
    linear_head=None,
    dataset="npz:digits.npz",
    dataset_fingerprint="f00d",
    split="train",
    class_names=tuple("abcd"),
    selectors=("all",),
    reduction="mean",
    dtype="as computed",
    device="cpu",
    batch_size=BATCH,
    versions={"torch": "2"},
    train={"loss": "mse", "momentum": None},
)


def network(width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, K)).eval()


def samples(n: int = N) -> Dataset:
    torch.manual_seed(1)
    return from_arrays(torch.randn(n, D), torch.arange(n) % K, class_names=PROVENANCE.class_names)


def traced(model: nn.Module, dataset: Dataset) -> tuple[Trace, tuple[Tap, ...]]:
    found = trace(model, dataset.batch(0, 3))
    return found, select(found.graph, ["all"])


def dump_to(
    path: Path,
    *,
    model: nn.Module | None = None,
    dataset: Dataset | None = None,
    around: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda batches: batches,
    replayed_by: int | None = None,
    compress: bool = False,
    gradients: Gradients | None = None,
    **settings: Any,
) -> DumpFacts:
    """A dump of the network; `around` sees the batches pass, `settings` are fields of the provenance."""
    model, dataset = model or network(), dataset or samples()
    found, taps = traced(model, dataset)
    provenance = replace(PROVENANCE, **settings)
    size = replayed_by or provenance.batch_size

    def batches(start: int) -> Iterable[Batch]:
        how = provenance.reduction
        return around(replay(model, dataset, found, taps, reduction=how, device=CPU, batch_size=size, start=start))

    return write_dump(path, provenance, found, taps, dataset.labels, batches, compress=compress, gradients=gradients)


if __name__ == "__main__":
    torch.set_num_threads(1)
    row_tables.GATHERED = 2**16  # so that a kill finds something counted
    if len(sys.argv) > 3:
        stop_after(int(sys.argv[3]), float(sys.argv[4]), signal.SIGPROF)
    facts = dump_to(Path(sys.argv[1]), model=network(64), dataset=samples(int(sys.argv[2])))
    print(facts.resumed_at)
