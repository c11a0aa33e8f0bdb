"""Classify single torch calls: which kind of layer, which of them are linear maps and with which weight.

In: one recorded call. Out: its kind, and the weight as (outputs, inputs, …). The only file that knows torch's functions
by name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ncscan.activations.tracing.record import Call
from ncscan.layer_graph import LayerKind


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set of names."""
    return frozenset(text.split())


KINDS_BY_CALL: tuple[tuple[LayerKind, frozenset[str]], ...] = (
    (
        "activation",
        words("""
            celu clamp clamp_max clamp_min clip elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu
            log_softmax logsigmoid maximum minimum mish prelu relu relu6 rrelu selu sigmoid silu sin softmax softmin
            softplus softshrink softsign tanh tanhshrink threshold
        """),
    ),
    (
        "normalisation",
        words("batch_norm group_norm instance_norm layer_norm local_response_norm normalize rms_norm"),
    ),
    (
        "pooling",
        frozenset(
            f"{how}_pool{n}d{more}"
            for how in ("max", "avg", "lp", "adaptive_max", "adaptive_avg", "fractional_max")
            for n in (1, 2, 3)
            for more in ("", "_with_indices")
        ),
    ),
    ("attention", frozenset({"scaled_dot_product_attention"})),
    ("recurrent", words("gru lstm rnn_relu rnn_tanh")),
)
"""The kinds of calls by name; in-place twins (`relu_`) count as their namesakes."""

REDUCTIONS = words("amax amin logsumexp max mean median min norm prod std sum var")
"""Such calls count as pooling when they leave fewer numbers than they read."""

MOVES = words("""
    alias as_strided channel_shuffle chunk clone contiguous data detach dsplit expand expand_as flatten
    flip gather getitem H hsplit index_select mH moveaxis movedim mT narrow native_channel_shuffle
    permute pixel_shuffle pixel_unshuffle positive ravel repeat repeat_interleave reshape reshape_as
    roll rot90 select split split_with_sizes squeeze squeeze_ swapaxes swapdims T t t_ take_along_dim
    tensor_split tile transpose transpose_ unbind unflatten unfold unsqueeze unsqueeze_ view view_as
    vsplit
""")
"""They compute nothing: what went where is found by repeating them on positions."""

CASTS = words("to type type_as float half bfloat16 double cpu cuda")
"""Such calls give the same numbers, in another precision or place."""

EMPTY = words("""
    empty_like full_like new_empty new_full new_ones new_tensor new_zeros ones_like rand_like randn_like
    zeros_like
""")
"""They take the shape of what they read, not its numbers."""

INCREASING = words("""
    arcsinh arctan asinh atan erf exp exp2 expit expm1 log log10 log1p log2 log_sigmoid logit logsigmoid sigmoid sinh
    softplus softsign special_expit special_logit sqrt tanh
""")
"""Strictly increasing functions of a number: a row of numbers keeps its order."""
ODD = words("arcsinh arctan asinh atan erf sinh softsign tanh")
"""Those of them that keep the sign, too."""
SIGMOIDS = words("expit log_sigmoid logsigmoid sigmoid special_expit")
"""Those that make a probability of one logit, or its logarithm: half where the logit is 0."""
OVER_ROWS = frozenset({"softmax", "log_softmax"})
"""Such calls keep the order of a row where they go along it."""
CLAMPS = words("clamp clamp_max clamp_min clip")
TIMES, OVER, PLUS, MINUS = (
    words("mul multiply"),
    words("div divide true_divide"),
    words("add"),
    words("sub subtract"),
)
POSITIVE = words("exp exp2 expit linalg_norm linalg_vector_norm norm sigmoid softmax softplus special_expit")
"""The results of these are never negative."""
GATHERED = words("amax max mean sqrt sum")
"""The results of these are not, where what they read is not."""

PRODUCTS = words("matmul mm bmm baddbmm addmm rmatmul einsum")
SUMS = frozenset({"add", "radd", "iadd"})

LEAVES: tuple[tuple[LayerKind, re.Pattern[str]], ...] = (
    ("normalisation", re.compile(r"Norm(\dd)?$|Normalization$")),
    ("activation", re.compile(r"(ReLU\d?|GELU\w*|SiLU|Swish|Mish|[CS]?ELU|Softplus|Tanh|Sigmoid|Activation)$", re.I)),
    ("pooling", re.compile(r"Pool(ing)?(\dd)?$")),
)
"""Modules without children, by class name, that may be written out in elementary calls: their result is one layer."""


