"""Activations that are in no dump: arrays at hand measure as the dump of them does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dumping import BATCH, PROVENANCE, N, dump_to, network, samples, traced
from torch import nn

from ncscan.activations.source import ActivationSource, Gradients, Layer, Provenance
from ncscan.data.dataset import Dataset
from ncscan.dumps.reader import Dump
from ncscan.layer_graph import TapGraph
from ncscan.pipeline.events import Event
from ncscan.pipeline.held_out import are_of_one_network, measure_other_split
from ncscan.pipeline.measure import Measured, Options, measure_layer, measure_source

PLAIN, EVERYTHING = Options(), Options(bootstrap=20, permutations=20, classes=("c",))


@dataclass(frozen=True)
class Arrays:
    """A source that is no dump: what a model gave just now, in arrays."""

    provenance: Provenance
    graph: TapGraph
    layers: tuple[Layer, ...]
    features: tuple[np.ndarray, ...]
    labels: np.ndarray
    logits: np.ndarray
    weights: Mapping[str, tuple[np.ndarray, np.ndarray | None]]
    gradients: Gradients | None = None
    doubts: tuple[str, ...] = ()
    size: int = N
    """Rows of a chunk. What adds them up rounds otherwise where there are other chunks: a small dump has one."""
    passes: list[str] = field(default_factory=list)
    """The layers that were asked for, once a pass."""

    def chunks(self, layer: Layer) -> Iterator[tuple[int, np.ndarray]]:
        self.passes.append(layer.tap.name)
        rows = self.features[layer.index]
        return ((start, rows[start : start + self.size]) for start in range(0, N, self.size))

    def rounding(self, layer: Layer) -> np.ndarray | None:
        return None


def at_hand(model: nn.Module, dataset: Dataset, provenance: Provenance = PROVENANCE) -> Arrays:
    """The activations of a chain of layers, each the output of a child, found without any of our code."""
    found, taps = traced(model, dataset)
    batches: list[list[np.ndarray]] = []
    with torch.no_grad():
        for start in range(0, N, BATCH):
            value = dataset.batch(start, min(start + BATCH, N))
            assert isinstance(value, torch.Tensor)
            values = [value]
            for child in model.children():
                values.append(child(values[-1]))
            batches.append([one.numpy() for one in values])
    features = [np.concatenate(rows) for rows in zip(*batches, strict=True)]
    layers = tuple(Layer(i, tap, "none", "float32", features[i].shape[1]) for i, tap in enumerate(taps))
    weights = {
        name: (child.weight.detach().numpy(), child.bias.detach().numpy())
        for name, child in model.named_children()
        if isinstance(child, nn.Linear)
    }
    assert dataset.labels is not None
    return Arrays(provenance, found.graph, layers, tuple(features), dataset.labels, features[-1], weights)


def measured(source: ActivationSource, options: Options = EVERYTHING) -> tuple[Measured, list[Event]]:
    events: list[Event] = []
    return measure_source(source, options, events.append), events


def test_a_dump_is_a_source_of_activations(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    with Dump(tmp_path / "a.h5") as dump:
        source: ActivationSource = dump  # mypy looks at the signatures, and this at the names
        assert isinstance(source, ActivationSource)
    assert isinstance(at_hand(network(), samples()), ActivationSource)
    assert not isinstance(dump.graph, ActivationSource)


def test_arrays_measure_as_the_dump_of_them_does(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    source = at_hand(network(), samples())
    with Dump(tmp_path / "a.h5") as dump:
        expected, told = measured(dump)
        assert dump.layers == source.layers
    found, heard = measured(source)
    assert heard == told
    for name in (each.name for each in fields(Measured)):
        if name != "provenance":
            assert repr(getattr(found, name)) == repr(getattr(expected, name)), name  # NaN included
    assert len(found.layers) > 200
    assert found.claims
    assert found.weights
    assert found.picture
    assert sum(row.low is not None for row in found.layers) > 20
    for layer in source.layers:
        assert source.passes.count(layer.tap.name) >= 2


def test_a_layer_alone_measures_as_among_the_others() -> None:
    source = at_hand(network(), samples())
    whole, _ = measured(source, PLAIN)
    for layer in source.layers:
        alone = measure_layer(source, layer, PLAIN)
        assert repr(alone.numbers) == repr([row for row in whole.layers if row.tap == layer.tap][: len(alone.numbers)])
        assert list(alone.lost) == []


def test_other_arrays_measure_against_those_of_the_training_set() -> None:
    model, dataset = network(), samples()
    source = at_hand(model, dataset)
    kept = measure_source(source, PLAIN, lambda _event: None, with_stats=True)
    assert list(kept.stats) == [layer.tap.name for layer in source.layers]
    assert measure_source(source, PLAIN, lambda _event: None).stats == {}
    other = replace(source, provenance=replace(PROVENANCE, split="test"))
    rows = measure_other_split(source, kept.stats, other)
    errors = {row.tap.name: row.row.value for row in rows.other if row.row.metric == "ncc_error"}
    own = {row.tap.name: row.row.value for row in kept.layers if row.row.metric == "ncc_error"}
    assert errors == pytest.approx(own)  # the same samples
    assert are_of_one_network(source, other)
    assert not are_of_one_network(source, replace(source, provenance=replace(PROVENANCE, tensors_sha256="other")))


def test_a_layer_that_fails_is_lost_alone() -> None:
    source = at_hand(network(), samples())
    whole, _ = measured(source, PLAIN)

    class Broken(Arrays):
        def chunks(self, layer: Layer) -> Iterator[tuple[int, np.ndarray]]:
            if layer.index == 1:
                raise ZeroDivisionError
            return super().chunks(layer)

    found, _ = measured(Broken(**{each.name: getattr(source, each.name) for each in fields(source)}), PLAIN)
    (lost,) = found.lost
    assert lost.label == f"runs/a/step_7.pt: layer {source.layers[1].tap.name}"
    assert [row for row in found.layers if row.tap == source.layers[1].tap] == []
    assert repr([row for row in whole.layers if row.tap != source.layers[1].tap]) == repr(list(found.layers))
