"""Model × dataset → logits and features, batch by batch, in the dataset's order.

In: a model, a dataset, the traced pass and the taps to keep. Out: `Batch`es of vectors on the device; nothing is kept
longer. The only file that runs a model over a dataset. Samples are decoded in a thread of their own.
"""

import copy
import gc
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ncscan.activations.last_tokens import MASK, LastTokens
from ncscan.activations.tracer import Trace, is_sequence, reduce, watch
from ncscan.data import Dataset, Inputs
from ncscan.errors import DataError, NcscanError, TapError, UsageError
from ncscan.layer_graph import Tap

AHEAD = 2
"""Batches that are decoded before they are needed."""
CPU_BATCH = 256
"""A ResNet-20 on a CPU took five times longer at 2,000, where a layer no longer fits the cache."""
ACCELERATOR_BATCH = 1024
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "not enough memory")

TRIAL_PASSES = 2
"""The number of passes in which every value is copied, and looked at again when the pass is over, and the next one."""


@dataclass(frozen=True)
class Batch:
    """The results of a model for some consecutive samples."""

    start: int
    logits: torch.Tensor
    """(n, K), on the device."""
    features: tuple[torch.Tensor, ...]
    """One (n, d) per tap, in the order in which the taps were given, on the device."""


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the GPU when there is one.

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
    """Return the number of samples per batch that is used where nobody gives one."""
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
        model: in eval mode; its parameters go to the device.
        dataset: where the samples come from.
        traced: the model's traced pass.
        taps: whose values to keep.
        reduction: `auto`, or one of `REDUCTIONS`.
        device: where to compute.
        batch_size: samples at once.
        start: the first sample.

    Raises:
        DataError: when a label has no logit.
        NcscanError: when not even one sample fits into memory.
    """
    model.to(device)
    size = default_batch_size(device) if batch_size is None else batch_size
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_worker(m, traced, taps, reduction, device)) for m in _models(model, device, stack)
        ]
        while start < dataset.n_samples:
            with closing(_computed(workers, dataset, start, size)) as computed:
                for batch in computed:
                    if batch is None:
                        break
                    _refuse_labels_without_logit(dataset, batch, one_logit=traced.graph.has_one_logit)
                    start += len(batch.logits)
                    yield batch
                    del batch
                else:
                    return
            if size == 1:
                raise NcscanError(f"not even one sample fits into the memory of {device}: use another --device")
            size = (size + 1) // 2
            _release(device)


Worker = Callable[[int, Inputs], Future["Batch | None"]]
"""Computes a batch in a thread of its own, with a model that no other thread runs."""


def _models(model: nn.Module, device: torch.device, stack: ExitStack) -> list[nn.Module]:
    """Return the model, and on a CPU its twin: two batches at once, each on half of the cores.

    A matrix product that is split over all cores waits for the slowest of them. As soon as one core also writes, the
    others stand still: the same work took half as long again. Two passes that do not wait for each other lose nothing.
    """
    threads = torch.get_num_threads()
    twin = _twin(model) if device.type == "cpu" and threads > 1 else None
    if twin is None:
        return [model]
    torch.set_num_threads(threads // 2)
    stack.callback(torch.set_num_threads, threads)
    return [model, twin]


def _twin(model: nn.Module) -> nn.Module | None:
    """Return the same modules over the very same parameters; None for a model that cannot be copied."""
    try:
        return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    except (TypeError, RuntimeError, AttributeError, ValueError):
        return None


@contextmanager
def _worker(
    model: nn.Module, traced: Trace, taps: Sequence[Tap], reduction: str, device: torch.device
) -> Generator[Worker]:
    """Start a worker for one copy of the model, and stop its thread at the end."""
    features: dict[int, torch.Tensor] = {}
    trial = _Trial()
    hows = [traced.how(tap, reduction) for tap in taps]
    read = traced.read
    tokens = LastTokens(read.padding, read.n_positions if read.how == "last" else 0, is_seen=read.is_seen)
    given: Inputs = {}
    mask: torch.Tensor | None = None

    def keep(i: int, value: torch.Tensor) -> None:
        if hows[i] == "last" and is_sequence(taps[i]):
            if (rows := tokens.take(i, value, given)) is not None:
                features[i] = rows
            return
        features[i] = reduce(value, taps[i], hows[i], mask, copy=trial.must_copy(i))
        if trial.goes_on:
            trial.remember(i, reduce(value, taps[i], hows[i], mask, copy=False), features[i])

    def see(positions: torch.Tensor) -> None:
        if read.how == "cls" and "cls" in hows and positions.any():
            raise TapError(
                f"the head reads position {int(positions.max())} of a sample, where it read the first one of those "
                "that were traced: choose a --reduction yourself"
            )
        tokens.see(positions)

    def compute(start: int, inputs: Inputs) -> Batch | None:
        """Return one batch, or None when it does not fit.

        The error, and all that its traceback holds, is gone by then.
        """
        nonlocal mask, given
        try:
            given = inputs = on_device(inputs, device)
            mask = inputs.get(MASK) if isinstance(inputs, dict) else None
            with torch.no_grad():
                logits = forward(inputs)
            features.update(tokens.end())
            trial.end_pass()
            return Batch(start, logits, tuple(features[i] for i in range(len(taps))))
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            return None
        finally:
            features.clear()
            tokens.clear()
            given = {}

    # Every batch of this copy of the model is computed in one thread, whose results the caller waits for.
    with watch(model, traced, taps, keep, see) as forward, ThreadPoolExecutor(1, "ncscan-replay") as thread:
        yield lambda start, inputs: thread.submit(compute, start, inputs)


def _computed(workers: Sequence[Worker], dataset: Dataset, start: int, size: int) -> Generator[Batch | None]:
    """Yield the batches from `start` on, in order, the workers taking turns; None for one that does not fit."""
    computing: deque[Future[Batch | None]] = deque()
    try:
        with closing(_decoded(dataset, start, size)) as decoded:
            for number, (row, inputs) in enumerate(decoded):
                computing.append(workers[number % len(workers)](row, inputs))
                del inputs
                if len(computing) == len(workers):
                    yield computing.popleft().result()
        while computing:
            yield computing.popleft().result()
    finally:
        wait(computing)


class _Trial:
    """Finds out in the first passes which values have to be copied: those that somebody writes into.

    An in-place operation may change a value before the pass ends, a model's own buffer with the next pass. Every pass
    makes the same calls, so what two passes left alone, no later pass touches, and holding it is enough.
    """

    def __init__(self) -> None:
        self.goes_on = True
        self._passes = 0
        self._held: list[tuple[int, torch.Tensor, int, torch.Tensor]] = []
        self._rewritten: set[int] = set()

    def must_copy(self, i: int) -> bool:
        return self.goes_on or i in self._rewritten

    def remember(self, i: int, held: torch.Tensor, copied: torch.Tensor) -> None:
        self._held.append((i, held, held._version, copied))

    def end_pass(self) -> None:
        if not self.goes_on:
            return
        # By version, since a clamp changes nothing until a batch comes that holds something to clamp; and by value,
        # since what is written past autograd (`.data`, an operator of the model's own) raises no version.
        for i, held, version, copied in self._held:
            if held._version != version or not torch.equal(held, copied):
                self._rewritten.add(i)
        self._passes += 1
        if self._passes == TRIAL_PASSES:
            self.goes_on = False
            self._held.clear()


def _decoded(dataset: Dataset, start: int, size: int) -> Generator[tuple[int, Inputs]]:
    """Yield (first row, samples) from `start` on, decoded in one thread that is at most `AHEAD` of the reader.

    No batch crosses a multiple of `size`, so a pass that begins in the middle falls into step with one that did not.
    """
    waiting: deque[tuple[int, Future[Inputs]]] = deque()
    with ThreadPoolExecutor(1, "ncscan-decoder") as decoder:
        try:
            while start < dataset.n_samples or waiting:
                while start < dataset.n_samples and len(waiting) < AHEAD:
                    stop = min(start - start % size + size, dataset.n_samples)
                    waiting.append((start, decoder.submit(dataset.batch, start, stop)))
                    start = stop
                row, future = waiting.popleft()
                yield row, future.result()
        finally:
            decoder.shutdown(wait=True, cancel_futures=True)


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Return the inputs on the device of a model."""
    if device.type == "cpu":
        return inputs
    if isinstance(inputs, dict):
        return {name: value.pin_memory().to(device, non_blocking=True) for name, value in inputs.items()}
    return inputs.pin_memory().to(device, non_blocking=True)


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error means that memory ran out.

    That of a GPU has a class of its own; that of the CPU allocator is a RuntimeError that only its text tells apart.
    """
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _refuse_labels_without_logit(dataset: Dataset, batch: Batch, *, one_logit: bool) -> None:
    """Refuse labels for which the model has no logit, once, before anything is kept."""
    if batch.start:
        return
    highest, outputs = int(dataset.labels.max()), batch.logits.shape[1]
    if highest >= outputs:
        has = "one logit, which decides between two classes" if one_logit else f"{outputs} outputs"
        from_one = highest == outputs and dataset.labels.min() == 1
        why = "are the labels numbered from 1?" if from_one else "it was trained on other classes"
        raise DataError(f"{dataset.spec}: label {highest}, and the model has {has}: {why}")
