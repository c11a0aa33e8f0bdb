"""Define what measuring needs of activations, wherever they come from: a dump is one source, arrays are another.

In: nothing. Out: `ActivationSource`, and the plain facts that it gives.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.config import Setting
from ncscan.layer_graph import Tap, TapGraph


@dataclass(frozen=True)
class Provenance:
    """Describes the origin of activations in plain values: no time, no absolute path; equal inputs give equal bytes."""

    run: str
    group: str
    checkpoint: str
    checkpoint_sha256: str
    tensors_sha256: str
    checkpoint_format: str
    step: int | None
    epoch: int | None
    file_number: int | None
    """The number that a word of its name names, in whatever unit; in dumps of version 0.1 the last of all numbers."""
    notes: Mapping[str, Setting]
    model_source: str
    activation: str
    """The activation of a rebuilt `mlp`; else empty."""
    linear_head: int | None
    prefix_map: tuple[tuple[str, str], ...]
    matched: int
    total: int
    unmatched: tuple[str, ...]
    """Parameters that a checkpoint which was loaded in part did not fill, and why."""
    stored_dtype: str
    compute_dtype: str
    """The type of the weights: half precision is widened, exactly."""
    dataset: str
    dataset_fingerprint: str
    """The fingerprint of values, labels and normalisation."""
    split: str
    class_names: tuple[str, ...]
    selectors: tuple[str, ...]
    reduction: str
    dtype: str
    """`as computed`, or the type that was asked for."""
    device: str
    batch_size: int
    versions: Mapping[str, str]
    train: Mapping[str, Setting]
    """The [train] section of ncscan.toml."""
    state: str = ""
    """The keys under which the tensors lie in the checkpoint, empty where it holds nothing else."""
    prefix: str = ""
    """What their names begin with there, by the user's word."""
    rename: tuple[tuple[str, str], ...] = ()
    """Beginnings of their names that were replaced, by the user's word."""
    unused: tuple[str, ...] = ()
    """Tensors of the checkpoint for which the model has no place; the first of them."""
    order_by: str = ""
    """What gives its place in the run by the user's word, `name`, `mtime` or `file`; else empty."""
    order: int | None = None
    """Its place by that: when it was changed last, in nanoseconds, or its line."""
    class_order: tuple[int, ...] = ()
    """The labels of the data in the order of the network's outputs, where the user said so."""


@dataclass(frozen=True)
class GradientRow:
    """One number that took gradients of the model, made while it was at hand."""

    layer_or_map: str
    """A linear map, a pair of consecutive ones as `first..next`, or empty for the whole network."""
    metric: str
    quantity: str
    value: float | None
    reason: str
    """Why there is no value, else empty."""
    n_samples: int
    """How many samples it was made of."""
    estimate: bool
    """Whether those were a part of the data, or random signs stood for many outputs: else it is exact."""


@dataclass(frozen=True)
class Gradients:
    """The numbers that `--gradients` asked for."""

    n_samples: int
    rows: tuple[GradientRow, ...]


@dataclass(frozen=True)
class Layer:
    """One tap, as its rows are kept."""

    index: int
    """Its place among the layers of its source; in a dump the number of its group, `/layers/0007`."""
    tap: Tap
    reduction: str
    dtype: str
    n_features: int


@runtime_checkable
class ActivationSource(Protocol):
    """The activations of one network on one data set, and what is known of both."""

    @property
    def provenance(self) -> Provenance:
        """Return where they come from."""

    @property
    def graph(self) -> TapGraph:
        """Return what the forward pass computes."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers whose rows there are, `layers[i].index` being i."""

    @property
    def labels(self) -> Int64[np.ndarray, "N"]:
        """Return the class of each sample, from 0 on and below the number of class names."""

    @property
    def logits(self) -> np.ndarray:
        """Return the outputs of the network, (N, K)."""

    @property
    def weights(self) -> Mapping[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return weight and bias of the linear maps of the graph, by name; those that have one."""

    @property
    def gradients(self) -> Gradients | None:
        """Return the numbers that took gradients, where they were asked for."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Return what was doubtful about the forward pass, in lines of text."""

    def chunks(self, layer: Layer) -> Iterable[tuple[int, np.ndarray]]:
        """Return (first row, features (n, d)) of a layer in the order of the labels; the same however often asked."""

    def rounding(self, layer: Layer) -> Float64[np.ndarray, "d"] | None:
        """Return the mean squared rounding of each feature in the forward pass, where it was measured."""
