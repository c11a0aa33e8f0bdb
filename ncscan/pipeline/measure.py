"""A dump → every number of it: its layers, its classes, its linear maps, what theory promises for it.

In: one open dump. Out: `Measured`. Nothing is written, and no other dump is known here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.computable import attempt
from ncscan.dumps import Dump, GradientRow, Layer, Provenance
from ncscan.errors import Undefined
from ncscan.layer_graph import Tap
from ncscan.metrics import (
    Classifier,
    ClassRow,
    LayerView,
    Place,
    Reader,
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
from ncscan.splits import TRAINING
from ncscan.statistics import LayerStats, Members, members, rank_doubt
from ncscan.statistics.accumulation import AccumulationOptions, in_lanes, layer_stats
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


class PartResult(NamedTuple):
    """The results of a part of a dump, a layer or the network; what failed unexpectedly is lost, the rest is there."""

    numbers: Sequence[LayerRow] = ()
    by_class: Sequence[ClassNumber] = ()
    picture: Sequence[Pictured] = ()
    weights: Sequence[WeightRow] = ()
    claims: Sequence[Claim] = ()
    doubts: Sequence[str] = ()
    lost: Sequence[Skipped] = ()
    stats: LayerStats | None = None


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


@dataclass(frozen=True)
class _Common:
    """Holds what all layers of a dump are measured with."""

    dump: Dump
    options: Options
    name: str
    known: Members
    undecided: str
    """Why the network's decisions are not known, else empty."""
    decisions: Int64[np.ndarray, "N"] | None
    classifiers: Mapping[str, Classifier]
    """By layer, the linear map from it to the logits."""
    readers: Mapping[str, tuple[Reader, ...]]
    """By layer, the linear maps that read it."""
    pictured: Sequence[int]
    """Classes that must be in the picture."""
    no_intervals: str
    """Why there are no intervals, else empty."""

    @property
    def is_training(self) -> bool:
        """Return whether the samples are those of the training set."""
        return self.dump.provenance.split == TRAINING


def measure_dump(dump: Dump, tell: Tell, options: Options, *, keep: dict[str, LayerStats] | None = None) -> Measured:
    """Return every number of one dump. What is known of each layer stays in `keep`, where one is given.

    A part that fails unexpectedly (a layer, its classes, the weights, the theory) is lost, and the others stay.
    """
    of, graph = _common(dump, options), dump.graph
    doubts = [*few_samples(of.known, dump.provenance.class_names), *([of.undecided] if of.undecided else [])]
    if options.bootstrap and of.no_intervals:
        doubts.append(f"--bootstrap: {of.no_intervals}")
    if not of.classifiers:
        doubts.append("no linear map writes the logits, one row of weights per class: there is no nc3")
    # Layers side by side, each in one thread: threads that share a layer wait for each other at every step of it.
    # What takes longest comes first, so that no lane waits for it at the end.
    work: list[Callable[[], PartResult]] = [partial(_measure_network, of)]
    work += [partial(measure_layer, of, layer) for layer in dump.layers]
    with in_lanes(_done, work) as measured:
        parts = [next(measured)]
        for layer, part in zip(dump.layers, measured, strict=True):
            tell(Advanced(of.name, len(parts), len(dump.layers)))
            if keep is not None and part.stats is not None:
                keep[layer.tap.name] = part.stats
            parts.append(part._replace(stats=None))
    network = [LayerRow(graph.output, "none", row) for row in network_rows(dump.logits, dump.labels)]
    doubts += [doubt for part in parts for doubt in part.doubts]
    return Measured(
        finished=summed_up(dump, f"{len(dump.layers)} layers", doubts),
        provenance=dump.provenance,
        layers=[*(row for part in parts for row in part.numbers), *network],
        classes=tuple(number for part in parts for number in part.by_class),
        weights=tuple(row for part in parts for row in part.weights),
        gradients=dump.gradients.rows if of.is_training and dump.gradients is not None else (),
        claims=tuple(claim for part in parts for claim in part.claims),
        stages=stages(graph) if of.is_training else (),
        n_classes=len(of.known.classes),
        picture=tuple(vector for part in parts for vector in part.picture),
        lost=tuple(each for part in parts for each in part.lost),
    )


