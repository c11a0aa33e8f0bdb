"""A dump → every number of it: its layers, its classes, its linear maps, what theory promises for it.

In: one open dump. Out: `Measured`. Nothing is written, and no other dump is known here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ncscan.computable import attempt
from ncscan.data import TRAINING
from ncscan.dumps import Dump, GradientRow, Layer, Provenance
from ncscan.errors import Undefined
from ncscan.layer_graph import Tap
from ncscan.metrics import (
    ClassRow,
    LayerView,
    Place,
    Row,
    WeightRow,
    class_rows,
    head_classifiers,
    logits_obstacle,
    measure_weights,
    network_rows,
    of_members,
    pictured,
    places,
    readers,
)
from ncscan.pipeline.events import Advanced, Finished, Skipped, Tell, attempt_part
from ncscan.pipeline.fit import few_samples, label, summed_up
from ncscan.statistics import LayerStats, members, rank_doubt
from ncscan.statistics.accumulation import in_lanes, layer_stats
from ncscan.theory import ALWAYS_TRUE, CLAIMS, Claim, HeadStats, certify, decay_claims, head_stats, promise, undefined
from ncscan.training_settings import with_notes
from ncscan.trajectory import Moment, stages
from ncscan.uncertainty import honest, many_classes


@dataclass(frozen=True)
class Options:
    """The measurements to make beside the numbers themselves."""

    bootstrap: int = 0
    """Resamples for intervals; 0 for none."""
    permutations: int = 0
    """Permutations of the labels for baselines; 0 for none."""
    seed: int = 0
    classes: tuple[str, ...] = ()
    """Names or numbers of classes that must be in the picture of class means; others fill it up."""


class LayerRow(NamedTuple):
    """One number of a layer, and how far it can be trusted."""

    tap: Tap
    reduction: str
    row: Row
    at_floor: bool | None = None
    """Whether rounding may have made it; None where it has no floor."""
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    """The value that is read where nothing carries information."""


class Pictured(NamedTuple):
    """One vector in the picture of the layer that the classifier reads."""

    tap: Tap
    place: Place


class ClassNumber(NamedTuple):
    """One number of a class or a pair of classes at a layer."""

    tap: Tap
    row: ClassRow


class _OfLayer(NamedTuple):
    """The results of one layer."""

    numbers: Sequence[LayerRow]
    by_class: Sequence[ClassRow]
    doubts: Sequence[str]


@dataclass(frozen=True)
class Measured:
    """One dump, as numbers."""

    finished: Finished
    provenance: Provenance
    layers: list[LayerRow]
    classes: tuple[ClassNumber, ...] = ()
    weights: tuple[WeightRow, ...] = ()
    gradients: tuple[GradientRow, ...] = ()
    claims: tuple[Claim, ...] = ()
    stages: tuple[str, ...] = ()
    """The layers that depth is counted in."""
    n_classes: int = 0
    """How many classes have samples."""
    picture: tuple[Pictured, ...] = ()
    """The picture of the training set alone."""
    lost: tuple[Skipped, ...] = ()
    """What failed unexpectedly; everything else of the dump is there."""

    @property
    def moment(self) -> Moment:
        """Return the description that the dump holds of its place in its run."""
        own = self.provenance
        return Moment(
            own.run,
            own.checkpoint,
            own.step,
            own.epoch,
            own.file_number,
            own.tensors_sha256,
            stored_dtype=own.stored_dtype,
        )


def measure_dump(dump: Dump, tell: Tell, options: Options, *, keep: dict[str, LayerStats] | None = None) -> Measured:
    """Return every number of one dump. What is known of each layer stays in `keep`, where one is given.

    A part that fails unexpectedly (a layer, its classes, the weights, the theory) is lost, and the others stay.
    """
    provenance, graph = dump.provenance, dump.graph
    K = len(provenance.class_names)
    undecided = logits_obstacle(dump.logits)
    decisions = None if undecided else dump.logits.argmax(axis=1)
    known = members(dump.labels, K)
    n_outputs, no_intervals = dump.logits.shape[1], many_classes(len(known.classes))
    classifiers, reading = head_classifiers(graph, dump.weights), readers(graph, dump.weights, len(known.classes))

    weights: list[WeightRow] = []
    claims: list[Claim] = []
    name, training = label(provenance), provenance.split == TRAINING
    wanted = [c for name in options.classes if (c := class_index(name, provenance.class_names)) is not None]
    picture: list[Pictured] = []

    def of_network(lost: list[Skipped]) -> None:
        if training:
            weights.extend(
                attempt_part(f"{name}: the weights", lambda: measure_weights(dump.weights, graph), lost) or ()
            )
            claims.extend(attempt_part(f"{name}: the theory", lambda: _claims(dump), lost) or ())

    def of_layer(layer: Layer, lost: list[Skipped]) -> _OfLayer:
        tap = layer.tap.name
        own = classifiers.get(tap)
        stats = layer_stats(
            partial(dump.chunks, layer),
            dump.labels,
            K,
            decisions=decisions,
            classifier=None if own is None or own.obstacle else own.scaled,
            classifier_precision="float64" if own is None else own.precision,
            negative_part=layer.tap.is_preactivation,
            precision=layer.dtype,
            samples=options.bootstrap > 0 and not no_intervals,
            permutations=options.permutations,
            seed=options.seed,
        )
        if keep is not None:
            keep[tap] = stats
        view = LayerView(
            stats,
            classifier=own,
            decisions_obstacle=undecided,
            readers=of_members(reading.get(tap, ()), stats.classes, n_outputs, own),
            n_outputs=n_outputs,
        )

        def by_class() -> list[ClassRow]:
            found = [] if stats.obstacle else class_rows(view)
            # K²/2 numbers a pair metric, of layers that nobody compares classes at
            return found if tap in classifiers else [row for row in found if row.other_index is None]

        def in_picture() -> list[Place]:
            W = None if own is None or own.obstacle else own.weight
            return list(places(stats, partial(dump.chunks, layer), dump.labels, W, pictured(stats, wanted)))

        where = f"{name}: layer {tap}"
        numbers = attempt_part(where, lambda: list(_numbers(view, layer, options, dump.rounding(layer))), lost)
        classes = attempt_part(f"{where}, class by class", by_class, lost)
        doubts = [f"layer {tap}: {stats.obstacle}"] if stats.obstacle else []
        if own is not None and own.name == graph.head[-1] and not stats.obstacle:
            if doubt := rank_doubt(stats, "class"):
                doubts.append(f"layer {tap}: {doubt}")
            if training:
                shown = attempt_part(f"{where}, its picture", in_picture, lost)
                picture.extend(Pictured(layer.tap, one) for one in shown or ())
        return _OfLayer(numbers or (), classes or (), doubts)

    def of_part(layer: Layer | None) -> tuple[_OfLayer | None, list[Skipped]]:
        lost: list[Skipped] = []
        if layer is None:
            of_network(lost)
            return None, lost
        return attempt_part(f"{name}: layer {layer.tap.name}", lambda: of_layer(layer, lost), lost), lost

    rows: list[LayerRow] = []
    classes: list[ClassNumber] = []
    doubts = [*few_samples(known, provenance.class_names), *([undecided] if undecided else [])]
    if options.bootstrap and no_intervals:
        doubts.append(f"--bootstrap: {no_intervals}")
    if not classifiers:
        doubts.append("no linear map writes the logits, one row of weights per class: there is no nc3")
    # Layers side by side, each in one thread: threads that share a layer wait for each other at every step of it.
    # What takes longest comes first, so that no lane waits for it at the end.
    with in_lanes(of_part, [None, *dump.layers]) as measured:
        _, lost = next(measured)
        for done, (layer, (found, lost_there)) in enumerate(zip(dump.layers, measured, strict=True)):
            tell(Advanced(label(provenance), done + 1, len(dump.layers)))
            lost += lost_there
            if found is not None:
                rows += found.numbers
                classes += [ClassNumber(layer.tap, row) for row in found.by_class]
                doubts += found.doubts
    rows += [LayerRow(graph.output, "none", row) for row in network_rows(dump.logits, dump.labels)]
    return Measured(
        finished=summed_up(dump, f"{len(dump.layers)} layers", doubts),
        provenance=provenance,
        layers=rows,
        classes=tuple(classes),
        weights=tuple(weights),
        gradients=dump.gradients.rows if training and dump.gradients is not None else (),
        claims=tuple(claims),
        stages=stages(graph) if training else (),
        n_classes=len(known.classes),
        picture=tuple(picture),
        lost=tuple(lost),
    )


def _numbers(
    view: LayerView, layer: Layer, options: Options, rounding: Float64[np.ndarray, "d"] | None
) -> Iterator[LayerRow]:
    """Yield every row of a layer, and how far it can be trusted."""
    for each in honest(view, resamples=options.bootstrap, seed=options.seed, arithmetic=rounding):
        chance = each.permuted or each.chance
        baseline = None if chance is None else chance.value
        yield LayerRow(layer.tap, layer.reduction, each.row, each.at_floor, each.low, each.high, baseline)


def class_index(name: str, class_names: Sequence[str]) -> int | None:
    """Return the class of that name, else of that number; None when there is neither.

    >>> class_index("cat", ("dog", "cat")), class_index("0", ("dog", "cat")), class_index("2", ("dog", "cat"))
    (1, 0, None)
    """
    if name in class_names:
        return class_names.index(name)
    return int(name) if name.isdecimal() and int(name) < len(class_names) else None


def _claims(dump: Dump) -> list[Claim]:
    """Return the claims of theory about the linear head, and about what weight decay does to the network."""
    head = _head(dump)
    if isinstance(head, Undefined):
        claims = [undefined(statement.name, head) for statement in CLAIMS]
    else:
        claims = [*promise(head, dump.graph), *certify(head)]
    own = dump.provenance
    return claims + decay_claims(head, dump.weights, dump.graph, with_notes(own.train, own.notes))


def _head(dump: Dump) -> HeadStats | Undefined:
    graph = dump.graph
    if not graph.head:
        return Undefined("there is no linear head")
    maps = [graph.map(name) for name in graph.head]
    kept = {layer.tap.name: layer for layer in dump.layers}
    reads = kept.get(maps[0].reads)
    if reads is None:
        return Undefined(f"layer {maps[0].reads}, which the linear head reads, is not in the dump")
    if reads.n_features != maps[0].shape[1]:
        return Undefined(f"layer {reads.tap.name} was reduced to other vectors than the linear head reads")
    names = [maps[0].reads, *(each.name for each in maps)]
    weights = [dump.weights[each.name] for each in maps]
    K = len(dump.provenance.class_names)
    return attempt(lambda: head_stats(partial(dump.chunks, reads), dump.labels, K, weights, names))


def violated(claims: Sequence[Claim]) -> list[str]:
    """Return the claims that fail though they hold for every linear head: that can only be a bug or damaged data."""
    broken = [claim for claim in claims if claim.holds is False and claim.claim in ALWAYS_TRUE]
    return [f"{' '.join((c.claim, c.quantity, c.layer))}: {c.value:.6g} against {c.expected:.6g}" for c in broken]
