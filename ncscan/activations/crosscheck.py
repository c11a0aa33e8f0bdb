"""Compute some samples of a replay in other batches before it: the replay must give the same features for them.

In: a model, a dataset, the traced pass. Out: the replay's batches, or the error that names the layer at which the
features of a sample differ from those before. As the samples are spread over all of the dataset, every stretch of the
replay is seen: a dependence on its batch size, a counter that acts in its 50th pass, a rare random event.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import count

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn

from ncscan.activations.batches import Batch, on_device, replay
from ncscan.activations.pass_comparison import (
    PassComparison,
    Rounding,
    allowances,
    distances,
    extent,
    on_host,
    rounding_doubt,
)
from ncscan.activations.repeatability import (
    NEIGHBOURS_DECIDE,
    copied_model,
    digits_of,
    last_digits,
    refuse,
    samples_for,
    spread,
)
from ncscan.activations.tracer import Trace, watch, width
from ncscan.data import Dataset
from ncscan.errors import ModelError
from ncscan.layer_graph import Tap

SAMPLES = 256
"""Samples that are compared, in batches of the replay's size; at most half of the dataset, so that batches differ."""
MEMORY = 64 * 2**20
"""The memory for the features of the first `WITH_FEATURES` of them; of the others only the logits are compared."""
WITH_FEATURES = 64