def _done(work: Callable[[], PartResult]) -> PartResult:
    return work()


def measure_layer(of: _Common, layer: Layer) -> PartResult:
    """Return the numbers of one layer; whatever of it fails unexpectedly is named in `lost`."""
    lost: list[Skipped] = []
    found = attempt_part(f"{of.name}: layer {layer.tap.name}", lambda: _measure_layer(of, layer, lost), lost)
    return (found or PartResult())._replace(lost=tuple(lost))


def _measure_layer(of: _Common, layer: Layer, lost: list[Skipped]) -> PartResult:
    dump, tap, chunks = of.dump, layer.tap.name, partial(of.dump.chunks, layer)
    own = of.classifiers.get(tap)
    W = None if own is None or own.obstacle else own.scaled
    asked = AccumulationOptions(
        decisions=of.decisions,
        classifier=W,
        classifier_precision="float64" if own is None else own.precision,
        negative_part=layer.tap.is_preactivation,
        precision=layer.dtype,
        samples=of.options.bootstrap > 0 and not of.no_intervals,
        permutations=of.options.permutations,
        seed=of.options.seed,
    )
    stats = layer_stats(chunks, dump.labels, len(dump.provenance.class_names), asked)
    n_outputs = dump.logits.shape[1]
    view = LayerView(
        stats,
        classifier=own,
        decisions_obstacle=of.undecided,
        readers=of_members(of.readers.get(tap, ()), stats.classes, n_outputs, own),
        n_outputs=n_outputs,
    )
    where = f"{of.name}: layer {tap}"
    numbers = attempt_part(where, lambda: list(_numbers(view, layer, of.options, dump.rounding(layer))), lost)
    by_class = attempt_part(f"{where}, class by class", lambda: _by_class(view), lost)
    doubts = [f"layer {tap}: {stats.obstacle}"] if stats.obstacle else []
    picture: Sequence[Place] | None = ()
    if own is not None and own.name == dump.graph.head[-1] and not stats.obstacle:
        if doubt := rank_doubt(stats, "class"):
            doubts.append(f"layer {tap}: {doubt}")
        if of.is_training:
            V = None if own.obstacle else own.weight
            drawn = partial(pictured, stats, of.pictured)
            picture = attempt_part(
                f"{where}, its picture", lambda: list(places(stats, chunks, dump.labels, V, drawn())), lost
            )
    return PartResult(
        numbers or (),
        [ClassNumber(layer.tap, row) for row in by_class or ()],
        [Pictured(layer.tap, place) for place in picture or ()],
        doubts=doubts,
        stats=stats,
    )


def _common(dump: Dump, options: Options) -> _Common:
    known = members(dump.labels, len(dump.provenance.class_names))
    undecided = logits_obstacle(dump.logits)
    indices = (class_index(name, dump.provenance.class_names) for name in options.classes)
    return _Common(
        dump,
        options,
        label(dump.provenance),
        known,
        undecided,
        None if undecided else dump.logits.argmax(axis=1),
        head_classifiers(dump.graph, dump.weights),
        readers(dump.graph, dump.weights, len(known.classes)),
        [index for index in indices if index is not None],
        many_classes(len(known.classes)),
    )


def _measure_network(of: _Common) -> PartResult:
    """Return the numbers of the linear maps and what the theory claims; of the training set alone."""
    if not of.is_training:
        return PartResult()
    dump, lost = of.dump, list[Skipped]()
    weights = attempt_part(f"{of.name}: the weights", lambda: measure_weights(dump.weights, dump.graph), lost)
    claims = attempt_part(f"{of.name}: the theory", lambda: _claims(dump), lost)
    return PartResult(weights=weights or (), claims=claims or (), lost=lost)


def _by_class(view: LayerView) -> list[ClassRow]:
    found = [] if view.stats.obstacle else class_rows(view)
    # K²/2 numbers a pair metric, of layers that nobody compares classes at
    return found if view.classifier is not None else [row for row in found if row.other_index is None]


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
