"""Find the layers of a recorded pass, its linear maps, and what stands between them.

In: two recordings of one model, with two batch sizes. Out: the plain `TapGraph`, where each tap is met, and the
weights. The only file that decides what is a layer.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ncscan.activations.tracing.axes import Layout, sample_shape
from ncscan.activations.tracing.operations import SUMS, Form, leaf_kind
from ncscan.activations.tracing.record import Call, Place, Recording
from ncscan.activations.tracing.values import Fact, facts, operand_of
from ncscan.errors import TapError
from ncscan.layer_graph import LayerKind, LinearMap, Link, Tap, TapGraph


@dataclass(frozen=True)
class Step:
    """One step of the computation: a call, or all calls of a module that is one layer. Values are roots."""

    kind: LayerKind
    reads: frozenset[int]
    writes: tuple[int, ...]
    form: Form | None = None
    operand: int = -1
    """The very value that a linear map reads, in the arrangement it reads."""


@dataclass(frozen=True)
class Anatomy:
    """A traced pass, understood."""

    graph: TapGraph
    spots: Mapping[str, tuple[Place | None, str, Layout]]
    """The places by tap: where it is met (None: the network's input of that name) and how its samples lie."""
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor | None]]
    """The parameters by linear map: the weight as (outputs, inputs, …), and the bias."""


@dataclass(frozen=True)
class _Pass:
    """The facts of a pass that the functions below read: nothing here changes once it is made."""

    recording: Recording
    modules: Mapping[str, nn.Module]
    facts: Sequence[Fact]
    steps: Sequence[Step]

    def root(self, value: int) -> int:
        return self.facts[value].root


def understand(model: nn.Module, recording: Recording, smaller: Recording) -> Anatomy:
    """Read the graph out of a recording; the smaller one shows what follows the batch."""
    known = facts(model, recording, smaller)
    if not known[recording.output].from_input:
        raise TapError(
            "the logits do not come from the input by torch calls that can be seen: is there TorchScript, numpy or a "
            "custom extension on the way?"
        )
    modules = dict(model.named_modules())
    steps = _fold_biases(_steps(recording, modules, known), recording, known)
    seen = _Pass(recording, modules, known, steps)
    homes = _homes(seen)
    seen = _without_stray_maps(seen, homes)
    names = _names(seen, homes)
    taps, spots = _taps(seen, names, homes)
    maps, weights = _maps(seen, names, homes)
    graph = TapGraph(
        taps=taps,
        maps=maps,
        links=tuple(_links(seen, names)),
        head=_head(seen, names),
        not_executed=_not_executed(model, recording),
    )
    return Anatomy(graph, spots, weights)


def _steps(recording: Recording, modules: Mapping[str, nn.Module], known: list[Fact]) -> list[Step]:
    """Return what was computed from the input, in order; a normalisation written out in ten calls is one step."""
    computing = [
        call for call in recording.calls if any(known[v].root == v and known[v].from_input for v in call.writes)
    ]
    by_visit: dict[int, list[Call]] = defaultdict(list)
    for call in computing:
        by_visit[call.visit.serial].append(call)
    returned = {visit.serial: known[value].root for visit, value in recording.returned}
    steps: list[Step] = []
    for call in computing:
        calls, serial = by_visit[call.visit.serial], call.visit.serial
        kind = leaf_kind(modules[call.visit.module]) if call.visit.module and serial in returned else None
        new = tuple(v for v in call.writes if known[v].root == v)
        reads = frozenset(known[v].root for v in call.reads if known[v].from_input)
        form = known[new[0]].form
        if kind is None or len(calls) < 2 or any(known[v].form for c in calls for v in c.writes):
            operand = operand_of(call, form.operand) if form else -1
            steps.append(Step(known[new[0]].kind, reads, new, form, operand))
        elif call is calls[-1]:
            made = {v for c in calls for v in c.writes}
            outside = {known[v].root for c in calls for v in c.reads if known[v].from_input} - made
            steps.append(Step(kind, frozenset(outside), (returned[serial],)))
    for value, (written, before) in recording.stale.items():
        if known[value].root == value and known[value].from_input:
            steps.append(Step("other", frozenset({known[written].root, known[before].root}), (value,)))
    tokens = {known[step.operand].root for step in steps if step.form}
    return [replace(s, kind="pooling") if _is_token(s, tokens, recording, known) else s for s in steps]


