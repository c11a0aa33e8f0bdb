"""Search for inputs that a reader should not choke on, guided by the code that they reach; by hand, import fuzz

with atheris.

`pip install ncscan[fuzz]`, then `python tests/hostile/coverage_fuzz.py TARGET -max_total_time=60`: the options are
libFuzzer's. It starts from the files that `fuzz.py` mutates. What is found stays as a case in a table of tests/hostile.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import fuzz

with atheris.instrument_imports(include=["ncscan", "pickletools"]):
    from ncscan.checkpoints.formats.safetensors_file import safetensors_file
    from ncscan.compare.gate_parser import parse
    from ncscan.config import read_config
    from ncscan.data.sources.mnist_idx import read_idx
    from ncscan.errors import NcscanError
    from ncscan.files import zip_archive
    from ncscan.pickles.child import READINGS, Request
    from ncscan.pickles.values import BadPickle

PLACE = Path(tempfile.mkdtemp())


def pickled(data: bytes) -> object:
    """Read a pickle in this process, so that the fuzzer sees which code it reaches."""
    for reading in ("archive", "stream"):
        try:
            READINGS[reading](Request(reading, data, {"0": bytes(4)}, False, 0, 0))
        except BadPickle:
            continue
    return None


def archive(data: bytes) -> object:
    """Read every member of an archive."""
    try:
        return [bytes(zip_archive.read(data, member)) for member in zip_archive.members(data).values()]
    except zip_archive.BadArchive:
        return None


def at(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a reader of bytes from one of a file."""

    def of_bytes(data: bytes) -> object:
        (PLACE / name).write_bytes(data)
        return read(PLACE / name)

    return of_bytes


TARGETS: Mapping[str, tuple[Callable[[bytes], object], str]] = {
    "pickle": (pickled, "pickle"),
    "zip": (archive, "torch-zip"),
    "safetensors": (lambda data: safetensors_file(data, Path("x")), "safetensors"),
    "idx": (at("x", read_idx), "idx"),
    "gate": (lambda data: parse(data.decode(errors="replace")), "gate"),
    "config": (at("ncscan.toml", lambda path: read_config(path.parent)), "config"),
}
"""The reader, and the target of fuzz.py whose cases are the first inputs."""


def main() -> None:
    read, seeds = TARGETS[sys.argv[1]]
    corpus = PLACE / "corpus"
    corpus.mkdir()
    target = fuzz.TARGETS[seeds]()
    for number in range(200):
        case = target.make(fuzz.draw(seeds, number))
        (corpus / str(number)).write_bytes(case.encode(errors="replace") if isinstance(case, str) else bytes(case))

    def test_one(data: bytes) -> None:
        try:
            read(data)
        except NcscanError:
            return

    atheris.Setup([sys.argv[0], *sys.argv[2:], "-rss_limit_mb=3000", "-timeout=30", str(corpus)], test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
