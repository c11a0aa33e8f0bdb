"""Check that the parts of a dump agree with each other, before anything is measured.

In: the description that a dump holds, and the shapes and types of what it holds. Out: a sentence for each
contradiction. A dump that ncscan wrote has none: what fails here was damaged, or made by hand.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ncscan.activations import AUTO, REDUCTIONS, Gradients, Layer, Provenance, reduction_of, width
from ncscan.checkpoints import MAX_NOTES
from ncscan.data import MAX_CLASSES
from ncscan.dumps.description import STORED_AS
from ncscan.layer_graph import BETWEEN, LinearMap, Tap, TapGraph
from ncscan.ordering import BY
from ncscan.splits import SPLITS

MAX_WIDTH = 2**40
"""Values of one sample: more than any memory holds."""
Array = tuple[np.dtype, tuple[int, ...]]
"""Type and shape of an array in a file."""
StoredType = tuple[str, np.dtype, tuple[int, ...]]
"""The type as the file names it (`bfloat16`), that of the stored values, and their shape."""


@dataclass(frozen=True)
class DescribedDump:
    """The description that a dump holds of itself."""

    provenance: Provenance
    graph: TapGraph
    layers: tuple[Layer, ...]
    gradients: Gradients | None
    n_samples: int


@dataclass(frozen=True)
class Stored:
    """The content of a dump, as the file declares it."""

    logits: StoredType
    activations: tuple[Array, ...]
    """The arrays in the order of the layers."""
    maps: tuple[Mapping[str, StoredType], ...]
    """`weight` and, where there is one, `bias`, in the order of the linear maps."""
    sample_ids: Array


def disagreements(described: DescribedDump, stored: Stored) -> Iterator[str]:
    """Yield each contradiction among the parts of a dump, in one sentence; none in a dump that ncscan wrote."""
    yield from _of_provenance(described.provenance, described.n_samples)
    yield from _of_taps(described.graph)
    # What follows looks names up: it makes sense only where they are unique.
    yield from _of_maps(described.graph, stored.maps)
    yield from _of_head(described.graph)
    yield from _of_tables(described, stored)
    yield from _of_gradients(described.gradients, described.graph, described.n_samples)


def _of_provenance(own: Provenance, n_samples: int) -> Iterator[str]:
    for name in ("step", "epoch", "file_number", "order"):
        value = getattr(own, name)
        if value is not None and value < 0:
            yield f"its {name} is {value}"
    if own.order_by not in ("", *BY):
        yield f"its order is by {own.order_by!a:.60}; there are {', '.join(BY)}"
    if n_samples < 1:
        yield "it has no samples"
    if own.split not in SPLITS:
        yield f"its split is {own.split!a:.60}; there are {', '.join(SPLITS)}"
    if not own.run or not own.checkpoint:
        yield "its run or its checkpoint has no name"
    if not 1 <= len(own.class_names) <= MAX_CLASSES:
        yield f"it names {len(own.class_names):,} classes; there are 1 to {MAX_CLASSES:,}"
    if own.reduction not in (AUTO, *REDUCTIONS):
        yield f"its reduction is {own.reduction!a:.60}; there are {AUTO}, {', '.join(REDUCTIONS)}"
    if own.batch_size < 1 or not 0 <= own.matched <= own.total:
        yield f"{own.matched} of {own.total} tensors were matched, in batches of {own.batch_size}"
    for what, notes in (("note", own.notes), ("[train] setting", own.train)):
        if len(notes) > 2 * MAX_NOTES:
            yield f"it has {len(notes):,} {what}s; about {MAX_NOTES:,} are kept at most"


def _of_taps(graph: TapGraph) -> Iterator[str]:
    if twice := _twice([tap.name for tap in graph.taps]):
        yield f"two layers of its graph are called {twice!a:.60}"
    outputs = [tap for tap in graph.taps if tap.is_output]
    if len(outputs) != 1:
        yield f"{len(outputs)} values of its graph are the output of the network, not one"
    for rank, tap in enumerate(graph.taps):
        if tap.depth != rank:
            yield f"layer {tap.name!a:.60} has depth {tap.depth} as number {rank} of the graph"
        if min(tap.shape, default=1) < 0 or math.prod(tap.shape) > MAX_WIDTH:
            yield f"layer {tap.name!a:.60} has the shape {_shape(tap.shape)}"
        if tap.channel_dim is not None and not 0 <= tap.channel_dim < len(tap.shape):
            yield f"layer {tap.name!a:.60} has its features in dimension {tap.channel_dim} of {_shape(tap.shape)}"


def _of_maps(graph: TapGraph, stored: Sequence[Mapping[str, StoredType]]) -> Iterator[str]:
    taps, names = {tap.name for tap in graph.taps}, [linear.name for linear in graph.maps]
    if twice := _twice(names):
        yield f"two linear maps write {twice!a:.60}"
    for linear, tensors in zip(graph.maps, stored, strict=True):
        if linear.name not in taps:
            yield f"linear map {linear.name!a:.60} writes no layer of the graph"
        if linear.reads not in taps and linear.kind != "embedding":
            yield f"linear map {linear.name!a:.60} reads {linear.reads!a:.60}, which is no layer of the graph"
        if len(linear.shape) < 2:
            yield f"linear map {linear.name!a:.60} has the shape {_shape(linear.shape)}, no outputs and inputs"
        yield from _of_tensors(linear, tensors)
    for link in graph.links:
        for name in (link.first, link.next):
            if name not in names:
                yield f"a link joins {name!a:.60}, which is no linear map"


def _of_tensors(linear: LinearMap, tensors: Mapping[str, StoredType]) -> Iterator[str]:
    if "weight" not in tensors:
        yield f"the weight of linear map {linear.name!a:.60} is missing"
    for name, (dtype, kind, shape) in tensors.items():
        what = f"the {name} of linear map {linear.name!a:.60}"
        if not _fits(dtype, kind):
            yield f"{what} is called {dtype!a:.30} and stored as {kind}"
        if name == "weight" and shape != linear.shape:
            yield f"{what} is {_shape(shape)} and not {_shape(linear.shape)}"
        if name == "bias" and (len(shape) != 1 or (linear.kind == "linear" and shape != linear.shape[:1])):
            yield f"{what} is {_shape(shape)} beside a weight of {_shape(linear.shape)}"


def _of_head(graph: TapGraph) -> Iterator[str]:
    order = {linear.name: rank for rank, linear in enumerate(graph.maps)}
    if unknown := [name for name in graph.head if name not in order]:
        yield f"its linear head has {unknown[0]!a:.60}, which is no linear map"
        return
    ranks = [order[name] for name in graph.head]
    if ranks != sorted(set(ranks)):
        yield "the maps of its linear head are not in the order of the pass"
    outputs = [tap for tap in graph.taps if tap.is_output]
    if graph.head and len(outputs) == 1 and not _writes(graph.map(graph.head[-1]), outputs[0]):
        yield f"the last map of its linear head is {graph.head[-1]!a:.60}, which does not write the output"
    if any(graph.map(name).kind != "linear" for name in graph.head):
        yield "its linear head has a map that is no matrix"


def _writes(linear: LinearMap, output: Tap) -> bool:
    """Return whether a linear map writes the output, or a sequence of whose positions the output is one."""
    width = output.shape[-1:] if output.channel_dim is None else output.shape[output.channel_dim :][:1]
    return linear.name == output.name or linear.shape[:1] == (width or (1,))


def _of_tables(described: DescribedDump, stored: Stored) -> Iterator[str]:
    dtype, kind, shape = stored.logits
    output = next(tap for tap in described.graph.taps if tap.is_output)
    if shape[-1:] != (described.graph.n_outputs,) or not shape[-1]:
        n_outputs = described.graph.n_outputs
        yield f"there are {shape[-1]} logits a sample, and the network decides between {n_outputs} classes"
    if dtype != output.dtype or not _fits(dtype, kind):
        yield f"the logits are {output.dtype!a:.30}, called {dtype!a:.30} and stored as {kind}"
    if stored.sample_ids != (np.dtype(np.int64), (described.n_samples,)):
        yield f"there are {_shape(stored.sample_ids[1])} sample numbers of {stored.sample_ids[0]}"
    if twice := _twice([layer.tap.name for layer in described.layers]):
        yield f"layer {twice!a:.60} is kept twice"
    for layer, (kind, shape) in zip(described.layers, stored.activations, strict=True):
        what = f"layer {layer.tap.name!a:.60}"
        asked = described.provenance.reduction
        # Which token the head reads is not in the dump: any of these may follow it.
        ways = ("mean", "cls", "last", "flatten") if asked == AUTO else (asked,)
        widths = {reduction_of(layer.tap, how): width(layer.tap, how) for how in ways}
        if layer.reduction not in widths:
            yield f"{what} was reduced by {layer.reduction!a:.30}, where {asked} was asked for"
        elif not 1 <= layer.n_features == shape[-1] == widths[layer.reduction]:
            of = f"{layer.n_features} features of {_shape(layer.tap.shape)} by {layer.reduction}"
            yield f"{what} says it has {of}, and layers/{layer.index:04}/activations holds {shape[-1]}"
        if not _fits(layer.dtype, kind):
            yield f"{what} is called {layer.dtype!a:.30} and stored as {kind}"


def _of_gradients(gradients: Gradients | None, graph: TapGraph, n_samples: int) -> Iterator[str]:
    if gradients is None:
        return
    if not 1 <= gradients.n_samples <= n_samples:
        yield f"gradients were measured on {gradients.n_samples} of {n_samples} samples"
    known = {"", *(tap.name for tap in graph.taps), *(linear.name for linear in graph.maps)}
    for row in gradients.rows:
        if row.layer_or_map not in known and not _is_pair(row.layer_or_map, known):
            yield f"{row.metric!a:.60} is of {row.layer_or_map!a:.60}, which is no linear map"
        if not 0 <= row.n_samples <= n_samples:
            yield f"{row.metric!a:.60} was made of {row.n_samples} of {n_samples} samples"


def _is_pair(text: str, known: set[str]) -> bool:
    """Return whether a text is two known names together; names may have dots themselves."""
    places = [i for i in range(len(text)) if text.startswith(BETWEEN, i)]
    return any(text[:i] in known and text[i + len(BETWEEN) :] in known for i in places)


def _fits(dtype: str, kind: np.dtype) -> bool:
    """Return whether values of a type are stored as this one."""
    return dtype in STORED_AS and kind == np.dtype(STORED_AS[dtype])


def _twice(names: Sequence[str]) -> str:
    """Return a name that occurs more than once, else an empty text."""
    met: set[str] = set()
    return next((name for name in names if name in met or met.add(name)), "")  # type: ignore[func-returns-value]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))[:60] or "no numbers"
