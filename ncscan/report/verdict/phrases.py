"""Put steps, spans and lists into the words of a sentence.

In: numbers and names. Out: text. Names of layers and runs go in as they are: who shows a sentence makes them safe.
"""

from collections.abc import Mapping
from typing import Any

from ncscan.wording import number

_UNITS = {"file": "file number", "order": "place"}
_PLURAL = {"iteration": "iterations", "epoch": "epochs"}


def when(checkpoint: Mapping[str, Any]) -> str:
    """Return the step of a checkpoint with its unit, or its name where it has no step.

    >>> when({"checkpoint": "a.pt", "step": 1200, "step_unit": "iteration"}), when({"checkpoint": "a.pt"})
    ('iteration 1,200', 'a.pt')
    """
    step = checkpoint.get("step")
    return str(checkpoint["checkpoint"]) if step is None else at_step(step, str(checkpoint.get("step_unit", "")))


def at_step(step: float | int, unit: str) -> str:
    """Return a step with its unit.

    >>> at_step(12000, "iteration"), at_step(7, "file"), at_step(2.0, "order")
    ('iteration 12,000', 'file number 7', 'place 2')
    """
    return f"{_UNITS.get(unit, unit)} {int(step):,}".strip()


def span(steps: float | int, unit: str) -> str:
    """Return a number of steps in words.

    >>> span(1730.07, "iteration"), span(2.345, "epoch"), span(4e9, "file")
    ('1,730 iterations', '2.3 epochs', '4e9 steps')
    """
    said = number(steps) if steps >= 1e9 else f"{steps:,.0f}" if steps >= 10 else f"{steps:.2g}"
    return f"{said} {_PLURAL.get(unit, 'steps')}"


def times(ratio: float | int) -> str:
    """Return a ratio to read: what is over and above 1 is not rounded away.

    >>> times(1.00161), times(1.017), times(271.4), times(0.5)
    ('1.002', '1.017', '271', '0.500')
    """
    return f"{ratio:.3f}" if 0.9 < ratio < 2 else number(ratio)
