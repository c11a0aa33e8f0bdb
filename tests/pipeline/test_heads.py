"""Heads as people write them, by the real command line: the tables are those of the plain linear head."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from workspaces import ncscan, one_line

SAME = 1e-6
"""The features are the same numbers; a head may be written another way."""
CLASSES, INPUTS, WIDTH, EACH = 4, 12, 8, 30

MODELS = f"""
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, ending, outputs={CLASSES}):
        super().__init__()
        self.ending = ending
        self.a, self.b = nn.Linear({INPUTS}, {WIDTH}), nn.Linear({WIDTH}, outputs)

    def forward(self, x):
        h = self.a(x).relu()
        return self.ending(self, h, self.b(h))

class Cosine(nn.Module):
    def __init__(self, scale, given=False):
        super().__init__()
        self.a, self.weight = nn.Linear({INPUTS}, {WIDTH}), nn.Parameter(torch.zeros({CLASSES}, {WIDTH}))
        self.scale, self.given = scale, given

    def forward(self, x):
        h = F.normalize(self.a(x).relu())
        return self.scale * F.linear(h, self.weight if self.given else F.normalize(self.weight))

def plain(): return Net(lambda m, h, z: z)
def softmax(): return Net(lambda m, h, z: z.softmax(1))
def log_softmax(): return Net(lambda m, h, z: F.log_softmax(z, dim=1))
def temperature(): return Net(lambda m, h, z: z / 1.5)
def sigmoid(): return Net(lambda m, h, z: torch.sigmoid(z))
def pair(): return Net(lambda m, h, z: (h, z))
def both(): return Net(lambda m, h, z: {{"features": h, "scores": z.sigmoid()}})
def squared(): return Net(lambda m, h, z: z ** 2)
def two_heads(): return Net(lambda m, h, z: (z, F.linear(h, m.b.weight)))
def two(): return Net(lambda m, h, z: z, 2)
def two_sigmoids(): return Net(lambda m, h, z: z.sigmoid(), 2)
def one(): return Net(lambda m, h, z: z, 1)
def one_squeezed(): return Net(lambda m, h, z: z.squeeze(1), 1)
def one_sigmoid(): return Net(lambda m, h, z: z.sigmoid(), 1)
def cosine(): return Cosine(16.0)
def cosine_plain(): return Cosine(1.0, given=True)
"""
LIKE_PLAIN = ("softmax", "log_softmax", "temperature", "sigmoid", "pair", "both")
OF_TWO = ("two_sigmoids", "one", "one_squeezed", "one_sigmoid")


def samples() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    means = 2 * random.standard_normal((CLASSES, INPUTS))
    return (means[labels] + 0.3 * random.standard_normal((len(labels), INPUTS))).astype(np.float32), labels


@cache
def state(outputs: int) -> dict[str, torch.Tensor]:
    """A network with random features and the best last layer."""
    torch.manual_seed(0)
    x, y = samples()
    a = nn.Linear(INPUTS, WIDTH)
    with torch.no_grad():
        h = a(torch.from_numpy(x)).relu()
        targets = functional.one_hot(torch.from_numpy(y) % outputs, outputs).float() * 4 - 2
        W = torch.linalg.lstsq(h, targets).solution.T.contiguous()
        b = 0.1 * torch.arange(outputs, dtype=torch.float32)
    return {"a.weight": a.weight.detach(), "a.bias": a.bias.detach(), "b.weight": W, "b.bias": b}


Rows = dict[tuple[str, ...], float | str]
KEY = ("layer", "metric", "quantity", "weighting", "classifier")
OF_MAPS = ("map", "next_map", "metric", "quantity")


def add_run(folder: Path, run: str, data: str, tensors: dict[str, torch.Tensor], more: str = "") -> None:
    (folder / "ckpts" / run).mkdir(parents=True)
    config = (
        f'[model]\nsource = "heads:{run}"\n{more}[data]\nsource = "npz:../../{data}"\n[train]\nweight_decay = 0.0\n'
    )
    loss = "bce" if run.startswith("one") else "cross_entropy"
    (folder / "ckpts" / run / "ncscan.toml").write_text(f'{config}loss = "{loss}"\n', encoding="utf-8")
    torch.save(tensors, folder / "ckpts" / run / "step_1.pt")
    (folder / "ckpts" / run / "heads.py").write_text(MODELS, encoding="utf-8")


def tables(folder: Path, name: str = "metrics.csv", key: tuple[str, ...] = KEY) -> dict[str, Rows]:
    """The rows of a table by run, and by what tells them apart."""
    found: dict[str, Rows] = {}
    with (folder / "ncscan-out" / "report" / name).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            value = float(row["value"]) if row["value"] else row["reason"]
            found.setdefault(row["run"], {})[tuple(row[column] for column in key)] = value
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("heads")
    x, y = samples()
    np.savez(folder / "four.npz", x=x, y=y)
    np.savez(folder / "two.npz", x=x, y=y % 2)
    (folder / "heads.py").write_text(MODELS, encoding="utf-8")
    for run in ("plain", *LIKE_PLAIN, "squared"):
        add_run(folder, run, "four.npz", state(CLASSES))
    own = state(2)
    w, b = own["b.weight"], own["b.bias"]
    w, b = w - w.mean(0), b - b.mean()
    for run in ("two", *OF_TWO):
        head = (w[1:] - w[:1], b[1:] - b[:1]) if run.startswith("one") else (w, b)
        add_run(folder, run, "two.npz", {**own, "b.weight": head[0], "b.bias": head[1]})
    four = state(CLASSES)
    features = {name: tensor for name, tensor in four.items() if name.startswith("a.")}
    add_run(folder, "cosine", "four.npz", {**features, "weight": four["b.weight"]})
    add_run(folder, "cosine_plain", "four.npz", {**features, "weight": functional.normalize(four["b.weight"])})
    done = ncscan("extract", "ckpts", "--trust-code", "--gradients", "8", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "extract.txt").write_text(done.stdout, encoding="utf-8")
    assert ncscan("report", cwd=folder).returncode == 0
    return folder


def require_same(actual: Rows, expected: Rows) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key] == (pytest.approx(value, rel=SAME, abs=SAME) if isinstance(value, float) else value), key


def require_classifier(rows: Rows) -> None:
    own = [value for key, value in rows.items() if key[:2] == ("/relu", "nc3_distance") and key[4] == "b"]
    assert any(isinstance(value, float) for value in own)


@pytest.mark.parametrize("run", LIKE_PLAIN)
def test_every_number_is_that_of_the_plain_head(workspace: Path, run: str) -> None:
    found = tables(workspace)
    require_classifier(found["plain"])
    require_same(found[run], found["plain"])


@pytest.mark.parametrize("run", LIKE_PLAIN)
def test_every_number_of_the_weights_and_their_gradients_is_that_of_the_plain_head(workspace: Path, run: str) -> None:
    found = tables(workspace, "weights.csv", OF_MAPS)
    assert isinstance(found["plain"]["", "", "gradient_norm", "loss"], float)
    require_same(found[run], found["plain"])


def test_a_cosine_head_has_its_normalised_classifier(workspace: Path) -> None:
    found = tables(workspace)
    assert any(key[0] == "/normalize" and key[1] == "nc3_distance" for key in found["cosine"])
    require_same(found["cosine"], found["cosine_plain"])


@pytest.mark.parametrize("run", OF_TWO)
def test_one_logit_and_two_sigmoids_are_measured_as_two_classes(workspace: Path, run: str) -> None:
    found = tables(workspace)
    # Of the layer of the logits there is one feature where there is one logit; the two losses by squares differ.
    apart = {"b"} if run.startswith("one") else set()
    actual, expected = (
        {key: value for key, value in found[name].items() if key[0] not in apart or key[1] in ("error", "loss")}
        for name in (run, "two")
    )
    if apart:
        said = "the square loss of one logit for two classes: its two targets are not known"
        assert said == actual.pop(("b", "loss", "mse", "", ""))
        expected.pop(("b", "loss", "mse", "", ""))
    require_classifier(expected)
    require_same(actual, expected)


def test_the_loss_of_one_logit_is_the_binary_cross_entropy(workspace: Path) -> None:
    x, y = samples()
    own = torch.load(workspace / "ckpts" / "one" / "step_1.pt")
    with torch.no_grad():
        h = functional.linear(torch.from_numpy(x), own["a.weight"], own["a.bias"]).relu()
        z = functional.linear(h, own["b.weight"], own["b.bias"])[:, 0]
        expected = functional.binary_cross_entropy_with_logits(z, torch.from_numpy(y % 2).float())
    assert tables(workspace)["one"]["b", "loss", "cross_entropy", "", ""] == pytest.approx(float(expected), rel=1e-5)
    maps = tables(workspace, "weights.csv", OF_MAPS)
    assert isinstance(maps["one"]["", "", "objective", "loss"], float)


def test_theory_is_not_applied_to_one_logit(workspace: Path) -> None:
    with (workspace / "ncscan-out" / "report" / "theory.csv").open(encoding="utf-8", newline="") as file:
        reasons = {
            row["reason"] for row in csv.DictReader(file) if row["run"] == "one" and row["claim"] == "theorem_3_1"
        }
    assert all("one logit decides between two classes" in reason for reason in reasons)


def test_the_line_of_extract_names_the_logits_and_what_writes_them(workspace: Path) -> None:
    said = (workspace / "extract.txt").read_text(encoding="utf-8")
    lines = {line.split("/")[0]: line for line in said.splitlines() if "logits:" in line}
    assert "; logits: b, a linear map of /relu; " in lines["plain"]
    assert "; logits: b, a linear map of /relu, before /log_softmax; " in lines["log_softmax"]
    assert "; logits: b, a linear map of /relu, before /sigmoid; one for two classes; " in lines["one_sigmoid"]
    assert "; logits: /linear, a linear map of /normalize, before /mul; " in lines["cosine"]
    assert "; logits: /pow, made by pow, no linear map; " in lines["squared"]


def test_a_head_without_classifier_is_doubtful(workspace: Path) -> None:
    reported = ncscan("report", "ncscan-out/dumps/squared", "--out", "squared", cwd=workspace)
    assert "no linear map writes the logits, one row of weights per class: there is no nc3" in reported.stderr
    assert "pow makes them after linear map b" in reported.stderr


def test_ambiguous_logits_are_named_and_chosen(tmp_path: Path) -> None:
    x, y = samples()
    np.savez(tmp_path / "four.npz", x=x, y=y)
    (tmp_path / "heads.py").write_text(MODELS, encoding="utf-8")
    torch.save(state(CLASSES), tmp_path / "one.pt")
    asked = ("extract", "one.pt", "--model", "heads:two_heads", "--data", "npz:four.npz")
    refused = ncscan(*asked, cwd=tmp_path)
    assert refused.returncode != 0
    said = one_line(refused.stderr)
    assert "0 (layer b, 4 numbers a sample, written by linear map b); 1 (layer /linear, 4 numbers" in said
    assert "name one with --logits" in said
    for name, tap in (("1", "/linear"), ("b", "b")):
        taken = ncscan(*asked, "--logits", name, "--force", cwd=tmp_path)
        assert (0, True) == (taken.returncode, f"logits: {tap}, a linear map of /relu" in taken.stdout), taken.stderr
    (tmp_path / "ncscan.toml").write_text("[model]\nlogits = 1\n", encoding="utf-8")
    taken = ncscan(*asked, "--force", cwd=tmp_path)
    assert "logits: /linear, a linear map of /relu" in taken.stdout
    assert "logits: /linear" in ncscan("layers", *asked[1:], cwd=tmp_path).stdout
