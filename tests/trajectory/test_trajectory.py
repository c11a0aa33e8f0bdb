"""Steps, their units, and what is doubtful about a run."""

import pytest

from ncscan.pipeline.fit import accuracy_doubts
from ncscan.trajectory.evaluate import CheckpointRecord, CheckpointStep, assign_steps, integrity


def record(
    name: str,
    *,
    run: str = "a",
    step: int | None = None,
    epoch: int | None = None,
    number: int | None = None,
    tensors: str = "",
    dtype: str = "",
) -> CheckpointRecord:
    return CheckpointRecord(run, name, step, epoch, number, tensors or f"{run}/{name}", dtype)


def test_place_takes_iterations_when_every_checkpoint_of_the_run_knows_them() -> None:
    run = [record("x.pt", step=500, epoch=5), record("y.pt", step=1000, epoch=10)]
    assert [CheckpointStep(500, "iteration"), CheckpointStep(1000, "iteration")] == assign_steps(run)


def test_place_falls_back_to_one_unit_for_the_whole_run() -> None:
    run = [record("x.pt", epoch=5, number=5), record("y.pt", step=1000, number=10)]
    assert [CheckpointStep(5, "file"), CheckpointStep(10, "file")] == assign_steps(run)


def test_place_counts_when_nothing_says_a_number() -> None:
    assert [CheckpointStep(0, "order"), CheckpointStep(1, "order")] == assign_steps(
        [record("best.pt"), record("last.pt")]
    )


def test_place_chooses_a_unit_for_each_run_by_itself() -> None:
    mixed = [record("x.pt", run="a", step=7), record("x.pt", run="b", epoch=3), record("y.pt", run="b", epoch=4)]
    assert [CheckpointStep(7, "iteration"), CheckpointStep(3, "epoch"), CheckpointStep(4, "epoch")] == assign_steps(
        mixed
    )


def test_integrity_is_silent_on_a_sound_run() -> None:
    assert [] == integrity([record(f"step_{n}.pt", step=n, number=n) for n in (0, 10, 200)])


def test_integrity_names_the_same_tensors_under_two_steps() -> None:
    run = [record("a.pt", step=0), record("b.pt", step=5, tensors="t"), record("c.pt", step=9, tensors="t")]
    assert ["the same tensors under 2 names: a/b.pt, a/c.pt"] == integrity(run)


def test_integrity_allows_two_runs_to_share_their_initialisation() -> None:
    runs = [record("0.pt", run=run, step=0, tensors="init") for run in ("a", "b")]
    assert [] == integrity(runs)


def test_integrity_names_two_runs_with_the_same_late_tensors() -> None:
    runs = [record("9.pt", run=run, step=9, tensors="late") for run in ("a", "b")]
    assert ["the same tensors under 2 names: a/9.pt, b/9.pt"] == integrity(runs)


def test_integrity_names_one_step_said_twice() -> None:
    run = [record("a.pt", step=5), record("b.pt", step=5)]
    assert ["a: 2 checkpoints say iteration 5: a.pt, b.pt"] == integrity(run)


def test_integrity_names_files_whose_names_disagree_with_their_notes() -> None:
    run = [record("epoch_1.pt", epoch=9, number=1), record("epoch_2.pt", epoch=2, number=2)]
    assert ["a: epoch_2.pt comes after epoch_1.pt by name but before it by its own epoch"] == integrity(run)


def test_integrity_names_a_run_that_changes_its_precision() -> None:
    run = [
        record("a.pt", step=0, dtype="float32"),
        record("b.pt", step=1, dtype="float32"),
        record("c.pt", step=2, dtype="bfloat16"),
        record("d.pt", step=3),
        record("a.pt", run="b", step=0, dtype="float16"),
    ]
    said = "a: its checkpoints are stored in 2 precisions: a.pt is float32, c.pt is bfloat16"
    assert [said] == integrity(run)


@pytest.mark.parametrize(
    ("accuracy", "notes", "untrained", "said"),
    [
        (0.98, {}, False, ""),
        (0.12, {}, False, "near chance, 10.0%"),
        (0.12, {}, True, ""),
        (0.12, {"train_accuracy": 0.11}, False, ""),
        (0.12, {"train_accuracy": 0.98}, False, "own train_accuracy is 98.0%"),
        (0.12, {"best_acc": 93.1}, False, "own best_acc is 93.1%"),
        (0.999, {"best_acc": 93.1}, False, ""),
        (0.999, {"train_acc": 93.1}, False, "own train_acc is 93.1%"),
        (0.5, {"acc": "high"}, False, ""),
        (0.5, {"acc": True}, False, ""),
    ],
)
def test_accuracy_doubts(accuracy: float, notes: dict[str, object], untrained: bool, said: str) -> None:
    doubts = accuracy_doubts(accuracy, 0.1, notes, untrained=untrained)
    assert bool(said) == bool(doubts)
    assert all(said in doubt for doubt in doubts)
