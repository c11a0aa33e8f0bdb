"""What became of a run over its steps: the terminal phase, thresholds, rates of decay.

In: the series of one run, and its [train] section. Out: findings, whose definitions are in findings.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ncscan.computable import attempt
from ncscan.errors import Undefined
from ncscan.ordering import ORDER
from ncscan.splits import IMPLIED
from ncscan.training_settings import Train, balance_rate, effective_steps
from ncscan.trajectory.findings import BALANCE_FLOOR, BALANCES, DECAYING, MAIN, THRESHOLDS, Finding, found
from ncscan.trajectory.series import Fit, Numbers, Series, log_linear


@dataclass(frozen=True)
class Onset:
    """The step at which the terminal phase of a run begins."""

    step: int
    checkpoint: str
    relapses: int
    """The number of later checkpoints that have a training error again."""


def step_findings(numbers: Numbers, train: Train, step_unit: str, split: str) -> Iterator[Finding]:
    """Yield all findings of one run over its steps."""
    errors = next((series for (_, metric, _), series in numbers.items() if metric == "error"), None)
    onset = attempt(lambda: _onset(errors, split))
    yield from _terminal_phase("" if errors is None else errors.layer, onset)
    main = [series for key, series in numbers.items() if key[1:] in MAIN]
    for series in main:
        yield from _at_onset_and_end(series, onset)
    for metric, quantity, thresholds in THRESHOLDS:
        for series in main:
            if (series.metric, series.quantity) == (metric, quantity):
                yield from (_first_under(series, threshold) for threshold in thresholds)
    for series in main:
        if series.metric in DECAYING:
            yield from _decay(series, onset, step_unit)
    for (layer, metric, quantity), series in numbers.items():
        if metric in BALANCES and quantity == "op" and not np.isnan(series.values).all():
            without_bias = metric == "balancedness" and (layer, "balancedness_bias", "op") in numbers
            relative = numbers[layer, metric, "op_relative"]
            yield from _balance_decay(series, relative, train, step_unit, without_bias=without_bias)


def _onset(errors: Series | None, split: str) -> Onset:
    """Return the first checkpoint without training error; Undefined when there is none."""
    if errors is None:
        raise Undefined("the error was not measured")
    if split not in IMPLIED:
        raise Undefined(f"the error is that of the {split} split, not of the training set")
    if np.isnan(errors.values).all():
        raise Undefined(errors.reasons[0])
    without = np.flatnonzero(errors.values == 0)
    if not len(without):
        i = int(np.nanargmin(errors.values))
        raise Undefined(f"the training error never is 0: at least {errors.values[i]:.2g}, at step {errors.steps[i]}")
    first = without[0]
    return Onset(int(errors.steps[first]), errors.checkpoints[first], int((errors.values[first:] > 0).sum()))


def _terminal_phase(layer: str, onset: Onset | Undefined) -> Iterator[Finding]:
    if isinstance(onset, Undefined):
        for quantity in ("onset", "relapses"):
            yield found("terminal_phase", "error", quantity, onset, layer=layer)
        return
    yield found("terminal_phase", "error", "onset", onset.step, layer=layer, step=onset.step)
    yield found("terminal_phase", "error", "relapses", onset.relapses, layer=layer, step=onset.step)


def _at_onset_and_end(series: Series, onset: Onset | Undefined) -> Iterator[Finding]:
    names = (series.metric, series.quantity)
    if isinstance(onset, Onset):
        yield found("at_onset", *names, series.at(onset.checkpoint), layer=series.layer, step=onset.step)
    else:
        yield found("at_onset", *names, Undefined("there is no terminal phase"), layer=series.layer)
    last = series.checkpoints[-1]
    yield found("at_end", *names, series.at(last), layer=series.layer, step=int(series.steps[-1]))


def _first_under(series: Series, threshold: float) -> Finding:
    quantity = f"{series.quantity} < {threshold:g}".strip()
    under = np.flatnonzero(series.values < threshold)  # NaN is under nothing
    if len(under):
        step = int(series.steps[under[0]])
        return found("first_under", series.metric, quantity, step, layer=series.layer, step=step)
    if np.isnan(series.values).all():
        return found("first_under", series.metric, quantity, Undefined(series.reasons[0]), layer=series.layer)
    least = Undefined(f"never: at least {np.nanmin(series.values):.2g}")
    return found("first_under", series.metric, quantity, least, layer=series.layer)


def _decay(series: Series, onset: Onset | Undefined, step_unit: str) -> Iterator[Finding]:
    def fit() -> Fit:
        if isinstance(onset, Undefined):
            raise Undefined("there is no terminal phase")
        phase = series.part(series.steps >= onset.step)
        return _fit(phase, phase.steps.astype(np.float64), step_unit)

    yield from _law("decay", series, attempt(fit))


def _balance_decay(
    series: Series, relative: Series, train: Train, step_unit: str, *, without_bias: bool
) -> Iterator[Finding]:
    """Yield the fit as far as something is left to shrink, and with it the rate that theory predicts."""
    resolved = relative.values > BALANCE_FLOOR
    until = len(resolved) if resolved.all() else int(np.argmin(resolved))
    phase = series.part(np.arange(len(resolved)) < until)
    # Where the schedule is not known the plain steps still give a rate, which then has nothing to be compared with.
    time = attempt(lambda: effective_steps(phase.steps, train))
    axis = phase.steps.astype(np.float64) if isinstance(time, Undefined) else time

    def predicted() -> float:
        if without_bias:
            raise Undefined("the first map has a bias: balancedness_bias is what gradients conserve")
        if step_unit != "iteration":
            raise Undefined(f"steps are counted as {step_unit}: the rate is one per iteration")
        rate = balance_rate(train)
        if isinstance(time, Undefined):
            raise time
        return rate

    fit = attempt(lambda: _fit(phase, axis, step_unit))
    expected = attempt(predicted)

    def ratio() -> float:
        if isinstance(fit, Undefined):
            raise fit
        if isinstance(expected, Undefined):
            raise expected
        if expected == 0:
            raise Undefined("trained without weight decay: gradients alone conserve it")
        return -fit.slope / expected

    yield from _law("balance_decay", series, fit)
    yield found("balance_decay", series.metric, "predicted", expected, layer=series.layer)
    yield found("balance_decay", series.metric, "ratio", attempt(ratio), layer=series.layer)


def _fit(phase: Series, time: Float64[np.ndarray, "n"], step_unit: str) -> Fit:
    if step_unit == ORDER:
        raise Undefined("nothing tells the steps of the checkpoints, only their order")
    return log_linear(time, phase.values)


def _law(finding: str, series: Series, fit: Fit | Undefined) -> Iterator[Finding]:
    """Yield the four numbers of an exponential law over steps."""
    values: dict[str, float | int | Undefined]
    if isinstance(fit, Undefined):
        values = dict.fromkeys(("rate", "half_life", "r2", "points"), fit)
    else:
        falls = fit.slope < 0
        half_life = math.log(2) / -fit.slope if falls else Undefined("it does not decay")
        values = {"rate": -fit.slope, "half_life": half_life, "r2": fit.r2, "points": fit.points}
    for quantity, value in values.items():
        yield found(finding, series.metric, quantity, value, layer=series.layer)
