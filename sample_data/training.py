"""Trains a small MLP into the terminal phase and keeps checkpoints on the way.

In: a `Recipe`, inputs and labels. Out: one run's folder, its checkpoints and its ncscan.toml. make.py (digits) and
mnist.py (MNIST) share this file; only it trains, and only it writes checkpoints.

Every draw, of weights and of batches, comes from one seeded generator: the same torch on the same kind of processor
gives the same bytes. Elsewhere sums round differently, and the runs part slowly.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import nn

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
"""The learning rate over its first value, against the part of the training that is done."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a run, and what its ncscan.toml says of it."""

    run: str
    group: str
    data: str
    normalize: str | None
    seed: int
    widths: tuple[int, ...]
    linear_head: int
    lr: float
    momentum: float
    weight_decay: float
    loss_scale: float
    schedule: str
    batch_size: int
    checkpoints: tuple[int, ...]
    """The steps after which a checkpoint is kept, from 0, the initialisation, to the last step of the training."""


def train(recipe: Recipe, inputs: torch.Tensor, labels: torch.Tensor, folder: Path) -> None:
    """Train on `inputs` (N, d) and `labels` (N,), and leave the checkpoints and an ncscan.toml in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("step_*"):
        stale.unlink()  # a checkpoint of an older recipe would pass for one of this run
    (folder / "ncscan.toml").write_text(toml(recipe), encoding="utf-8")

    generator = torch.Generator().manual_seed(recipe.seed)
    model = mlp(recipe, generator)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    targets = nn.functional.one_hot(labels, recipe.widths[-1]).to(inputs.dtype)
    batches = shuffled(len(inputs), recipe.batch_size, generator)
    last = recipe.checkpoints[-1]

    for step in range(last + 1):
        optimizer.param_groups[0]["lr"] = recipe.lr * SCHEDULES[recipe.schedule](step / max(last, 1))
        if step in recipe.checkpoints:
            number = recipe.checkpoints.index(step)
            epoch = step // (len(inputs) // recipe.batch_size)
            notes = {"step": step, "epoch": epoch, **fit(model, inputs, labels, targets)}
            if not math.isfinite(notes["train_mse"]):
                raise SystemExit(f"{recipe.run}: diverged before step {step}; lower lr, now {recipe.lr}")
            save(folder / f"step_{step:06d}", model, optimizer if number % 2 == 0 else None, notes)
            print(f"{recipe.run}: " + ", ".join(f"{name} {value:.6g}" for name, value in notes.items()), flush=True)
        if step == last:
            break
        batch = next(batches)
        loss = recipe.loss_scale * nn.functional.mse_loss(model(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


def mlp(recipe: Recipe, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with a ReLU after each, then a linear head: bias-free layers with nothing between them.

    Weights of variance 1 / fan_in (LeCun et al. 1998) everywhere: with twice that in front of each ReLU (He et al.
    2015) the nine layers of mnist.py diverged at learning rates 0.005 and 0.02.
    """
    modules: list[nn.Module] = []
    n_hidden = len(recipe.widths) - 1 - recipe.linear_head
    for depth, (fan_in, fan_out) in enumerate(pairwise(recipe.widths)):
        hidden = depth < n_hidden
        linear = nn.Linear(fan_in, fan_out, bias=hidden)
        nn.init.normal_(linear.weight, std=1 / math.sqrt(fan_in), generator=generator)
        modules.append(linear)
        if hidden:
            nn.init.zeros_(linear.bias)
            modules.append(nn.ReLU())
    return nn.Sequential(*modules)


def shuffled(n_samples: int, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Row numbers of whole batches, for ever; each epoch is shuffled anew and leaves out what fills no batch."""
    if batch_size > n_samples:
        raise SystemExit(f"{n_samples} samples do not fill one batch of {batch_size}")
    while True:
        order = torch.randperm(n_samples, generator=generator)
        yield from order[: n_samples // batch_size * batch_size].view(-1, batch_size)


@torch.no_grad()
def fit(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Accuracy on all samples, and the mean squared error against one-hot targets, without loss_scale."""
    outputs = torch.cat([model(part) for part in torch.split(inputs, 5000)])
    return {
        "train_accuracy": (outputs.argmax(1) == labels).double().mean().item(),
        "train_mse": nn.functional.mse_loss(outputs.double(), targets.double()).item(),
    }


def save(stem: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, notes: Mapping[str, float]) -> None:
    """A `.pt` from which training could resume where the optimizer is given, else a `.safetensors` of the weights."""
    if optimizer is None:
        raw = safetensors.save(model.state_dict(), {name: repr(value) for name, value in notes.items()})
        stem.with_suffix(".safetensors").write_bytes(with_sorted_header(raw))
    else:
        state = {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), **notes}
        torch.save(state, stem.with_suffix(".pt"))


def with_sorted_header(raw: bytes) -> bytes:
    """The same safetensors file with its header in order: the library shuffles the metadata, anew in each process."""
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + raw[end:]


def toml(recipe: Recipe) -> str:
    """The run's ncscan.toml: what a checkpoint cannot say of itself."""
    sections: Mapping[str, Mapping[str, str | int | float | None]] = {
        "model": {"source": "mlp", "activation": "relu", "linear_head": recipe.linear_head},
        "data": {"source": recipe.data, "normalize": recipe.normalize},
        "train": {
            "loss": "mse",
            "loss_scale": recipe.loss_scale,
            "optimizer": "sgd",
            "lr": recipe.lr,
            "momentum": recipe.momentum,
            "weight_decay": recipe.weight_decay,
            "batch_size": recipe.batch_size,
            "schedule": recipe.schedule,
            "steps": recipe.checkpoints[-1],
            "seed": recipe.seed,
        },
        "run": {"group": recipe.group},
    }
    # Numbers and plain strings look alike in JSON and in TOML.
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items() if value is not None)
        for section, keys in sections.items()
    )
