"""Model × dataset → logits and features, batch by batch, in the dataset's order.

In: a model, a dataset, the traced pass and the taps to keep. Out: `Batch`es of vectors on the device; nothing is kept
longer. The only file that runs a model over a dataset. Samples are decoded in a thread of their own.
"""

import gc
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from ncscan.dataset import Dataset, Inputs
from ncscan.errors import DataError, NcscanError, UsageError
from ncscan.graph import Tap
from ncscan.taps import Trace, reduce, watch

AHEAD = 2
"""Batches that are decoded before they are needed."""
CPU_BATCH = 256
"""A ResNet-20 on a CPU took five times longer at 2,000, where a layer no longer fits the cache."""
ACCELERATOR_BATCH = 1024
MASK = "attention_mask"
"""What models that take named inputs call their padding mask."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "not enough memory")


@dataclass(frozen=True)
class Batch:
    """What a model made of some consecutive samples."""

    start: int
    logits: torch.Tensor
    """(n, K), on the device."""
    features: tuple[torch.Tensor, ...]
    """One (n, d) per tap, in the order the taps were given, on the device."""


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU when there is one.

    Raises:
        UsageError: when there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} does not exist: choose auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name} is not supported: choose auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def default_batch_size(device: torch.device) -> int:
    """Samples per batch where nobody says."""
    return CPU_BATCH if device.type == "cpu" else ACCELERATOR_BATCH


def replay(
    model: nn.Module,
    dataset: Dataset,
    traced: Trace,
    taps: Sequence[Tap],
    *,
    reduction: str = "mean",
    device: torch.device,
    batch_size: int | None = None,
    start: int = 0,
) -> Generator[Batch]:
    """Run the model over the samples from `start` on.

    When memory runs out the batch is halved, and the same samples go again. Values that are not finite are handed on
    as they are.

    Args:
        model: in eval mode; it is moved to the device.
        dataset: where the samples come from.
        traced: the model's traced pass.
        taps: whose values to keep.
        reduction: one of `taps.REDUCTIONS`.
        device: where to compute.
        batch_size: samples at once.
        start: the first sample.

    Raises:
        DataError: when a label has no logit.
        NcscanError: when not even one sample fits into memory.
    """
    model.to(device)
    size = default_batch_size(device) if batch_size is None else batch_size
    features: dict[int, torch.Tensor] = {}
    mask: torch.Tensor | None = None

    def keep(i: int, value: torch.Tensor) -> None:
        features[i] = reduce(value, taps[i], reduction, mask)

    def compute(inputs: Inputs) -> Batch | None:
        """One batch, or None when it does not fit: the error, and all that its traceback holds, is gone by then."""
        nonlocal mask
        try:
            inputs = _moved(inputs, device)
            mask = inputs.get(MASK) if isinstance(inputs, dict) else None
            with torch.no_grad():
                logits = forward(inputs)
            return Batch(start, logits, tuple(features.pop(i) for i in range(len(taps))))
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if size == 1:
                raise NcscanError(
                    f"not even one sample fits into the memory of {device}: use another --device"
                ) from error
            return None
        finally:
            features.clear()

    with watch(model, traced, taps, keep) as forward:
        while start < dataset.n_samples:
            with closing(_decoded(dataset, start, size)) as decoded:
                for inputs in decoded:
                    batch = compute(inputs)
                    if batch is None:
                        break
                    _refuse_labels_without_logit(dataset, batch)
                    start += len(batch.logits)
                    yield batch
                    del batch
                else:
                    return
            size = (size + 1) // 2
            _release(device)


def _decoded(dataset: Dataset, start: int, size: int) -> Generator[Inputs]:
    """The batches from `start` on, decoded in one thread that is at most `AHEAD` of the reader.

    No batch crosses a multiple of `size`, so a pass that begins in the middle falls into step with one that did not.
    """
    waiting: deque[Future[Inputs]] = deque()
    with ThreadPoolExecutor(1, "ncscan-decoder") as decoder:
        try:
            while start < dataset.n_samples or waiting:
                while start < dataset.n_samples and len(waiting) < AHEAD:
                    stop = min(start - start % size + size, dataset.n_samples)
                    waiting.append(decoder.submit(dataset.batch, start, stop))
                    start = stop
                yield waiting.popleft().result()
        finally:
            decoder.shutdown(wait=True, cancel_futures=True)


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    if device.type == "cpu":
        return inputs
    if isinstance(inputs, dict):
        return {name: value.pin_memory().to(device, non_blocking=True) for name, value in inputs.items()}
    return inputs.pin_memory().to(device, non_blocking=True)


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """A GPU's has a class of its own; the CPU allocator's is a RuntimeError that only its text tells apart."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _refuse_labels_without_logit(dataset: Dataset, batch: Batch) -> None:
    """Once, before anything is kept."""
    if batch.start:
        return
    highest, outputs = int(dataset.labels.max()), batch.logits.shape[1]
    if highest >= outputs:
        raise DataError(
            f"{dataset.spec}: label {highest}, and the model has {outputs} outputs: it was trained on other classes"
        )
