"""The animation of collapse: where things lie, how frames follow each other, what is refused, and the same bytes."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from workspaces import ncscan, one_line

from ncscan.errors import UsageError
from ncscan.report.etf_animation.animation import (
    FEWEST_CLASSES,
    HELD,
    MOST_FRAMES,
    MOST_STEPS,
    MOVING,
    STILL,
    Picture,
    _datasets,
    _first_of_groups,
    _frames,
    _key,
    _timeline,
    animation,
)
from ncscan.report.etf_animation.paths import tracks
from ncscan.report.etf_animation.simplex import vertices
from ncscan.tables.columns import GEOMETRY_COLUMNS, TRAJECTORY_COLUMNS
from ncscan.tables.frames import complete, tidy

EXACT = 1e-12
SAMPLES = 5


def tables_of(
    runs: tuple[str, ...] = ("a-s0",),
    steps: tuple[int, ...] = (0, 10, 100),
    k: int = 5,
    names: tuple[str, ...] = ("ant", "bee", "cat", "dog", "elk"),
    classifier: bool = True,
    unit: str = "iteration",
) -> dict[str, pd.DataFrame]:
    """Runs that are a simplex of k classes at every step, in another basis each time; samples gather on their means."""
    rows = []
    for run in runs:
        for at, step in enumerate(steps):
            rng = np.random.default_rng([at, len(run)])
            basis = np.linalg.qr(rng.normal(size=(9, 9)))[0][: k - 1]
            means = 3.0 * vertices(k) @ basis
            spread = np.random.default_rng(7).normal(size=(k * SAMPLES, 9)) / (1 + at)
            samples = np.repeat(means, SAMPLES, axis=0) + (0 if step == steps[-1] else 1) * spread
            facts = {
                "run": run,
                "group": run.split("-s")[0],
                "checkpoint": f"step_{step}.pt",
                "step": step,
                "step_unit": unit,
                "split": "train",
                "layer": "fc",
            }
            for item, vectors, each in (
                ("mean", means, 1),
                ("classifier", 0.1 * means + 2.0, 1),
                ("sample", samples, SAMPLES),
            ):
                if item == "classifier" and not classifier:
                    continue
                for i, vector in enumerate(vectors):
                    c = i // each
                    row = {"item": item, "class_index": c, "class_name": names[c], "sample": i if each > 1 else None}
                    row |= {"norm": float(np.linalg.norm(vector))} | {f"x{j}": x for j, x in enumerate(vector, 1)}
                    rows.append((facts, SimpleNamespace(**row)))
    onset = SimpleNamespace(finding="terminal_phase", metric="error", quantity="onset", value=10.0, step=10)
    found = [({"run": run, "group": run.split("-s")[0], "step_unit": unit, "layer": "fc"}, onset) for run in runs]
    return complete({"geometry": tidy(GEOMETRY_COLUMNS, rows), "trajectory": tidy(TRAJECTORY_COLUMNS, found)})


def opened(gif: bytes) -> Image.Image:
    """The animation as a reader sees it."""
    return Image.open(io.BytesIO(gif))


def durations(gif: bytes) -> list[int]:
    """Milliseconds of every frame."""
    picture = opened(gif)
    found = []
    for i in range(getattr(picture, "n_frames", 1)):
        picture.seek(i)
        found.append(int(picture.info["duration"]))
    return found


@pytest.mark.parametrize("wanted", [("ant", "bee", "cat"), ("elk", "0", "2", "dog")])
def test_simplex_in_any_basis_stands_on_the_frame_at_every_step(wanted: tuple[str, ...]) -> None:
    ((track,), missing) = tracks(tables_of(), wanted, FEWEST_CLASSES)
    assert missing == []
    assert [0, 10, 100] == [checkpoint.step for checkpoint in track.checkpoints]
    expected = {"0": "ant", "2": "cat"}
    assert tuple(expected.get(name, name) for name in wanted) == track.names
    for checkpoint in track.checkpoints:
        assert checkpoint.at is not None
        assert checkpoint.at.rows is not None
        assert np.abs(checkpoint.at.means - vertices(len(wanted))).max() < EXACT
        assert np.abs(checkpoint.at.rows - vertices(len(wanted))).max() < EXACT
    last = track.checkpoints[-1].at
    assert last is not None
    assert np.abs(last.samples - vertices(len(wanted))[track.owners]).max() < EXACT
    assert 10 == track.onset


def test_first_three_classes_are_the_default_and_a_name_wins_over_a_number() -> None:
    ((track,), _) = tracks(tables_of(), (), FEWEST_CLASSES)
    assert ("ant", "bee", "cat") == track.names
    ((track,), _) = tracks(tables_of(names=("2", "1", "0", "x", "y")), ("2", "1", "0"), FEWEST_CLASSES)
    assert [0] * SAMPLES == track.owners[:SAMPLES].tolist()


def test_dimensions_that_are_not_there_are_none() -> None:
    tables = tables_of(k=3, names=("a", "b", "c"))
    tables["geometry"].loc[:, [f"x{i}" for i in range(3, 10)]] = np.nan
    ((track,), _) = tracks(tables, (), FEWEST_CLASSES)
    assert all(checkpoint.at is not None for checkpoint in track.checkpoints)


def test_frames_are_checkpoints_with_others_between_and_the_last_is_held() -> None:
    gif = animation(tables_of()).gif
    times = durations(gif)
    assert [STILL, *[MOVING] * 5] * 2 + [HELD] == times
    assert opened(gif).info["loop"] == 0
    ((track,), _) = tracks(tables_of(), (), FEWEST_CLASSES)
    words = [frames[0].words for frames, _, _ in _frames([track], _timeline([track]))]
    assert ["iteration 0", "iteration 0 → 10", "iteration 10", "iteration 10 → 100", "iteration 100"] == list(
        dict.fromkeys(words)
    )


def test_terminal_phase_is_said_from_its_onset_on() -> None:
    ((track,), _) = tracks(tables_of(), (), FEWEST_CLASSES)
    said = {frames[0].words: frames[0].terminal for frames, _, _ in _frames([track], _timeline([track]))}
    assert [False, False, True, True, True] == list(said.values())


def test_frames_between_are_eased_from_one_checkpoint_to_the_next() -> None:
    ((track,), _) = tracks(tables_of(), (), FEWEST_CLASSES)
    frames = [frames[0] for frames, _, _ in _frames([track], _timeline([track]))][:7]
    first = np.array([frame.at.samples[0] for frame in frames if frame.at is not None])
    steps = np.linalg.norm(np.diff(first, axis=0), axis=1)
    assert len(steps) == 6
    assert steps[0] < steps[2]
    assert steps[-1] < steps[3]
    assert np.abs(first[3] - (first[0] + first[-1]) / 2).max() < EXACT


def test_four_classes_turn_and_what_is_near_is_larger_and_drawn_last() -> None:
    ((track,), _) = tracks(tables_of(), ("0", "1", "2", "3"), FEWEST_CLASSES)
    angles = [angle for _, angle, _ in _frames([track], _timeline([track]))]
    assert angles == sorted(angles)
    assert len(set(angles)) == len(angles)
    frame = Picture(track.checkpoints[-1].at, "", "", terminal=True)
    sizes = [row["size"] for row in _datasets([track], [frame], 0.3, 1.5)["means0"]]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4
    flat = _datasets(
        [track_of_three()], [Picture(track_of_three().checkpoints[-1].at, "", "", terminal=True)], 0.3, 1.5
    )
    assert {110.0} == {row["size"] for row in flat["means0"]}


def track_of_three() -> Any:
    """A track in the plane."""
    ((track,), _) = tracks(tables_of(), (), FEWEST_CLASSES)
    return track


def test_three_runs_of_twelve_checkpoints_stay_small() -> None:
    gif = animation(tables_of(("a-s0", "a-s1", "b-s0"), tuple(range(12)))).gif
    assert len(gif) < 2_000_000
    picture = opened(gif)
    assert getattr(picture, "n_frames", 1) <= MOST_FRAMES
    assert picture.size[0] < 900


def test_more_runs_than_fit_leave_some_out_and_say_which() -> None:
    tables = tables_of(("a-s0", "a-s1", "a-s2", "b-s0", "c-s0"), (0, 10))
    found, _ = tracks(tables, (), FEWEST_CLASSES)
    assert ["a-s0", "b-s0", "c-s0"] == [track.run for track in _first_of_groups(found)]
    said = animation(tables).left_out
    assert (
        "not in the animation: a-s1: an animation shows 3 runs",
        "not in the animation: a-s2: an animation shows 3 runs",
    ) == said


def test_long_runs_are_thinned_and_say_so() -> None:
    tables = tables_of(steps=tuple(range(40)))
    moving = animation(tables)
    assert ("in the animation: 24 of 40 checkpoints",) == moving.left_out
    assert durations(moving.gif).count(STILL) == MOST_STEPS - 1


def test_runs_with_other_steps_wait_for_each_other() -> None:
    one, other = tables_of(("a",), (0, 10, 100)), tables_of(("b",), (10, 50, 60))
    found, _ = tracks({key: pd.concat([one[key], other[key]]) for key in one}, (), FEWEST_CLASSES)
    assert [[0, 0], [1, 0], [1, 1], [1, 2], [2, 2]] == _timeline(found)
    epochs = tables_of(("b",), (1, 2), unit="epoch")
    found, _ = tracks({key: pd.concat([one[key], epochs[key]]) for key in one}, (), FEWEST_CLASSES)
    assert [[0, 0], [1, 1], [2, 1]] == _timeline(found)


def test_checkpoint_without_a_place_says_why_and_the_others_move() -> None:
    tables = tables_of()
    geometry = tables["geometry"]
    geometry.loc[(geometry["step"] == 0) & (geometry["item"] == "mean"), "x1"] = 1.0
    geometry.loc[(geometry["step"] == 0) & (geometry["item"] == "mean"), [f"x{i}" for i in range(2, 10)]] = 0.0
    ((track,), _) = tracks(tables, (), FEWEST_CLASSES)
    first = next(_frames([track], _timeline([track])))[0][0]
    assert first.at is None
    assert "differ in fewer than 2 directions" in first.reason
    assert sum(durations(animation(tables).gif)) == 2 * STILL + 10 * MOVING + HELD  # equal frames become one


def test_runs_without_a_linear_classifier_have_means_and_samples() -> None:
    ((track,), _) = tracks(tables_of(classifier=False), (), FEWEST_CLASSES)
    assert all(checkpoint.at is not None and checkpoint.at.rows is None for checkpoint in track.checkpoints)
    assert animation(tables_of(classifier=False)).gif


@pytest.mark.parametrize(
    ("tables", "wanted", "said"),
    [
        (tables_of(), ("ant", "bee", "cow"), r"a-s0 has no class 'cow' with samples; there are ant, bee, cat"),
        (tables_of(), ("ant", "bee", "5"), "no class '5'"),
        (tables_of(), ("ant", "bee", "0"), "'0' is named twice"),
        (tables_of(steps=(5,)), (), "nothing to animate: a-s0: one checkpoint, so nothing moves"),
        (tables_of(k=2), (), "2 classes have a mean"),
        (complete({}), (), "no layer that a classifier reads was measured"),
    ],
    ids=["unknown name", "unknown number", "twice", "one checkpoint", "two classes", "nothing"],
)
def test_what_cannot_move_is_one_line(tables: dict[str, pd.DataFrame], wanted: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said) as trouble:
        animation(tables, wanted)
    assert "\n" not in str(trouble.value)


def test_troubles_of_hostile_names_stay_one_line() -> None:
    tables = tables_of(("run\n2",), names=("two\nlines", "bee", "cat", "dog", "elk"))
    with pytest.raises(UsageError, match="no class") as trouble:
        animation(tables, ("bee", "cat", "no\none"))
    assert str(trouble.value).isprintable()
    assert all(text.isprintable() for text in animation(tables_of(tuple(f"r\n{i}" for i in range(5)))).left_out)


@pytest.mark.parametrize("name", ["<script>", "a\x00\u202eb", "[bold]", "=cmd|' /C calc'!A0", "x" * 300, "two\nlines"])
def test_hostile_names_are_drawn(name: str) -> None:
    tables = tables_of((name,), (0, 10), names=(name, "bee", "cat", "dog", "elk"), unit=name)
    assert opened(animation(tables).gif).size[0] < 400


def test_key_goes_on_in_a_second_line_where_names_are_long() -> None:
    def lines(*names: str) -> int:
        spec = _key(names, 3).to_dict()
        return len({row["y"] for rows in spec["datasets"].values() for row in rows})

    assert 1 == lines("ant", "bee", "cat")
    assert 2 == lines(*(letter * 20 for letter in "abcd"))


def digest() -> str:
    return hashlib.sha256(animation(tables_of(("a", "b"), (0, 10))).gif).hexdigest()


def test_same_tables_give_the_same_bytes_in_another_process_whatever_was_drawn_before() -> None:
    code = "from test_animation import *\nprint(digest())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    animation(tables_of(("c",), (1, 2)))
    assert digest() == other.stdout.strip()


def test_report_writes_the_animation_where_it_is_asked_for(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    done = ncscan("report", "--animation", "etf.gif", "--classes", "2,0,1", cwd=workspace)
    assert (0, "") == (done.returncode, done.stderr)
    bare = workspace / "ncscan-out" / "report" / "figures" / "etf.gif"
    assert bare.read_bytes().startswith(b"GIF89a")
    assert "etf.gif" in done.stdout
    there = ncscan("report", "--animation", "./mine.gif", "--classes", "2,0,1", cwd=workspace)
    assert there.returncode == 0
    assert bare.exists() is False
    assert (workspace / "mine.gif").read_bytes().startswith(b"GIF89a")


def test_troubles_of_the_animation_leave_everything_else(workspace: Path) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    report = workspace / "ncscan-out" / "report"
    asked = ("report", "--figure", "jacot-2", "--animation")
    for arguments, said in (
        (("etf.gif", "--classes", "0,1,[bold]"), "no class '[bold]'"),
        (("no-folder/\x7f/" + "x" * 300 + ".gif",), "cannot write there"),
    ):
        done = ncscan(*asked, *arguments, cwd=workspace)
        assert done.returncode == 2
        assert said in one_line(done.stderr)
        assert (report / "figures" / "jacot-2.svg").exists()
        with (report / "metrics.csv").open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) > 100
        (report / "figures" / "jacot-2.svg").unlink()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("etf.png",), "ends with .gif"), (("etf.gif", "--classes", "0,1"), "three or four classes, not 2")],
)
def test_what_no_animation_can_be_is_refused_before_anything_is_measured(
    workspace: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    ncscan("extract", "ckpts", cwd=workspace)
    done = ncscan("report", "--animation", *arguments, cwd=workspace)
    assert done.returncode == 2
    assert said in one_line(done.stderr)
    assert not (workspace / "ncscan-out" / "report").exists()


def test_a_class_that_no_run_has_is_said(workspace: Path) -> None:
    ncscan("extract", "ckpts", "--quiet", cwd=workspace)
    done = ncscan("report", "--quiet", "--classes", "1,cat", cwd=workspace)
    assert done.returncode == 0
    assert "--classes: no run has a class 'cat'" in done.stderr
    assert "'1'" not in done.stderr
