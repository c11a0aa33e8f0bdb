"""Measure what each hostile checkpoint costs, and write docs/hostile-inputs.md.

By hand: `python tests/hostile/hostile_table.py`. Each file is read by a process of its own, forked from one that has
imported everything; the memory is what it and the process that reads pickles add to their peak.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import torch
from hostile_files import made
from test_hostile_checkpoints import HOSTILE
from workspaces import fitted, make_workspace, ncscan

from ncscan.checkpoints import load
from ncscan.errors import CheckpointError
from ncscan.pickles import isolated

PAGE = Path(__file__).parent.parent.parent / "docs" / "hostile-inputs.md"
HEAD = """# Hostile inputs

What ncscan makes of checkpoints that were made to harm; `python tests/hostile/hostile_table.py` measures it and writes
this page. Nothing in any of them runs. Seconds are of the processor; memory is what reading adds to the peak of the
process, and the peak of the process that reads pickles, which is 20 MB for a sound one. {others}

| input | bytes | seconds | MB | message |
|---|---|---|---|---|
"""


def measured(path: Path) -> tuple[float, int, str]:
    """Return seconds, bytes and the message of reading a file in a process of its own."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        try:
            load(path)
            said = "(read)"
        except CheckpointError as error:
            said = str(error).removeprefix(f"{path}: ")
        added = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) + of_children()
        isolated.close()
        others = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = time.process_time() - started + others.ru_utime + others.ru_stime
        os.write(writer, f"{seconds} {added} {said}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:
        parts = answer.read().split(" ", 2)
    os.waitpid(child, 0)
    return float(parts[0]), int(parts[1]), parts[2]


def of_children() -> int:
    """Return the largest number of bytes that the processes which this one started have had in memory."""
    peaks = 0
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii").split():
        status = Path(f"/proc/{child}/status").read_text(encoding="utf-8")
        peaks += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return peaks


def others_done(folder: Path) -> str:
    """Return a sentence on what becomes of a good checkpoint among all of these."""
    make_workspace(folder)
    for name, (content, _) in HOSTILE.items():
        (folder / "ckpts" / f"{name}.pt").write_bytes(made(content))
    torch.save(fitted(0), folder / "ckpts" / "zz-good.pt")
    done = ncscan("extract", "ckpts", cwd=folder)
    good = [line for line in done.stdout.splitlines() if "zz-good" in line]
    assert good, done.stderr
    return (
        f"All {len(HOSTILE)} in one folder with a good checkpoint: that one is extracted, exit code {done.returncode}."
    )


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, (content, _) in HOSTILE.items():
            data = made(content)
            path = folder / f"{case}.pt"
            path.write_bytes(data)
            seconds, n_bytes, said = measured(path)
            cell = said.replace("|", "\\|").replace("<", "&lt;")
            rows.append(f"| {case} | {len(data):,} | {seconds:.2f} | {n_bytes / 1e6:,.0f} | {cell} |\n")
        (folder / "work").mkdir()
        head = HEAD.format(others=others_done(folder / "work"))
    PAGE.write_text(head + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
