"""What a head reads of a sequence, and the last tokens that are taken where it reads one."""

from collections.abc import Callable

import networks
import pytest
import torch
from dumping import CPU
from torch import nn

from ncscan.activations.batches import replay
from ncscan.activations.last_tokens import ends
from ncscan.activations.tracer import AUTO, TokenRead, Trace, trace
from ncscan.data.convert import Inputs
from ncscan.data.dataset import from_arrays
from ncscan.errors import TapError

LENGTH, WIDTH = 6, 5
Reader = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


class Sequences(nn.Module):
    """Token states of an RNN, and a head that reads what the test says."""

    def __init__(self, read: Reader, rnn: type[nn.RNNBase] = nn.LSTM, **options: object) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.rnn = rnn(4, WIDTH, batch_first=True, **options)  # type: ignore[arg-type]  # any of its options
        self.head = nn.Linear(WIDTH * (2 if options.get("bidirectional") else 1), 3)
        self.read = read

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.read(self.rnn, self.words(input_ids), input_ids))
        return logits


def lengths(ids: torch.Tensor) -> torch.Tensor:
    return (ids != 0).sum(1)


def tokens(n: int = 4, *, left: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 20, (n, LENGTH), generator=generator)
    for i in range(n):
        length = 2 + i % (LENGTH - 1)
        ids[i, : LENGTH - length] = 0 if left else ids[i, : LENGTH - length]
        ids[i, length:] = ids[i, length:] if left else 0
    return ids


def state(rnn: nn.Module, x: torch.Tensor, _ids: torch.Tensor) -> torch.Tensor:
    _, states = rnn(x)
    hidden: torch.Tensor = states[0] if isinstance(states, tuple) else states
    return hidden[-1]


def both_directions(rnn: nn.Module, x: torch.Tensor, _ids: torch.Tensor) -> torch.Tensor:
    _, (hidden, _) = rnn(x)
    return torch.cat([hidden[-2], hidden[-1]], dim=1)


READS: dict[str, tuple[Reader, TokenRead]] = {
    "the last position": (lambda r, x, _i: r(x)[0][:, -1], TokenRead("last", LENGTH, is_seen=True)),
    "the first position": (lambda r, x, _i: r(x)[0][:, 0], TokenRead("cls", LENGTH, is_seen=True)),
    "the last word": (
        lambda r, x, i: r(x)[0][torch.arange(len(x)), lengths(i) - 1],
        TokenRead("last", LENGTH, is_seen=True),
    ),
    "the last word, gathered": (
        lambda r, x, i: r(x)[0].gather(1, (lengths(i) - 1)[:, None, None].expand(-1, 1, WIDTH)).squeeze(1),
        TokenRead("last", LENGTH, is_seen=True),
    ),
    "the last state": (state, TokenRead("last", LENGTH)),
    "the mean": (lambda r, x, _i: r(x)[0].mean(1), TokenRead(otherwise=("the mean of the positions",))),
    "the maximum": (lambda r, x, _i: r(x)[0].amax(1), TokenRead(otherwise=("the maximum of the positions",))),
    "a token and the mean": (
        lambda r, x, _i: (y := r(x)[0])[:, 0] + y.mean(1),
        TokenRead(otherwise=("the mean of the positions", "a single position"), is_unclear=True),
    ),
    "two tokens": (
        lambda r, x, _i: (y := r(x)[0])[:, 0] + y[:, -1],
        TokenRead(otherwise=("several positions",), is_unclear=True),
    ),
    "another token": (
        lambda r, x, _i: r(x)[0][:, 2],
        TokenRead(otherwise=(f"positions 2 of {LENGTH}",), is_unclear=True),
    ),
}


@pytest.mark.parametrize("name", READS)
def test_what_the_head_reads_is_found(name: str) -> None:
    read, expected = READS[name]
    found = trace(Sequences(read).eval(), tokens()).read
    assert set(expected.otherwise) == set(found.otherwise)
    assert (expected.how, expected.n_positions, expected.is_seen, expected.is_unclear) == (
        found.how,
        found.n_positions,
        found.is_seen,
        found.is_unclear,
    )


def test_states_of_both_directions_are_no_one_token() -> None:
    found = trace(Sequences(both_directions, bidirectional=True).eval(), tokens()).read
    assert TokenRead(otherwise=("several states of an RNN",), is_unclear=True) == found


