"""A few mutations of each input that a reader takes; `fuzz.py` by hand makes as many as there is time."""

from pathlib import Path

import fuzz
import pytest

CASES = 30
SECONDS = 600.0
"""Far more than they take: nothing here depends on how busy the machine is."""


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_mutated_input_is_a_value_or_one_line(name: str) -> None:
    assert (CASES, []) == fuzz.fuzz(name, SECONDS, CASES)


@pytest.mark.parametrize(("name", "case"), [("dump", 2153), ("gate", 96_023), ("gate", 135_303)])
def test_what_was_found_once_is_mended(name: str, case: int, tmp_path: Path) -> None:
    """A chunk beyond the last row; a line feed in the beginning of a gate that is too long."""
    assert "" == fuzz.run_case(fuzz.TARGETS[name](), name, case, tmp_path)


def test_what_a_reader_should_not_raise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_case: object, _folder: object) -> None:
        raise KeyError("gone")

    monkeypatch.setitem(fuzz.TARGETS, "broken", lambda: fuzz.Target(lambda draw: draw.random(), fail))
    n_cases, found = fuzz.fuzz("broken", SECONDS, 3)
    assert (3, 3) == (n_cases, len(found))
    assert found[0][1].startswith("KeyError: \"'gone'\" at test_fuzz.py")
