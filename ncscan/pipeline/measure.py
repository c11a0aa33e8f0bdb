"""A source of activations → every number of it: its layers, its classes, its linear maps, what theory implies for it.

In: an `ActivationSource`, a dump for instance. Out: `Measured`. Nothing is written, and no other source is known here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.activations import ActivationSource, GradientRow, Layer, Provenance
from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.layer_graph import Tap, TapGraph
from ncscan.metrics import (
    Classifier,
    ClassRow,
    LayerView,
    PicturedVector,
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
from ncscan.ordering import GivenOrder
from ncscan.pipeline.events import Advanced, Finished, OnEvent, Skipped, attempt_part
from ncscan.pipeline.fit import few_samples, label, summed_up
from ncscan.splits import TRAINING
from ncscan.statistics import LayerStats, Members, members, rank_doubt
from ncscan.statistics.accumulation import AccumulationOptions, in_threads, layer_stats
from ncscan.theory import CLAIMS, Claim, HeadStats, certify, decay_claims, head_stats, theorem_claims, undefined
from ncscan.training_settings import with_notes
from ncscan.trajectory import stages
from ncscan.uncertainty import honest, many_classes

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Options:
    """The optional measurements, in addition to the numbers themselves."""

    bootstrap: int = 0
    """Resamples for intervals; 0 for none."""
    permutations: int = 0
    """Permutations of the labels for baselines; 0 for none."""
    seed: int = 0
    classes: tuple[str, ...] = ()
    """Names or numbers of classes that must be in the picture of class means; others fill it up."""
    order: GivenOrder | None = None
    """The order of checkpoints, in the place of what their dumps say of it."""


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
    vector: PicturedVector


class ClassNumber(NamedTuple):
    """One number of a class or a pair of classes at a layer."""

    tap: Tap
    row: ClassRow


@dataclass(frozen=True)
class LayerResult:
    """What was measured of one layer; what failed unexpectedly is lost, the rest is there."""

    numbers: Sequence[LayerRow] = ()
    by_class: Sequence[ClassNumber] = ()
    picture: Sequence[Pictured] = ()
    doubts: Sequence[str] = ()
    lost: Sequence[Skipped] = ()
    stats: LayerStats | None = None
    """None where it was lost, or once nobody needs it."""


@dataclass(frozen=True)
class NetworkResult:
    """What was measured of the network itself, of the training set alone; likewise."""

    weights: Sequence[WeightRow] = ()
    claims: Sequence[Claim] = ()
    lost: Sequence[Skipped] = ()


@dataclass(frozen=True)
class Measured:
    """One source of activations, as numbers."""

    finished: Finished
    provenance: Provenance
    layers: tuple[LayerRow, ...]
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
    """What failed unexpectedly; everything else is there."""
    stats: Mapping[str, LayerStats] = field(default_factory=dict)
    """What is known of each layer, by name, where it was asked for."""


@dataclass(frozen=True)
class Network:
    """What the layers of a source have in common: what the network decides, and the linear maps that read layers."""

    known: Members
    undecided: str
    """Why the network's decisions are not known, else empty."""
    decisions: Int64[np.ndarray, "N"] | None
    classifiers: Mapping[str, Classifier]
    """By layer, the linear map from it to the logits."""
    readers: Mapping[str, tuple[Reader, ...]]
    """By layer, the linear maps that read it."""


def network_of(source: ActivationSource) -> Network:
    """Return what all layers of a source have in common."""
    known = members(source.labels, len(source.provenance.class_names))
    undecided = logits_obstacle(source.logits)
    return Network(
        known,
        undecided,
        None if undecided else source.logits.argmax(axis=1),
        head_classifiers(source.graph, source.weights),
        readers(source.graph, source.weights, len(known.classes)),
    )


