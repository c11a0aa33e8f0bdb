"""Convert a [train] section to the units of the theory: weight decay as λ, time as steps at the first learning rate.

In: the plain values of [train], and the notes of checkpoints. Out: numbers, or `Undefined` with what is missing. What
the section leaves out of `momentum`, `dampening`, `schedule` and `loss_scale` is as torch has it by default; the loss,
the optimizer, the learning rate and the weight decay must be given.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float64, Int64

from ncscan.errors import Undefined

Train = Mapping[str, bool | int | float | str | None]
"""The [train] section of a run."""

SQUARE_LOSSES = ("mse", "mseloss", "mse_loss", "square")
"""Names of torch's MSELoss: the mean over samples and outputs, times `loss_scale`."""

OPTIMIZERS = (
    ("sgd", "gradient"),
    ("adam", "adaptive"),
    ("adamax", "adaptive"),
    ("nadam", "adaptive"),
    ("radam", "adaptive"),
    ("adagrad", "adaptive"),
    ("rmsprop", "adaptive"),
    ("adamw", "decoupled"),
    ("lion", "decoupled"),
)
"""The way in which an optimizer takes its weight decay: as part of the gradient, or apart from it (`decoupled`)."""


NOTED = (
    ("weight_decay", "weight_decay"),
    ("momentum", "momentum"),
    ("dampening", "dampening"),
    ("initial_lr", "lr"),
)
"""The settings that an optimizer's state notes, by their keys in [train]. Its `lr` is only that of the moment."""


def with_notes(train: Train, notes: Train) -> Train:
    """Return the [train] section, and for what it leaves out the notes of a checkpoint.

    >>> with_notes({"optimizer": "sgd", "weight_decay": 1e-4}, {"weight_decay": 0.0, "momentum": 0.9, "lr": 1e-5})
    {'weight_decay': 0.0001, 'momentum': 0.9, 'optimizer': 'sgd'}
    """
    return {key: notes[note] for note, key in NOTED if note in notes} | dict(train)


def number(train: Train, key: str, default: float | None = None) -> float:
    """Return a number of the section; Undefined when it is missing without a default, or none."""
    value = train.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        raise Undefined(f"[train] notes no {key}")
    if isinstance(value, bool | str) or not math.isfinite(value):
        raise Undefined(f"[train] {key} is no number: {value!r}")
    return float(value)


def text(train: Train, key: str, default: str | None = None) -> str:
    """Return a name of the section in lower case; Undefined when it is missing without a default."""
    value = train.get(key)
    if value is None and default is None:
        raise Undefined(f"[train] notes no {key}")
    return str(default if value is None else value).lower()


def optimizer_kind(train: Train) -> str:
    """Return `gradient`, `adaptive` or `decoupled`; Undefined when the optimizer is not known."""
    name = text(train, "optimizer")
    kind = dict(OPTIMIZERS).get(name)
    if kind is None:
        raise Undefined(f"nothing is known of the optimizer {name!r}")
    return kind


def ridge(train: Train, n_classes: int) -> float:
    """Return λ of the objective (1/2N)Σ‖y_i − f_i‖² + (λ/2)Σ‖W_k‖_F²: K·wd/(2c) for a loss of c·MSELoss.

    Raises: Undefined for any other loss, for decoupled weight decay (what it minimises has no such term), and where
        loss, optimizer or weight decay are not noted, or the decay is 0.

    >>> ridge({"loss": "mse", "optimizer": "sgd", "weight_decay": 2e-4}, n_classes=10)
    0.001
    """
    weight_decay = number(train, "weight_decay")
    loss = text(train, "loss")
    if loss not in SQUARE_LOSSES:
        raise Undefined(f"the loss is {loss}: this is said of the square loss")
    if optimizer_kind(train) == "decoupled":
        raise Undefined("decoupled weight decay: it is no term of the loss")
    if weight_decay <= 0:
        raise Undefined("trained without weight decay")
    scale = number(train, "loss_scale", 1.0)
    if scale <= 0:
        raise Undefined(f"[train] loss_scale is not above 0: {scale:g}")
    return n_classes * weight_decay / (2 * scale)


