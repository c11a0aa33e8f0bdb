"""Makes all of sample_data again: digits.npz, and three training runs on it with their checkpoints.

    python sample_data/make.py [--out DIR]

In: scikit-learn's `load_digits`, 1,797 real handwritten digits. Out: DIR/digits.npz and DIR/trajectories/<run>/.
It takes about a minute on one thread, and gives the same bytes on the same kind of machine.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from training import Recipe, train

# 1,797 samples are three batches of 599, so that every epoch takes every sample once. The checkpoints lie close where
# a network learns fastest, and then even, every 500 epochs.
DECAY = Recipe(
    run="decay-seed0",
    group="decay",
    data="npz:../../digits.npz",
    normalize=None,
    seed=0,
    widths=(64, 64, 64, 64, 64, 64, 64, 10),
    linear_head=3,
    lr=0.2,
    momentum=0.9,
    weight_decay=1e-4,
    loss_scale=1.0,
    schedule="constant",
    batch_size=599,
    checkpoints=(0, 30, 150, 600, 1500, 3000, 4500, 6000, 7500, 9000, 10500, 12000),
)
RECIPES = (
    DECAY,
    replace(DECAY, run="decay-seed1", seed=1),
    replace(DECAY, run="no-decay-seed0", group="no-decay", weight_decay=0.0),
)


def write_digits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Write the digits as an npz, and give back the inputs (1797, 64) and labels (1797,) that the runs train on."""
    digits = load_digits()
    inputs = (digits.images / 16).astype(np.float32)[:, np.newaxis]  # pixels count the ink in 4×4 blocks: 0…16
    labels = digits.target.astype(np.int64)
    names = np.array([str(name) for name in digits.target_names])
    np.savez_compressed(path, inputs=inputs, labels=labels, class_names=names)
    print(f"{path}: {len(labels)} digits, {path.stat().st_size:,} bytes", flush=True)
    return torch.from_numpy(inputs).flatten(1), torch.from_numpy(labels)


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Make the sample data again.")
    parser.add_argument("--out", type=Path, default=here, metavar="DIR", help="where to write; by default here")
    parser.add_argument("--until", type=int, metavar="STEP", help="leave out the checkpoints after this step")
    options = parser.parse_args()
    if options.until is not None and options.out.resolve() == here.resolve():
        parser.error("--until would cut the shipped runs short: name another folder with --out")
    if options.until is not None and options.until < 0:
        parser.error(f"--until must be 0 or more, not {options.until}")

    # One thread, because the order of a sum depends on how many share it.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    options.out.mkdir(parents=True, exist_ok=True)
    inputs, labels = write_digits(options.out / "digits.npz")
    for recipe in RECIPES:
        kept = tuple(step for step in recipe.checkpoints if options.until is None or step <= options.until)
        train(replace(recipe, checkpoints=kept), inputs, labels, options.out / "trajectories" / recipe.run)


if __name__ == "__main__":
    main()
