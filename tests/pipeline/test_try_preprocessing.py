"""`ncscan extract --try-preprocessing` finds the preprocessing of the training, and changes nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from workspaces import ncscan, one_line

K, N, SIDE = 5, 300, 6
FORWARD = """
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear({width}, 64), nn.ReLU(), nn.Linear(64, 5))
"""
IMAGENET = (Tensor([0.485, 0.456, 0.406]).view(3, 1, 1), Tensor([0.229, 0.224, 0.225]).view(3, 1, 1))


def images(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright images that differ little, so that a network sees nothing where they are prepared otherwise."""
    random = np.random.default_rng(0)
    labels = np.arange(N) % K
    shapes = random.choice([-1.0, 1.0], (K, channels, SIDE, SIDE))
    noise = random.normal(0, 4, (N, channels, SIDE, SIDE))
    tint = np.array([0, 30, -60])[:channels, None, None]
    return np.clip(np.rint(170 + tint + 12 * shapes[labels] + noise), 0, 255).astype(np.uint8), labels


def fit(inputs: Tensor, labels: np.ndarray) -> dict[str, Tensor]:
    """A network that is sharp around these inputs, with a last layer that was trained on them."""
    torch.manual_seed(0)
    flat, width = inputs.flatten(1), inputs[0].numel()
    first = torch.randn(64, width) / flat.std(0).mean() / width**0.5
    net = nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, K))
    net[1].load_state_dict({"weight": first, "bias": -(first @ flat.mean(0))})
    optimizer = torch.optim.Adam(net[3].parameters(), 0.05)
    with torch.no_grad():
        features = net[:3](inputs)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net[3](features), torch.from_numpy(labels)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return net.state_dict()


def workspace(folder: Path, stored: np.ndarray, labels: np.ndarray, prepared: Tensor) -> None:
    (folder / "nets.py").write_text(FORWARD.format(width=prepared[0].numel()))
    (folder / "ckpts").mkdir()
    torch.save({"state_dict": fit(prepared, labels)}, folder / "ckpts" / "epoch_2.pt")
    torch.save({"state_dict": fit(torch.randn(prepared.shape), labels[::-1].copy())}, folder / "ckpts" / "epoch_1.pt")
    np.savez(folder / "data.npz", x=stored, y=labels)


def whole(values: Tensor) -> Tensor:
    mean, deviation = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    return (values - mean) / deviation


PREPARED: dict[str, tuple[int, Callable[[Tensor], Tensor], type[np.generic], str, str]] = {
    "bytes to −1 … 1": (1, lambda x: x / 127.5 - 1, np.uint8, "from −1 to 1", "--normalize 0.5,0.5"),
    "bytes as they are": (1, lambda x: x, np.uint8, "from 0 to 255", "--normalize 0,0.00392157"),
    "floats of 255 to 0 … 1": (1, lambda x: x / 255, np.float32, "from 0 to 1", "--normalize 0,255"),
    "standardised": (3, whole, np.uint8, "standardised by the data's own", r"--normalize [\d./]+,[\d./]+"),
    "ImageNet": (3, lambda x: (x / 255 - IMAGENET[0]) / IMAGENET[1], np.uint8, "as ImageNet", "--normalize 0.485/"),
    "BGR": (3, lambda x: x.flip(1) / 255, np.uint8, "as asked, from 0 to 1, channels reversed", "change the data$"),
    "inverted": (1, lambda x: 1 - x / 255, np.uint8, "as asked, from 0 to 1, values inverted", "change the data$"),
}


@pytest.mark.parametrize("name", PREPARED)
def test_the_preprocessing_of_the_training_is_found(name: str, tmp_path: Path) -> None:
    channels, prepare, stored, said, option = PREPARED[name]
    values, labels = images(channels)
    workspace(tmp_path, values.astype(stored), labels, prepare(torch.from_numpy(values).float()))
    command = ("extract", "ckpts", "--model", "nets:make", "--data", "npz:data.npz")
    done = ncscan(*command, "--try-preprocessing", cwd=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert not (tmp_path / "ncscan-out").exists()
    assert "ckpts/epoch_2.pt, on 256 samples; chance 20.7%" in done.stdout
    best = [line for line in done.stdout.splitlines() if line.startswith("instead of ")]
    (line,) = [line for line in best if f": {said}" in line]
    assert (len(best) > 1) == ("does not tell these apart" in done.stdout)
    assert re.search(f"100.0%: .*{option}", line), line
    assert float(re.findall(r"instead of ([\d.]+)%", line)[0]) < 60
    if "change" in option:
        return
    given = re.findall(r"--normalize (\S+)$", line)[0]
    done = ncscan(*command, "--normalize", given, cwd=tmp_path)
    assert 0 == done.returncode
    assert float(re.findall(r"epoch_2.pt: accuracy ([\d.]+)%", done.stdout)[0]) > 95
    done = ncscan(*command, "--normalize", given, "--try-preprocessing", cwd=tmp_path)
    assert "none is better than what is asked for now" in done.stdout


def test_near_chance_points_to_the_trial(tmp_path: Path) -> None:
    values, labels = images(1)
    workspace(tmp_path, values, labels, torch.from_numpy(values).float())
    done = ncscan("extract", "ckpts", "--model", "nets:make", "--data", "npz:data.npz", cwd=tmp_path)
    assert "is near chance, 20.0%; wrong preprocessing is the usual cause" in one_line(done.stderr)
    assert "--try-preprocessing" in done.stderr


def test_tokens_have_no_preprocessing(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(32, 5))\n"
    )
    (tmp_path / "ckpts").mkdir()
    net = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(32, 5))
    torch.save(net.state_dict(), tmp_path / "ckpts" / "epoch_1.pt")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).integers(0, 9, (20, 4)), y=np.arange(20) % 5)
    done = ncscan(
        "extract", "ckpts", "--model", "nets:make", "--data", "npz:data.npz", "--try-preprocessing", cwd=tmp_path
    )
    assert 1 == done.returncode
    assert "there is no preprocessing to try" in one_line(done.stderr)
