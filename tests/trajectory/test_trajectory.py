"""Steps, their units, and what is doubtful about a run."""

from ncscan.ordering import CheckpointRecord, PlaceInRun, integrity, order_run


def record(
    name: str,
    *,
    run: str = "a",
    step: int | None = None,
    epoch: int | None = None,
    tensors: str = "",
    dtype: str = "",
) -> CheckpointRecord:
    return CheckpointRecord(run, name, step, epoch, None, tensors or f"{run}/{name}", dtype)


def doubtful(records: list[CheckpointRecord]) -> list[str]:
    """What is doubtful about runs whose checkpoints all have a place."""
    places: dict[tuple[str, str], PlaceInRun] = {}
    for run in dict.fromkeys(each.run for each in records):
        places |= {(run, name): at for name, at in order_run([r for r in records if r.run == run]).places.items()}
    return integrity(records, [places[each.run, each.checkpoint] for each in records])


def test_integrity_is_silent_on_a_sound_run() -> None:
    assert [] == doubtful([record(f"step_{n}.pt", step=n) for n in (0, 10, 200)])


def test_integrity_names_the_same_tensors_under_two_steps() -> None:
    run = [record("a.pt", step=0), record("b.pt", step=5, tensors="t"), record("c.pt", step=9, tensors="t")]
    assert ["the same tensors under 2 names: a/b.pt, a/c.pt"] == doubtful(run)


def test_integrity_allows_two_runs_to_share_their_initialisation() -> None:
    runs = [record("0.pt", run=run, step=0, tensors="init") for run in ("a", "b")]
    assert [] == doubtful(runs)


def test_integrity_names_two_runs_with_the_same_late_tensors() -> None:
    runs = [record("9.pt", run=run, step=9, tensors="late") for run in ("a", "b")]
    assert ["the same tensors under 2 names: a/9.pt, b/9.pt"] == doubtful(runs)


def test_integrity_names_a_run_that_changes_its_precision() -> None:
    run = [
        record("a.pt", step=0, dtype="float32"),
        record("b.pt", step=1, dtype="float32"),
        record("c.pt", step=2, dtype="bfloat16"),
        record("d.pt", step=3),
        record("a.pt", run="b", step=0, dtype="float16"),
    ]
    said = "a: its checkpoints are stored in 2 precisions: a.pt is float32, c.pt is bfloat16"
    assert [said] == doubtful(run)