def measure_source(
    source: ActivationSource, options: Options, on_event: OnEvent, *, with_stats: bool = False
) -> Measured:
    """Return every number of one source, and `with_stats` what is known of each layer.

    A part that fails unexpectedly (a layer, its classes, the weights, the theory) is lost, and the others stay.
    """
    network, graph, provenance = network_of(source), source.graph, source.provenance
    # Layers side by side, each in one thread: threads that share a layer wait for each other at every step of it.
    # What takes longest comes first, so that no lane waits for it at the end.
    work: list[Callable[[], NetworkResult | LayerResult]] = [partial(measure_network, source)]
    work += [partial(measure_layer, source, layer, options, network) for layer in source.layers]
    of_network, layers = NetworkResult(), list[LayerResult]()
    with in_threads(_done, work) as measured:
        for part in measured:
            if isinstance(part, NetworkResult):
                of_network = part
                continue
            layers.append(part if with_stats else replace(part, stats=None))
            on_event(Advanced(label(provenance), len(layers), len(source.layers)))
    found = network_rows(source.logits, source.labels, one_logit=graph.has_one_logit)
    rows = [LayerRow(graph.output, "none", row) for row in found]
    doubts = [*_common_doubts(source, options, network), *(doubt for part in layers for doubt in part.doubts)]
    is_training = provenance.split == TRAINING
    named = zip(source.layers, layers, strict=True)
    return Measured(
        finished=summed_up(source, f"{len(source.layers)} layers", doubts),
        provenance=provenance,
        layers=(*(row for part in layers for row in part.numbers), *rows),
        classes=tuple(number for part in layers for number in part.by_class),
        weights=tuple(of_network.weights),
        gradients=source.gradients.rows if is_training and source.gradients is not None else (),
        claims=tuple(of_network.claims),
        stages=stages(graph) if is_training else (),
        n_classes=len(network.known.classes),
        picture=tuple(vector for part in layers for vector in part.picture),
        lost=(*of_network.lost, *(each for part in layers for each in part.lost)),
        stats={layer.tap.name: part.stats for layer, part in named if part.stats is not None},
    )


def _done(work: Callable[[], NetworkResult | LayerResult]) -> NetworkResult | LayerResult:
    return work()


def _common_doubts(source: ActivationSource, options: Options, network: Network) -> list[str]:
    """Return what is doubtful about all layers alike."""
    doubts = few_samples(network.known, source.provenance.class_names)
    if network.undecided:
        doubts.append(network.undecided)
    if options.bootstrap and (no_intervals := many_classes(len(network.known.classes))):
        doubts.append(f"--bootstrap: {no_intervals}")
    if not network.classifiers:
        doubts.append(_without_classifier(source.graph))
    return doubts


def _without_classifier(graph: TapGraph) -> str:
    """Return why there is no classifier: what writes the logits, and what ran last of the linear maps before it."""
    said = "no linear map writes the logits, one row of weights per class: there is no nc3"
    if graph.head or not graph.output.types:
        return said
    before = f" after linear map {graph.last.name}" if graph.last else ""
    return f"{said}; {graph.output.types[0]} makes them{before}, and the verdict is of the last layer before them"


def measure_layer(
    source: ActivationSource, layer: Layer, options: Options, network: Network | None = None
) -> LayerResult:
    """Return the numbers of one layer; whatever of it fails unexpectedly is named as lost.

    Args:
        source: holds the layer.
        layer: one of its layers.
        options: what to measure in addition to the numbers.
        network: what all layers of the source have in common, where it is known already.
    """
    where = f"{label(source.provenance)}: layer {layer.tap.name}"
    of = network or network_of(source)
    found = attempt_part(where, lambda: _measure_layer(source, layer, options, of, where))
    return LayerResult(lost=(found,)) if isinstance(found, Skipped) else found


