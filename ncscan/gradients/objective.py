"""What a training minimised, and how: the loss in torch's units, its weight decay, the step size of its optimizer.

In: the [train] section of an ncscan.toml and the notes of a checkpoint. Out: numbers, or `Undefined` with what is not
known. The only file that says what a name in [train] means to torch; nothing that is not said is guessed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch.nn import functional

from ncscan.config import Plain
from ncscan.errors import Undefined


def _square_error(logits: Float[torch.Tensor, "n K"], labels: Int64[torch.Tensor, "n"]) -> Float[torch.Tensor, ""]:
    targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return functional.mse_loss(logits, targets, reduction="sum") / logits.shape[1]


def _cross_entropy(logits: Float[torch.Tensor, "n K"], labels: Int64[torch.Tensor, "n"]) -> Float[torch.Tensor, ""]:
    return functional.cross_entropy(logits, labels, reduction="sum")


LOSSES: tuple[tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]], ...] = (
    ("mse", _square_error),
    ("cross_entropy", _cross_entropy),
)
"""What [train] loss can be, summed over samples: divided by their number it is torch's MSELoss or CrossEntropyLoss."""
DECOUPLED = ("adamw", "sgdw", "lion")
"""Optimizers whose weight decay is no part of the loss."""


@dataclass(frozen=True)
class Objective:
    """loss_scale·loss + (wd/2)‖θ‖², over all parameters, and the optimizer that made it small."""

    train: Mapping[str, Plain]
    notes: Mapping[str, Plain]
    """Of the checkpoint: where a schedule changed the learning rate, its optimizer's state knows it."""

    def loss(self, logits: Float[torch.Tensor, "n K"], labels: Int64[torch.Tensor, "n"]) -> Float[torch.Tensor, ""]:
        """loss_scale times the loss, summed over samples.

        Raises: Undefined when nothing says the loss, or it is none of `LOSSES`.
        """
        name = self.train.get("loss")
        if name is None:
            raise _unsaid("loss")
        summed = dict(LOSSES).get(str(name).lower())
        if summed is None:
            raise Undefined(f"the loss {name!a:.40} is none of {', '.join(known for known, _ in LOSSES)}")
        return self._number("loss_scale", 1.0) * summed(logits, labels)

    def weight_decay(self) -> float:
        """wd, as torch's optimizers take it; Undefined when it is not said, or is the gradient of no loss."""
        optimizer = str(self.train.get("optimizer", "")).lower()
        if optimizer in DECOUPLED:
            raise Undefined(f"decoupled weight decay ({optimizer})")
        return self._number("weight_decay")

    def learning_rate(self) -> float:
        """The step size of SGD at this checkpoint; Undefined for other optimizers, and where a schedule hides it."""
        optimizer = self.train.get("optimizer")
        if optimizer is None:
            raise _unsaid("optimizer")
        if str(optimizer).lower() != "sgd":
            raise Undefined(f"the bound holds for SGD; the optimizer is {optimizer!a:.40}")
        schedule, noted = self.train.get("schedule"), self.notes.get("lr")
        told = noted if isinstance(noted, int | float) else None
        if schedule not in (None, "constant"):
            if told is None:
                raise Undefined(
                    f"the learning rate has a schedule ({schedule!a:.40}), and the checkpoint does not note it"
                )
            lr = float(told)
        else:
            lr = self._number("lr", told)
        if not lr > 0:
            raise Undefined(f"the learning rate is {lr:g}: nothing moves")
        return lr

    def stability_bound(self) -> float:
        """2/lr, the sharpness above which gradient descent leaves a minimum.

        >>> Objective({"optimizer": "sgd", "lr": 0.5}, {}).stability_bound()
        4.0
        """
        return 2 / self.learning_rate()

    def momentum_bound(self) -> float:
        """2(1 + β)/((1 − τ)·lr), the same for SGD with momentum β and dampening τ.

        >>> Objective({"optimizer": "sgd", "lr": 0.5, "momentum": 0.5}, {}).momentum_bound()
        6.0
        """
        if self.notes.get("nesterov") is True:
            raise Undefined("Nesterov's momentum has another bound")
        beta, tau = self._number("momentum"), self._number("dampening", 0.0)
        if not (0 <= beta < 1 and 0 <= tau < 1):
            raise Undefined(f"momentum {beta:g} and dampening {tau:g} are not in [0, 1)")
        return (1 + beta) / (1 - tau) * self.stability_bound()

    def _number(self, key: str, otherwise: float | None = None) -> float:
        value = self.train.get(key, otherwise)
        if value is None:
            raise _unsaid(key)
        if isinstance(value, bool | str) or not math.isfinite(value):
            raise Undefined(f"[train] {key} is {value!a:.40}, not a finite number")
        return float(value)


def _unsaid(key: str) -> Undefined:
    return Undefined(f"nothing says the {key.replace('_', ' ')}: write [train] {key} into ncscan.toml")
