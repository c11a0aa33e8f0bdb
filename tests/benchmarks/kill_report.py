"""Kill `ncscan report` with SIGKILL at random moments over an older report of other dumps, and look at what is left.

    python tests/benchmarks/kill_report.py [KILLS] [SEED]

Each time the folder holds the old report, with figures and a file of the user's own. Half of the kills fall anywhere in
the command, half into the time in which files are written. What is there afterwards must be the old set or the new one,
to the last byte; at the end an undisturbed report must give the new set and leave nothing hidden behind.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ncscan.cli import app
from ncscan.files import sets as whole
from ncscan.pipeline import diff  # noqa: F401 - once, and not in every child
from ncscan.report import output as reports

FIGURES = ("--figure", "jacot-1", "--convention", "zhu")
TOML = '[model]\nsource = "mlp"\nactivation = "relu"\nlinear_head = 1\n[data]\nsource = "npz:data.npz"\n'


def run(*arguments: str, told: int | None = None) -> int:
    """A child that runs a command, and says on a pipe when it begins and ends to write."""
    if child := os.fork():
        return child
    if told is not None:
        replace = whole.replace_files

        def telling(*arguments: object) -> None:
            os.write(told, b"w")
            replace(*arguments)  # type: ignore[arg-type]  # as they came
            os.write(told, b"d")

        vars(reports)["replace_files"] = telling
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        app(list(arguments))
    except SystemExit as end:
        os._exit(int(end.code or 0))
    os._exit(1)


def finished(child: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise SystemExit(f"a command that nobody disturbed ended with {code}")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(folder: Path, seed: int) -> None:
    folder.mkdir()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    inputs = (rng.normal(size=(90, 12)) + 3 * np.eye(3).repeat(4, axis=1)[labels]).astype("f4")
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    (folder / "ncscan.toml").write_text(TOML, encoding="utf-8")
    for step in (0, 10):
        model = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        torch.save(model.state_dict(), folder / f"step_{step}.pt")


def main(kills: int, seed: int) -> None:
    """Prepare two reports, kill, count."""
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sets: dict[str, dict[str, bytes]] = {}
        for which, own in (("old", 1), ("new", 2)):
            checkpoints(place / which, own)
            finished(run("extract", str(place / which), "--out", str(place / f"{which}-dumps"), "-q"))
        report = place / "out" / "report"

        def command(which: str, told: int | None = None) -> int:
            return run("report", str(place / f"{which}-dumps"), "--out", str(place / "out"), *FIGURES, told=told)

        for which in ("new", "old"):
            began = time.monotonic()
            hear, told = os.pipe()
            child = command(which, told)
            os.close(told)
            os.read(hear, 1)
            writes = time.monotonic()
            os.read(hear, 1)
            writing = time.monotonic() - writes
            finished(child)
            seconds = time.monotonic() - began
            (report / "mine.txt").write_text("mine", encoding="utf-8")
            sets[which] = contents(report)
        shutil.copytree(report, place / "kept")
        assert sets["old"].keys() == sets["new"].keys()
        assert {b"mine"} == set(sets["old"].values()) & set(sets["new"].values())
        print(f"{len(sets['new'])} files; an undisturbed report takes {seconds:.1f} s, ", end="")
        print(f"{1000 * writing:.0f} ms of it to write", flush=True)

        counts: Counter[tuple[str, str]] = Counter()
        for kill in range(kills):
            shutil.rmtree(report)
            shutil.copytree(place / "kept", report)
            hear, told = os.pipe()
            child = command("new", told)
            os.close(told)  # a child that ends by itself is not waited for
            if kill % 2:
                when = "anywhere"
                time.sleep(rng.uniform(0, 1.2 * seconds))
            else:
                when = "writing"
                os.read(hear, 1)
                time.sleep(rng.uniform(0, 1.5 * writing))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(hear)
            found = contents(report)
            what = next((which for which, files in sets.items() if found == files), "mixed")
            counts[when, what] += 1
            if what == "mixed" or kill % 10 == 9:
                print(f"{kill + 1} kills: {dict(counts)}", flush=True)
        for (when, what), count in sorted(counts.items()):
            print(f"killed {when}: {what} {count}")
        left = [path.name for path in report.parent.iterdir() if path != report]
        finished(command("new"))
        assert sets["new"] == contents(report)
        assert [report] == list(report.parent.iterdir())
        print(f"hidden folders left by kills: {len(left)}, after the next report: 0; mixed: ", end="")
        print(sum(count for (_, what), count in counts.items() if what == "mixed"))
        raise SystemExit(any(what == "mixed" for _, what in counts))


if __name__ == "__main__":
    main(*(int(text) for text in (*sys.argv[1:], *("100", "0")[len(sys.argv) - 1 :])))