def _measure_layer(
    source: ActivationSource, layer: Layer, options: Options, network: Network, where: str
) -> LayerResult:
    tap, chunks, class_names = layer.tap.name, partial(source.chunks, layer), source.provenance.class_names
    own = network.classifiers.get(tap)
    asked = AccumulationOptions(
        decisions=network.decisions,
        classifier=None if own is None or own.obstacle else own.scaled,
        classifier_precision="float64" if own is None else own.precision,
        negative_part=layer.tap.is_preactivation,
        precision=layer.dtype,
        samples=options.bootstrap > 0 and not many_classes(len(network.known.classes)),
        permutations=options.permutations,
        seed=options.seed,
    )
    # Two passes over the activations; nothing after them grows with the samples.
    stats = layer_stats(chunks, source.labels, len(class_names), asked)
    n_outputs = source.logits.shape[1]
    view = LayerView(
        stats,
        classifier=own,
        decisions_obstacle=network.undecided,
        readers=of_members(network.readers.get(tap, ()), stats.classes, n_outputs, own),
        n_outputs=n_outputs,
    )
    # Each part costs only itself when it fails.
    numbers = attempt_part(where, lambda: list(_numbers(view, layer, options, source.rounding(layer))))
    by_class = attempt_part(f"{where}, class by class", lambda: _by_class(view))
    doubts = [f"layer {tap}: {stats.obstacle}"] if stats.obstacle else []
    picture: Sequence[PicturedVector] | Skipped = ()
    # Only the layer that the classifier reads is pictured, and doubted where its rank is.
    if own is not None and own.name == source.graph.head[-1] and not stats.obstacle:
        if doubt := rank_doubt(stats, "class"):
            doubts.append(f"layer {tap}: {doubt}")
        if source.provenance.split == TRAINING:
            V = None if own.obstacle else own.weight
            wanted = [at for name in options.classes if (at := class_index(name, class_names)) is not None]
            picture = attempt_part(
                f"{where}, its picture",
                lambda: list(places(stats, chunks, source.labels, V, pictured(stats, wanted))),
            )
    return LayerResult(
        _kept(numbers),
        [ClassNumber(layer.tap, row) for row in _kept(by_class)],
        [Pictured(layer.tap, vector) for vector in _kept(picture)],
        doubts,
        _lost(numbers, by_class, picture),
        stats,
    )


def measure_network(source: ActivationSource) -> NetworkResult:
    """Return the numbers of the linear maps and what the theory claims; of the training set alone."""
    if source.provenance.split != TRAINING:
        return NetworkResult()
    where = label(source.provenance)
    weights = attempt_part(f"{where}: the weights", lambda: measure_weights(source.weights, source.graph))
    claims = attempt_part(f"{where}: the theory", lambda: _claims(source))
    return NetworkResult(_kept(weights), _kept(claims), _lost(weights, claims))


def _kept(part: Sequence[Kind] | Skipped) -> Sequence[Kind]:
    return () if isinstance(part, Skipped) else part


def _lost(*parts: Sequence[object] | Skipped) -> list[Skipped]:
    return [part for part in parts if isinstance(part, Skipped)]


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


def _claims(source: ActivationSource) -> list[Claim]:
    """Return the claims of theory about the linear head, and about what weight decay does to the network."""
    head = _head(source)
    if isinstance(head, Undefined):
        claims = [undefined(statement.name, head) for statement in CLAIMS]
    else:
        claims = [*theorem_claims(head, source.graph), *certify(head)]
    own = source.provenance
    return claims + decay_claims(head, source.weights, source.graph, with_notes(own.train, own.notes))


def _head(source: ActivationSource) -> HeadStats | Undefined:
    graph = source.graph
    if not graph.head:
        return Undefined("there is no linear head")
    if graph.has_one_logit:
        return Undefined("one logit decides between two classes: the theorems have one for each")
    maps = [graph.map(name) for name in graph.head]
    kept = {layer.tap.name: layer for layer in source.layers}
    reads = kept.get(maps[0].reads)
    if reads is None:
        return Undefined(f"layer {maps[0].reads}, which the linear head reads, is not in the dump")
    if reads.n_features != maps[0].shape[1]:
        return Undefined(f"layer {reads.tap.name} was reduced to other vectors than the linear head reads")
    names = [maps[0].reads, *(each.name for each in maps)]
    weights = [source.weights[each.name] for each in maps]
    K = len(source.provenance.class_names)
    return attempt(lambda: head_stats(partial(source.chunks, reads), source.labels, K, weights, names))
