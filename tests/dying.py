"""Change a folder of files and die at a step: python dying.py exchange|journal FOLDER

Each time one step later, until it ends by itself; a step is a line of the code that changes folders.
What is there after each death must be a whole set, old or new, with the strangers' files; and the
next change must leave nothing behind. Prints how many deaths left which set.
"""

import itertools
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from ncscan.files import sets

OLD = {"a.csv": b"old a", "gone.csv": b"old", "figures/x.svg": b"old x", "figures/deep/y.svg": b"old y"}
NEW = {"a.csv": b"new a", "b.csv": b"new b", "figures/x.svg": b"new x", "figures/z.svg": b"new z"}
STRANGERS = {"mine.txt": b"mine", "notes/deep/own.txt": b"own", "figures/drawn.svg": b"drawn"}


def owns(_folder: Path, name: Any) -> bool:
    return str(name) in {**OLD, **NEW}


def change(folder: Path, files: dict[str, bytes]) -> None:
    """As a command does it."""
    with sets.claimed(folder):
        sets.replace_files(folder, files, owns)


def change_until(step: int, folder: Path) -> None:
    """The same, and the process is gone at that step, as after SIGKILL."""

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal step
        if frame.f_code.co_filename != sets.__file__:
            return None
        if event == "line":
            step -= 1
            if step == 0:
                os._exit(9)
        return count

    sys.settrace(count)
    change(folder, NEW)
    os._exit(0)


def read(folder: Path, *, waiting: bool) -> dict[str, bytes]:
    """The files of a folder, hidden ones left out; where a journal is waiting, as a reader of ncscan finds them."""
    hidden = f"{os.sep}{sets.STAGED}"
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and hidden not in str(path)
    }
    journal = sets._journal(folder) if waiting else None
    if journal is not None:
        new, gone = journal
        there = folder / sets.COMMIT
        found = {name: content for name, content in found.items() if name not in gone}
        found |= {name: (there / name).read_bytes() for name in new if (there / name).exists()}
    return found


def main(how: str, parent: Path) -> None:
    """Die at every step."""
    vars(sets)["sync"] = lambda _: None  # from the disk the death of a process takes nothing
    if how == "journal":
        sets._exchanged = lambda *_: False
    folder = parent / "report"
    deaths: Counter[str] = Counter()
    for step in itertools.count(1):
        for left in parent.iterdir():
            shutil.rmtree(left)
        for name, content in {**OLD, **STRANGERS}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        (folder / "empty").mkdir()
        if (child := os.fork()) == 0:
            change_until(step, folder)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = read(folder, waiting=how == "journal")
        (which,) = [name for name, files in (("old", OLD), ("new", NEW)) if found == {**files, **STRANGERS}]
        if code == 0:
            break
        deaths[which] += 1
        if step % 3:  # one death in three is enough for what comes after
            continue
        with sets.claimed(folder):
            assert found == read(folder, waiting=False)
        change(folder, NEW)
        assert {**NEW, **STRANGERS} == read(folder, waiting=False)
        assert ["report"] == [path.name for path in parent.iterdir()]
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        assert (folder / "empty").is_dir()
        assert not (folder / "figures" / "deep").exists()
    print(*(f"{which} {count}" for which, count in sorted(deaths.items())))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