@pytest.mark.parametrize("rnn", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("read", [state, READS["the last position"][0]])
def test_the_outputs_of_an_rnn_are_layers(rnn: type[nn.RNNBase], read: Reader) -> None:
    graph = trace(Sequences(read, rnn, num_layers=2).eval(), tokens()).graph
    name = {nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn_tanh"}[rnn]
    kept = {tap.name: (tap.kind, tap.shape) for tap in graph.taps if not tap.minor}
    assert kept["rnn"] == ("recurrent", (LENGTH, WIDTH))
    assert kept[f"rnn/{name}.1"] == ("recurrent", (2, WIDTH))
    assert "rnn/lstm.2" not in kept


@pytest.mark.parametrize(("build", "inputs"), [(networks.small_bert, networks.sentences), (networks.small_vit, None)])
def test_encoders_are_read_at_their_first_token(
    build: Callable[[], nn.Module], inputs: Callable[[], Inputs] | None
) -> None:
    assert trace(build().eval(), torch.randn(4, 3, 8, 8) if inputs is None else inputs()).read.how == "cls"


@pytest.mark.parametrize("build", [networks.ResNet, networks.LeNet])
def test_feature_maps_are_averaged(build: Callable[[], nn.Module]) -> None:
    own = trace(build().eval(), torch.randn(4, 1 if build is networks.LeNet else 3, 8, 8))
    assert {"mean"} == {own.how(tap, AUTO) for tap in own.graph.taps}


# The tokens that are taken


def features_of(model: nn.Module, ids: torch.Tensor, name: str, reduction: str = AUTO) -> tuple[Trace, torch.Tensor]:
    own = trace(model.eval(), ids[:4])
    dataset = from_arrays(ids.numpy(), [i % 3 for i in range(len(ids))])
    tap = own.graph.tap(name)
    batches = replay(model, dataset, own, [tap], reduction=reduction, device=CPU, batch_size=8)
    return own, torch.cat([batch.features[0] for batch in batches])


@pytest.mark.parametrize("name", ["the last word", "the last word, gathered", "the last position", "the last state"])
@pytest.mark.parametrize("reduction", [AUTO, "last"])
@pytest.mark.parametrize("left", [False, True])
def test_rows_are_of_the_very_token_that_the_head_reads(name: str, reduction: str, *, left: bool) -> None:
    torch.manual_seed(0)
    read, _ = READS[name]
    if left and name.startswith("the last word"):
        read = READS["the last position"][0]
    model, ids = Sequences(read), tokens(30, left=left)
    _, actual = features_of(model, ids, "rnn", reduction)
    with torch.no_grad():
        torch.testing.assert_close(model.head(actual), model(ids))


def test_a_head_that_reads_elsewhere_in_a_later_batch_is_an_error() -> None:
    def at_first_word(rnn: nn.Module, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = rnn(x)[0]
        return states[torch.arange(len(x)), (ids == ids.amax(1, keepdim=True)).int().argmax(1)]

    ids = tokens(30)
    ids[:4] = torch.arange(1, LENGTH + 1)  # the largest number is the last word
    ids[20:] = torch.arange(LENGTH, 0, -1)
    with pytest.raises(TapError, match=r"the head reads position \d of sample \d+ of a batch, where its tokens end at"):
        features_of(Sequences(at_first_word), ids, "rnn")
    ids[:4] = torch.arange(LENGTH, 0, -1)
    ids[20:] = torch.arange(1, LENGTH + 1)
    with pytest.raises(TapError, match=r"the head reads position \d of a sample, where it read the first one"):
        features_of(Sequences(at_first_word), ids, "rnn")


def test_tokens_end_before_the_padding() -> None:
    ids = torch.tensor([[5, 7, 0, 0], [0, 0, 3, 9], [1, 1, 1, 1]])
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])
    assert [[1, 3, 0], [1, 3, 3], [3, 3, 3]] == [
        each.tolist() for each in ends({"input_ids": ids, "attention_mask": mask}, (0,), 4)
    ]
    assert [[1, 3, 3], [3, 3, 3]] == [each.tolist() for each in ends(ids, (0,), 4)]
    assert [[3, 3, 3]] == [each.tolist() for each in ends(ids, (), 4)]
    assert [[4, 4, 4]] == [each.tolist() for each in ends(ids, (0,), 5)]
