"""Find the layers of a recorded pass, its linear maps, and what stands between them.

In: two recordings of one model, with two batch sizes. Out: the plain `TapGraph`, where each tap is met, and the
weights. The only file that decides what is a layer.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from ncscan.activations.tracing.axes import Layout, sample_shape
from ncscan.activations.tracing.logits import choose, written_by
from ncscan.activations.tracing.reading import RECURRENT, HeadReading, reading_of
from ncscan.activations.tracing.record import Place, Recording
from ncscan.activations.tracing.steps import Pass, Step, steps_of
from ncscan.activations.tracing.values import facts
from ncscan.layer_graph import LayerKind, LinearMap, Link, Tap, TapGraph


@dataclass(frozen=True)
class Anatomy:
    """A traced pass, understood."""

    graph: TapGraph
    spots: Mapping[str, tuple[Place | None, str, Layout]]
    """The places by tap: where it is met (None: the network's input of that name) and how its samples lie."""
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor | None]]
    """The parameters by linear map: the weight as (outputs, inputs, …), and the bias."""
    logits: tuple[Place | None, str, Layout]
    """Where the logits are met, likewise."""
    reading: HeadReading
    """What the head reads of sequences."""
    states: frozenset[str]
    """The names of taps that hold the states of RNNs, a row for each layer and direction."""
    passed: tuple[str, ...]
    """The names of what keeps the order of the logits between them and what the model returns, first to last."""


def understand(
    model: nn.Module,
    recording: Recording,
    smaller: Recording,
    *,
    n_classes: int | None = None,
    logits: str | None = None,
) -> Anatomy:
    """Read the graph out of a recording; the smaller one shows what follows the batch.

    Args:
        model: that was recorded.
        recording: of a pass of some samples.
        smaller: of a pass of one sample less.
        n_classes: how many classes the data has, where it is known.
        logits: which tensor holds the logits, by its key in the output or its tap; None to find out.

    Raises:
        TapError: when nothing can be the logits, or several tensors can.
        UsageError: when nothing is called as `logits` says.
    """
    known = facts(model, recording, smaller)
    modules = dict(model.named_modules())
    seen = Pass(recording, modules, known, steps_of(recording, modules, known))
    homes = _homes(seen)
    seen = _without_stray_maps(seen, homes)
    names = _names(seen, homes)
    chosen = choose(seen, _called(seen, names, homes), names, n_classes, logits)
    taps, spots = _taps(seen, names, homes, chosen.value)
    maps, weights = _maps(seen, names, homes)
    graph = TapGraph(
        taps=taps,
        maps=maps,
        links=tuple(_links(seen, names)),
        head=_head(seen, names, chosen.value),
        not_executed=_not_executed(model, recording),
    )
    layout = known[chosen.value].layout
    assert layout is not None  # noqa: S101 - else it were no candidate
    name = next((name for name, value in recording.inputs.items() if value == chosen.value), "")
    place = recording.places.get(chosen.value)
    rnns = [step for step in seen.steps if step.kind == RECURRENT and len(step.writes) > 1]
    return Anatomy(
        graph=graph,
        spots=spots,
        weights=weights,
        logits=(place, name, layout),
        reading=reading_of(seen, chosen.value),
        states=frozenset(names[value][0] for step in rnns for value in step.writes[1:]),
        passed=tuple(names[root][0] for root in chosen.passed),
    )


def _called(seen: Pass, names: Mapping[int, tuple[str, str]], homes: Mapping[int, int]) -> dict[str, int]:
    """Return the values of taps by name, and by the names of the modules that returned them."""
    found = {visit.name: homes[value] for visit, value in seen.recording.returned if visit.module and value in homes}
    for home in homes.values():
        own = homes.get(seen.root(home), home) != home
        found[names[home if own else seen.root(home)][0]] = home
    return found


def _names(seen: Pass, homes: Mapping[int, int]) -> dict[int, tuple[str, str]]:
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


def _homes(seen: Pass) -> dict[int, int]:
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


def _without_stray_maps(seen: Pass, homes: Mapping[int, int]) -> Pass:
    """Return the pass without stray linear maps.

    A linear map of what has no row per sample, such as tokens sorted across a batch, is no linear map.
    """

    def meets_taps(step: Step) -> bool:
        form = step.form
        reads = form is None or form.kind == "embedding" or step.operand in homes
        return form is None or (reads and step.writes[0] in homes)

    steps = [step if meets_taps(step) else replace(step, kind="other", form=None, operand=-1) for step in seen.steps]
    return replace(seen, steps=steps)


def _is_straight(seen: Pass, step: Step) -> bool:
    """Return whether a linear map reads the features of its input, not another dimension or several at once."""
    layout, n_dims = seen.facts[step.operand].layout, len(seen.recording.shapes[step.operand])
    return step.form is not None and layout is not None and layout.channel == step.form.features % n_dims


def _taps(
    seen: Pass, names: Mapping[int, tuple[str, str]], homes: Mapping[int, int], logits: int
) -> tuple[tuple[Tap, ...], dict[str, tuple[Place | None, str, Layout]]]:
    recording = seen.recording
    makers = seen.makers
    inputs = recording.inputs.values()
    needed = _needed(makers, seen.root(logits))
    for step in seen.steps:
        if step.kind == RECURRENT and needed & set(step.writes):  # all states of the last layer, and the last of each
            needed |= set(step.writes[:2])
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
        is_output = homes.get(logits) == home
        taps.append(
            Tap(
                name=name,
                aliases=tuple(alias for alias, _ in others),
                kind=kind,
                depth=len(taps),
                shape=shape,
                dtype=str(recording.tensors[home].dtype).removeprefix("torch."),
                channel_dim=channel,
                # What follows the logits is no layer after them: they are looked through to.
                activated_by=names[activations[root]][0] if root in activations and not (own or is_output) else "",
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
    seen: Pass, names: Mapping[int, tuple[str, str]], homes: Mapping[int, int]
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


def _links(seen: Pass, names: Mapping[int, tuple[str, str]]) -> Iterable[Link]:
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


def _head(seen: Pass, names: Mapping[int, tuple[str, str]], logits: int) -> tuple[str, ...]:
    """Return the linear head, from the logits back as long as one dense linear map reads what another one wrote."""
    makers = seen.makers
    head: list[str] = []
    step = written_by(seen, logits)
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
