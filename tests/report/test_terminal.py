"""What the terminal shows of a verdict: it fits, it is text, and a pipe gets one thing at a time."""

import json
import os
import pty
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.cells import cell_len
from rich.console import Console
from verdict_samples import Run, checkpoints, tables
from workspaces import PATIENCE, TOML, command, fitted, ncscan, save, write_data

from ncscan.cli.console import plan
from ncscan.report.json_schema import summary_schema
from ncscan.report.terminal import BARS, MOST_GROUPS, MOST_RUNS, WIDTH, render_verdict, sparkline
from ncscan.report.verdict.evaluate import NOTHING, Verdicts, verdicts

LONG = "experiment-with-a-name-that-is-exactly-sixty-characters-long"
HOSTILE = "<script>[bold red]x[/]\n=cmd|'/C calc'!A0\x00\x1b[31m\u202e:smile:"
ESCAPE = re.compile(r"\x1b")


def of(*runs: Run, warnings: tuple[str, ...] = ()) -> Verdicts:
    return verdicts(tables(*runs), checkpoints(*runs), warnings)


def shown(found: Verdicts, width: int = WIDTH, *, terminal: bool = False) -> str:
    file = StringIO()
    console = Console(
        width=width,
        file=file,
        highlight=False,
        force_terminal=terminal,
        color_system="truecolor" if terminal else None,
        _environ={},
    )
    for part in render_verdict(found, width):
        console.print(part)
    return file.getvalue()


def fits(text: str, width: int = WIDTH) -> None:
    assert text
    for line in text.splitlines():
        assert cell_len(line) <= width, line


def test_long_names_and_large_steps_fit() -> None:
    steps = (0, 1_000_000, 2_500_000, 12_000_000, 250_000_000)
    text = shown(of(Run(name=LONG, group=LONG, steps=steps), Run(name=f"{LONG}2", group="other", steps=steps)))
    fits(text)
    assert LONG in text
    assert "iteration 250,000,000" in " ".join(text.split())


@pytest.mark.parametrize("width", [WIDTH, 80, 60])
@pytest.mark.parametrize("name", [LONG, HOSTILE, "層" * 60, "x" * 300])
def test_any_name_fits_any_width(name: str, width: int) -> None:
    run = Run(name=name, group=name, nc2=(name,) * 5, balance=(1e-300, 1e300, 1e5, 12345.678, -0.000123))
    fits(shown(of(run, Run(name="b", group="h")), width), width)
    many = of(*(Run(name=f"{name}{i}", group=f"{name}{i}") for i in range(MOST_RUNS + 1)))
    fits(shown(many, width), width)
    file = StringIO()
    Console(width=width, file=file).print(plan(name, [(1, name, "linear", (64, 10_000, 10_000), 10**9, 10**13)]))
    fits(file.getvalue(), width)


def test_at_80_columns_every_number_can_be_read() -> None:
    text = shown(of(Run()), 80)
    assert "8 → 0.0200" in text
    assert "0.900 → 0.0400" in text
    judged = [line.split()[-1] for line in text.splitlines() if "→" in line]
    assert (4, 1) == (judged.count("collapsed"), judged.count("balanced"))


def test_hostile_text_stays_text() -> None:
    text = shown(of(Run(name=HOSTILE, group=HOSTILE), Run(name="b", group="h"), warnings=(f"{HOSTILE}: [blink]odd",)))
    assert not ESCAPE.search(text)
    assert "\x00" not in text
    assert "\u202e" not in text
    joined = text.replace("\n", "")
    assert "<script>[bold red]x[/]␊=cmd" in joined
    assert ":smile:" in joined


def test_block_has_sentences_and_a_row_for_every_number() -> None:
    text = shown(of(Run(nc3=("the classifier sees nothing",) * 5)))
    assert text.startswith("a  collapsed\n")
    words = " ".join(text.split())
    assert "NC1, NC2 and NC4 collapsed, NC3 cannot be told, the weights balanced. Judged at layer relu" in words
    for name in (
        "training error",
        "NC1 nc1_pinv",
        "NC2 nc2_etf",
        "NC3 nc3_distance",
        "NC4 nc4_mismatch",
        "balancedness",
    ):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
        assert ("no value" in line) == ("NC3" in name)
    assert "chance" in text
    assert "nan" not in text.lower()
    assert "None" not in text


def test_groups_are_compared_and_one_run_is_not() -> None:
    text = shown(of(Run(), Run(name="b", group="h")))
    assert "groups\n  g (1 run), collapsed" in text
    assert "At their last checkpoints" in text
    assert "groups" not in shown(of(Run()))
    groups = [Run(name=f"r{i}", group=f"g{i}") for i in range(MOST_GROUPS + 2)]
    assert "… and 2 more groups" in shown(of(*groups))


def test_many_runs_have_a_line_each() -> None:
    found = of(*(Run(name=f"seed{i}") for i in range(MOST_RUNS + 1)))
    text = shown(found)
    assert "over the steps" not in text
    lines = [line for line in text.splitlines() if line.strip().startswith("seed")]
    assert MOST_RUNS + 1 == len(lines)
    assert ["seed0", "collapsed", "0", "%", "0.0200", "0.0400", "0.0400", "0", "%", "0.0200"] == lines[0].split()
    assert "over the steps" in shown(of(*(Run(name=f"seed{i}") for i in range(MOST_RUNS))))


def test_single_checkpoint_has_values_and_no_sparkline() -> None:
    run = Run(steps=(400,), error=(0.0,), nc1=(0.02,), nc2=(0.04,), nc3=(0.04,), nc4=(0.0,), balance=(0.02,))
    text = shown(of(run))
    assert "→" not in text
    assert not set(BARS) & set(text)
    assert "" == shown(NOTHING)


