"""The neural feature ansatz: does a layer look at what its outputs are sensitive to?

In: `Work` and the traced pass. Out: for each linear map, how alike W_ℓᵀW_ℓ and the average gradient outer product at
what it reads are. The only file that differentiates the outputs, rather than the loss.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ncscan.activations import Trace, on_device, watch
from ncscan.computable import computable
from ncscan.data import Inputs
from ncscan.errors import Undefined
from ncscan.layer_graph import LinearMap, Tap, TapGraph
from ncscan.metrics.gradients.differentiable import GradientResult, Values, Work, differentiating, explained

WIDEST = 4096
"""Features of a layer whose gradient outer product, d×d in float64, is still formed."""
MAX_PROBES = 100
"""More outputs than this are not differentiated one by one: so many random signs stand for all of them."""
SAME = 1e-2
"""The share of the largest output: half precision rounds by less, another order of inputs is off by far more."""
AT_ONCE = 2**30
"""Bytes of outer products that are summed in one go; a deeper network is gone through several times."""


@dataclass(frozen=True)
class Reading:
    """The input of a linear map: a layer, as vectors of the linear map's width."""

    map: str
    tap: Tap
    d: int

    @property
    def key(self) -> tuple[str, int]:
        """Return the key of a matrix, which linear maps that read the same share."""
        return self.tap.name, self.d

    @property
    def is_flattened(self) -> bool:
        """Return whether a whole feature map is read as one vector, in an order that has to be found out."""
        return len(self.tap.shape) > 1 and self.d == math.prod(self.tap.shape)

    def vectors(self, value: torch.Tensor) -> torch.Tensor:
        """Return a value or gradient (n, *shape) as (n · positions, d)."""
        if not self.is_flattened and self.tap.channel_dim is not None:
            value = value.movedim(1 + self.tap.channel_dim, -1)
        return value.reshape(-1, self.d)


def feature_ansatz(work: Work, traced: Trace) -> Iterator[GradientResult]:
    """Yield the ansatz at every linear map of the pass."""
    graph = traced.graph
    probed = graph.n_outputs > MAX_PROBES
    readings = {each.name: _reading(each, graph) for each in graph.maps}
    products: dict[tuple[str, int], Float64[np.ndarray, "d d"] | Undefined] = {}
    for together in _rounds({each.key: each for each in readings.values() if isinstance(each, Reading)}):
        try:
            with explained():
                products |= _outer_products(work, traced, together)
        except Undefined as why:
            products |= {each.key: why for each in together}
    for name, reading in readings.items():
        product = products[reading.key] if isinstance(reading, Reading) else reading
        try:
            if isinstance(product, Undefined):
                raise product
            with computable():
                values: Values | Undefined = ansatz(traced.weights[name][0].double().cpu().numpy(), product)
        except Undefined as why:
            values = why
        yield GradientResult(name, "feature_ansatz", values, probed)


def ansatz(W: Float64[np.ndarray, "n d"], G: Float64[np.ndarray, "d d"]) -> dict[str, float]:
    """Return how alike WᵀW and G are: the cosine of the two as flat vectors, as they are and less their mean entry.

    cos(A, B) = <A, B>/(‖A‖_F‖B‖_F) with A = WᵀW, which is never formed: <WᵀW, G> = Σ (WG)∘W.

    Args:
        W: the linear map (n, d).
        G: the average gradient outer product at what it reads (d, d).

    Returns: `uncentred` in [0, 1], `centred` (Pearson's correlation of the entries) in [−1, 1], no unit; 1 where
        WᵀW is a multiple of G.

    Raises: Undefined when either matrix is zero, not finite, or (centred) has all entries alike.

    Source: Radhakrishnan, Beaglehole, Pandit and Belkin 2024; Beaglehole, Súkeník, Mondelli and Belkin 2024.

    >>> W = np.array([[3.0, 0.0], [0.0, 1.0]])
    >>> ansatz(W, 2 * W.T @ W)["uncentred"]
    1.0
    """
    if not (np.isfinite(W).all() and np.isfinite(G).all()):
        raise Undefined("the map or its gradients are not finite")
    d = W.shape[1]
    if not W.any():
        raise Undefined("the map is zero")
    if not G.any():
        raise Undefined("the outputs do not depend on what the map reads")
    # Powers of two cost no digit, and fourth powers of weights neither overflow nor vanish.
    W, G = (X / 2.0 ** float(np.frexp(np.abs(X).max())[1]) for X in (W, G))
    gram = W @ W.T if len(W) <= d else W.T @ W
    inner, square_A, square_G = float(((W @ G) * W).sum()), float((gram**2).sum()), float((G**2).sum())
    sum_A, sum_G = float((W.sum(axis=1) ** 2).sum()), float(G.sum())
    spread_A, spread_G = square_A - (sum_A / d) ** 2, square_G - (sum_G / d) ** 2
    flat = 1e-12  # of the squares that cancel: less than this is rounding
    if spread_A <= flat * square_A or spread_G <= flat * square_G:
        raise Undefined("all entries of a matrix are alike")
    return {
        "uncentred": min(1.0, inner / math.sqrt(square_A * square_G)),
        "centred": min(1.0, (inner - sum_A * sum_G / d**2) / math.sqrt(spread_A * spread_G)),
    }


