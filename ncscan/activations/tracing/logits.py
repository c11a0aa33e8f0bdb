"""Choose the logits among the tensors that a model returns, and look through what keeps the order of a row of them.

In: a recorded pass, the names of its values, the number of classes. Out: `Chosen`, or an error that lists the
candidates. The only file that decides which value a network decides by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ncscan.activations.tracing.operations import (
    CLAMPS,
    GATHERED,
    INCREASING,
    MINUS,
    ODD,
    OVER,
    OVER_ROWS,
    PLUS,
    POSITIVE,
    SIGMOIDS,
    TIMES,
    words,
)
from ncscan.activations.tracing.record import Call
from ncscan.activations.tracing.steps import Pass, Step
from ncscan.errors import TapError, UsageError

CALLED = "logits"
"""The name by which a field of an output says that it holds the logits."""
LIKELY = words("logit score scores out output outputs pred preds prediction predictions y_hat y_pred")
"""Names that speak for a tensor, but decide nothing against its width and the linear map that writes it."""
EDGE = 1e-3
"""A clamp of probabilities that begins as near to 0 and 1 leaves the largest of a row the largest."""
OPTION = "--logits"


@dataclass(frozen=True)
class Chosen:
    """The value that the network decides by."""

    value: int
    """Its number: before all that keeps the order of a row."""
    passed: tuple[int, ...]
    """What keeps the order between it and what the model returns, first to last, as roots."""
    n_numbers: int
    """How many numbers it has a sample: one for each class, or one alone for two classes."""


@dataclass(frozen=True)
class _Candidate:
    """A tensor that may hold the logits, with what speaks for it."""

    called: str
    value: int
    chosen: Chosen
    writer: Step | None
    name_rank: int
    width_rank: int
    is_final: bool = True
    """Whether none of the other candidates is a linear map of what comes of it."""

    @property
    def evidence(self) -> tuple[int, bool, int, bool]:
        return self.width_rank, self.writer is not None, self.name_rank, self.is_final

    def is_surpassed_by(self, other: "_Candidate") -> bool:
        """Return whether the other has more of one evidence and less of none."""
        mine, its = self.evidence, other.evidence
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))


def choose(
    seen: Pass, named: Mapping[str, int], names: Mapping[int, tuple[str, str]], n_classes: int | None, asked: str | None
) -> Chosen:
    """Return the logits: what was asked for, or the one candidate that no other surpasses.

    A candidate is a floating-point tensor of the output with a row for each sample. For it speak its width (the number
    of classes), a linear map that writes it, its name, and that no other candidate is a linear map of what comes of it.

    Args:
        seen: the pass.
        named: its values by the names and aliases of their taps.
        names: the name of each value and of what made it.
        n_classes: how many classes the data has, where it is known.
        asked: a key, index or field of the output, or a tap; None to choose.

    Raises:
        TapError: when nothing can be the logits, or several tensors can.
        UsageError: when there is nothing of the name that was asked for.
    """
    outputs = seen.recording.outputs
    if asked is not None:
        if asked not in outputs and asked not in named:
            known = ", ".join(name for name in outputs if name) or "one tensor"
            raise UsageError(
                f"{OPTION} {asked}: the model returns {known}, and no layer has that name; `ncscan layers` lists them"
            )
        value = outputs.get(asked, named.get(asked, -1))
        _require_rows(seen, value, f"{OPTION} {asked} is")
        return _looked_through(seen, value)
    if len(outputs) == 1 or CALLED in outputs:
        _require_rows(seen, outputs.get(CALLED, next(iter(outputs.values()))))
    able = {name: value for name, value in outputs.items() if not _obstacle(seen, value)}
    if not able:
        raise TapError(
            f"the model returns no logits: {seen.recording.returns} holds no floating tensor of shape (n, K)"
        )
    found = _distinct(seen, [_candidate(seen, name, value, n_classes) for name, value in able.items()])
    fitting = [each for each in found if each.width_rank] or found
    declared = [each for each in fitting if each.name_rank == 2]
    if len(declared) == 1 and declared[0].width_rank == max(each.width_rank for each in fitting):
        return declared[0].chosen
    best = [each for each in fitting if not any(each.is_surpassed_by(other) for other in fitting)]
    if len(best) == 1:
        return best[0].chosen
    raise TapError(
        f"the model returns {len(best)} tensors that may be its logits: "
        + "; ".join(_described(seen, each, names) for each in best)
        + f"; name one with {OPTION}, or as logits in [model] of ncscan.toml"
    )


def written_by(seen: Pass, value: int) -> Step | None:
    """Return the linear map that writes a value, or of whose results it is one position; None where none does."""
    root = seen.root(value)
    step = seen.makers.get(seen.root(picked_from(seen, root)))
    return step if step is not None and step.form is not None and step.form.kind == "linear" else None


def picked_from(seen: Pass, root: int) -> int:
    """Return the value of which this one is one position, such as a token; itself where it is no such part."""
    fact = seen.facts[root]
    if not fact.slices or fact.call is None or fact.layout is None or fact.layout.channel is None:
        return root
    source = fact.call.reads[0]
    layout, shape, whole = seen.facts[source].layout, seen.recording.shapes[root], seen.recording.shapes[source]
    if layout is None or layout.channel is None or shape[fact.layout.channel] != whole[layout.channel]:
        return root
    n, width = seen.recording.n, whole[layout.channel]
    return source if _size(shape) == n * width < _size(whole) else root


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _require_rows(seen: Pass, value: int, what: str = "the model returns") -> None:
    if obstacle := _obstacle(seen, value, what):
        raise TapError(obstacle)


def _obstacle(seen: Pass, value: int, what: str = "") -> str:
    """Return why a value cannot be the logits, else empty."""
    shape, fact = seen.recording.shapes[value], seen.facts[value]
    tensor = seen.recording.tensors[value]
    if len(shape) not in (1, 2) or not tensor.is_floating_point():
        dtype = str(tensor.dtype).removeprefix("torch.")
        return f"{what} {dtype} of shape {shape}, not one row of logits per sample: wrap it so that it returns (n, K)"
    if shape[0] != seen.recording.n:
        return "the model does not return one row of logits per sample"
    if not fact.from_input:
        return (
            "the logits do not come from the input by torch calls that can be seen: is there TorchScript, numpy or a "
            "custom extension on the way?"
        )
    if not _is_met(seen, value):
        return "the logits are assembled in place, by no call that could be followed; return the result of a call"
    return ""


def _is_met(seen: Pass, value: int) -> bool:
    """Return whether a later pass can hand the value on, with a row for each sample."""
    met = value in seen.recording.places or value in seen.recording.inputs.values()
    return met and seen.facts[value].layout is not None


def _candidate(seen: Pass, called: str, value: int, n_classes: int | None) -> _Candidate:
    chosen = _looked_through(seen, value)
    outputs = max(chosen.n_numbers, 2)  # one logit decides between two classes
    word = called.rpartition(".")[2].lower()
    return _Candidate(
        called=called,
        value=value,
        chosen=chosen,
        writer=written_by(seen, chosen.value),
        name_rank=2 if called == CALLED else int(word in LIKELY or word == CALLED),
        width_rank=1 if n_classes is None else int(outputs >= n_classes) + int(outputs == max(n_classes, 2)),
    )


def _distinct(seen: Pass, candidates: list[_Candidate]) -> list[_Candidate]:
    """Return one candidate for each value that is looked through to, with the best name that leads there."""
    best: dict[int, _Candidate] = {}
    for each in candidates:
        known = best.setdefault(seen.root(each.chosen.value), each)
        best[seen.root(each.chosen.value)] = replace(known, name_rank=max(known.name_rank, each.name_rank))
    above = {root: _ancestors(seen, root) for root, each in best.items() if each.writer is not None}
    return [
        replace(each, is_final=not any(root in behind for other, behind in above.items() if other != root))
        for root, each in best.items()
    ]


def _ancestors(seen: Pass, root: int) -> set[int]:
    """Return what a value depends on, without itself."""
    found: set[int] = set()
    todo = [root]
    while todo:
        step = seen.makers.get(todo.pop())
        new = (step.reads if step else frozenset[int]()) - found
        found |= new
        todo.extend(new)
    return found - {root}


def _described(seen: Pass, each: _Candidate, names: Mapping[int, tuple[str, str]]) -> str:
    tap = names[seen.root(each.value)][0]
    n = each.chosen.n_numbers
    by = f", written by linear map {names[each.writer.writes[0]][0]}" if each.writer else ", written by no linear map"
    return f"{each.called} (layer {tap}, {n} number{'s' if n > 1 else ''} a sample{by})"


def _looked_through(seen: Pass, value: int) -> Chosen:
    """Return the value before everything at the end of a pass that keeps the order of each row, or of one number to 0.

    Of softmax, a temperature or a sigmoid the loss is another, but no decision is.
    """
    n_numbers = _size(seen.recording.shapes[value][1:])
    passed: list[int] = []
    while (call := seen.facts[root := seen.root(value)].call) is not None:
        names = [_plain(each) for done in passed if (each := seen.facts[done].call)]
        source = _kept(seen, call, root)
        if source is None or not _is_met(seen, source) or (n_numbers == 1 and not _keeps_half(call, names)):
            break
        passed.insert(0, root)
        value = source
    return Chosen(value, tuple(passed), n_numbers)


def _plain(call: Call) -> str:
    return call.name.removesuffix("_")


def _keeps_half(call: Call, after: Sequence[str]) -> bool:
    """Return whether a call keeps on which side of its threshold a single number is, `after` being what follows it.

    The threshold of a probability is a half, that of everything before its sigmoid is 0.
    """
    name = _plain(call)
    if name in SIGMOIDS or name in CLAMPS:
        return all(each in CLAMPS for each in after)
    return name in ODD or name in TIMES or name in OVER


def _kept(seen: Pass, call: Call, root: int) -> int | None:
    """Return the value whose rows a call gives back in the same order; None where it does something else."""
    data = [number for number in call.reads if seen.facts[number].from_input]
    if not data or data.count(data[0]) > 1:
        return None
    source, name, shape = data[0], _plain(call), seen.recording.shapes[root]
    others = [number for number in call.reads if number != source]
    numbers = [each for each in (*call.args, call.kwargs.get("other")) if isinstance(each, int | float)]
    if seen.recording.shapes[source] != shape:
        return None
    leads = bool(call.reads) and call.reads[0] == source
    if name in INCREASING:
        keeps = not others
    elif name in OVER_ROWS:
        keeps = not others and _dimension(call) in (None, -1, len(shape) - 1) and _ends_in_features(seen, source)
    elif name in CLAMPS:
        keeps = not others and _is_probability(seen, source) and _is_wide(call)
    elif name in PLUS or (name in MINUS and leads):
        keeps = all(_is_row_constant(seen, number, shape) for number in others)
    elif name in TIMES or (name in OVER and leads and call.kwargs.get("rounding_mode") is None):
        scale = all(_is_row_constant(seen, number, shape) and _is_positive(seen, number) for number in others)
        keeps = scale and all(number > 0 for number in numbers)
    else:
        keeps = False
    return source if keeps else None


def _dimension(call: Call) -> object:
    positional = next((each for each in call.args[1:] if isinstance(each, int)), None)
    return call.kwargs.get("dim", positional)


def _ends_in_features(seen: Pass, value: int) -> bool:
    layout, n_dims = seen.facts[value].layout, len(seen.recording.shapes[value])
    return layout is not None and layout.dim == 0 and layout.channel == n_dims - 1


def _is_row_constant(seen: Pass, value: int, shape: tuple[int, ...]) -> bool:
    """Return whether a value is one number, or one a sample where the features of `shape` are last."""
    own = seen.recording.shapes[value]
    if not seen.facts[value].from_input:
        return _size(own) == 1
    return len(own) == len(shape) and own[-1] == 1 and own[:-1] == shape[:-1]


def _is_positive(seen: Pass, value: int) -> bool:
    """Return whether a factor is positive: a constant by its value, what is computed from samples by what makes it."""
    if not seen.facts[value].from_input:
        return float(seen.recording.tensors[value].detach()) > 0
    call = seen.facts[seen.root(value)].call
    if call is None:
        return False
    name, source = _plain(call), call.reads[0]
    if name in POSITIVE:
        return True
    numbers = [each for each in (*call.args[1:], *call.kwargs.values()) if isinstance(each, int | float)]
    if name in CLAMPS:
        return _is_positive(seen, source)
    if name in PLUS:
        return len(call.reads) == 1 and all(number >= 0 for number in numbers) and _is_positive(seen, source)
    if name in ("pow", "square"):
        return name == "square" or all(isinstance(number, int) and number % 2 == 0 for number in numbers)
    return name in GATHERED and len(call.reads) == 1 and _is_positive(seen, source)


def _is_probability(seen: Pass, value: int) -> bool:
    call = seen.facts[seen.root(value)].call
    return call is not None and _plain(call) in ("sigmoid", "softmax", "expit", "special_expit")


def _is_wide(call: Call) -> bool:
    """Return whether a clamp of probabilities leaves nearly all of [0, 1]."""
    lowest, highest = (
        call.kwargs.get(name, call.args[i] if len(call.args) > i else None) for i, name in ((1, "min"), (2, "max"))
    )
    if _plain(call) == "clamp_max":
        lowest, highest = None, lowest
    fits_below = lowest is None or (isinstance(lowest, int | float) and lowest <= EDGE)
    return fits_below and (highest is None or (isinstance(highest, int | float) and highest >= 1 - EDGE))