def test_colours_only_on_a_terminal() -> None:
    assert not ESCAPE.search(shown(of(Run())))
    assert ESCAPE.search(shown(of(Run()), terminal=True))


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([None, None], "  "),
        ([0.0, 0.0], "▁▁"),
        ([3.0], "▄"),
        ([1.0, None, 8.0], "▁ █"),
        ([1.0, 10.0, 100.0], "▁▅█"),
        ([0.0, 50.0, 100.0], "▁▅█"),
        ([-1.0, 0.0, 1.0], "▁▅█"),
    ],
)
def test_sparkline_of_known_values(values: list[float | None], bars: str) -> None:
    assert bars == sparkline(values, 24)


def test_sparkline_of_many_values_ends_with_the_last() -> None:
    values: list[float | None] = [*([1.0] * 99), 9.0]
    assert "▁" * 23 + "█" == sparkline(values, 24)


RUN = "[bold]run[red]"


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dumps of one run, which has the name of a markup, and beside them a file that is no dump."""
    folder = tmp_path_factory.mktemp("terminal")
    write_data(folder / "data.npz")
    checkpoints = folder / RUN
    checkpoints.mkdir()
    (checkpoints / "ncscan.toml").write_text(TOML + f'[run]\ngroup = "{RUN}"\n', encoding="utf-8")
    for step in (0, 5, 10):
        save(checkpoints / f"step_{step}.pt", fitted(step), step=step)
    assert 0 == ncscan("extract", RUN, "--quiet", cwd=folder).returncode
    (folder / "odd.h5").write_bytes(b"no dump")
    return folder


def test_report_prints_the_verdict_and_a_pipe_gets_no_colours(dumped: Path) -> None:
    done = ncscan("report", cwd=dumped)
    assert (0, "") == (done.returncode, done.stderr)
    assert "3 checkpoints, iteration 0 to iteration 10, on 240 samples of 3 classes." in " ".join(done.stdout.split())
    assert f"{RUN}  " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("page: ")
    assert not ESCAPE.search(done.stdout)
    fits("\n".join(line for line in done.stdout.splitlines() if "accuracy" not in line))


def on_a_terminal(folder: Path, **environment: str) -> str:
    """stdout and stderr of a report on a terminal of 100 columns."""
    main, other = pty.openpty()
    env = {"TERM": "xterm-256color", "COLUMNS": "100", **environment}
    before = f"import os; os.environ.pop('NO_COLOR', None); os.environ.pop('FORCE_COLOR', None); os.environ |= {env}"
    with ThreadPoolExecutor(1) as reader:
        text = reader.submit(lambda: b"".join(iter(lambda: _read(main), b"")))
        try:
            done = ncscan("report", cwd=folder, before=before, stdout=other, stderr=other)
        finally:
            os.close(other)
    os.close(main)
    assert 0 == done.returncode
    return text.result().decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end was closed
        return b""


def test_terminal_has_colours_unless_told_not_to(dumped: Path) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert colour.search(on_a_terminal(dumped))
    assert not colour.search(on_a_terminal(dumped, NO_COLOR="1"))


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_json_is_one_document_and_all_of_stdout(dumped: Path, quiet: tuple[str, ...]) -> None:
    done = ncscan("report", "ncscan-out/dumps", "odd.h5", "--json", *quiet, cwd=dumped)
    assert 4 == done.returncode

    def refuse(token: str) -> None:
        raise AssertionError(token)

    read = json.loads(done.stdout, parse_constant=refuse)
    Draft202012Validator(summary_schema()).validate(read)
    assert ("ncscan.summary", 1, 4) == (read["schema"], read["schema_version"], read["exit_code"])
    (run,) = read["runs"]
    assert ["NC1", "NC2", "NC3", "NC4", "balance"] == [entry["aspect"] for entry in run["entries"]]
    assert [0, 5, 10] == run["steps"]
    assert ["odd.h5"] == [entry["input"] for entry in read["skipped"]]
    assert [] == read["violations"]
    assert all((dumped / path).is_file() for path in read["files"])
    assert {"report.json", "metrics.csv"} <= {Path(path).name for path in read["files"]}
    assert ("accuracy" in done.stderr) == (not quiet)
    assert "skipped" in done.stderr


def test_json_when_nothing_can_be_measured_is_still_a_document(dumped: Path) -> None:
    done = ncscan("report", "odd.h5", "--json", cwd=dumped)
    read = json.loads(done.stdout)
    Draft202012Validator(summary_schema()).validate(read)
    assert (1, 1, []) == (done.returncode, read["exit_code"], read["runs"])


def test_json_when_there_is_nothing_to_report_is_a_line_of_trouble(dumped: Path) -> None:
    done = ncscan("report", "nowhere", "--json", cwd=dumped)
    assert (1, "") == (done.returncode, done.stdout)
    assert "nowhere" in done.stderr


def test_quiet_says_troubles_only(dumped: Path) -> None:
    done = ncscan("report", "ncscan-out/dumps", "odd.h5", "--quiet", cwd=dumped)
    assert (4, "") == (done.returncode, done.stdout)
    assert "odd.h5" in done.stderr


def test_json_in_a_locale_without_unicode(dumped: Path) -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command("report", "--json"), cwd=dumped, env=env, capture_output=True, timeout=PATIENCE)
    assert 0 == done.returncode
    assert json.loads(done.stdout.decode("ascii"))["runs"]
