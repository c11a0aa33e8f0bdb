"""A held-out split and data of another distribution beside the training set, through the real command line."""

from pathlib import Path

import numpy as np
from workspaces import dumps, ncscan, rows, samples

NEAREST = "nearest_distance"


def write_others(folder: Path) -> None:
    inputs, labels = samples()
    moved = inputs[::2] + np.float32(0.2) * np.random.default_rng(1).standard_normal(inputs[::2].shape, np.float32)
    np.savez(folder / "test.npz", inputs=moved, labels=labels[::2])
    far = np.random.default_rng(2).standard_normal((50, inputs.shape[1]), np.float32) * 30
    np.savez(folder / "far.npz", inputs=far, labels=np.zeros(50, np.int64))


def test_other_data_is_kept_and_measured_beside_the_training_set(workspace: Path) -> None:
    write_others(workspace)
    others = ("--test", "npz:test.npz", "--ood", "npz:far.npz")
    done = ncscan("extract", "ckpts", *others, cwd=workspace)
    assert (0, "") == (done.returncode, done.stderr)
    kept = [f"step_{step}.pt{split}.h5" for step in (0, 10, 5) for split in ("", ".ood", ".test")]
    assert sorted(kept) == sorted(dumps(workspace))
    again = ncscan("extract", "ckpts", *others, cwd=workspace)
    assert 9 == again.stdout.count("complete before")
    done = ncscan("report", cwd=workspace)
    assert (0, "") == (done.returncode, done.stderr)
    found = rows(workspace)
    assert {"train", "test", "ood"} == {row["split"] for row in found}
    metrics = {split: {row["metric"] for row in found if row["split"] == split} for split in ("train", "test", "ood")}
    assert {"ood_orthogonality", NEAREST, "max_softmax", "ood_auroc"} == metrics["ood"]
    assert {"nc1_pinv", "ncc_error", "error", NEAREST, "max_softmax"} <= metrics["test"]
    assert metrics["train"] - {NEAREST, "max_softmax"} == metrics["test"] - {NEAREST, "max_softmax"}
    key = ("checkpoint", "split", "layer", "metric", "quantity", "weighting")
    assert len(found) == len({tuple(row[name] for name in key) for row in found})
    far = [float(row["value"]) for row in found if (row["metric"], row["quantity"]) == ("ood_auroc", "distance")]
    assert min(far) > 0.9


def test_measures_of_the_training_set_do_not_depend_on_other_data(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    ncscan("report", cwd=workspace)
    alone = rows(workspace)
    write_others(workspace)
    ncscan("extract", "ckpts", "--test", "npz:test.npz", cwd=workspace)
    ncscan("report", cwd=workspace)
    beside = [
        row for row in rows(workspace) if row["split"] == "train" and row["metric"] not in (NEAREST, "max_softmax")
    ]
    assert alone == beside


def test_other_data_without_the_training_set_is_skipped(workspace: Path) -> None:
    write_others(workspace)
    ncscan("extract", "ckpts/step_5.pt", "--test", "npz:test.npz", cwd=workspace)
    for dump in (workspace / "ncscan-out" / "dumps").rglob("step_5.pt.h5"):
        dump.unlink()
    done = ncscan("report", cwd=workspace)
    assert 1 == done.returncode
    assert "no dump of the training set beside it" in done.stderr


def test_held_out_split_with_more_classes_is_skipped(workspace: Path) -> None:
    inputs, labels = samples()
    np.savez(workspace / "test.npz", inputs=inputs, labels=labels + 1)
    done = ncscan("extract", "ckpts", "--test", "npz:test.npz", cwd=workspace)
    assert 4 == done.returncode
    assert "label 3, and the model has 3 outputs" in done.stderr
    assert 3 == len(dumps(workspace))


def test_other_data_named_in_the_toml_counts(workspace: Path) -> None:
    write_others(workspace)
    config = workspace / "ckpts" / "ncscan.toml"
    config.write_text(config.read_text() + 'test = "npz:../test.npz"\n', encoding="utf-8")
    assert 0 == ncscan("extract", "ckpts", cwd=workspace).returncode
    assert 6 == len(dumps(workspace))
