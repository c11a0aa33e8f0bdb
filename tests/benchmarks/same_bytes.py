"""Compare what two checkouts make of the sample runs, byte by byte: dumps, tables, pages, figures, a diff.

    python tests/benchmarks/same_bytes.py BEFORE AFTER [PATTERN...]

Files whose names fit a PATTERN may differ. Two dumps of different versions of the format are the same when all they
hold is, but for the version and the checksums that follow from it; how many those are is said. Prints how many files
are the same, names those that are not, and ends with 1 where there are any. Run by hand, before and after code is
moved about.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import h5py

COMMANDS = (
    ("extract", "{data}/trajectories/decay-seed0", "{data}/trajectories/no-decay-seed0", "--layers", "all", "--quiet"),
    ("report", "--quiet", "--bootstrap", "20", "--figures", "svg", "--figure", "jacot-1", "--convention", "papyan"),
    ("diff", "ncscan-out/dumps/decay-seed0", "ncscan-out/dumps/no-decay-seed0", "--quiet"),
)


class Made(NamedTuple):
    """One file."""

    bytes: str
    version: int = 0
    """The version of a dump's format."""
    content: str = ""
    """The sha256 of what a dump holds, without its version and its checksums."""


def made_by(checkout: Path, data: Path) -> dict[str, Made]:
    """Run the commands with the source of a checkout; every file they leave, by its path."""
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            arguments = [part.format(data=data) for part in command]
            program = [sys.executable, "-c", "from ncscan.cli import main; main()", *arguments]
            environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(program, cwd=folder, env=environment, check=False)
            if done.returncode not in (0, 4):
                sys.exit(f"{checkout}: {command[0]} ended with {done.returncode}")
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): looked_at(path) for path in files}


def looked_at(path: Path) -> Made:
    made = Made(hashlib.sha256(path.read_bytes()).hexdigest())
    if path.suffix != ".h5":
        return made
    content = hashlib.sha256()

    def add(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        if name == "checksums":
            return
        attributes = [(key, thing.attrs[key]) for key in sorted(thing.attrs) if (name, key) != ("", "format_version")]
        content.update(repr((name, attributes)).encode())
        if isinstance(thing, h5py.Dataset):
            content.update(repr((thing.shape, thing.dtype, thing.chunks)).encode() + thing[()].tobytes())

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
        return made._replace(version=int(file.attrs["format_version"]), content=content.hexdigest())


def differ(one: Made | None, other: Made | None) -> bool:
    if one is None or other is None or one.version == other.version:
        return one != other
    return one.content != other.content


def main(before: str, after: str, *patterns: str) -> int:
    data = Path(__file__).parents[2] / "sample_data"
    one, other = (made_by(Path(checkout).resolve(), data) for checkout in (before, after))
    names = sorted(one.keys() | other.keys())
    differing = [name for name in names if differ(one.get(name), other.get(name))]
    versions = [name for name in names if name not in differing and one[name].bytes != other[name].bytes]
    for name in differing:
        may = any(fnmatch(name, pattern) for pattern in patterns)
        print(f"{'may differ' if may else 'DIFFERS'}: {name}")
    print(f"{len(names) - len(differing)} of {len(names)} files are the same", end="")
    print(f", {len(versions)} of them but for the version of the dump and its checksums" if versions else "")
    return any(not any(fnmatch(name, pattern) for pattern in patterns) for name in differing)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
