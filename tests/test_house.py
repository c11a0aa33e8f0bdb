"""The house: folders have faces, and nobody reaches past them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ncscan

ROOT = Path(ncscan.__file__).parent
FACES = {path.parent.relative_to(ROOT.parent) for path in ROOT.rglob("__init__.py")}
BY_MODULE = {"pipeline"}
"""Folders of commands' jobs: each is a face of its own, so that a command imports no other's."""


def modules() -> list[Path]:
    return sorted(path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py"))


def imports(module: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse((ROOT.parent / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ncscan":
            yield from ((str(node.module), alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("ncscan."))


def past_a_face(module: Path, source: str, name: str) -> bool:
    """Whether an import takes from another folder what its face does not give on."""
    place = Path(*source.split("."))
    room = Path(*place.parts[:2])
    if place == Path("ncscan") or room.with_suffix(".py") in modules() or room in module.parents:
        return False
    if room.name in BY_MODULE:
        return False
    return place not in FACES or name not in given_on(place)


def given_on(face: Path) -> set[str]:
    """What a face has in its `__all__`."""
    tree = ast.parse((ROOT.parent / face / "__init__.py").read_text(encoding="utf-8"))
    (kept,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return set(ast.literal_eval(kept))


@pytest.mark.parametrize(
    ("source", "name"),
    [("ncscan.metrics", "evaluate"), ("ncscan.statistics.precision", "GAP"), ("ncscan.statistics.partial_sums", "")],
)
def test_an_import_past_a_face_is_found(source: str, name: str) -> None:
    assert past_a_face(Path("ncscan/theory/claims.py"), source, name)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_imports_from_the_faces_of_other_folders(module: Path) -> None:
    for source, name in imports(module):
        assert not name.startswith("_") or name == "__version__", f"{module} imports {name} of {source}"
        assert not past_a_face(module, source, name), f"{module} reaches into {source}"


@pytest.mark.parametrize("face", sorted(FACES), ids=str)
def test_a_face_only_gives_on(face: Path) -> None:
    kept = (ast.Expr, ast.ImportFrom, ast.Assign)
    tree = ast.parse((ROOT.parent / face / "__init__.py").read_text(encoding="utf-8"))
    if face != Path("ncscan"):  # whose one name comes with its first use
        assert [] == [ast.unparse(node) for node in tree.body if not isinstance(node, kept)]
    assert ast.get_docstring(tree)


def inside(node: ast.AST) -> bool:
    """Whether an expression is what holds an object's attributes: vars(x), or x.__dict__."""
    called = isinstance(node, ast.Call) and ast.unparse(node.func) == "vars" and bool(node.args)
    return called or (isinstance(node, ast.Attribute) and node.attr == "__dict__")


def writes_past_a_class(tree: ast.AST) -> Iterator[str]:
    """What changes an object without its class knowing: so a frozen one would not be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield from [ast.unparse(node)] if inside(node) or inside(node.value) else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of, name = node.func.value, node.func.attr
            if name in ("__setattr__", "__delattr__"):
                yield ast.unparse(node)
            if inside(of) and name in ("update", "pop", "popitem", "setdefault", "clear", "__setitem__", "__delitem__"):
                yield ast.unparse(node)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_nothing_writes_into_an_object_past_its_class(module: Path) -> None:
    assert list(writes_past_a_class(ast.parse((ROOT.parent / module).read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "vars(resample)['tolerance'] = 1",
        "x.__dict__['tolerance'] += 1",
        "del vars(x)['tolerance']",
        "x.__dict__ = {}",
        "vars(x).update(tolerance=1)",
        "object.__setattr__(x, 'tolerance', 1)",
        "x.__dict__ |= {'tolerance': 1}",
    ],
)
def test_a_write_into_an_object_past_its_class_is_found(line: str) -> None:
    assert list(writes_past_a_class(ast.parse(line)))


def test_a_name_of_a_type_has_one_meaning() -> None:
    """Classes and aliases of all files have names of their own; variables of generic functions are none."""
    owners: dict[str, set[str]] = {}
    for path in modules():
        for node in ast.parse((ROOT.parent / path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                owners.setdefault(node.name, set()).add(str(path))
            elif isinstance(node, ast.Assign) and not (isinstance(node.value, ast.Call)):
                names = [each.id for each in node.targets if isinstance(each, ast.Name)]
                for name in names:
                    if name[0].isupper() and not name.isupper():
                        owners.setdefault(name, set()).add(str(path))
    assert {name: paths for name, paths in owners.items() if len(paths) > 1} == {}
