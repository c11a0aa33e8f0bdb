"""Every sample once, in order, in the memory there is; and nothing left running."""

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dumping import CPU, D, K, N, network, samples, traced
from torch import nn

from ncscan.activations.batches import CPU_BATCH, Batch, default_batch_size, pick_device, replay
from ncscan.activations.tracer import trace
from ncscan.data.convert import Inputs, StoredSamples
from ncscan.data.dataset import Dataset, from_arrays
from ncscan.errors import DataError, NcscanError, TapError, UsageError
from ncscan.layer_graph import select

ROUNDING = 1e-5  # a matrix product of other batches sums in another order


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """On two and more a twin of the model computes beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    assert request.param == torch.get_num_threads()
    torch.set_num_threads(before)


def run(model: nn.Module, dataset: Dataset, batch_size: int | None = 32, start: int = 0) -> list[Batch]:
    found, taps = traced(model, dataset)
    return list(replay(model, dataset, found, taps, device=CPU, batch_size=batch_size, start=start))


def joined(batches: list[Batch]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    features = zip(*(batch.features for batch in batches), strict=True)
    return torch.cat([batch.logits for batch in batches]), [torch.cat(parts) for parts in features]


def changed(dataset: Dataset, batch: object) -> Dataset:
    """The dataset with other rows."""
    return replace(dataset, source=StoredSamples(batch, dataset.n_samples, dataset.class_names))  # type: ignore[arg-type]  # any function


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("batch_size", [1, 7, 32, 150, 1000])
def test_batches_are_the_forward_pass_in_order(batch_size: int) -> None:
    model, dataset = network(), samples()
    batches = run(model, dataset, batch_size)
    assert list(range(0, N, batch_size)) == [batch.start for batch in batches]
    logits, features = joined(batches)
    value = dataset.batch(0, N)
    assert isinstance(value, torch.Tensor)
    for module, actual in zip((nn.Identity(), *model.children()), features, strict=True):
        value = module(value)
        assert torch.allclose(value, actual, atol=ROUNDING)
    assert torch.allclose(value, logits, atol=ROUNDING)
    assert not logits.requires_grad


@pytest.mark.usefixtures("_threads")
def test_replay_from_a_row_gives_what_was_left() -> None:
    model, dataset = network(), samples()
    whole, rest = run(model, dataset), run(model, dataset, start=64)
    assert [64, 96, 128] == [batch.start for batch in rest]
    assert torch.equal(joined(whole)[0][64:], joined(rest)[0])
    assert [] == run(model, dataset, start=N)


@pytest.mark.usefixtures("_threads")
def test_replay_from_within_a_batch_falls_into_step() -> None:
    assert [40, 64, 96, 128] == [batch.start for batch in run(network(), samples(), start=40)]


@pytest.mark.usefixtures("_threads")
def test_two_replays_are_equal_bit_for_bit() -> None:
    model, dataset = nn.Sequential(nn.ReLU(inplace=True), *network().children()).eval(), samples()
    first, second = joined(run(model, dataset)), joined(run(model, dataset))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_parameters_are_not_doubled_by_the_twin() -> None:
    torch.set_num_threads(2)
    try:
        seen = []

        class Seen(nn.Linear):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                seen.append((threading.get_ident(), id(self), self.weight.data_ptr()))
                return super().forward(x)

        run(nn.Sequential(Seen(D, K)).eval(), samples())
    finally:
        torch.set_num_threads(1)
    lanes = seen[2:]  # after the trace
    assert 2 == len({module for _, module, _ in lanes}) == len({thread for thread, _, _ in lanes})
    assert 1 == len({weight for *_, weight in lanes})


@pytest.mark.usefixtures("_threads")
def test_model_that_cannot_be_copied_is_replayed_all_the_same() -> None:
    model = network()
    model.lock = threading.Lock()  # type: ignore[assignment]  # what users keep in their models
    assert torch.allclose(joined(run(network(), samples()))[0], joined(run(model, samples()))[0])


# Memory


class Greedy(nn.Module):
    """Asks for far more than there is when a batch is larger than its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.head, self.limit, self.sizes = nn.Linear(D, K), limit, [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.limit:
            torch.empty(2**56)
        return self.head(x)  # type: ignore[no-any-return]  # of nn.Module's call


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("limit", "largest"), [(31, 16), (16, 16), (5, 4), (3, 2)])
def test_batch_is_halved_until_it_fits(limit: int, largest: int) -> None:
    model, dataset = Greedy(limit).eval(), samples()
    batches = run(model, dataset)
    assert list(range(0, N, largest)) == [batch.start for batch in batches]
    value = dataset.batch(0, N)
    assert isinstance(value, torch.Tensor)
    assert torch.allclose(model.head(value), joined(batches)[0], atol=ROUNDING)