def _is_token(step: Step, read_by_maps: set[int], recording: Recording, known: list[Fact]) -> bool:
    """Return whether a step picks one position out of many, for a linear map to read."""
    call = known[step.writes[0]].call
    if call is None or not known[step.writes[0]].slices or step.writes[0] not in read_by_maps:
        return False
    return len(recording.shapes[step.writes[0]]) < len(recording.shapes[call.reads[0]])


def _fold_biases(steps: list[Step], recording: Recording, known: list[Fact]) -> list[Step]:
    """Fold `x @ W + b` into one linear map, which writes the sum."""
    readers: dict[int, list[int]] = defaultdict(list)
    for i, step in enumerate(steps):
        for value in step.reads:
            readers[value].append(i)
    folded = list(steps)
    for i, step in enumerate(steps):
        if step.form is None or step.form.kind != "linear" or step.form.bias is not None:
            continue
        after = steps[readers[step.writes[0]][0]] if len(readers[step.writes[0]]) == 1 else None
        call = known[after.writes[0]].call if after else None
        if after is None or call is None or call.name.removesuffix("_") not in SUMS or call.kwargs:
            continue
        constants = [v for v in call.reads if not known[v].from_input]
        is_bias = [known[v].parameter and recording.shapes[v] == step.form.weight.shape[:1] for v in constants]
        if is_bias == [True] and step.form.features == -1:
            form = replace(step.form, bias=recording.tensors[constants[0]])
            folded[readers[step.writes[0]][0]] = replace(
                after, kind="linear", reads=step.reads, form=form, operand=step.operand
            )
            folded[i] = replace(step, kind="other", form=None, operand=-1, writes=())
    return [step for step in folded if step.writes]


def _names(seen: _Pass, homes: Mapping[int, int]) -> dict[int, tuple[str, str]]:
    """Return by value its name, and the class or function that made it."""
    names = {value: (name, "input") for name, value in seen.recording.inputs.items()}
    results = {}
    for visit, value in seen.recording.returned:
        # A module may return another arrangement of what it computed: its name goes to the tap.
        results[visit.serial] = value if homes.get(seen.root(value)) != homes.get(value) else seen.root(value)
    count: Counter[str] = Counter()
    for call in seen.recording.calls:
        module = seen.modules[call.visit.module]
        plain = f"{call.visit.module}/{call.name}"
        numbered = f"{plain}:{count[plain]}" if count[plain] else plain
        count[plain] += 1
        for position, value in enumerate(call.writes):
            if call.visit.module and not _is_container(module) and results.get(call.visit.serial) == value:
                # A module may be called like an input.
                clash = call.visit.name in seen.recording.inputs
                names[value] = (
                    f"{call.visit.name}:{call.visit.nth + 1}" if clash else call.visit.name,
                    type(module).__name__,
                )
            else:
                names[value] = (f"{numbered}.{position}" if len(call.writes) > 1 else numbered, call.name)
    for value in seen.recording.stale:
        # It has no maker of its own: it is named after the call that first reads it.
        place = seen.recording.places.get(value)
        reader = seen.recording.calls[place.call] if place else None
        names[value] = (f"{reader.visit.module}/{reader.name}.read" if reader else "", "view")
    return names


def _is_container(module: nn.Module) -> bool:
    return any(name != "parametrizations" for name, _ in module.named_children())