class CrossCheck:
    """A replay whose samples are compared with what batches drawn from all of the dataset gave for them."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        traced: Trace,
        taps: Sequence[Tap],
        *,
        reduction: str,
        device: torch.device,
        batch_size: int,
        changes: str = "",
    ) -> None:
        """Compute the batches that are compared with.

        Args:
            model: in eval mode, on the device.
            dataset: where the samples come from.
            traced: the model's traced pass.
            taps: whose features are kept.
            reduction: how a feature map becomes a vector: one of `REDUCTIONS`.
            device: where to compute.
            batch_size: samples at once in the replay.
            changes: what the model is known to change from pass to pass; then rounding explains no difference.
        """
        self.doubts: list[str] = []
        self._model, self._dataset, self._traced, self._taps = model, dataset, traced, taps
        self._reduction, self._device, self._batch_size, self._changes = reduction, device, batch_size, changes
        n = min(SAMPLES, (dataset.n_samples + 1) // 2)
        self._rows = np.random.default_rng(0).permutation(spread(dataset.n_samples, n))
        self._expected = self._of_rows(model, self._rows)
        self._sizes = [extent(values) for values in self._expected]
        self._names = [traced.graph.output.name, *(tap.name for tap in taps)]
        self._allowed, self._again = self._allowances("elsewhere"), self._allowances("again")

    def batches(self, start: int) -> Generator[Batch]:
        """Yield the batches of the replay from a row on.

        Raises: ModelError, when the features of a sample are others than before, by more than rounding.
        """
        n = self._dataset.n_samples
        while start < n:
            with closing(self._replayed(self._model, self._dataset, self._batch_size, start)) as replayed:
                for batch in replayed:
                    first, start, by = batch.start, batch.start + len(batch.logits), self._deviations(batch)
                    yield batch
                    del batch
                    if len(self._suspects(by)):
                        break
            while len(suspects := self._suspects(by)):  # the replay has ended, and with it all that watched the model
                self._judge(first, start, by, suspects)

    def _deviations(self, batch: Batch) -> Float64[np.ndarray, "values m"]:
        """Return how far the logits and features of each compared sample are from what they were; elsewhere 0."""
        by = np.zeros((len(self._expected), len(self._rows)))
        rows = self._rows - batch.start
        here = np.flatnonzero((rows >= 0) & (rows < len(batch.logits)))
        at = torch.from_numpy(rows[here]).to(batch.logits.device)
        for i, (expected, actual) in enumerate(zip(self._expected, (batch.logits, *batch.features), strict=True)):
            known = here[here < len(expected)]  # the first ones, as they are in order
            if not len(known):
                continue
            by[i, known] = distances(expected[known], on_host(actual[at[: len(known)]]), self._sizes[i])
        return by

    def _suspects(self, by: Float64[np.ndarray, "values m"]) -> Int64[np.ndarray, "s"]:
        """Return which of the compared samples deviate too far, all of one batch of the comparison."""
        where = np.flatnonzero((by > self._allowed[:, None]).any(axis=0))
        return where[where // self._batch_size == where[0] // self._batch_size] if len(where) else where

    def _judge(
        self, start: int, end: int, by: Float64[np.ndarray, "values m"], suspects: Int64[np.ndarray, "s"]
    ) -> None:
        """Explain by rounding that samples of a batch deviate, which is a doubt, or refuse the model."""
        model, digits, seeds = copied_model(self._model), digits_of(self._model), count()
        at = int(suspects[0]) - int(suspects[0]) % self._batch_size
        chunk, most = self._rows[at : at + self._batch_size], by[:, suspects].max(axis=1)

        def again() -> list[float]:
            """Return how far the suspects deviate in the very batch in which they were first computed."""
            deviations = []
            values = zip(self._expected, self._of_rows(model, chunk), self._sizes, strict=True)
            for expected, actual, size in values:
                known = suspects[suspects < min(len(expected), at + len(actual))]
                deviations.append(float(distances(expected[known], actual[known - at], size).max(initial=0.0)))
            return deviations

        def nudged() -> list[float]:
            with last_digits(model, digits, next(seeds)):
                return again()

        # The same batch again, as it is and with its last digits changed, shows what rounding alone can do.
        if not self._changes:
            explained = np.maximum(self._allowed, Rounding(nudged, again).explains(list(self._again)))
            if not (most > explained).any():
                worst = int(np.argmax(most / self._allowed))
                self.doubts = self.doubts or [rounding_doubt(self._names[worst], most[worst])]
                self._allowed = explained
                return
        self._refuse_batch(model, start, end, suspects, chunk)
        first = next(i for i in (*range(1, len(most)), 0) if most[i] > self._allowed[i])
        raise ModelError(
            f"sample {self._rows[suspects[0]]} has other features in the replay than in a pass before it, first at "
            f"layer {self._names[first]} of those that are kept (by {most[first]:.2g} times the size of its features): "
            f"the model {self._changes or 'keeps something from pass to pass, or draws random numbers'}; "
            "make forward a function of its input"
        )

    def _refuse_batch(
        self,
        model: nn.Module,
        start: int,
        end: int,
        suspects: Int64[np.ndarray, "s"],
        chunk: Int64[np.ndarray, "n"],
    ) -> None:
        """Raise ModelError naming the first layer, kept or not, that depends on the batch, where two passes show it."""
        seen = [tap for tap in self._traced.graph.taps if tap.kind != "input"]
        rows = self._rows[suspects[: samples_for(seen)]]
        comparison = PassComparison(seen, self._traced.graph.output.name, self._taps)
        with watch(model, self._traced, seen, comparison.take) as forward, torch.no_grad():
            for batch in (chunk, np.arange(start, end)):
                comparison.begin([int(np.flatnonzero(batch == row)[0]) for row in rows], range(len(rows)))
                forward(on_device(self._dataset.samples(batch), self._device))
        refuse(comparison, comparison.deviations, "elsewhere", NEIGHBOURS_DECIDE)

    def _allowances(self, which: str) -> Float64[np.ndarray, "values"]:
        graph = self._traced.graph
        dtypes = [getattr(torch, tap.dtype) for tap in graph.taps]
        by_name = dict(zip((tap.name for tap in graph.taps), allowances(dtypes, which), strict=True))
        return np.array([by_name[name] for name in self._names])

    def _replayed(self, model: nn.Module, dataset: Dataset, batch_size: int, start: int = 0) -> Generator[Batch]:
        return replay(
            model,
            dataset,
            self._traced,
            self._taps,
            reduction=self._reduction,
            device=self._device,
            batch_size=batch_size,
            start=start,
        )

    def _of_rows(self, model: nn.Module, rows: Int64[np.ndarray, "n"]) -> list[Float64[np.ndarray, "_ _"]]:
        """Return the logits of some samples, and the features of the first of them, in batches of their own."""
        width_of_all = sum(width(tap, self._traced.how(tap, self._reduction)) for tap in self._taps)
        some = min(max(MEMORY // (8 * width_of_all + 1), 2), WITH_FEATURES)
        kept: list[list[Float64[np.ndarray, "_ _"]]] = []
        with closing(self._replayed(model, self._dataset.chosen(rows), self._batch_size)) as batches:
            for batch in batches:
                left = max(some - batch.start, 0)
                kept.append([on_host(batch.logits), *(on_host(features[:left]) for features in batch.features)])
        return [np.concatenate(values) for values in zip(*kept, strict=True)]
