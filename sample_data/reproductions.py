"""Trains the networks behind docs/reproductions.md: what papers on neural collapse found, on 5,000 images of MNIST.

    python sample_data/reproductions.py [--out reproductions] [--only NAME …]

In: MNIST's idx files, fetched as mnist.py does. Out: OUT/data-5000/, the first 5,000 images, and OUT/runs/<run>/ with
eight checkpoints each. A run takes about a quarter of a minute on one thread.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mnist import MEAN, SHA256, STD, cut, fetch, read
from training import Recipe, train

N_IMAGES, WIDTH = 5000, 256
RANDOM_LABELS = 500
"""Images whose labels are drawn: few enough to be learnt by heart with the weight decay that makes them collapse."""


def recipe(run: str, group: str, *, seed: int = 0, relus: int = 6, head: int = 3) -> Recipe:
    """`relus` layers of 256 with a ReLU after each, then `head` linear ones."""
    return Recipe(
        run=run,
        group=group,
        data=f"idx:../../data-{N_IMAGES}",
        normalize=f"{MEAN},{STD}",
        seed=seed,
        widths=(784, *[WIDTH] * (relus + head - 1), 10),
        linear_head=head,
        lr=0.02,
        momentum=0.9,
        weight_decay=1e-3,
        loss_scale=10.0,
        schedule="cosine",
        batch_size=100,
        checkpoints=(0, 100, 300, 600, 1200, 2000, 3200, 4500),
    )


SEEDS = (0, 1)
LR_BY_DEPTH = 0.01
"""With two ReLU layers 0.02 diverged before step 100, so the depths are compared at half of it."""
DECAY = [recipe(f"decay-seed{seed}", "decay", seed=seed) for seed in SEEDS]
RUNS = (
    *DECAY,
    *(replace(r, run=f"no-{r.run}", group="no-decay", weight_decay=0.0) for r in DECAY),
    *(recipe(f"head{n}-seed{seed}", f"head{n}", seed=seed, head=n) for n in (1, 2, 4, 5) for seed in SEEDS),
    *(
        replace(recipe(f"relus{n}-seed{seed}", f"relus{n}", seed=seed, relus=n), lr=LR_BY_DEPTH)
        for n in (2, 4, 6)
        for seed in SEEDS
    ),
    replace(
        recipe("random-labels", "random-labels", relus=3),
        lr=LR_BY_DEPTH,
        data=f"idx:../../data-random-{RANDOM_LABELS}",
        checkpoints=(0, 300, 1000, 3000, 6000, 10000, 15000, 20000),
    ),
)
"""Where nothing else is said, six ReLU layers and a head of three, as in `decay`."""


def with_random_labels(data: Path) -> Path:
    """The first images with labels drawn for each, as idx files in a folder of their own."""
    source = cut(data, RANDOM_LABELS)
    folder = data.with_name(f"data-random-{RANDOM_LABELS}")
    folder.mkdir(exist_ok=True)
    images, labels = (source / name for name in list(SHA256)[:2])
    (folder / images.name).write_bytes(images.read_bytes())
    drawn = np.random.default_rng(0).permutation(np.arange(RANDOM_LABELS) % 10).astype(np.uint8)
    (folder / labels.name).write_bytes(labels.read_bytes()[:8] + drawn.tobytes())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the networks behind docs/reproductions.md.")
    parser.add_argument("--out", type=Path, default=Path("reproductions"), metavar="DIR")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="runs whose name starts with one of these")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    data = options.out / "data"
    fetch(data)
    parts = {f"idx:../../{folder.name}": folder for folder in (cut(data, N_IMAGES), with_random_labels(data))}
    for run in RUNS:
        if options.only is None or run.run.startswith(tuple(options.only)):
            inputs, labels = read(parts[run.data])
            train(run, inputs, labels, options.out / "runs" / run.run)


if __name__ == "__main__":
    main()
