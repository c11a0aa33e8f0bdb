"""The order that a user gives: what a line of a file means, and what is refused."""

from pathlib import Path

import pytest

from ncscan.errors import UsageError
from ncscan.ordering import GivenOrder, parse_order

NAMES = ["a/model.pt", "b/model.pt", "c.pt"]


def lines(*given: str) -> dict[str, int]:
    return GivenOrder("file", "--order order.txt", given).lines_of("runs/one", NAMES)


@pytest.mark.parametrize(
    "given",
    [
        ("c.pt", "b/model.pt", "a/model.pt"),
        ("c.pt", "b", "a"),
        ("runs/one/c.pt", "/data/runs/one/b", "./runs/one/a/model.pt"),
        ("other/c.pt", "c.pt", "gone.pt", "b", "a"),
    ],
)
def test_a_line_is_a_path_or_the_end_of_one(given: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("# last epochs\n\n" + "/ \n".join(given) + "\n", encoding="utf-8")
    order = parse_order("order.txt", tmp_path, "--order")
    assert order is not None
    found = order.lines_of("runs/one", NAMES)
    assert ["c.pt", "b/model.pt", "a/model.pt"] == sorted(found, key=lambda name: found[name])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("c.pt", "b"), "runs/one/a/model.pt has no line; every checkpoint of a run needs one"),
        (("c.pt",), "runs/one/a/model.pt, runs/one/b/model.pt have no line"),
        (("a", "b", "c.pt", "b/model.pt"), "runs/one/b/model.pt is named twice"),
        ((), "runs/one/a/model.pt, runs/one/b/model.pt, runs/one/c.pt have no line"),
    ],
)
def test_a_file_that_does_not_name_all_of_a_run_names_what_it_lacks(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=r"^--order order\.txt: ") as raised:
        lines(*given)
    assert said in str(raised.value)


def test_a_line_that_means_several_is_refused() -> None:
    order = GivenOrder("file", "--order order.txt", ("a",))
    with pytest.raises(UsageError, match=r"a means a/1\.pt, a/2\.pt: name the files"):
        order.lines_of("run", ["a/1.pt", "a/2.pt"])


def test_what_is_neither_a_word_nor_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--order: must be name, mtime or a file with a checkpoint a line, not 'nmae'"):
        parse_order("nmae", tmp_path, "--order")
    assert parse_order(None, tmp_path, "--order") is None
