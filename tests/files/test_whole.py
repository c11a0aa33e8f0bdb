"""A folder of files changes as one, whatever ends the process, and no two processes write into it."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ncscan.errors import RefusedPlan
from ncscan.files import sets
from ncscan.files.sets import claimed, pending, remove_left, replace_files, scratch, write_whole

HOLD = """
import sys, time
from pathlib import Path
from ncscan.files.sets import claimed, scratch
with {held}:
    print("held", flush=True)
    sys.stdin.read()
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def holding(held: str) -> subprocess.Popen[str]:
    """A process that holds something until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(held=held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("how", ["exchange", "journal"])
def test_a_death_at_any_step_leaves_a_whole_set(how: str, tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "dying.py"
    done = subprocess.run([sys.executable, str(program), how, str(tmp_path)], capture_output=True, text=True)
    assert (0, "") == (done.returncode, done.stderr)
    counts = {word: int(number) for word, number in zip(*[iter(done.stdout.split())] * 2, strict=True)}
    assert counts["old"] > 50 < counts["new"]


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_full_disk_leaves_the_old_set(exchanged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    replace_files(folder, {"a": b"old", "b": b"old"}, lambda *_: True)
    if not exchanged:
        monkeypatch.setattr(sets, "_exchange", lambda *_: False)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            replace_files(folder, {"a": b"new", "b": bytes(200_000)}, lambda *_: True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert {"a": b"old", "b": b"old"} == contents(folder)
    assert ["report"] == os.listdir(tmp_path)  # noqa: PTH208 - names


def test_strangers_files_are_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "a.txt").write_bytes(b"a")
    (folder / "link").symlink_to("notes/a.txt")
    folder.chmod(0o2750)
    before = [(path.lstat().st_ino, path.lstat().st_mode) for path in (folder / "notes" / "a.txt", folder / "link")]
    with (folder / "open.log").open("w") as log:
        replace_files(folder, {"a.csv": b"new"}, lambda *_: False)
        log.write("goes on")
    after = [(path.lstat().st_ino, path.lstat().st_mode) for path in (folder / "notes" / "a.txt", folder / "link")]
    assert before == after
    assert "goes on" == (folder / "open.log").read_text()
    assert 0o2750 == folder.stat().st_mode & 0o7777


def test_a_folder_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report").symlink_to("elsewhere")
    replace_files(tmp_path / "report", {"a": b"new"}, lambda *_: True)
    assert (tmp_path / "report").is_symlink()
    assert {"a": b"new"} == contents(tmp_path / "elsewhere")


def test_what_is_in_the_way_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "mine").write_bytes(b"mine")
    with pytest.raises(OSError, match="exists"):
        replace_files(folder, {"a": b"new", "b": b"new"}, lambda _, name: name.name == "b")
    assert {"a/mine": b"mine"} == contents(folder)


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    first = holding(f"claimed(Path({str(folder)!r}))")
    with pytest.raises(RefusedPlan, match="another ncscan writes there"), claimed(folder):
        pass
    kill(first)
    with claimed(folder):
        pass


def test_hidden_folders_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / ".dumps-of_mine").mkdir()  # eight letters make one of ours
    living, dead = (holding(f"scratch(Path({str(tmp_path)!r}), '.dumps-')") for _ in range(2))
    assert 3 == len(list(tmp_path.iterdir()))
    kill(dead)
    remove_left(tmp_path, ".dumps-")
    assert 2 == len(list(tmp_path.iterdir()))
    living.communicate("")
    assert [".dumps-of_mine"] == [path.name for path in tmp_path.iterdir()]


def test_scratch_ends_with_its_process_or_its_block(tmp_path: Path) -> None:
    def interrupted() -> None:
        with scratch(tmp_path, ".dumps-") as folder:
            (folder / "big").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [] == list(tmp_path.iterdir())


def test_writers_of_one_file_at_once_all_succeed(tmp_path: Path) -> None:
    path, texts, wrong = tmp_path / "a", [bytes([i]) * 100_000 for i in range(4)], []
    write_whole(path, texts[0])

    def write(text: bytes) -> None:
        try:
            for _ in range(20):
                write_whole(path, text)
                if path.read_bytes() not in texts:
                    wrong.append("half a file")
        except OSError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong
    assert ["a"] == [left.name for left in tmp_path.iterdir()]


@pytest.mark.parametrize(
    "journal",
    [
        b"",
        b"[]",
        b'{"files": []}',
        b'{"files": [1], "gone": []}',
        b'{"files": [], "gone": ["../precious"]}',
        b'{"files": [], "gone": ["link/precious"]}',
        b'{"files": ["/tmp/x"], "gone": []}',
        b"[" * 100_000,
    ],
)
def test_a_strangers_journal_touches_nothing(journal: bytes, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"kept")
    folder = tmp_path / "report"
    (folder / sets.COMMIT).mkdir(parents=True)
    (folder / sets.COMMIT / "journal.json").write_bytes(journal)
    (folder / "link").symlink_to("..")
    with pytest.raises(RefusedPlan, match="no journal of ncscan"), claimed(folder):
        pass
    assert b"kept" == (tmp_path / "precious").read_bytes()


@pytest.mark.parametrize("what", ["a pipe", "a link"])
def test_a_journal_that_is_no_file_is_refused(what: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "report", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    if what == "a pipe":
        (folder / sets.COMMIT).mkdir()
        os.mkfifo(folder / sets.COMMIT / "journal.json")
    else:
        (folder / sets.COMMIT).symlink_to(elsewhere)
        (elsewhere / "journal.json").write_bytes(b'{"files": ["x"], "gone": []}')
        (elsewhere / "x").write_bytes(b"kept")
    with pytest.raises(RefusedPlan, match=r"not a regular file|no journal"), claimed(folder):
        pass
    assert (elsewhere / "x").exists() is (what == "a link")


def test_a_reader_finds_what_is_still_to_be_moved(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(b"old")
    assert tmp_path / "report.json" == pending(tmp_path / "report.json")
    (tmp_path / sets.COMMIT).mkdir()
    (tmp_path / sets.COMMIT / "report.json").write_bytes(b"new")
    assert b"new" == pending(tmp_path / "report.json").read_bytes()