def _homes(seen: _Pass) -> dict[int, int]:
    """Return by value the value that is the tap for it.

    All arrangements of the same numbers are one tap, met in the first one that has a row per sample. Three exceptions:
    attention is met as the linear map behind it reads it, heads side by side; what was written through a view is met in
    the tensor that was viewed; and a linear map that reads features which are spread differently (a flattened feature
    map, a transposed sequence) has what it reads as a tap of its own.
    """
    arrangements: dict[int, list[int]] = defaultdict(list)
    for value, fact in enumerate(seen.facts):
        met = value in seen.recording.places or value in seen.recording.inputs.values()
        if fact.from_input and fact.layout is not None and met and seen.recording.tensors[value].is_floating_point():
            arrangements[fact.root].append(value)
    operands = [step for step in seen.steps if step.form]
    homes: dict[int, int] = {}
    for root, members in arrangements.items():
        read = [s.operand for s in operands if s.operand in members]
        whole = [value for value in members if value in seen.recording.stale]
        home = read[0] if read and seen.facts[root].kind == "attention" else (whole or members)[0]
        homes |= {value: home for value, fact in enumerate(seen.facts) if fact.root == root}
    for step in operands:
        fact, shape = seen.facts[step.operand], seen.recording.shapes[step.operand]
        if homes.get(step.operand) in (None, step.operand) or fact.layout is None or _is_straight(seen, step):
            continue
        if fact.kind == "input" and len(shape) == 2:
            continue  # The input is flattened by default: this is what its tap holds.
        homes[step.operand] = step.operand
    return homes


def _without_stray_maps(seen: _Pass, homes: Mapping[int, int]) -> _Pass:
    """Return the pass without stray linear maps.

    A linear map of what has no row per sample, such as tokens sorted across a batch, is no linear map.
    """

    def meets_taps(step: Step) -> bool:
        form = step.form
        reads = form is None or form.kind == "embedding" or step.operand in homes
        return form is None or (reads and step.writes[0] in homes)

    steps = [step if meets_taps(step) else replace(step, kind="other", form=None, operand=-1) for step in seen.steps]
    return replace(seen, steps=steps)


def _is_straight(seen: _Pass, step: Step) -> bool:
    """Return whether a linear map reads the features of its input, not another dimension or several at once."""
    layout, n_dims = seen.facts[step.operand].layout, len(seen.recording.shapes[step.operand])
    return step.form is not None and layout is not None and layout.channel == step.form.features % n_dims


def _taps(
    seen: _Pass, names: Mapping[int, tuple[str, str]], homes: Mapping[int, int]
) -> tuple[tuple[Tap, ...], dict[str, tuple[Place | None, str, Layout]]]:
    recording = seen.recording
    makers = {value: step for step in seen.steps for value in step.writes}
    inputs = recording.inputs.values()
    needed = _needed(makers, seen.root(recording.output))
    # Where several steps do the same to a value, the first one counts: later entries of a dict overwrite earlier ones.
    activations = {v: s.writes[0] for s in reversed(seen.steps) if s.kind == "activation" for v in s.reads}
    scores = {v for s in seen.steps if s.kind == "attention" for v in s.reads if s.form is None}
    reading = {step.operand: step.form.features for step in reversed(seen.steps) if step.form}
    mapped = {homes.get(v) for step in seen.steps if step.form for v in (step.operand, *step.writes)}
    returned: dict[int, list[tuple[str, nn.Module]]] = defaultdict(list)
    for visit, value in recording.returned:
        if visit.module and value in homes:
            returned[homes[value]].append((visit.name, seen.modules[visit.module]))
    taps: list[Tap] = []
    spots: dict[str, tuple[Place | None, str, Layout]] = {}
    for home in sorted(set(homes.values())):
        layout = seen.facts[home].layout
        if layout is None:
            continue
        root = seen.root(home)
        own = homes.get(root, home) != home
        # A linear map reads this value along another axis than the layer has its features on: a tap of its own.
        if own:
            layout = replace(layout, channel=reading[home] % len(recording.shapes[home]))
        name, made_by = names[home if own else root]
        maker = makers.get(root)
        kind: LayerKind = "other" if own else maker.kind if maker else "input" if root in inputs else "other"
        others = [(alias, module) for alias, module in returned[home] if alias != name]
        # Minor taps are those that only move values about; `--layers all` leaves them out.
        makes = (
            root in needed and (maker is not None or kind == "input") and not (root in scores and kind == "activation")
        )
        layered = any(_is_container(m) or any(True for _ in m.parameters()) for _, m in returned[home])
        if kind == "other" and any(_is_container(m) for _, m in returned[home]):
            kind = "block"
        shape, channel = sample_shape(recording.shapes[home], layout, recording.n)
        is_output = homes.get(recording.output) == home
        taps.append(
            Tap(
                name=name,
                aliases=tuple(alias for alias, _ in others),
                kind=kind,
                depth=len(taps),
                shape=shape,
                dtype=str(recording.tensors[home].dtype).removeprefix("torch."),
                channel_dim=channel,
                activated_by=names[activations[root]][0] if root in activations and not own else "",
                is_output=is_output,
                types=(made_by, *(type(module).__name__ for _, module in others)),
                minor=not (is_output or home in mapped or (makes and not own and (kind != "other" or layered))),
            )
        )
        spots[name] = (recording.places.get(home), name, layout)
    return tuple(taps), spots


