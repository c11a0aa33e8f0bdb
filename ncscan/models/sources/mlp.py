"""Rebuild a plain chain of linear layers from its tensors alone.

In: the named tensors of a checkpoint, the activation between the layers and the length of the linear head. Out: a
module with the checkpoint's own parameter names. What the tensors do not show is asked for, never guessed.
"""

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import nn

from ncscan.errors import ModelError
from ncscan.models.request import ModelRequest
from ncscan.ordering import natural

ACTIVATIONS: Mapping[str, Callable[[], nn.Module] | None] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": None,
}
"""The functions that can stand between the layers; `identity` is nothing at all: a deep linear network."""


class LinearChain(nn.Module):
    """Linear layers in a row, on inputs flattened to vectors, with an activation after each but the last few."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], layers: Sequence[str], activation: str, head: int) -> None:
        super().__init__()
        self.path: list[str] = []
        taken = {name[:end] for name in layers for end, dot in enumerate(f"{name}.") if dot == "."}
        for index, name in enumerate(layers):
            weight = tensors[f"{name}.weight"]
            # On the meta device nothing is allocated or drawn: the weights come next.
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=f"{name}.bias" in tensors, device="meta")
            self._place(name, linear)
            make = ACTIVATIONS[activation]
            if make is not None and index < len(layers) - head:
                self._place(_free(f"{name}_{activation}", taken), make())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = inputs.flatten(1)
        for name in self.path:
            values = self.get_submodule(name)(values)
        return values

    def _place(self, name: str, module: nn.Module) -> None:
        """Put a module where its name places it, and last on the path; KeyError where something has that name."""
        *folders, last = name.split(".")
        parent: nn.Module = self
        for folder in folders:
            if folder not in dict(parent.named_children()):
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        if last in dict(parent.named_children()):
            raise KeyError(f"'{name}' is the name of two modules")
        parent.add_module(last, module)
        self.path.append(name)


def from_tensors(request: ModelRequest) -> LinearChain:
    """Return the chain that the tensors of a checkpoint form; ModelError, with its path, where they form none."""
    try:
        return rebuild(request.tensors, request.activation, request.linear_head)
    except ModelError as error:
        raise ModelError(f"{request.path}: {error}") from error


def rebuild(tensors: Mapping[str, torch.Tensor], activation: str | None, linear_head: int | None) -> LinearChain:
    """Return the chain that these tensors form, its weights still to be filled.

    Raises: ModelError when they form none, or several, or when the settings do not fit it.
    """
    layers = chain(tensors)
    if activation is None or linear_head is None:
        raise ModelError(
            f"an mlp of {len(layers)} linear layers, but its tensors do not tell what stands between them: write "
            'activation = "relu" (or another) and linear_head = 1 (how many layers at the end have no activation '
            "between them) under [model] in ncscan.toml"
        )
    if activation not in ACTIVATIONS:
        raise ModelError(f"activation {activation!a:.50} is not known; known: {', '.join(ACTIVATIONS)}")
    if not 1 <= linear_head <= len(layers):
        raise ModelError(f"linear_head = {linear_head}, but the mlp has {len(layers)} layers; the last alone is 1")
    try:
        return LinearChain(tensors, layers, activation, linear_head)
    except KeyError as error:
        raise ModelError(
            f"a layer's name cannot be rebuilt ({error}); use a model of your own: module:function"
        ) from error


def chain(tensors: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return the names of the linear layers, first to last.

    Layers are numbered, or stand in a few groups of which each is numbered (`hidden.0`, `hidden.2`, `head`): the
    order is the one in which every layer reads as many features as the one before it writes. Where shapes fit in
    several orders the order in the file is no evidence: safetensors sorts its tensors by name.

    >>> zeros = torch.zeros
    >>> chain({"head.weight": zeros(3, 5), "body.0.weight": zeros(5, 7), "body.0.bias": zeros(5)})
    ('body.0', 'head')
    """
    own = "use a model of your own: module:function"
    layers = sorted((name.removesuffix(".weight") for name in tensors if name.endswith(".weight")), key=natural)
    for name, tensor in tensors.items():
        layer, _, role = name.rpartition(".")
        if role == "weight" and layer and tensor.dim() == 2 and tensor.is_floating_point():
            if not tensor.numel():
                raise ModelError(
                    f"not a plain mlp: {name:.100} holds no numbers ({'×'.join(map(str, tensor.shape))}); {own}"
                )
            continue
        if role == "bias" and layer in layers and tensor.shape == tensors[f"{layer}.weight"].shape[:1]:
            continue
        shape = "×".join(map(str, tensor.shape)) or "a single number"
        shape += "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
        raise ModelError(f"not a plain mlp: {name:.100} ({shape}) is no weight or bias of a linear layer; {own}")
    groups = [list(group) for _, group in itertools.groupby(layers, key=lambda name: re.split(r"\d", name)[0])]
    if len(groups) > 6:
        raise ModelError(f"not a plain mlp: its {len(layers)} layers do not share one numbering; {own}")
    orders = {tuple(itertools.chain(*order)) for order in itertools.permutations(groups)}
    fitting = [order for order in orders if _chains([tensors[f"{name}.weight"] for name in order])]
    if len(fitting) != 1:
        shapes = ", ".join(f"{n:.100} {'×'.join(map(str, tensors[f'{n}.weight'].shape))}" for n in layers[:8])
        several = "chain in more than one order" if fitting else "do not chain"
        raise ModelError(f"not a plain mlp: its layers {several} ({shapes}{', …' if len(layers) > 8 else ''}); {own}")
    return fitting[0]


def _free(name: str, taken: Collection[str]) -> str:
    """Return the name, with one underscore more as long as a layer or a folder of layers has that name."""
    while name in taken:
        name += "_"
    return name


def _chains(weights: Sequence[torch.Tensor]) -> bool:
    return all(first.shape[0] == second.shape[1] for first, second in itertools.pairwise(weights))
