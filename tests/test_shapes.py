"""The checks that hold in every test are there: a wrong type, a wrong size and two sizes of one name are refused."""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from shapes import UNRESOLVED, Decorating, Loader

import ncscan
from ncscan.layer_graph import LinearMap
from ncscan.report.etf_animation.simplex import Positions, positions
from ncscan.wording import visible


def test_every_module_of_ncscan_is_checked() -> None:
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ncscan"}
    assert len(modules) > 10
    assert [name for name, module in modules.items() if not isinstance(module.__loader__, Loader)] == []


def test_a_module_is_compiled_once_and_again_when_its_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    source = tmp_path / "some.py"
    visited: list[ast.AST] = []

    def visit(_: Decorating, tree: ast.AST) -> ast.AST:
        visited.append(tree)
        return tree

    monkeypatch.setattr(Decorating, "visit", visit)
    for text, compilations in (("x = 1", 1), ("x = 1", 1), ("x = 2", 2), ("x = 2", 2)):
        source.write_text(text, encoding="utf-8")
        found: dict[str, int] = {}
        exec(Loader("some", str(source)).get_code("some"), found)  # noqa: S102 - our own
        assert (int(text[-1]), compilations) == (found["x"], len(visited))


def test_an_argument_has_its_type_dtype_and_number_of_axes() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="text"):
        visible(7)  # type: ignore[arg-type]
    with pytest.raises(BeartypeCallHintViolation, match="means"):
        positions(np.ones((3, 4), np.float32), np.ones((0, 4)))
    with pytest.raises(BeartypeCallHintViolation, match="samples"):
        positions(np.eye(3), np.ones(3))


def test_a_size_has_one_value_throughout_a_call_and_the_fields_of_an_object() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="samples"):
        positions(np.eye(3), np.ones((5, 4)))
    with pytest.raises(BeartypeCallHintViolation, match="rows"):
        Positions(np.ones((3, 2)), np.ones((5, 2)), np.ones((4, 2)))
    assert positions(np.eye(3), np.ones((5, 3))).rows is None


def test_a_field_of_a_plain_object_has_its_type() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        LinearMap(name=3)  # type: ignore[call-arg, arg-type]


SOURCE = """
import numpy as np
from jaxtyping import Float64

Spread = tuple[Float64[np.ndarray, "q"], Float64[np.ndarray, "q d"]]

def pair(q: int, rows: int) -> Spread:
    return np.ones(q), np.ones((rows, 2))

def caller(x: Float64[np.ndarray, "q"]) -> int:
    return len(pair(5, 5)[0])

def outer(rows: int) -> int:
    def inner(x: Float64[np.ndarray, "q"]) -> Spread:
        return x, np.ones((rows, 2))
    return len(inner(np.ones(3)))
"""


@pytest.fixture(scope="module")
def decorated() -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(ast.fix_missing_locations(Decorating().visit(ast.parse(SOURCE))), "source", "exec"), names)  # noqa: S102
    return names


def test_sizes_under_another_name_are_sizes(decorated: dict[str, Callable[..., int]]) -> None:
    assert 2 == len(decorated["pair"](3, 3))  # type: ignore[arg-type]
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        decorated["pair"](3, 5)
    assert 2 == decorated["outer"](3)
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        decorated["outer"](5)


def test_a_size_of_the_caller_is_no_size_of_the_called(decorated: dict[str, Callable[..., int]]) -> None:
    assert 5 == decorated["caller"](np.ones(3))


def test_what_cannot_be_checked_has_no_sizes_and_is_little() -> None:
    """They are for the reader: a generic that is one in stubs only, a class in itself, one imported for its type."""
    for module in pkgutil.walk_packages(ncscan.__path__, "ncscan."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    texts = {str(annotation) for _, annotation in UNRESOLVED}
    assert [text for text in texts if "ndarray" in text or "Tensor" in text] == []
    assert len({name for name, _ in UNRESOLVED}) < 60