def _needed(makers: Mapping[int, Step], output: int) -> set[int]:
    """Return what the logits depend on."""
    needed, todo = {output}, [output]
    while todo:
        step = makers.get(todo.pop())
        new = (step.reads if step else frozenset[int]()) - needed
        needed |= new
        todo.extend(new)
    return needed


def _maps(
    seen: _Pass, names: Mapping[int, tuple[str, str]], homes: Mapping[int, int]
) -> tuple[tuple[LinearMap, ...], dict[str, tuple[torch.Tensor, torch.Tensor | None]]]:
    by_id = {id(tensor): fact.parameter for tensor, fact in zip(seen.recording.tensors, seen.facts, strict=True)}
    maps, weights = [], {}
    for step in seen.steps:
        form = step.form
        if form is None:
            continue
        home = homes.get(step.operand, step.operand)
        own = homes.get(seen.root(home), home) != home
        name = names[step.writes[0]][0]
        maps.append(
            LinearMap(
                name=name,
                kind=form.kind,
                weight=by_id[id(form.source)],
                bias="" if form.bias is None else by_id[id(form.bias)],
                reads=names[home if own else seen.root(home)][0],
                shape=tuple(form.weight.shape),
            )
        )
        weights[name] = (form.weight.detach(), None if form.bias is None else form.bias.detach())
    return tuple(maps), weights


def _links(seen: _Pass, names: Mapping[int, tuple[str, str]]) -> Iterable[Link]:
    """Yield the links from each linear map to those that read what came of it, the shortest way first."""
    readers: dict[int, list[Step]] = defaultdict(list)
    for step in seen.steps:
        for value in step.reads:
            readers[value].append(step)
    for first in seen.steps:
        if first.form is None:
            continue
        visited, linked = set(first.writes), set[int]()
        queue: deque[tuple[int, tuple[LayerKind, ...]]] = deque((value, ()) for value in first.writes)
        while queue:
            value, between = queue.popleft()
            for step in readers[value]:
                kinds = (*between, step.kind)
                if step.form is not None and step.writes[0] not in linked:
                    linked.add(step.writes[0])
                    # Features that are spread otherwise than they were made are no plain product.
                    straight = _is_straight(seen, step) or "attention" in between
                    way = between if straight else (*between, "other")
                    yield Link(names[first.writes[0]][0], names[step.writes[0]][0], way)
                elif step.form is None and kinds.count("residual") < 2:
                    queue.extend((made, kinds) for made in step.writes if made not in visited)
                    visited.update(step.writes)


def _head(seen: _Pass, names: Mapping[int, tuple[str, str]]) -> tuple[str, ...]:
    """Return the linear head, from the logits back as long as one dense linear map reads what another one wrote."""
    makers = {value: step for step in seen.steps for value in step.writes}
    head: list[str] = []
    step = makers.get(seen.root(seen.recording.output))
    while step is not None and step.form is not None and step.form.kind == "linear":
        head.insert(0, names[step.writes[0]][0])
        step = makers.get(seen.root(step.operand)) if _is_straight(seen, step) else None
    return tuple(head)


def _not_executed(model: nn.Module, recording: Recording) -> tuple[str, ...]:
    """Return the modules with parameters of their own of which no call read one."""
    read = {id(recording.tensors[number]) for call in recording.calls for number in call.reads}
    idle = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(id(parameter) in read for parameter in own):
            idle.append(name)
    return tuple(idle)
