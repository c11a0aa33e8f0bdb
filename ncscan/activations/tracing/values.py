"""Where every value of a recorded pass comes from, and what it is.

In: two recordings of one model, with two batch sizes. Out: one `Fact` per value, in execution order.
The only file that compares batch sizes: what does not grow with the batch is no layer.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from ncscan.activations.tracing.axes import Layout, follow
from ncscan.activations.tracing.operations import (
    CASTS,
    EMPTY,
    MOVES,
    PRODUCTS,
    REDUCTIONS,
    SUMS,
    Form,
    form_of,
    kind_of,
)
from ncscan.activations.tracing.record import Call, Recording, tensors_in
from ncscan.layer_graph import LayerKind


@dataclass(frozen=True)
class Fact:
    """The facts that are known of one value."""

    root: int
    """The value whose numbers these are, in another arrangement; itself when they are new."""
    from_input: bool = False
    parameter: str = ""
    """The first parameter or buffer behind it."""
    layout: Layout | None = None
    """How samples and features lie; None when it does not follow the batch."""
    kind: LayerKind = "other"
    form: Form | None = None
    """How it was made, when by a linear map."""
    call: Call | None = None
    slices: bool = False
    """Whether it is a part of what it was made from, a token for instance, unchanged."""


def facts(model: nn.Module, recording: Recording, smaller: Recording) -> list[Fact]:
    """Return one fact per value of the recording."""
    names = {id(tensor): name for name, tensor in [*model.named_buffers(), *model.named_parameters()]}
    known = [Fact(root=i, parameter=names.get(id(t), "")) for i, t in enumerate(recording.tensors)]
    for value in recording.inputs.values():
        known[value] = Fact(root=value, from_input=True, layout=_input_layout(recording, value), kind="input")
    stale = dict(recording.stale)
    for call in recording.calls:
        for value in call.reads:
            if value in stale:
                known[value] = _rewritten(recording, known, value, *stale.pop(value))
        for position, value in enumerate(call.writes):
            known[value] = _made(recording, smaller, known, call, value, position)
    for value, sources in stale.items():
        known[value] = _rewritten(recording, known, value, *sources)
    return known


def operand_of(call: Call, tensor: torch.Tensor) -> int:
    """Return the number of the value that a call read in a tensor."""
    passed = zip(tensors_in((call.args, call.kwargs)), call.reads, strict=True)
    return next(number for argument, number in passed if argument is tensor)


def _input_layout(recording: Recording, value: int) -> Layout:
    """Return the layout of an input, which the first call that reads it shows.

    Where it does not, images have their features first, sequences last.
    """
    n_dims = len(recording.shapes[value])
    reader = next((call.name for call in recording.calls if value in call.reads), "")
    first = (n_dims > 3 and reader != "linear") or reader.startswith(("conv", "batch_norm"))
    return Layout(0, channel=None if n_dims < 2 else 1 if first else n_dims - 1)


def _rewritten(recording: Recording, known: list[Fact], value: int, written: int, before: int) -> Fact:
    """Return the fact of a tensor that was written through a view of it: all of it, or a part."""
    whole = math.prod(recording.shapes[written]) == math.prod(recording.shapes[value])
    return Fact(
        root=known[written].root if whole else value,
        from_input=known[written].from_input or known[before].from_input,
        parameter=known[before].parameter,
        layout=known[before].layout,
        kind=known[written].kind if whole else "other",
    )


def _made(recording: Recording, smaller: Recording, known: list[Fact], call: Call, value: int, position: int) -> Fact:
    read = [known[number] for number in call.reads]
    parameter = next((fact.parameter for fact in read if fact.parameter), "")
    if call.name in EMPTY or not any(fact.from_input for fact in read):
        return Fact(root=value, parameter=parameter, call=call)
    fact = Fact(root=value, from_input=True, parameter=parameter, call=call)
    source = read[0]
    if call.name in MOVES and source.from_input:
        tensor, shape = recording.tensors[call.reads[0]], recording.shapes[call.reads[0]]
        moved = follow(call.func, call.args, call.kwargs, tensor, shape, source.layout, recording.n, position)
        if moved is not None and moved.keeps_all:
            return replace(fact, layout=moved.layout, root=source.root, kind=source.kind)
        if moved is not None:
            return replace(fact, layout=moved.layout, slices=True)
    floats = [recording.tensors[number].is_floating_point() for number in (call.reads[0], value)]
    if call.name in CASTS and all(floats):
        return replace(fact, layout=source.layout, root=source.root, kind=source.kind)
    form = _form(known, call)
    kind = form.kind if form is not None else _kind(recording, known, call, value)
    fact = replace(fact, form=form, kind=kind)
    return replace(fact, layout=_layout(recording, smaller, known, fact, value))


def _form(known: list[Fact], call: Call) -> Form | None:
    passed = {id(t): known[number] for t, number in zip(tensors_in((call.args, call.kwargs)), call.reads, strict=True)}

    def is_data(tensor: torch.Tensor) -> bool:
        return passed[id(tensor)].from_input

    def is_weight(tensor: torch.Tensor) -> bool:
        fact = passed[id(tensor)]
        return bool(fact.parameter) and not fact.from_input and tensor.is_floating_point()

    return form_of(call, is_data, is_weight)


def _kind(recording: Recording, known: list[Fact], call: Call, value: int) -> LayerKind:
    data = [number for number in call.reads if known[number].from_input]
    sizes = [recording.shapes[number] for number in data]
    name = call.name.removesuffix("_")
    if name in SUMS and len(data) == 2 and sizes[0] == sizes[1]:
        return "residual"
    if name in PRODUCTS and any(_is_softmax(known, number) for number in data):
        return "attention"
    if name in REDUCTIONS:
        fewer = len(data) == 1 and math.prod(recording.shapes[value]) < math.prod(sizes[0])
        return "pooling" if fewer else "other"
    return kind_of(call.name) or "other"


def _is_softmax(known: list[Fact], value: int) -> bool:
    maker = known[known[value].root].call
    return maker is not None and maker.name == "softmax"


def _layout(recording: Recording, smaller: Recording, known: list[Fact], fact: Fact, value: int) -> Layout | None:
    """Return the layout of a computed value: the dimension that grows with the batch, and its features.

    The features are those of what made it.
    """
    shape, other = recording.shapes[value], smaller.shapes[value]
    if fact.call is None or len(shape) != len(other):
        return None
    grows = [d for d, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b]
    if len(grows) != 1 or shape[grows[0]] * smaller.n != other[grows[0]] * recording.n:
        return None
    dim = grows[0]
    layout: Layout | None = Layout(dim)
    if shape[dim] != recording.n:
        # Samples times something else: in which order, only what was read can tell.
        layout = next(
            (
                read.layout
                for number in fact.call.reads
                if (read := known[number]).layout is not None
                and read.layout.dim == dim
                and recording.shapes[number][dim] == shape[dim]
            ),
            None,
        )
    return None if layout is None else replace(layout, channel=_channel(recording, known, fact, shape, dim))


def _channel(recording: Recording, known: list[Fact], fact: Fact, shape: tuple[int, ...], dim: int) -> int | None:
    inner = [d for d in range(len(shape)) if d != dim]
    call = fact.call
    if call is None or not inner:
        return None
    if fact.form is not None and fact.form.kind != "convolution":
        written = fact.form.features if fact.form.written is None else fact.form.written
        return (written if fact.form.kind == "linear" else -1) % len(shape)
    if fact.kind == "attention" or call.name in ("layer_norm", "rms_norm"):
        return len(shape) - 1
    if fact.kind == "convolution" or call.name in ("batch_norm", "group_norm", "instance_norm"):
        return inner[0]
    for number in call.reads:
        layout, read = known[number].layout, recording.shapes[number]
        channel = None if layout is None or len(read) != len(shape) else layout.channel
        if channel is not None and read[channel] == shape[channel]:
            return channel
    return inner[-1]
