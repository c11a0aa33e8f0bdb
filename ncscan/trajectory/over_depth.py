"""What becomes of the classes over the depth of a network: the law of data separation, the tunnel, the first collapse.

In: the series of one run, and the stages of its network. Out: findings of every checkpoint, defined in findings.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from ncscan.errors import Undefined
from ncscan.layer_graph import TapGraph
from ncscan.trajectory.findings import COLLAPSED, EXCESS, MONOTONE, RISE, TUNNELS, Finding, found
from ncscan.trajectory.series import NO_STEP, Numbers, log_linear


def stages(graph: TapGraph) -> tuple[str, ...]:
    """Return the layers that depth is counted in, from the input to the outputs of the network.

    In a chain they are what the linear maps read, which is after the activation, and the outputs. In a network of
    residual blocks what a block computes parallel to its skip is no stage: only a layer after a residual sum is one.
    """
    after_sums = {link.next for link in graph.links if "residual" in link.between}
    starts = {graph.maps[0].name} if graph.maps else set()
    readers = [m for m in graph.maps if not after_sums or m.name in after_sums | starts]
    wanted = {m.reads for m in readers} | {graph.output.name}
    return tuple(tap.name for tap in sorted(graph.taps, key=lambda tap: tap.depth) if tap.name in wanted)


@dataclass(frozen=True)
class Profile:
    """One metric of one checkpoint over the stages, NaN where it has no value."""

    metric: str
    stages: tuple[str, ...]
    values: Float64[np.ndarray, "L"]

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the stages that have a value, and the values."""
        at = np.flatnonzero(~np.isnan(self.values))
        return at, self.values[at]


def depth_findings(numbers: Numbers, stages: Sequence[str]) -> Iterator[Finding]:
    """Yield all findings over depth, checkpoint by checkpoint."""
    errors = next((series for (_, metric, _), series in numbers.items() if metric == "error"), None)
    if not stages:
        return
    checkpoints = dict.fromkeys(
        checkpoint
        for series in ([errors] if errors is not None else numbers.values())
        for checkpoint in zip(series.checkpoints, map(int, series.steps), strict=True)
    )
    for checkpoint, step in checkpoints:
        error = Undefined("the error was not measured") if errors is None else errors.at(checkpoint)
        for one in _of_checkpoint(numbers, tuple(stages), checkpoint, error):
            yield found(
                one.finding,
                one.metric,
                one.quantity,
                one.value,
                layer=one.layer,
                checkpoint=checkpoint,
                step=None if step == NO_STEP else step,
            )


@dataclass(frozen=True)
class _Depth:
    """A finding before it is known which checkpoint it is about."""

    finding: str
    metric: str
    quantity: str
    value: float | int | Undefined
    layer: str = ""


def _of_checkpoint(
    numbers: Numbers, stages: tuple[str, ...], checkpoint: str, error: float | Undefined
) -> Iterator[_Depth]:
    def profile(metric: str) -> Profile:
        values = []
        for stage in stages:
            series = numbers.get((stage, metric, ""))
            value = np.nan if series is None else series.at(checkpoint)
            values.append(np.nan if isinstance(value, Undefined) else value)
        return Profile(metric, stages, np.array(values, np.float64))

    measured = {metric for _, metric, _ in numbers}
    if "separation" in measured:
        yield from _separation_law(profile("separation"))
    for metric in MONOTONE:
        if metric in measured:
            yield from _monotone(profile(metric))
    yield _effective_depth(profile("ncc_error"), error)
    for metric, change in TUNNELS:
        if metric in measured:
            yield _tunnel(profile(metric), change)
    yield _first_collapsed(profile(COLLAPSED[0]))


def _separation_law(profile: Profile) -> Iterator[_Depth]:
    """Yield the law of separation.

    The outputs are no layer of it: it is about what the network computes on the way to them.
    """
    before = profile.values[:-1]
    values: dict[str, float | int | Undefined]
    try:
        fit = log_linear(np.arange(len(before), dtype=np.float64), before)
        values = {"log_rho": fit.slope, "r2": fit.r2, "points": fit.points}
    except Undefined as why:
        values = dict.fromkeys(("log_rho", "r2", "points"), why)
    for quantity, value in values.items():
        yield _Depth("separation_law", profile.metric, quantity, value)


def _monotone(profile: Profile) -> Iterator[_Depth]:
    at, values = profile.known()
    if len(values) < 2:
        why = Undefined(f"{len(values)} stages with a value")
        yield _Depth("monotone_collapse", profile.metric, "violations", why)
        yield _Depth("monotone_collapse", profile.metric, "largest", why)
        return
    rises = int((values[1:] > (1 + RISE) * values[:-1]).sum())
    yield _Depth("monotone_collapse", profile.metric, "violations", float(rises))
    zero = (values[:-1] == 0) & (values[1:] > 0)
    if zero.any():
        of = profile.stages[at[1:][zero][0]]
        yield _Depth("monotone_collapse", profile.metric, "largest", Undefined("it rises from 0"), of)
        return
    ratios = np.divide(values[1:], values[:-1], out=np.ones(len(values) - 1), where=values[:-1] > 0)
    largest = int(np.argmax(ratios))
    of = profile.stages[at[largest + 1]]
    yield _Depth("monotone_collapse", profile.metric, "largest", float(ratios[largest]), of)


def _effective_depth(profile: Profile, error: float | Undefined) -> _Depth:
    if isinstance(error, Undefined):
        return _Depth("effective_depth", profile.metric, "stage", error)
    return _first(
        "effective_depth", profile, profile.values <= error + EXCESS, "no stage comes within 1 % of the network's error"
    )


def _tunnel(profile: Profile, change: float) -> _Depth:
    at, values = profile.known()
    inside = at < len(profile.stages) - 1
    at, values = at[inside], values[inside]
    if len(values) < 2:
        return _Depth("tunnel_start", profile.metric, "stage", Undefined(f"{len(values)} stages with a value"))
    # One part in 10¹² is the rounding of a share, no change.
    steady = _from_here_on(np.abs(values - values[-1]) <= change * (1 + 1e-12))
    start = int(at[np.argmax(steady)])
    if start == at[-1]:
        return _Depth("tunnel_start", profile.metric, "stage", Undefined("no tunnel: it changes up to the last stage"))
    return _Depth("tunnel_start", profile.metric, "stage", float(start), profile.stages[start])


def _first_collapsed(profile: Profile) -> _Depth:
    known = ~np.isnan(profile.values)
    under = _from_here_on((profile.values < COLLAPSED[1]) | ~known) & known
    return _first("first_collapsed", profile, under, f"it is not under {COLLAPSED[1]:g} at the last stages")


def _first(finding: str, profile: Profile, holds: Bool[np.ndarray, "L"], otherwise: str) -> _Depth:
    """Return the first stage at which something holds, by number and name."""
    if np.isnan(profile.values).all():
        return _Depth(finding, profile.metric, "stage", Undefined("no stage has a value"))
    if not holds.any():
        return _Depth(finding, profile.metric, "stage", Undefined(otherwise))
    stage = int(np.argmax(holds))
    return _Depth(finding, profile.metric, "stage", float(stage), profile.stages[stage])


def _from_here_on(holds: Bool[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Return at each stage whether it holds there and at all later ones."""
    return np.logical_and.accumulate(holds[::-1])[::-1]
