"""Compare what two checkouts make of the sample runs, byte by byte: dumps, tables, pages, figures, a diff.

    python tests/benchmarks/same_bytes.py BEFORE AFTER [PATTERN...]

Files whose names fit a PATTERN may differ. Prints how many files are the same, names those that are not, and ends with
1 where there are any. Run by hand, before and after code is moved about.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

COMMANDS = (
    ("extract", "{data}/trajectories/decay-seed0", "{data}/trajectories/no-decay-seed0", "--layers", "all", "--quiet"),
    ("report", "--quiet", "--bootstrap", "20", "--figures", "svg", "--figure", "jacot-1", "--convention", "papyan"),
    ("diff", "ncscan-out/dumps/decay-seed0", "ncscan-out/dumps/no-decay-seed0", "--quiet"),
)


def made_by(checkout: Path, data: Path) -> dict[str, str]:
    """Run the commands with the source of a checkout; the checksum of every file they leave, by its path."""
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            arguments = [part.format(data=data) for part in command]
            program = [sys.executable, "-c", "from ncscan.cli import main; main()", *arguments]
            environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(program, cwd=folder, env=environment, check=False)
            if done.returncode not in (0, 4):
                sys.exit(f"{checkout}: {command[0]} ended with {done.returncode}")
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(before: str, after: str, *patterns: str) -> int:
    data = Path(__file__).parents[2] / "sample_data"
    one, other = (made_by(Path(checkout).resolve(), data) for checkout in (before, after))
    names = sorted(one.keys() | other.keys())
    differing = [name for name in names if one.get(name) != other.get(name)]
    for name in differing:
        may = any(fnmatch(name, pattern) for pattern in patterns)
        print(f"{'may differ' if may else 'DIFFERS'}: {name}")
    print(f"{len(names) - len(differing)} of {len(names)} files are the same")
    return any(not any(fnmatch(name, pattern) for pattern in patterns) for name in differing)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