@pytest.mark.usefixtures("_threads")
def test_memory_that_runs_out_later_repeats_no_row() -> None:
    class Later(Greedy):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.limit = 10 if len(self.sizes) > 4 else 1000
            return super().forward(x)

    batches = run(Later(1000).eval(), samples())
    starts = [batch.start for batch in batches]
    assert N == sum(len(batch.logits) for batch in batches)
    assert starts == sorted(set(starts))
    assert 8 == len(batches[-2].logits)


@pytest.mark.usefixtures("_threads")
def test_one_sample_that_does_not_fit_is_an_error() -> None:
    dataset = samples()
    model = Greedy(1000).eval()
    found, taps = traced(model, dataset)
    model.limit = 0
    with pytest.raises(NcscanError, match="not even one sample fits into the memory of cpu"):
        list(replay(model, dataset, found, taps, device=CPU))


def test_other_errors_of_a_model_surface_as_they_are() -> None:
    class Broken(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 3:
                raise RuntimeError("not about memory")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="not about memory"):
        run(nn.Sequential(Broken(D, K)).eval(), samples())


# Data


def test_label_without_a_logit_is_refused() -> None:
    with pytest.raises(DataError, match="label 3, and the model has 2 outputs"):
        run(nn.Sequential(nn.Linear(D, 2)).eval(), samples())


def test_values_that_are_not_finite_are_handed_on() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[0] = torch.nan  # type: ignore[index]  # a Sequential
    logits, _ = joined(run(model, samples()))
    assert torch.isnan(logits).all()


