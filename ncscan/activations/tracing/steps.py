"""Find the steps of a recorded pass: what was computed from the input, in order, and which of it are linear maps.

In: a recording and the facts of its values. Out: `Step`s, and the `Pass` that the finding of layers and logits reads.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from ncscan.activations.tracing.operations import SUMS, Form, leaf_kind
from ncscan.activations.tracing.record import Call, Recording
from ncscan.activations.tracing.values import Fact, operand_of
from ncscan.layer_graph import LayerKind


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
class Pass:
    """A recorded pass and what is known of it: nothing here changes once it is made."""

    recording: Recording
    modules: Mapping[str, nn.Module]
    facts: Sequence[Fact]
    steps: Sequence[Step]

    def root(self, value: int) -> int:
        return self.facts[value].root

    @cached_property
    def makers(self) -> Mapping[int, Step]:
        """Return the step that made each value, by the value's root."""
        return {value: step for step in self.steps for value in step.writes}


def steps_of(recording: Recording, modules: Mapping[str, nn.Module], known: list[Fact]) -> list[Step]:
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
    found = [replace(s, kind="pooling") if _is_token(s, tokens, recording, known) else s for s in steps]
    return _fold_biases(found, recording, known)


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