@dataclass(frozen=True)
class Form:
    """A call, understood as one linear map."""

    kind: Literal["linear", "convolution", "embedding"]
    operand: torch.Tensor
    features: int
    """Dimension of the operand that the weight is multiplied with, counted from the end when negative."""
    source: torch.Tensor
    """The weight as it was passed."""
    weight: torch.Tensor
    """The weight as (outputs, inputs, …)."""
    bias: torch.Tensor | None
    written: int | None = None
    """Dimension of the result that holds the outputs, where it is another than `features`."""


def leaf_kind(module: nn.Module) -> LayerKind | None:
    """Return the kind of what such a module computes, if its class name shows it and it is built of no others."""
    if any(True for _ in module.children()):
        return None
    return next((kind for kind, pattern in LEAVES if pattern.search(type(module).__name__)), None)


def kind_of(name: str) -> LayerKind | None:
    """Return the kind of a call by its function's name alone."""
    plain = name.removesuffix("_")
    return next((kind for kind, names in KINDS_BY_CALL if plain in names), None)


def form_of(
    call: Call, is_data: Callable[[torch.Tensor], bool], is_weight: Callable[[torch.Tensor], bool]
) -> Form | None:
    """Return the call as a linear map of something from the input, with a weight that came from parameters alone."""
    name = call.name

    def bound(*names: str) -> list[torch.Tensor | None]:
        given = [call.args[i] if i < len(call.args) else call.kwargs.get(key) for i, key in enumerate(names)]
        return [value if isinstance(value, torch.Tensor) else None for value in given]

    if name == "linear" or name in _CONVOLUTIONS:
        x, w, b = bound("input", "weight", "bias")
        if x is None or w is None or w.ndim < 2 or not (is_data(x) and is_weight(w)):
            return None
        if name == "linear":
            return Form("linear", x, -1, w, w, b)
        n_spatial = int(name[-2])
        return Form("convolution", x, -1 - n_spatial, w, _transposed(call, w) if "transpose" in name else w, b)
    if name == "embedding":
        x, w = bound("input", "weight")
        return Form("embedding", x, -1, w, w.T, None) if x is not None and w is not None and is_data(x) else None
    if name == "addmm":
        b, x, w = bound("input", "mat1", "mat2")
        plain = call.kwargs.get("beta", 1) == 1 == call.kwargs.get("alpha", 1)
        if b is None or x is None or w is None or not plain or not (is_data(x) and is_weight(w) and is_weight(b)):
            return None
        return Form("linear", x, -1, w, w.T, b)
    if name in ("matmul", "mm"):
        left, right = bound("input", "other" if name == "matmul" else "mat2")
        return _product(left, right, is_data, is_weight)
    return _einsum(call, is_data, is_weight) if name == "einsum" else None


_CONVOLUTIONS = frozenset(f"conv{more}{n}d" for n in (1, 2, 3) for more in ("", "_transpose"))


def _transposed(call: Call, w: torch.Tensor) -> torch.Tensor:
    """Return (inputs, outputs / groups, …) as (outputs, inputs / groups, …)."""
    groups = call.args[6] if len(call.args) > 6 else call.kwargs.get("groups", 1)
    inputs, outputs, *kernel = w.shape
    return w.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2).flatten(0, 1)


def _product(
    left: torch.Tensor | None,
    right: torch.Tensor | None,
    is_data: Callable[[torch.Tensor], bool],
    is_weight: Callable[[torch.Tensor], bool],
) -> Form | None:
    if left is None or right is None:
        return None
    if right.ndim == 2 and is_data(left) and is_weight(right):
        return Form("linear", left, -1, right, right.T, None)
    if left.ndim == 2 and right.ndim == 1 and is_data(left) and is_weight(right):  # one number a sample
        return Form("linear", left, -1, right, right[None], None)
    if left.ndim == 2 and right.ndim > 1 and is_weight(left) and is_data(right):
        return Form("linear", right, -2, left, left, None)
    return None


def _einsum(
    call: Call, is_data: Callable[[torch.Tensor], bool], is_weight: Callable[[torch.Tensor], bool]
) -> Form | None:
    """Return the linear map in `bld,df->blf`: one index of a matrix is summed with the data, the other one is new."""
    equation, *operands = call.args
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    if not isinstance(equation, str) or "->" not in equation or "." in equation or len(operands) != 2:
        return None
    left, _, result = equation.replace(" ", "").partition("->")
    for (x, of_x), (w, of_w) in zip(
        zip(operands, left.split(","), strict=True),
        reversed(list(zip(operands, left.split(","), strict=True))),
        strict=True,
    ):
        if w.ndim != 2 or not (is_data(x) and is_weight(w)):
            continue
        summed = [i for i in of_w if i in of_x and i not in result]
        new = [i for i in of_w if i not in of_x and i in result]
        if len(summed) == len(new) == 1:
            return Form(
                "linear", x, of_x.index(summed[0]), w, w if of_w.index(new[0]) == 0 else w.T, None, result.index(new[0])
            )
    return None
