"""A copy of a model that can be differentiated, the samples to do it on, and what stands in the way in plain words.

In: a model, a data set, the samples that were drawn. Out: `Work`. The only file that turns torch's errors into reasons.
"""

import copy
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ncscan.activations import Trace, copied, on_device, watch
from ncscan.computable import computable
from ncscan.data import Dataset, Inputs
from ncscan.errors import TapError, Undefined
from ncscan.metrics.gradients.objective import Objective

TROUBLES: tuple[tuple[str, str], ...] = (
    ("out of memory", "out of memory: take a smaller --batch-size"),
    ("allocate memory", "out of memory: take a smaller --batch-size"),
    ("inplace operation", "an in-place operation of the model overwrites what its gradient needs"),
    ("in-place operation", "an in-place operation of the model overwrites what its gradient needs"),
    ("does not require grad", "the outputs do not come of the weights by operations that can be differentiated"),
    ("not implemented", "torch has no second derivative of an operation of the model"),
)
"""Messages as torch words them, and what they mean."""

Values = Mapping[str, float | Undefined]


@dataclass(frozen=True)
class GradientResult:
    """The quantities of one metric at one layer or linear map, or the reason why there is none of them."""

    place: str
    """A linear map, a pair of them as `first..next`, or empty for the whole network."""
    metric: str
    values: Values | Undefined
    probed: bool = False
    """Whether random signs stood for the outputs."""


@dataclass(frozen=True)
class Work:
    """A twin of the model whose weights take gradients, and the samples that were drawn, in batches."""

    model: nn.Module
    traced: Trace
    batches: tuple[tuple[Inputs, Int64[torch.Tensor, "_"]], ...]
    n: int
    objective: Objective
    device: torch.device

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def losses(self) -> Iterator[Float[torch.Tensor, ""]]:
        """Yield the share of each batch in the mean loss."""
        one = self.traced.graph.has_one_logit
        with watch(self.model, self.traced, (), lambda _i, _value: None) as forward, differentiating(self.model):
            for inputs, labels in self.batches:
                logits = forward(copied(on_device(inputs, self.device)))
                yield self.objective.loss(logits, labels.to(self.device), one_logit=one) / self.n


def differentiating(model: nn.Module) -> torch.utils.hooks.RemovableHandle:
    """Turn gradients on until a pass ends: one that is watched runs without them."""

    def begin(_model: nn.Module, _args: object) -> None:
        torch.set_grad_enabled(True)  # not as a context: who watches sets it back

    return model.register_forward_pre_hook(begin)


def drawn(labels: Int64[np.ndarray, "N"], n: int) -> Int64[np.ndarray, "_"]:
    """Return which samples stand for all: every (N/n)-th after sorting by class; all if n ≥ N.

    So each class has its share.

    >>> drawn(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 4).tolist()
    [1, 3, 5, 7]
    """
    N = len(labels)
    if n >= N:
        return np.arange(N)
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[((np.arange(n) + 0.5) * N / n).astype(np.int64)])


def prepared(
    model: nn.Module,
    traced: Trace,
    dataset: Dataset,
    objective: Objective,
    rows: Int64[np.ndarray, "_"],
    device: torch.device,
    batch_size: int,
) -> Work:
    """Return the twin, in float32 or better, and the samples, decoded once: Lanczos goes through them many times."""
    twin = copy.deepcopy(model)
    for tensor in (*twin.parameters(), *twin.buffers()):
        tensor.data = _widened(tensor.data)
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    batches = []
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        inputs = dataset.samples(chunk)
        if isinstance(inputs, dict):
            inputs = {name: _widened(values) for name, values in inputs.items()}
        else:
            inputs = _widened(inputs)
        batches.append((inputs, torch.from_numpy(dataset.labels[chunk])))
    return Work(twin, traced, tuple(batches), len(rows), objective, device)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32, which changes no value."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@contextmanager
def exactly() -> Generator[None]:
    """Turn gradients on inside, with float32 as float32 and attention made of what has a second derivative."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))  # which turns gradients on as well
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


@contextmanager
def explained() -> Generator[None]:
    """Turn what torch, or the model's own code, raises inside into the reason why there is no value.

    A model that can be run may still be one that cannot be differentiated, or copied: that costs these rows alone.
    """
    try:
        with computable():
            yield
    except MemoryError as error:
        raise Undefined(TROUBLES[0][1]) from error
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, TapError) as error:
        text = str(error)
        known = next((meaning for sign, meaning in TROUBLES if sign in text), None)
        raise Undefined(known or (text.splitlines() or [type(error).__name__])[0][:200]) from error