class Tokens(nn.Module):
    """Named inputs, a sequence of vectors, padding on its right."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.inner, self.head = nn.Embedding(10, 6), nn.Linear(6, 6), nn.Linear(6, K)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.inner(self.embed(input_ids)) * attention_mask[..., None]
        return self.head(x[:, 0])  # type: ignore[no-any-return]  # of nn.Module's call


@pytest.mark.usefixtures("_threads")
def test_padding_is_left_out_of_the_mean() -> None:
    torch.manual_seed(2)
    ids, lengths = torch.randint(0, 10, (20, 5)), torch.arange(20) % 5 + 1
    mask = (torch.arange(5) < lengths[:, None]).long()
    dataset = from_arrays({"input_ids": ids, "attention_mask": mask}, torch.arange(20) % K)
    model = Tokens().eval()
    found = trace(model, dataset.batch(0, 3))
    taps = select(found.graph, ["inner"])
    _, (features,) = joined(list(replay(model, dataset, found, taps, device=CPU, batch_size=8)))
    inner = model.inner(model.embed(ids))
    expected = torch.stack([row[:n].mean(0) for row, n in zip(inner, lengths, strict=True)])
    assert torch.allclose(expected, features, atol=ROUNDING)


# Nothing is left running


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.usefixtures("_threads")
def test_replay_that_is_not_read_to_its_end_leaves_nothing_behind() -> None:
    model, dataset, before = network(), samples(), threading.active_count()
    found, taps = traced(model, dataset)
    batches = replay(model, dataset, found, taps, device=CPU, batch_size=8)
    next(batches)
    assert before < threading.active_count()
    batches.close()
    assert (before, 0) == (threading.active_count(), n_hooks(model))


@pytest.mark.usefixtures("_threads")
def test_error_while_decoding_surfaces_and_leaves_nothing_behind() -> None:
    model, dataset, before = network(), samples(), threading.active_count()
    rows = dataset.source.rows

    def torn(start: int, stop: int) -> tuple[Inputs, torch.Tensor]:
        if start >= 64:
            raise OSError("the disk is gone")
        return rows(start, stop)

    found, taps = traced(model, dataset)
    seen: list[Batch] = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(replay(model, changed(dataset, torn), found, taps, device=CPU, batch_size=32))
    gc.collect()
    assert (before, 0) == (threading.active_count(), n_hooks(model))


def test_pass_that_goes_another_way_is_an_error() -> None:
    class Winding(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return torch.relu(y) if len(x) > 3 else torch.tanh(y)

    with pytest.raises(TapError):
        run(nn.Sequential(Winding(D, K)).eval(), samples())


def test_interrupt_ends_the_program_at_once() -> None:
    code = (
        "import signal, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job is started deaf to it
        "from dumping import CPU, network, samples, traced; from ncscan.activations.batches import replay\n"
        "import torch; torch.set_num_threads(2)\n"
        "model, dataset = network(), samples(); found, taps = traced(model, dataset)\n"
        "for batch in replay(model, dataset, found, taps, device=CPU, batch_size=1): print(flush=True); time.sleep(999)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            _, error = process.communicate(timeout=300)  # long before its next batch
        finally:
            process.kill()
    assert "KeyboardInterrupt" in error
    assert process.returncode != 0


# Devices


def test_device_auto_is_the_gpu_where_there_is_one() -> None:
    assert ("cuda" if torch.cuda.is_available() else "cpu") == pick_device("auto").type
    assert CPU == pick_device("cpu")


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:x", "meta", ""])
def test_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        pick_device(name)


def test_batches_on_a_cpu_are_small() -> None:
    assert CPU_BATCH == default_batch_size(CPU) <= 256
    assert default_batch_size(CPU) < default_batch_size(torch.device("cuda"))


def test_default_batch_size_is_used() -> None:
    assert [0, CPU_BATCH] == [batch.start for batch in run(network(), samples(CPU_BATCH + 1), None)]
    assert np.int64 == samples().labels.dtype


# Values that somebody writes into


class Overwriting(nn.Module):
    """Writes into its hidden values: within a pass by an in-place ReLU, and with the next pass into its own buffer."""

    kept: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(D, 8), nn.Linear(8, K)
        self.register_buffer("kept", torch.zeros(1000, 8), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        hidden.relu_()
        own = self.kept[: len(x)]
        own.copy_(hidden)
        return self.last(own * 1.0)  # type: ignore[no-any-return]  # of nn.Module's call


@pytest.mark.usefixtures("_threads")
def test_values_are_those_of_their_moment_however_they_are_written_into() -> None:
    torch.manual_seed(0)
    model, dataset = Overwriting().eval(), samples()
    found = trace(model, dataset.batch(0, 3))
    taps = found.graph.taps
    batches = list(replay(model, dataset, found, taps, device=CPU, batch_size=16))
    assert len(batches) > 6  # more than a trial of two passes on each of two lanes
    _, features = joined(batches)
    actual = {tap.name: value for tap, value in zip(taps, features, strict=True)}
    value = dataset.batch(0, N)
    assert isinstance(value, torch.Tensor)
    with torch.no_grad():
        expected = model.first(value)
        assert torch.allclose(expected, actual["first"], atol=ROUNDING)
        for name in set(actual) - {"input", "first", "last"}:
            assert torch.allclose(expected.relu(), actual[name], atol=ROUNDING), name
        assert torch.allclose(model.last(expected.relu()), actual["last"], atol=ROUNDING)


class Clamping(nn.Linear):
    """Changes nothing by its in-place call until the samples are large."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).clamp_(max=10)


class Silent(nn.Linear):
    """Writes into its output where autograd does not look: the version stays."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        z = y + 0
        y.data.mul_(2)
        return z + y.detach()


@pytest.mark.usefixtures("_threads")
def test_values_that_are_written_into_past_autograd_are_those_of_their_moment() -> None:
    model, dataset = nn.Sequential(Silent(D, 8), nn.Linear(8, K)).eval(), samples()
    found = trace(model, dataset.batch(0, 3))
    tap = next(tap for tap in found.graph.taps if tap.kind == "linear")
    _, (features,) = joined(list(replay(model, dataset, found, (tap,), device=CPU, batch_size=16)))
    layer = model[0]
    expected = nn.functional.linear(dataset.batch(0, N), layer.weight, layer.bias)  # type: ignore[arg-type]  # a Sequential
    assert torch.allclose(expected, features, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.usefixtures("_threads")
def test_values_that_are_written_into_for_late_samples_only_are_those_of_their_moment() -> None:
    model = nn.Sequential(Clamping(D, 8), nn.Linear(8, K)).eval()
    scale = torch.ones(N, 1)
    scale[100:] = 1000
    values = torch.randn(N, D) * scale
    dataset = from_arrays(values, torch.arange(N) % K)
    found = trace(model, dataset.batch(0, 3))
    tap = next(tap for tap in found.graph.taps if tap.kind == "linear")
    _, (features,) = joined(list(replay(model, dataset, found, (tap,), device=CPU, batch_size=16)))
    expected = nn.functional.linear(values, model[0].weight, model[0].bias)  # type: ignore[arg-type]  # a Sequential
    assert expected.max() > 10
    assert torch.allclose(expected, features, rtol=ROUNDING, atol=ROUNDING)
