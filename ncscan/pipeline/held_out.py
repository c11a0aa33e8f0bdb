"""Compare a network on other data with the same network on its training set.

In: two sources of activations of one network, and the LayerStats of the training set. Out: rows of each, by layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ncscan.activations import ActivationSource
from ncscan.errors import Undefined
from ncscan.metrics import (
    QUANTILES,
    confidence_rows,
    confidences,
    distance_rows,
    held_out_rows,
    logits_obstacle,
    outside_rows,
    placed,
    undefined_rows,
)
from ncscan.pipeline.measure import LayerRow
from ncscan.splits import OUTSIDE
from ncscan.statistics import LayerStats

_DISTRIBUTION = ("mean", *QUANTILES)


@dataclass
class SplitRows:
    """Rows of the training set and of the other data."""

    train: list[LayerRow] = field(default_factory=list)
    other: list[LayerRow] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """What is doubtful about the other data."""


def are_of_one_network(train: ActivationSource, other: ActivationSource) -> bool:
    """Return whether the same weights gave both, in the same forward pass."""
    return other.provenance.tensors_sha256 == train.provenance.tensors_sha256 and other.graph == train.graph


def measure_other_split(train: ActivationSource, stats: Mapping[str, LayerStats], other: ActivationSource) -> SplitRows:
    """Measure other data against the training set's class means, and the training set for comparison.

    Args:
        train: the training set.
        stats: its layers, by name.
        other: other data, of the same network.
    """
    found = SplitRows()
    outside = other.provenance.split == OUTSIDE
    kept = {layer.tap.name: layer for layer in train.layers}
    unknown = 0 if outside else int((~np.isin(other.labels, train.labels)).sum())
    if unknown:
        said = f"{unknown} of {len(other.labels)} samples are of classes that the training data lacks"
        found.doubts.append(f"{said}: ncc_error is over the others")
    finite = not (logits_obstacle(train.logits) or logits_obstacle(other.logits))
    decisions = other.logits.argmax(axis=1) if finite else None
    for layer in other.layers:
        if layer.tap.name not in kept or layer.tap.name not in stats:  # the one is not there, the other was lost
            continue
        own = kept[layer.tap.name]
        try:
            inside = placed(partial(train.chunks, own), stats[layer.tap.name])
            there = placed(partial(other.chunks, layer), stats[layer.tap.name])
        except Undefined as why:
            found.other += [
                LayerRow(layer.tap, layer.reduction, row)
                for row in undefined_rows(_expected_rows(outside=outside), why)
            ]
            continue
        found.train += [LayerRow(own.tap, own.reduction, row) for row in distance_rows(inside)]
        rows = (
            outside_rows(there, inside, stats[layer.tap.name])
            if outside
            else held_out_rows(there, stats[layer.tap.name], other.labels, decisions)
        )
        found.other += [LayerRow(layer.tap, layer.reduction, row) for row in rows]
    if finite:
        sure, others = confidences(train.logits), confidences(other.logits)
        found.train += [LayerRow(train.graph.output, "none", row) for row in confidence_rows(sure)]
        found.other += [
            LayerRow(other.graph.output, "none", row) for row in confidence_rows(others, sure if outside else None)
        ]
    return found


def _expected_rows(*, outside: bool) -> list[tuple[str, str]]:
    distances = [("nearest_distance", quantity) for quantity in _DISTRIBUTION]
    if outside:
        return [("ood_orthogonality", ""), *distances, ("ood_auroc", "distance")]
    return [("ncc_error", ""), ("nc4_mismatch", ""), *distances]


def without(rows: Sequence[LayerRow], metrics: tuple[str, ...]) -> list[LayerRow]:
    """Return the rows of all other metrics."""
    return [known for known in rows if known.row.metric not in metrics]
