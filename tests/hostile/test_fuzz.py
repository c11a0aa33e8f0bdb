"""A few mutations of each input that a reader takes; `fuzz.py` by hand makes as many as there is time."""

import fuzz
import pytest

CASES = 30
SECONDS = 600.0
"""Far more than they take: nothing here depends on how busy the machine is."""


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_mutated_input_is_a_value_or_one_line(name: str) -> None:
    assert (CASES, []) == fuzz.fuzz(name, SECONDS, CASES)


def test_what_a_reader_should_not_raise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_case: object, _folder: object) -> None:
        raise KeyError("gone")

    monkeypatch.setitem(fuzz.TARGETS, "broken", lambda: fuzz.Target(lambda draw: draw.random(), fail))
    n_cases, found = fuzz.fuzz("broken", SECONDS, 3)
    assert (3, 3) == (n_cases, len(found))
    assert found[0][1].startswith("KeyError: \"'gone'\" at test_fuzz.py")
