"""One bad input is one line and exit 4; every other input is worked on as if it were alone."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result
from workspaces import TOML, fitted, samples
from workspaces import ncscan as real_ncscan

from ncscan.cli import app
from ncscan.errors import NoRoom, UsageError
from ncscan.pipeline.events import Event, Outcome, Skipped

OTHER = {"0.weight": torch.ones(5, 12), "1.weight": torch.ones(3, 5)}
"""A network of two layers, without a layer 2."""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of one and two checkpoints."""
    inputs, labels = samples()
    for run, steps in (("a", (1,)), ("b", (1, 3))):
        (tmp_path / run).mkdir()
        (tmp_path / run / "ncscan.toml").write_text(TOML)
        for step in steps:
            torch.save(fitted(step), tmp_path / run / f"step_{step}.pt")
    np.savez(tmp_path / "data.npz", x=inputs, y=labels)
    return tmp_path


def ncscan(*arguments: str | Path, cwd: Path) -> Result:
    """The command line in this process: what it imports takes longer than what it does."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "500"})


def dumps_in(folder: Path) -> set[str]:
    found = (folder / "ncscan-out" / "dumps").rglob("*.h5")
    return {path.relative_to(folder / "ncscan-out" / "dumps").as_posix() for path in found}


def damaged_dump(folder: Path) -> None:
    path = folder / "ncscan-out" / "dumps" / "b" / "step_1.pt.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))


def folder_in_the_way(folder: Path) -> None:
    (folder / "ncscan-out" / "dumps" / "b" / "step_1.pt.h5" / "x").mkdir(parents=True)


def wrong_toml(folder: Path) -> None:
    (folder / "b" / "ncscan.toml").write_text(TOML + "[nonsense]\n")


def without_a_model(folder: Path) -> None:
    (folder / "b" / "ncscan.toml").write_text('[data]\nsource = "npz:../data.npz"\n')


def untrusted_code(folder: Path) -> None:
    (folder / "b" / "ncscan.toml").write_text(TOML.replace('"mlp"', '"train:make"'))


def without_a_test_split(folder: Path) -> None:
    (folder / "b" / "ncscan.toml").write_text(TOML + 'test = "npz:../absent.npz"\n')


def broken_link(folder: Path) -> None:
    (folder / "b" / "step_2.pt").symlink_to(folder / "b" / "gone")


def one_layer(folder: Path) -> None:
    torch.save(OTHER, folder / "b" / "step_2.pt")


GOOD = {"a/step_1.pt.h5", "b/step_1.pt.h5", "b/step_3.pt.h5"}
TROUBLES: dict[str, tuple[Callable[[Path], None], tuple[str, ...], set[str], str]] = {
    "a layer that one lacks": (one_layer, ("--layers", "2"), GOOD, "b/step_2.pt: --layers 2 matches no layer"),
    "a damaged dump in the way": (damaged_dump, (), GOOD - {"b/step_1.pt.h5"}, "--force overwrites it"),
    "a folder in the way": (folder_in_the_way, (), GOOD - {"b/step_1.pt.h5"}, "step_1.pt.h5"),
    "a wrong ncscan.toml": (wrong_toml, (), {"a/step_1.pt.h5"}, "unknown section"),
    "a run without a model": (
        without_a_model,
        (),
        {"a/step_1.pt.h5"},
        "b (all its checkpoints, train): b: nothing says",
    ),
    "code that is not trusted": (untrusted_code, (), {"a/step_1.pt.h5"}, "--trust-code"),
    "a held-out split that is not there": (without_a_test_split, (), GOOD, "b (all its checkpoints, test)"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_extract_goes_on_past_one_bad_input(name: str, runs: Path) -> None:
    make, flags, expected, line = TROUBLES[name]
    make(runs)
    done = ncscan("extract", "a", "b", *flags, cwd=runs)
    assert done.exit_code == 4, done.stderr
    assert "Traceback" not in done.stderr
    skipped = [text for text in done.stderr.splitlines() if text.startswith("skipped")]
    assert len(skipped) == 1
    assert line in skipped[0]
    left = {path for path in dumps_in(runs) if (runs / "ncscan-out" / "dumps" / path).is_file()}
    assert expected == left - ({"b/step_1.pt.h5"} if make is damaged_dump else set())


def too_deep(folder: Path) -> None:
    """Folders in folders, until no path leads to the last ones."""
    with contextlib.chdir(folder):
        for _ in range(25):
            os.mkdir("d" * 200)  # noqa: PTH102 - the whole path would be too long
            os.chdir("d" * 200)


def skipped_lines(done: Result) -> list[str]:
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(("skipped", "error"))]


def test_what_a_folder_has_beside_checkpoints_stops_nothing_and_is_named(runs: Path) -> None:
    broken_link(runs)
    (runs / "secret.pt").write_bytes((runs / "b" / "step_1.pt").read_bytes())
    (runs / "b" / "step_4.pt").symlink_to(runs / "secret.pt")
    (runs / "b" / ("n" * 248 + ".pt")).write_bytes((runs / "b" / "step_1.pt").read_bytes())
    too_deep(runs / "b")
    done = ncscan("extract", "a", "b", "x" * 5000, cwd=runs)
    assert (4, GOOD) == (done.exit_code, dumps_in(runs)), done.stderr
    said = skipped_lines(done)
    for text in ("a link to a file that is not there", "a link out of the folder", "File name too long", "xxxxx"):
        assert any(text in line for line in said), text
    assert len(said) == 5
    assert not any("unexpected" in line for line in said)


def test_report_and_diff_go_on_past_what_holds_no_dump(runs: Path) -> None:
    assert ncscan("extract", "a", "b", cwd=runs).exit_code == 0
    dumps = runs / "ncscan-out" / "dumps"
    too_deep(dumps)
    (runs / "empty").mkdir()
    done = ncscan("report", "ncscan-out/dumps", "nowhere", "empty", "x" * 5000, "--threads", "1", cwd=runs)
    said = skipped_lines(done)
    assert (4, 3) == (done.exit_code, len(said)), done.stderr
    assert said[1].startswith("skipped nowhere: no such file")
    assert "(1 more alike: xxxxx" in said[1]
    plain = json.loads((runs / "ncscan-out" / "report" / "report.json").read_text())
    assert (3, 4) == (len(plain["checkpoints"]), len(plain["skipped"]))
    done = ncscan("diff", "ncscan-out/report", "ncscan-out/dumps", cwd=runs)
    (line,) = skipped_lines(done)
    assert (4, True) == (done.exit_code, "File name too long" in line), done.stderr


def test_a_name_that_is_not_utf8_is_no_trouble(runs: Path) -> None:
    path = os.fsencode(runs / "b") + b"/step_5_\xff.pt"
    with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write((runs / "b" / "step_1.pt").read_bytes())
    assert ncscan("extract", "a", "b", cwd=runs).exit_code == 0
    assert len(dumps_in(runs)) == 4
    assert ncscan("report", cwd=runs).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("extract", "a", "--layers", "nope"), 2),
        (("extract", "a", "b", "--device", "tpu"), 2),
        (("extract", "x" * 5000), 1),
        (("report", "x" * 5000), 1),
        (("diff", "x" * 5000, "a"), 1),
        (("layers", "x" * 5000), 1),
    ],
)
def test_what_is_wrong_with_every_input_keeps_its_exit_code(arguments: tuple[str, ...], code: int, runs: Path) -> None:
    done = ncscan(*arguments, cwd=runs)
    assert code == done.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_layers_shows_the_first_checkpoint_that_can_be_used(runs: Path) -> None:
    (runs / "b" / "step_1.pt").write_bytes(b"no checkpoint")
    done = ncscan("layers", "b", cwd=runs)
    assert (4, 1) == (done.exit_code, done.stderr.count("skipped b/step_1.pt")), done.stderr
    assert "4 of them" not in done.stdout
    assert "2 of them" in done.stdout


def test_an_unexpected_exception_skips_its_input_with_type_and_place(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncscan.dumps.discovery import find_dumps
    from ncscan.metrics import evaluate
    from ncscan.pipeline import measure, report
    from ncscan.pipeline.extract import extract
    from ncscan.pipeline.load import Flags, find_targets

    monkeypatch.chdir(runs)
    events: list[Event] = []
    extract(find_targets([runs / "b"], Flags()).targets, Flags(), runs / "dumps", events.append)
    broken = evaluate.network_rows

    def fails(logits: np.ndarray, labels: np.ndarray, *, one_logit: bool) -> object:
        monkeypatch.setattr(measure, "network_rows", broken)  # the first dump only
        raise KeyError("x")

    monkeypatch.setattr(measure, "network_rows", fails)
    outcome = report.report(find_dumps([runs / "dumps"]).dumps, runs / "out", events.append)
    assert (4, 1) == (outcome.exit_code, outcome.done)
    skipped = outcome.skipped[0]
    assert "unexpected KeyError: 'x'" in skipped.reason
    assert "ncscan/pipeline/measure.py" in skipped.reason
    assert "Traceback (most recent call last)" in skipped.trace
    assert (runs / "out" / "report.html").exists()


def test_a_side_of_a_diff_names_its_run_with_a_wrong_toml(runs: Path) -> None:
    wrong_toml(runs)
    (runs / "both").mkdir()
    (runs / "b").rename(runs / "both" / "b")
    shutil.copytree(runs / "a", runs / "both" / "a")
    done = ncscan("diff", "both", "a", "--data", f"npz:{runs / 'data.npz'}", cwd=runs)
    assert done.exit_code == 4, done.stderr
    said = [line for line in skipped_lines(done) if "unknown section" in line]
    assert [line.partition("): ")[0] for line in said] == ["skipped A: both/b (all its checkpoints"]


def test_what_was_measured_names_what_was_not(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncscan.pipeline.extract import extract
    from ncscan.pipeline.load import Flags, find_targets
    from ncscan.pipeline.measure import Options
    from ncscan.pipeline.measurements import measure

    monkeypatch.chdir(runs)
    events: list[Event] = []
    extract(find_targets([runs / "b"], Flags()).targets, Flags(), runs / "dumps", events.append)
    bad, before, events = runs / "bad.h5", Skipped("before", "why"), []
    bad.write_bytes(b"no dump")
    found = measure([*sorted((runs / "dumps" / "b").glob("*.h5")), bad], Options(), events.append, [before])
    assert (2, 2) == (found.done, len(found.measured))
    assert [before.label, str(bad)] == [each.label for each in found.skipped]
    assert list(found.skipped) == [each for each in events if isinstance(each, Skipped)]
    assert len(set(found.tables["metrics"]["checkpoint"])) == 2
    none = measure([bad], Options(), events.append)
    assert (0, [str(bad)], {}) == (none.done, [each.label for each in none.skipped], none.tables)


def test_a_full_disk_stops_all_and_everything_else_one() -> None:
    outcome, heard = Outcome(), list[Event]()

    def works(raises: BaseException) -> None:
        with outcome.counting(type(raises).__name__, heard.append):
            raise raises

    with pytest.raises(NoRoom):
        works(NoRoom("no room"))
    with pytest.raises(KeyboardInterrupt):
        works(KeyboardInterrupt())
    for raised in (RecursionError("too deep"), MemoryError(), UsageError("no such layer")):
        works(raised)
    assert ["RecursionError", "MemoryError", "UsageError"] == [skipped.label for skipped in outcome.skipped]
    assert outcome.exit_code == 1
    assert Outcome(skipped=[Skipped.because("x", UsageError("no such layer"))]).exit_code == 2


def test_traceback_shows_where_an_unexpected_exception_came_from(runs: Path) -> None:
    code = "import ncscan.pipeline.extract as e\ndef fails(*a, **k): raise RuntimeError('a bug')\ne._provenance = fails"
    for flags, shown in (([], 0), (["--traceback"], 1)):
        done = real_ncscan("extract", "b", *flags, cwd=runs, before=code)
        assert (1, 1 + shown) == (done.returncode, done.stderr.count("unexpected RuntimeError: a bug"))
        assert (2 * shown) == done.stderr.count("Traceback (most recent call last)")
