"""What a training minimised: the loss in torch's units, its weight decay, and how sharp a minimum its steps can bear.

In: the [train] section of an ncscan.toml, the notes of a checkpoint and its step. Out: a differentiable loss, numbers,
or `Undefined` with what is not known. Defaults are those of training_settings.py, which are torch's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch.nn import functional

from ncscan.config import Setting
from ncscan.errors import Undefined
from ncscan.metrics.layers.nearest_class_center import NO_TARGETS
from ncscan.training_settings import SQUARE_LOSSES, effective_steps, number, optimizer_kind, text


def _square_error(logits: Float[torch.Tensor, "n K"], labels: Int64[torch.Tensor, "n"]) -> Float[torch.Tensor, ""]:
    targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return functional.mse_loss(logits, targets, reduction="sum") / logits.shape[1]


def _cross_entropy(logits: Float[torch.Tensor, "n K"], labels: Int64[torch.Tensor, "n"]) -> Float[torch.Tensor, ""]:
    return functional.cross_entropy(logits, labels, reduction="sum")


LOSSES: tuple[tuple[tuple[str, ...], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]], ...] = (
    (SQUARE_LOSSES, _square_error),
    (("cross_entropy", "crossentropyloss", "cross-entropy", "ce"), _cross_entropy),
)
"""The names that [train] loss can have, and its sum over samples: the mean is torch's MSELoss or CrossEntropyLoss."""
BINARY = ("binary_cross_entropy", "bce", "bceloss", "bcewithlogitsloss", "binary_cross_entropy_with_logits")
"""Names of the loss of one logit for two classes: the softmax of −z/2 and z/2 is the sigmoid of z."""


@dataclass(frozen=True)
class Objective:
    """loss_scale·loss + (wd/2)‖θ‖², over all parameters, and the steps that made it small."""

    train: Mapping[str, Setting]
    notes: Mapping[str, Setting]
    """The notes of the checkpoint: where a schedule changed the learning rate, its optimizer's state knows it."""
    step: int | None = None

    def loss(
        self, logits: Float[torch.Tensor, "n K"], labels: Int64[torch.Tensor, "n"], *, one_logit: bool = False
    ) -> Float[torch.Tensor, ""]:
        """Return loss_scale times the loss, summed over samples; of one logit z the logits are −z/2 and z/2.

        Undefined when nothing names the loss, it is not known, or it is the square loss of one logit.
        """
        name = text(self.train, "loss")
        if one_logit and name in SQUARE_LOSSES:
            raise Undefined(NO_TARGETS)
        summed = next((summed for names, summed in LOSSES if name in names), None)
        if one_logit and name in BINARY:
            summed = _cross_entropy
        if summed is None:
            raise Undefined(f"the loss {name!a:.40} is none of {', '.join(names[0] for names, _ in LOSSES)}")
        return number(self.train, "loss_scale", 1.0) * summed(logits, labels)

    def weight_decay(self) -> float:
        """Return wd, as torch's optimizers take it; Undefined when it is not noted, or the gradient of no loss."""
        wd = number(self.train, "weight_decay")
        if wd and optimizer_kind(self.train) == "decoupled":
            raise Undefined("decoupled weight decay: it is no term of the loss")
        return wd

    def learning_rate(self) -> float:
        """Return SGD's step size at this checkpoint; Undefined for other optimizers, and where a schedule hides it."""
        if optimizer_kind(self.train) != "gradient":
            raise Undefined(f"the bound holds for SGD; the optimizer is {text(self.train, 'optimizer')}")
        noted = self.notes.get("lr")
        if text(self.train, "schedule", "constant") == "constant":
            lr = number(self.train, "lr", noted if isinstance(noted, float) else None)
        elif isinstance(noted, float):
            lr = noted
        elif self.step is None:
            raise Undefined("the learning rate has a schedule, and the step of the checkpoint is not known")
        else:
            before, after = effective_steps(np.array([self.step, self.step + 1]), self.train)
            lr = number(self.train, "lr") * float(after - before)
        if not lr > 0:
            raise Undefined(f"the learning rate is {lr:g}: nothing moves")
        return lr

    def bound(self) -> float:
        """Return 2/lr: gradient descent leaves a minimum that is sharper.

        >>> Objective({"optimizer": "sgd", "lr": 0.5}, {}).bound()
        4.0
        """
        return 2 / self.learning_rate()

    def momentum_bound(self) -> float:
        """Return 2(1 + β)/((1 − τ)·lr), the same for SGD with momentum β and dampening τ.

        >>> Objective({"optimizer": "sgd", "lr": 0.5, "momentum": 0.5}, {}).momentum_bound()
        6.0
        """
        if self.notes.get("nesterov") is True:
            raise Undefined("Nesterov's momentum has another bound")
        beta, tau = number(self.train, "momentum", 0.0), number(self.train, "dampening", 0.0)
        if not (0 <= beta < 1 and 0 <= tau < 1):
            raise Undefined(f"[train] momentum {beta:g} and dampening {tau:g} are not in [0, 1)")
        return (1 + beta) / (1 - tau) * self.bound()
