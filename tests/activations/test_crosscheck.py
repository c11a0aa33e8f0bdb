"""What only shows in the replay: a sample's features are compared with those that other company gave it before."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dumping import CPU, D, K, network
from torch import nn

from ncscan.activations import crosscheck
from ncscan.activations.batches import Batch, replay
from ncscan.activations.crosscheck import CrossCheck
from ncscan.activations.tracer import trace
from ncscan.data.dataset import from_arrays
from ncscan.errors import ModelError
from ncscan.layer_graph import select
from ncscan.pipeline.events import Event, Skipped
from ncscan.pipeline.extract import extract
from ncscan.pipeline.load import Flags, find_targets

N, BATCH = 300, 32


class Net(nn.Module):
    """Two linear layers with something between them."""

    def __init__(self, middle: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.middle = nn.Linear(D, 32), nn.Linear(32, K), middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.b(self.middle(self.a(x).relu()))
        return logits


def replayed(
    model: nn.Module, *, batch_size: int = BATCH, n: int = N, changes: str = ""
) -> tuple[list[Batch], list[str]]:
    torch.manual_seed(0)
    dataset = from_arrays(torch.randn(n, D), np.arange(n) % K)
    traced = trace(model.eval(), dataset.batch(0, 3))
    taps = select(traced.graph, ["all"])
    checked = CrossCheck(
        model, dataset, traced, taps, reduction="mean", device=CPU, batch_size=batch_size, changes=changes
    )
    batches = list(checked.batches(0))
    plain = list(replay(model, dataset, traced, taps, device=CPU, batch_size=batch_size))
    assert [batch.start for batch in plain] == [batch.start for batch in batches]
    return batches, checked.doubts


def test_an_honest_replay_is_handed_on_as_it_is() -> None:
    torch.manual_seed(0)
    model = network()
    batches, doubts = replayed(model)
    assert doubts == []
    assert sum(len(batch.logits) for batch in batches) == N


@pytest.mark.parametrize("n", [30, 31, 64, N])
def test_what_begins_in_larger_batches_than_were_tried_is_refused_at_its_layer(n: int) -> None:
    model = Net(lambda h: h - 0.1 * h.mean(0) * float(len(h) > 19))
    with pytest.raises(ModelError, match=r"depend on the batch it is in, first at layer /sub"):
        replayed(model, n=n)


def test_what_begins_in_larger_batches_than_the_replay_has_is_no_matter() -> None:
    assert replayed(Net(lambda h: h - h.mean(0) * float(len(h) > BATCH)))[1] == []


def test_samples_that_do_not_fit_into_a_capacity_are_seen() -> None:
    """As among experts: a few samples of a batch, the last ones, are passed over."""
    model = Net(lambda h: h * (torch.arange(len(h)) < 29).to(h.dtype)[:, None])
    with pytest.raises(ModelError, match="depend on the batch it is in, first at layer /mul"):
        replayed(model)


def test_one_pass_of_many_is_seen() -> None:
    """Whatever the reason, and though nobody can see it coming."""
    rare = iter(range(10**6))
    model = Net(lambda h: h * (2.0 if next(rare) % 40 == 17 else 1.0))
    with pytest.raises(ModelError, match=r"sample \d+ has other features .* layer /mul of those that are kept"):
        replayed(model, batch_size=4)


@pytest.mark.parametrize("chance", [0.03, 0.1, 0.3])
def test_events_of_chance_are_not_taken_for_rounding(chance: float) -> None:
    """From a source that nobody sees: among the passes that show rounding some have such an event, too."""
    source = random.Random(0)  # noqa: S311 - no secret
    with pytest.raises(ModelError, match=r"has other features|depend on the batch"):
        replayed(Net(lambda h: h * (2.0 if source.random() < chance else 1.0)), batch_size=8)


def ill_conditioned() -> nn.Module:
    """Sines of angles that float32 does not resolve; batches of odd and of even size round differently."""
    torch.manual_seed(0)
    return Net(lambda h: torch.sin(1e9 * (h * (1 + 2**-23 * (len(h) % 2)))))


def test_rounding_is_a_doubt_and_ends_nothing() -> None:
    batches, doubts = replayed(ill_conditioned(), batch_size=31)
    assert sum(len(batch.logits) for batch in batches) == N
    assert len(doubts) == 1
    assert "rounding alone moves samples at layer" in doubts[0]


def test_rounding_explains_nothing_where_passes_are_known_to_change_something() -> None:
    with pytest.raises(ModelError, match=r"the model changes passes|depend on the batch"):
        replayed(ill_conditioned(), batch_size=31, changes="changes passes")


def test_wide_features_are_compared_for_a_few_samples_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck, "MEMORY", 8 * 80 * 5)
    dataset = from_arrays(torch.randn(N, D), np.arange(N) % K)
    model = network()
    traced = trace(model, dataset.batch(0, 3))
    taps = select(traced.graph, ["all"])
    checked = CrossCheck(model, dataset, traced, taps, reduction="mean", device=CPU, batch_size=BATCH)
    first, *features = checked._expected
    assert len(first) == N // 2
    assert {len(values) for values in features} < set(range(2, 8))


def test_a_resumed_replay_begins_where_it_is_told() -> None:
    dataset = from_arrays(torch.randn(N, D), np.arange(N) % K)
    model = network()
    traced = trace(model, dataset.batch(0, 3))
    taps = select(traced.graph, ["all"])
    checked = CrossCheck(model, dataset, traced, taps, reduction="mean", device=CPU, batch_size=BATCH)
    starts = [batch.start for batch in checked.batches(2 * BATCH)]
    assert starts == [*itertools.takewhile(lambda s: s < N, itertools.count(2 * BATCH, BATCH))]


def test_of_a_refused_replay_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a part: a later extract would go on from there, past the samples that gave it away."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moving.py").write_text(
        "from test_crosscheck import Net\n\ndef make():\n    return Net(lambda h: h - h.mean(0) * float(len(h) > 19))\n"
    )
    np.savez("data.npz", x=np.random.default_rng(0).standard_normal((N, D), np.float32), y=np.arange(N) % K)
    Path("run").mkdir()
    torch.save(Net(torch.relu).state_dict(), "run/epoch_1.pt")
    flags = Flags(model="moving:make", data="npz:data.npz", batch_size=BATCH)
    events: list[Event] = []
    outcome = extract(find_targets([Path("run")], flags).targets, flags, tmp_path / "dumps", events.append)
    assert outcome.exit_code == 1
    assert [event.reason[:60] for event in events if isinstance(event, Skipped)] == [
        "a sample's features depend on the batch it is in, first at l"
    ]
    assert not [path for path in (tmp_path / "dumps").rglob("*") if path.is_file()]


def test_layers_of_two_types_are_named_and_no_fault_of_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=np.random.default_rng(0).standard_normal((N, D), np.float32), y=np.arange(N) % K)
    Path("run").mkdir()
    plain = Net(torch.relu).state_dict()
    state = {name: value.double() if name.startswith("b") else value for name, value in plain.items()}
    torch.save(state, "run/epoch_1.pt")
    Path("run/ncscan.toml").write_text('[model]\nsource = "mlp"\nactivation = "relu"\nlinear_head = 1\n')
    flags = Flags(data="npz:data.npz")
    events: list[Event] = []
    extract(find_targets([Path("run")], flags).targets, flags, tmp_path / "dumps", events.append)
    assert [event.reason for event in events if isinstance(event, Skipped)] == [
        "the model does not run, because b.weight is float64 and a.bias is float32; save them in one type"
    ]
