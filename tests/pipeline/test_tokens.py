"""Classifiers of sequences, trained to 100 %: layers are measured at the token that the head reads."""

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from workspaces import ncscan

from ncscan.dumps.reader import Dump

CLASSES, EACH, LENGTH, WIDTH = 3, 24, 8, 16
PAD = 0
SAME = 1e-4
"""The features are computed in float32 in other batches."""

SOURCE = f"""
import warnings
import numpy as np
import torch
from torch import nn

COMMON = dict(vocab_size=12, pad_token_id={PAD}, bos_token_id=1, eos_token_id=2)

def labelled(config):
    config.num_labels = {CLASSES}
    return config

def gpt2():
    from transformers import GPT2Config, GPT2ForSequenceClassification
    return GPT2ForSequenceClassification(
        labelled(GPT2Config(n_embd={WIDTH}, n_layer=2, n_head=2, n_positions={LENGTH}, **COMMON)))

def llama():
    from transformers import LlamaConfig, LlamaForSequenceClassification
    sizes = dict(hidden_size={WIDTH}, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForSequenceClassification(
        labelled(LlamaConfig(num_key_value_heads=2, max_position_embeddings={LENGTH}, **sizes, **COMMON)))

def bert():
    from transformers import BertConfig, BertForSequenceClassification
    sizes = dict(hidden_size={WIDTH}, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return BertForSequenceClassification(
        labelled(BertConfig(max_position_embeddings={LENGTH}, vocab_size=12, pad_token_id={PAD}, **sizes)))

def vit():
    from transformers import ViTConfig, ViTForImageClassification
    sizes = dict(hidden_size={WIDTH}, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return ViTForImageClassification(labelled(ViTConfig(image_size=8, patch_size=4, num_channels=1, **sizes)))

class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(12, {WIDTH}), nn.LSTM({WIDTH}, {WIDTH}, batch_first=True)
        self.head = nn.Linear({WIDTH}, {CLASSES})

    def forward(self, input_ids, attention_mask):
        states, _ = self.lstm(self.words(input_ids))
        at = (input_ids != {PAD}).sum(1) - 1
        return self.head(states[torch.arange(len(states)), at])

class Gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.gru = nn.Embedding(12, {WIDTH}), nn.GRU({WIDTH}, {WIDTH}, num_layers=2, batch_first=True)
        self.head = nn.Linear({WIDTH}, {CLASSES})

    def forward(self, input_ids, attention_mask):
        _, state = self.gru(self.words(input_ids))
        return self.head(state[-1])

def lstm(): return Lstm()
def gru(): return Gru()

def sentences(sides):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange({CLASSES}), {EACH})
    ids = np.full((len(labels), {LENGTH}), {PAD})
    for i, label in enumerate(labels):
        length = int(random.integers(2, {LENGTH} + 1))
        words = random.choice([3 + 3 * label, 4 + 3 * label, 5 + 3 * label], size=length)
        words = words % 12 if label == 2 else words
        words[words == {PAD}] = 2  # what is written for padding is no word
        start = sides[i % len(sides)] * ({LENGTH} - length)
        ids[i, start:start + length] = words
    return {{"input_ids": ids, "attention_mask": (ids != {PAD}).astype(np.int64)}}, labels

def both_sides(): return sentences((0, 1))
def right(): return sentences((0,))

def images():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange({CLASSES}), {EACH})
    means = random.standard_normal(({CLASSES}, 1, 8, 8))
    return (means[labels] + 0.5 * random.standard_normal((len(labels), 1, 8, 8))).astype(np.float32), labels
"""


class Case(NamedTuple):
    data: str
    blocks: str
    """The layers whose hidden states the library gives, by number; empty where the test looks itself."""
    reduction: str


CASES = {
    "gpt2": Case("both_sides", "transformer.h.{}", "last"),
    "llama": Case("both_sides", "model.layers.{}", "last"),
    "bert": Case("right", "bert.encoder.layer.{}", "cls"),
    "vit": Case("images", "vit.layers.{}", "cls"),
    "lstm": Case("right", "", "last"),
    "gru": Case("both_sides", "", "last"),
}


def run(model: nn.Module, inputs: Any, **more: Any) -> Any:
    return model(**inputs, **more) if isinstance(inputs, dict) else model(inputs, **more)


def fitted(module: ModuleType, name: str) -> tuple[nn.Module, Any, np.ndarray]:
    """A model that gives every sample its label."""
    torch.manual_seed(0)
    model, (inputs, labels) = getattr(module, name)(), getattr(module, CASES[name].data)()
    tensors = (
        {key: torch.from_numpy(values) for key, values in inputs.items()}
        if isinstance(inputs, dict)
        else torch.from_numpy(inputs)
    )
    y, optimizer = torch.from_numpy(labels), torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        output = run(model, tensors)
        logits = getattr(output, "logits", output)
        loss = nn.functional.cross_entropy(logits, y)
        if bool((logits.argmax(1) == y).all()) and float(loss.detach()) < 0.05:
            return model.eval(), tensors, labels
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    raise AssertionError(f"{name} does not learn its data")


def nc1(h: np.ndarray, labels: np.ndarray) -> float:
    """tr(Σ_W Σ_B⁺)/K, as the papers have it."""
    h = h.astype(np.float64)
    means = np.stack([h[labels == c].mean(0) for c in range(CLASSES)])
    within = sum((h[labels == c] - means[c]).T @ (h[labels == c] - means[c]) for c in range(CLASSES)) / len(h)
    between = (means - means.mean(0)).T @ (means - means.mean(0)) / CLASSES
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-6)) / CLASSES)