def balance_rate(train: Train) -> float:
    """Return how fast D = W_{ℓ+1}ᵀW_{ℓ+1} − W_ℓW_ℓᵀ decays under SGD: 2·lr·wd·(1 − dampening)/(1 − momentum) per step.

    The gradient of any loss conserves D to first order in the learning rate, and weight decay alone shrinks it: by
    2·lr·wd in a plain step. Momentum sums a gradient that hardly changes to 1/(1 − momentum) times its size.

    Returns: a rate per step at the first learning rate, ≥ 0; 0 without weight decay.

    Raises: Undefined for other optimizers, and where optimizer, learning rate or weight decay are not noted.

    >>> f"{balance_rate({'optimizer': 'sgd', 'lr': 0.2, 'momentum': 0.9, 'weight_decay': 1e-4}):.1e}"
    '4.0e-04'
    """
    kind = optimizer_kind(train)
    if kind == "decoupled":
        raise Undefined("decoupled weight decay")
    if kind == "adaptive":
        raise Undefined("no rate is known")
    momentum, dampening = number(train, "momentum", 0.0), number(train, "dampening", 0.0)
    if not (0 <= momentum < 1 and 0 <= dampening < 1):
        raise Undefined(f"[train] momentum {momentum:g} and dampening {dampening:g} are not in [0, 1)")
    rate, weight_decay = number(train, "lr"), number(train, "weight_decay")
    if rate <= 0 or weight_decay < 0:
        raise Undefined(f"[train] lr {rate:g} is not above 0, or weight_decay {weight_decay:g} below it")
    return 2 * rate * weight_decay * (1 - dampening) / (1 - momentum)


def effective_steps(steps: Int64[np.ndarray, "n"], train: Train) -> Float64[np.ndarray, "n"]:
    """Return the sum of the learning rates before each step, over the first: the step itself where that is constant.

    Raises: Undefined for a schedule that SCHEDULES does not have, and for one that lacks a number it needs.

    >>> effective_steps(np.array([0, 5, 10]), {"schedule": "cosine", "steps": 10})
    array([0.        , 4.32843788, 5.5       ])
    """
    schedule = text(train, "schedule", "constant")
    for name, summed in SCHEDULES:
        if name == schedule:
            return summed(steps, train)
    known = ", ".join(name for name, _ in SCHEDULES)
    raise Undefined(f"no rule for the schedule {schedule!r}; there are {known}")


def _constant(steps: Int64[np.ndarray, "n"], _: Train) -> Float64[np.ndarray, "n"]:
    exact: Float64[np.ndarray, n] = steps.astype(np.float64)
    return exact


def _cosine(steps: Int64[np.ndarray, "n"], train: Train) -> Float64[np.ndarray, "n"]:
    """Return Σ_{t<s} (1 + cos πt/T)/2 = s/2 + 1/4 + sin((s − ½)π/T)/(4 sin(π/2T)), after Dirichlet."""
    T = number(train, "steps")
    if T < 1 or steps.max(initial=0) > T:
        raise Undefined(f"a cosine schedule of {T:g} steps says nothing of step {steps.max(initial=0)}")
    waves = np.sin((steps - 0.5) * np.pi / T) / np.sin(np.pi / (2 * T))
    summed: Float64[np.ndarray, n] = steps / 2 + (1 + waves) / 4
    return summed


SCHEDULES: tuple[tuple[str, Callable[[Int64[np.ndarray, "n"], Train], Float64[np.ndarray, "n"]]], ...] = (
    ("constant", _constant),
    ("cosine", _cosine),
)
"""The schedules: from the number of a step to the sum of the learning rates before it, over the first."""
