"""What took gradients is kept in the dump: written with it, asked for again, and read without the model."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from dumping import PROVENANCE, dump_to, network, samples, traced
from workspaces import ncscan

from ncscan.activations.batches import Batch
from ncscan.activations.source import GradientRow, Gradients
from ncscan.dumps.reader import Dump, finished
from ncscan.errors import DumpError, RefusedPlan
from ncscan.metrics.gradients.evaluate import GRADIENT_METRICS

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"
FEW = Gradients(
    7,
    (
        GradientRow("", "sharpness", "loss", 2.5, "", 7, estimate=True),
        GradientRow("0", "feature_ansatz", "centred", None, "the map is zero", 7, estimate=False),
    ),
)


def is_finished(path: Path, gradients: int | None) -> bool:
    return finished(path, PROVENANCE, traced(network(), samples())[0].graph, gradients=gradients)


def test_gradients_come_back_as_they_were_written(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5", gradients=FEW)
    with Dump(tmp_path / "a.h5") as dump:
        assert dump.gradients == FEW


def test_dump_without_gradients_is_valid_until_they_are_asked_for(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5")
    with Dump(tmp_path / "a.h5") as dump:
        assert dump.gradients is None
    assert is_finished(tmp_path / "a.h5", None)
    assert not is_finished(tmp_path / "a.h5", 7)


def test_dump_with_gradients_is_finished_when_as_many_samples_or_none_are_asked_for(tmp_path: Path) -> None:
    dump_to(tmp_path / "a.h5", gradients=FEW)
    assert is_finished(tmp_path / "a.h5", 7)
    assert is_finished(tmp_path / "a.h5", None)
    with pytest.raises(RefusedPlan, match="gradients of 7 samples and not 8"):
        is_finished(tmp_path / "a.h5", 8)


@pytest.mark.parametrize(("asked", "kept"), [(FEW, True), (None, False), (Gradients(8, ()), False)])
def test_partial_dump_goes_on_when_it_has_what_is_asked_for(
    tmp_path: Path, asked: Gradients | None, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncscan.dumps.row_tables.GATHERED", 1)  # so that every batch is counted

    def stop(batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        dump_to(tmp_path / "a.h5", gradients=FEW, around=stop)
    assert kept == (dump_to(tmp_path / "a.h5", gradients=asked).resumed_at > 0)
    with Dump(tmp_path / "a.h5") as dump:
        assert asked == dump.gradients


@pytest.mark.parametrize(
    "row",
    [
        {"value": float("nan")},
        {"value": None},
        {"reason": "both"},
        {"value": "2.5"},
        {"estimate": 1},
        {"n_samples": None},
        {"more": 1},
    ],
)
def test_gradients_are_refused_when_a_row_is_not_what_it_is_declared_to_be(
    tmp_path: Path, row: dict[str, object]
) -> None:
    dump_to(tmp_path / "a.h5", gradients=FEW)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        plain = json.loads(file["gradients"][()].tobytes())
        plain["rows"][0] |= row
        del file["gradients"]
        file["gradients"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    with pytest.raises(DumpError):
        Dump(tmp_path / "a.h5")


def test_command_line_keeps_gradients_of_a_real_checkpoint(tmp_path: Path) -> None:
    checkpoint = SAMPLE_DATA / "trajectories/decay-seed0/step_012000.safetensors"
    arguments: list[str | Path] = ["extract", checkpoint, "--layers", "head", "--device", "cpu", "--threads", "1"]
    path = tmp_path / "ncscan-out/dumps/decay-seed0/step_012000.safetensors.h5"

    def gradients(*more: str) -> Gradients | None:
        done = ncscan(*arguments, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with Dump(path) as dump:
            return dump.gradients

    assert gradients() is None
    found = gradients("--gradients", "64")
    assert found is not None
    assert found.n_samples == 64
    assert {metric for metric, _ in GRADIENT_METRICS} == {row.metric for row in found.rows}
    at = {(row.layer_or_map, row.metric, row.quantity): row.value for row in found.rows}
    # A run with weight decay, at its end: the head is nearly balanced, and looks at what the outputs depend on.
    assert (at["9", "feature_ansatz", "uncentred"] or 0) > 0.95
    assert (at["9..10", "stationarity", "relative"] or 1) < 0.05
    assert (at["9..10", "stationarity", "identity"] or 1) < 1e-5
    assert 0 < (at["", "sharpness", "ratio"] or 0) < 1
    refused = ncscan(*arguments, "--gradients", "65", cwd=tmp_path)
    assert refused.returncode == 2
    assert "gradients of 64 samples and not 65" in refused.stderr


def test_page_defines_every_metric_and_quantity() -> None:
    page = (SAMPLE_DATA.parent / "docs/gradients.md").read_text(encoding="utf-8")
    names = {name for metric, quantities in GRADIENT_METRICS for name in (metric, *quantities)}
    assert set() == {name for name in names if f"| `{name}` |" not in page}