def states_of(name: str, model: Any, inputs: Any) -> dict[str, np.ndarray]:
    """The vectors that the head reads, by layer, without ncscan: (n, d) each."""
    with torch.no_grad():
        if name in ("lstm", "gru"):
            ids = inputs["input_ids"]
            sequence, state = getattr(model, name)(model.words(ids))
            at = (ids != PAD).sum(1) - 1
            read = sequence[torch.arange(len(ids)), at] if name == "lstm" else state[-1]
            return {name: read.numpy()}
        output = run(model, inputs, output_hidden_states=True)
    found = {}
    for number, states in enumerate(output.hidden_states[1:-1]):
        if CASES[name].reduction == "cls":
            at = torch.zeros(len(states), dtype=torch.int64)
        else:
            kept = inputs["input_ids"] != PAD
            at = torch.tensor([int(np.flatnonzero(row).max()) for row in kept.numpy()])
        found[CASES[name].blocks.format(number)] = states[torch.arange(len(states)), at].numpy()
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tokens")
    (folder / "lms.py").write_text(SOURCE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def module(workspace: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("lms_of_test", workspace / "lms.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def trained(workspace: Path, module: ModuleType) -> Callable[[str], tuple[nn.Module, Any, np.ndarray]]:
    kept: dict[str, tuple[nn.Module, Any, np.ndarray]] = {}

    def of(name: str) -> tuple[nn.Module, Any, np.ndarray]:
        if name not in kept:
            kept[name] = fitted(module, name)
            torch.save(kept[name][0].state_dict(), workspace / f"{name}.pt")
        return kept[name]

    return of


def extract(folder: Path, name: str, *more: str) -> tuple[str, str]:
    case = CASES[name]
    out = ("--out", "-".join(("out", name, *(each.strip("-") for each in more))))
    asked = ("extract", f"{name}.pt", "--model", f"lms:{name}", "--data", f"lms:{case.data}", *out, *more)
    done = ncscan(*asked, "--batch-size", "20", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_layers_hold_what_the_head_reads(
    name: str, workspace: Path, trained: Callable[[str], tuple[nn.Module, Any, np.ndarray]]
) -> None:
    model, inputs, labels = trained(name)
    said, warned = extract(workspace, name)
    word = {"last": "the last token", "cls": "the first token"}[CASES[name].reduction]
    assert "accuracy 100.0%" in said
    assert f"tokens: {word}, as the head reads" in said
    assert "head reads" not in warned
    expected = states_of(name, model, inputs)
    (path,) = (workspace / f"out-{name}" / "dumps").rglob("*.h5")
    with Dump(path) as dump:
        kept = {layer.tap.name: layer for layer in dump.layers}
        names = {each: dump.graph.tap(each).name for each in expected}
        for each, vectors in expected.items():
            layer = kept[names[each]]
            assert CASES[name].reduction == layer.reduction
            actual = np.concatenate([chunk for _, chunk in dump.chunks(layer)])
            np.testing.assert_allclose(actual, vectors, rtol=SAME, atol=SAME)
        read = kept[dump.graph.map(dump.graph.head[-1]).reads]
        weight, bias = dump.weights[dump.graph.head[-1]]
        features = np.concatenate([chunk for _, chunk in dump.chunks(read)])
        logits = features @ weight.T + (0 if bias is None else bias)
        np.testing.assert_allclose(logits, dump.logits, rtol=SAME, atol=SAME)
    reported = ncscan("report", f"out-{name}/dumps", "--out", f"out-{name}", cwd=workspace)
    assert reported.returncode == 0, reported.stderr
    found = rows_of(workspace / f"out-{name}", "nc1_pinv")
    for each, vectors in expected.items():
        assert found[names[each]] == pytest.approx(nc1(vectors, labels), rel=1e-2)


def rows_of(folder: Path, metric: str) -> dict[str, float]:
    with (folder / "report" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["metric"] == metric and row["value"]]
    return {row["layer"]: float(row["value"]) for row in table}


@pytest.mark.filterwarnings("ignore")
def test_another_reduction_than_the_head_reads_by_is_never_silent(
    workspace: Path, trained: Callable[[str], tuple[nn.Module, Any, np.ndarray]]
) -> None:
    trained("gpt2")
    _, warned = extract(workspace, "gpt2", "--reduction", "mean")
    said = (
        "the head reads the last token, and --reduction mean keeps the mean of the positions of layer transformer.wte"
    )
    assert said in warned
    reported = ncscan("report", "out-gpt2-reduction-mean/dumps", "--out", "other", cwd=workspace)
    assert said in reported.stderr
    document = json.loads((workspace / "other" / "report" / "report.json").read_text(encoding="utf-8"))
    doubts = [doubt["sentence"] for run in document["verdict"]["runs"] for doubt in run["doubts"]]
    assert any(doubt.startswith("The head reads the last token, and --reduction mean") for doubt in doubts)
    for same in ("last", "auto"):
        assert "head reads the" not in extract(workspace, "gpt2", "--reduction", same)[1]


@pytest.mark.filterwarnings("ignore")
def test_last_asked_for_is_the_token_that_the_head_reads(
    workspace: Path, trained: Callable[[str], tuple[nn.Module, Any, np.ndarray]]
) -> None:
    trained("llama")
    extract(workspace, "llama")
    extract(workspace, "llama", "--reduction", "last")
    features = []
    for folder in ("out-llama", "out-llama-reduction-last"):
        (path,) = (workspace / folder / "dumps").rglob("*.h5")
        with Dump(path) as dump:
            layer = next(layer for layer in dump.layers if layer.tap.name == "model.norm")
            features.append(np.concatenate([chunk for _, chunk in dump.chunks(layer)]))
    np.testing.assert_array_equal(features[0], features[1])
