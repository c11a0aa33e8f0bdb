"""The rounding of a forward pass, against the passes themselves."""

import copy

import numpy as np
import torch
from dumping import CPU, N, network, samples, traced

from ncscan.activations.forward_rounding import arithmetic_floor


def test_arithmetic_floor_is_the_difference_of_two_passes() -> None:
    model, dataset = network(), samples()
    before = copy.deepcopy(model.state_dict())
    found, taps = traced(model, dataset)
    noise = arithmetic_floor(model, dataset, found, taps, device=CPU)
    assert [tap.name for tap in taps] == list(noise)
    value = dataset.batch(0, N)
    assert isinstance(value, torch.Tensor)
    one, other, expected = value, value.double(), []
    with torch.no_grad():
        for module, exact in zip(model.children(), copy.deepcopy(model).double().children(), strict=True):
            one, other = module(one), exact(other)
            expected.append((one.double() - other).square().mean(dim=0).numpy())
    assert (noise[taps[0].name] == 0).all()  # the input is handed on as it is
    size = float(one.double().square().mean())
    for tap, wanted in zip(taps[1:], expected, strict=True):
        own = noise[tap.name]
        assert own.dtype == np.float64
        assert np.allclose(
            wanted.mean(), own.mean(), rtol=0.5, atol=1e-20
        )  # a product in other blocks rounds otherwise
        assert own.mean() < 1e-12 * max(size, 1.0)
    assert noise[taps[-1].name].mean() > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {torch.float32} == {tensor.dtype for tensor in model.state_dict().values()}


def test_arithmetic_floor_takes_few_samples() -> None:
    model, dataset = network(), samples()
    found, taps = traced(model, dataset)
    noise = arithmetic_floor(model, dataset, found, taps, device=CPU, samples=3)
    assert all(np.isfinite(own).all() for own in noise.values())
