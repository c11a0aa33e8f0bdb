"""How a network decides, in words: which tensor its logits are, what its head reads, and whether layers are read so.

In: a traced pass and the reduction that was asked for. Out: lines of text.
"""

from collections.abc import Mapping, Sequence

from ncscan.activations import AUTO, Trace, reduction_of
from ncscan.layer_graph import Tap
from ncscan.wording import listed

IN_WORDS: Mapping[str, str] = {
    "mean": "the mean of the positions",
    "max": "the maximum of the positions",
    "flatten": "all positions",
    "cls": "the first token",
    "last": "the last token",
}
"""What each reduction takes of a layer."""


def logits_in_words(traced: Trace) -> str:
    """Return which tensor the network decides by, what writes it, and what was looked through."""
    graph, name = traced.graph, traced.graph.output.name
    if graph.head:
        last = graph.map(graph.head[-1])
        by = f", a linear map of {last.reads}" if last.name == name else f" of linear map {last.name} of {last.reads}"
    else:
        by = f", made by {graph.output.types[0] if graph.output.types else 'no call'}, no linear map"
    before = f", before {', '.join(traced.passed)}" if traced.passed else ""
    return f"logits: {name}{by}{before}{'; one for two classes' if graph.has_one_logit else ''}"


def token_in_words(traced: Trace, reduction: str) -> str:
    """Return which token of sequences is kept because the head reads it; empty where it reads none."""
    return f"tokens: {IN_WORDS[traced.read.how]}, as the head reads" if reduction == AUTO and traced.read.how else ""


def reduction_doubt(traced: Trace, taps: Sequence[Tap], asked: str) -> str:
    """Return a line where layers are reduced to something else than the head reads of them; else empty.

    Args:
        traced: the traced pass.
        taps: the layers that are kept.
        asked: the reduction that was asked for; `auto` follows the head as far as it can be followed.
    """
    read = traced.read
    with_positions = [tap for tap in taps if len(tap.shape) > 1 and tap.kind != "input"]
    if asked == AUTO:
        if not read.is_unclear or not with_positions:
            return ""
        return (
            f"which token the head reads is not clear ({listed(list(read.otherwise))}): layers are averaged over their "
            "positions, and may be far from what it reads; choose a --reduction"
        )
    reads = IN_WORDS[read.how] if read.how else listed(list(read.otherwise)) if read.otherwise else ""
    kept = {reduction_of(tap, asked): tap for tap in reversed(with_positions) if traced.is_read(tap) or not read.how}
    others = {how: tap for how, tap in kept.items() if how in IN_WORDS and IN_WORDS[how] != reads}
    if not reads or not others:
        return ""
    how, tap = next(reversed(others.items()))
    return (
        f"the head reads {reads}, and --reduction {asked} keeps {IN_WORDS[how]} of layer {tap.name} and others: "
        "their numbers are not of what it reads; --reduction auto follows it"
    )
