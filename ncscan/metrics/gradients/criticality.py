"""How far a network is from a critical point of its objective, as a whole and for each linear map.

In: `Work`, the model as it was traced. Out: the objective, the norm of its gradient, and what the gradients of two
consecutive linear maps imply for their balance. The only file that knows the orientation of a parameter's matrix.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import nn

from ncscan.activations import Trace
from ncscan.errors import Undefined
from ncscan.layer_graph import LinearMap, Link, joined
from ncscan.metrics.gradients.differentiable import GradientResult, Values, Work, explained


@dataclass(frozen=True)
class Slope:
    """The loss, and its gradient without weight decay, summed in float64."""

    loss: float
    gradient: Mapping[str, Float64[torch.Tensor, "..."]]
    """The gradient by name of the parameter; zeros where the loss does not depend on it."""
    parameters: Mapping[str, Float64[torch.Tensor, "..."]]


def criticality(work: Work, model: nn.Module, traced: Trace) -> Iterator[GradientResult]:
    """Yield objective and gradient for the network, the gradient for each linear map, and the balance for each pair."""
    pairs = [link for link in traced.graph.links if not link.between]
    try:
        with explained():
            slope = slope_of(work)
    except Undefined as why:
        yield GradientResult("", "objective", why)
        yield GradientResult("", "gradient_norm", why)
        yield from (GradientResult(joined(link.first, link.next), "stationarity", why) for link in pairs)
        return
    wd: float | Undefined
    try:
        wd = work.objective.weight_decay()
    except Undefined as why:
        wd = why
    yield GradientResult("", "objective", _values(slope, wd))
    yield GradientResult("", "gradient_norm", _norms(list(slope.gradient), slope, wd))
    for linear_map in traced.graph.maps:
        yield GradientResult(linear_map.name, "gradient_norm", _of_map(linear_map, slope, wd))
    for link in pairs:
        yield GradientResult(joined(link.first, link.next), "stationarity", _of_pair(link, traced, model, slope, wd))


def slope_of(work: Work) -> Slope:
    """Return the mean loss and its gradient.

    Raises: Undefined when nothing names the loss; what torch raises when the model cannot be differentiated.
    """
    parameters = work.parameters
    total = 0.0
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    for loss in work.losses():
        total += float(loss.detach().double())
        for into, gradient in zip(
            sums.values(), torch.autograd.grad(loss, list(parameters.values()), allow_unused=True), strict=True
        ):
            if gradient is not None:
                into += gradient
    return Slope(total, sums, {name: p.detach().double() for name, p in parameters.items()})


def stationarity(
    first: Float64[torch.Tensor, "n m"],
    g_first: Float64[torch.Tensor, "n m"],
    following: Float64[torch.Tensor, "p n"],
    g_following: Float64[torch.Tensor, "p n"],
    weight_decay: float,
    bias: tuple[Float64[torch.Tensor, "n"], Float64[torch.Tensor, "n"]] | None = None,
) -> dict[str, float | Undefined]:
    """Return what two consecutive linear maps lack to a critical point: R = W₂ᵀg₂ − g₁W₁ᵀ − g_b bᵀ.

    Here g is the gradient of loss plus decay.

    The loss has no part in R, for it only sees the product: R = wd·D with D = W₂ᵀW₂ − W₁W₁ᵀ − bbᵀ, at any point, for
    any samples and any optimizer. At a critical point R = 0, so D = 0.

    Args:
        first, g_first: W₁ (n, m) and its gradient, with nothing between it and the next.
        following, g_following: W₂ (p, n) and its gradient.
        weight_decay: wd.
        bias: b₁ (n,) and its gradient.

    Returns: `residual` ‖R‖_F; `relative`, over wd·min(‖W₂ᵀW₂‖_F, ‖W₁W₁ᵀ‖_F); `identity` ‖R − wd·D‖_F over
        ‖W₂ᵀg₂‖_F + ‖g₁W₁ᵀ‖_F, which only rounding may lift from 0. All are 0 at a critical point.

    Source: derived; Arora, Cohen and Hazan 2018 for wd = 0.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> stationarity(2 * one, one, one, 0.5 * one, 0.5)["relative"]
    3.0
    """
    outer, inner = following.T @ g_following, g_first @ first.T
    R = outer - inner
    outgoing, incoming = following.T @ following, first @ first.T
    D = outgoing - incoming
    if bias is not None:
        b, g_b = bias
        R -= torch.outer(g_b, b)
        D -= torch.outer(b, b)
    size = weight_decay * min(_norm(outgoing), _norm(incoming))
    slopes = _norm(outer) + _norm(inner)
    return {
        "residual": _norm(R),
        "relative": _norm(R) / size if size else _nothing(weight_decay),
        "identity": _norm(R - weight_decay * D) / slopes if slopes else 0.0,
    }


def _values(slope: Slope, wd: float | Undefined) -> Values:
    squares = sum(float((p**2).sum()) for p in slope.parameters.values())
    return {"loss": slope.loss, "decay": wd if isinstance(wd, Undefined) else wd / 2 * squares}


def _norms(names: list[str], slope: Slope, wd: float | Undefined) -> Values:
    """Return ‖∇loss‖, ‖∇loss + wd·θ‖ and the latter over ‖wd·θ‖, for some of the parameters."""

    def norm(part: Callable[[str], torch.Tensor]) -> float:
        return math.sqrt(sum(float((part(name) ** 2).sum()) for name in names))

    values: dict[str, float | Undefined] = {"loss": norm(lambda name: slope.gradient[name])}
    if isinstance(wd, Undefined):
        return {**values, "objective": wd, "relative": wd}
    objective = norm(lambda name: slope.gradient[name] + wd * slope.parameters[name])
    decay = wd * norm(lambda name: slope.parameters[name])
    return {**values, "objective": objective, "relative": objective / decay if decay else _nothing(wd)}


def _nothing(wd: float) -> Undefined:
    return Undefined("the weights are zero: nothing to be relative to" if wd else "there is no weight decay")


def _of_map(linear_map: LinearMap, slope: Slope, wd: float | Undefined) -> Values | Undefined:
    """Return the norms of a linear map's weight and bias together.

    A weight made of several parameters is named by the first of them.
    """
    if linear_map.weight not in slope.gradient:
        return Undefined("its weight is no parameter")
    return _norms([name for name in (linear_map.weight, linear_map.bias) if name in slope.gradient], slope, wd)


def _of_pair(link: Link, traced: Trace, model: nn.Module, slope: Slope, wd: float | Undefined) -> Values | Undefined:
    try:
        if isinstance(wd, Undefined):
            raise wd
        W, g_W = _oriented(link.first, traced, model, slope, wd)
        V, g_V = _oriented(link.next, traced, model, slope, wd)
        if len(W) != V.shape[1]:
            raise Undefined(f"the first map writes {len(W)} numbers where the next reads {V.shape[1]}")
        if traced.weights[link.first][1] is None:
            return stationarity(W, g_W, V, g_V, wd)
        name = traced.graph.map(link.first).bias
        if name not in slope.gradient or slope.gradient[name].shape != (len(W),):
            raise Undefined(f"the bias of {link.first} is no parameter of its own")
        b = slope.parameters[name]
        return stationarity(W, g_W, V, g_V, wd, (b, slope.gradient[name] + wd * b))
    except Undefined as why:
        return why


def _oriented(
    name: str, traced: Trace, model: nn.Module, slope: Slope, wd: float
) -> tuple[Float64[torch.Tensor, "n d"], Float64[torch.Tensor, "n d"]]:
    """Return a linear map as (outputs, inputs), and its gradient alike, whichever way the parameter lies.

    The gradient is that of the objective.
    """
    linear_map, W = traced.graph.map(name), traced.weights[name][0]
    if linear_map.kind != "linear" or W.ndim != 2:
        raise Undefined(f"{name} is {'an' if linear_map.kind == 'embedding' else 'a'} {linear_map.kind}, not a matrix")
    if sum(each.weight == linear_map.weight for each in traced.graph.maps) > 1:
        raise Undefined(f"the weight of {name} belongs to other maps too")
    parameter = dict(model.named_parameters()).get(linear_map.weight)
    if parameter is None or linear_map.weight not in slope.gradient:
        raise Undefined(f"the weight of {name} is no parameter")
    p = slope.parameters[linear_map.weight]
    g = slope.gradient[linear_map.weight] + wd * p
    # By memory and not by value: a symmetric weight looks the same both ways, its gradient does not.
    own = parameter.detach()
    for view, turned in ((own, False), (own.T if own.ndim == 2 else own, True)):
        if (W.data_ptr(), W.shape, W.stride()) == (view.data_ptr(), view.shape, view.stride()):
            return (p.T, g.T) if turned else (p, g)
    raise Undefined(f"the weight of {name} is computed from parameters, or a part of one")


def _norm(matrix: Float64[torch.Tensor, "_ _"]) -> float:
    return float(torch.linalg.matrix_norm(matrix))