def _reading(linear_map: LinearMap, graph: TapGraph) -> Reading | Undefined:
    """Return what a linear map reads, or why the ansatz has no value there."""
    if linear_map.kind != "linear":
        return Undefined(f"{'an' if linear_map.kind == 'embedding' else 'a'} {linear_map.kind}, not a matrix")
    if graph.output.name == linear_map.name:
        return Undefined("trivial: its outputs are the logits, so the gradients are its rows")
    d = linear_map.shape[1]
    if d > WIDEST:
        return Undefined(f"{d} features: a matrix of gradients is formed up to {WIDEST}")
    tap = next((tap for tap in graph.taps if tap.name == linear_map.reads), None)
    if tap is None or d not in (math.prod(tap.shape), *(tap.shape[c] for c in (tap.channel_dim,) if c is not None)):
        return Undefined("what it reads is no layer of its width")
    return Reading(linear_map.name, tap, d)


def _rounds(readings: Mapping[tuple[str, int], Reading]) -> Iterator[list[Reading]]:
    """Yield those whose matrices fit into `AT_ONCE` together."""
    group: list[Reading] = []
    for reading in readings.values():
        if group and 8 * sum(each.d**2 for each in (*group, reading)) > AT_ONCE:
            yield group
            group = []
        group.append(reading)
    if group:
        yield group


def _outer_products(
    work: Work, traced: Trace, readings: Sequence[Reading]
) -> dict[tuple[str, int], Float64[np.ndarray, "d d"] | Undefined]:
    """Return Σ_i Σ_k ∇f_k(x_i) ∇f_k(x_i)ᵀ, up to scale, of what each linear map reads; each position is a vector."""
    found: dict[tuple[str, int], torch.Tensor | Undefined] = {}
    edges: dict[int, GradientEdge] = {}
    seen: dict[int, torch.Tensor] = {}
    flattened = [i for i, reading in enumerate(readings) if reading.is_flattened]
    taps = [reading.tap for reading in readings] + [traced.graph.tap(readings[i].map) for i in flattened]

    def keep(i: int, value: torch.Tensor) -> None:
        if i in flattened or i >= len(readings):
            seen[i] = value.detach().clone()
        if i < len(readings) and value.requires_grad:
            # The place in the graph and not the tensor, which a later in-place operation makes another value of.
            edges[i] = get_gradient_edge(value)

    signs = torch.Generator().manual_seed(0)
    with watch(work.model, traced, taps, keep) as forward, differentiating(work.model):
        for inputs, _ in work.batches:
            edges.clear()
            logits = forward(_followed(on_device(inputs, work.device)))
            for probe in _probes(logits, signs):
                slopes = torch.autograd.grad(logits, list(edges.values()), probe, retain_graph=True, allow_unused=True)
                for i, slope in zip(edges, slopes, strict=True):
                    reading = readings[i]
                    before = found.get(reading.key)
                    if slope is not None and not isinstance(before, Undefined):
                        g = reading.vectors(slope)
                        product = (g.T @ g).double()
                        found[reading.key] = product if before is None else before.add_(product)
            for i, output in zip(flattened, range(len(readings), len(taps)), strict=True):
                W, b = traced.weights[readings[i].map]
                if not _is_map(W, b, readings[i].vectors(seen[i]), seen[output]):
                    found[readings[i].key] = Undefined(
                        "what it reads is a map, flattened in an order that is not known"
                    )
    # No gradient arrives where the layer is seen through a rearranged view, beside the way to the outputs.
    nothing = Undefined("no gradient reaches what it reads, in the arrangement in which it is seen")
    sums = {reading.key: found.get(reading.key, nothing) for reading in readings}
    return {key: sum_.cpu().numpy() if isinstance(sum_, torch.Tensor) else sum_ for key, sum_ in sums.items()}


def _is_map(W: torch.Tensor, b: torch.Tensor | None, h: torch.Tensor, y: torch.Tensor) -> bool:
    """Return whether y = Wh + b, up to the rounding of either side."""
    expected = torch.nn.functional.linear(h, W.to(h.dtype), None if b is None else b.to(h.dtype))
    return expected.shape == y.shape and bool((expected - y).abs().max() <= SAME * y.abs().max())


def _followed(inputs: Inputs) -> Inputs:
    """Return inputs that gradients reach, and that a model may write into: copies of leaves, not the leaves."""
    if isinstance(inputs, dict):
        return {name: _followed_tensor(value) for name, value in inputs.items()}
    return _followed_tensor(inputs)


def _followed_tensor(value: torch.Tensor) -> torch.Tensor:
    return value.detach().requires_grad_().clone() if value.is_floating_point() else value


def _probes(logits: torch.Tensor, signs: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield which mixture of the outputs to differentiate, (n, K): one output after the other, or random signs.

    As E[vvᵀ] = I, the mean of (Jᵀv)(Jᵀv)ᵀ is JᵀJ; each sample has signs of its own, so they average out.
    """
    n, K = logits.shape
    for k in range(min(K, MAX_PROBES)):
        probe = torch.zeros_like(logits)
        if K <= MAX_PROBES:
            probe[:, k] = 1
        else:
            probe.copy_(torch.randint(0, 2, (n, K), generator=signs) * 2 - 1)
        yield probe
