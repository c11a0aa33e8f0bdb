"""Check types and shapes while tests run: every function of ncscan and every field of its dataclasses, as annotated.

jaxtyping's own import hook checks each call three times over and takes two thirds of the suite's time. This one lets
beartype check once, within one scope of jaxtyping's, so that a size has one value throughout a call.
"""

import ast
import dataclasses
import hashlib
import inspect
import marshal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, TypeVar, cast, get_args, get_type_hints

import jaxtyping
from beartype import beartype

Checked = TypeVar("Checked", bound=Callable[..., Any])
OWN = Path(__file__).read_bytes()
"""What code is made with: another version makes it again."""

UNRESOLVED: list[tuple[str, object]] = []
"""Functions, and annotations of theirs that are not checked."""


def checked(function: Checked) -> Checked:
    """Return a function whose arguments and result are checked: sizes, where it has any, against each other."""
    if _has_shapes(_resolved(function)):
        return shapes_checked(function)
    return beartype(function)


def closure_checked(function: Checked) -> Checked:
    """Return a closure that is checked where it has sizes: it is made again for each call, and mypy knows its types."""
    known = _CLOSURES.get(function.__code__)
    if known is None:
        known = _CLOSURES[function.__code__] = _has_shapes(_resolved(function))
    return shapes_checked(function) if known else function


_CLOSURES: dict[CodeType, bool] = {}
"""Whether closures made of this code have sizes."""


def shapes_checked(function: Checked) -> Checked:
    """Return a function whose sizes have one value throughout a call, whoever calls it."""
    own = _started(function) if inspect.isgeneratorfunction(function) else function
    checks: Callable[..., Any] = beartype(_resolved(own))

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with jaxtyping.jaxtyped("context"):
            return checks(*args, **kwargs)

    return call  # type: ignore[return-value]


def _has_shapes(function: Callable[..., Any]) -> bool:
    """Return whether an annotation has sizes, under whatever name: `Float64[np.ndarray, "n d"]`, or an alias of it."""
    left: list[Any] = list(function.__annotations__.values())
    while left:
        hint = left.pop()
        if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
            return True
        left += hint if isinstance(hint, list) else get_args(hint)
    return False


def _started(function: Checked) -> Checked:
    """Return a function that makes the generator: one whose own body is a generator is checked when that begins.

    By then it is in the scope of whoever asks for the first value.
    """

    @wraps(function)
    def start(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return start  # type: ignore[return-value]


def _resolved(function: Checked) -> Checked:
    """Return the function with annotations that can be checked; what only a reader of types understands is Any.

    Such are names that are imported for the reader alone, a class inside itself, and `pd.Series[bool]`, which is
    generic in stubs alone.
    """
    names = inspect.unwrap(function).__globals__
    for name, annotation in function.__annotations__.items():
        alone = SimpleNamespace(__annotations__={"hint": annotation})
        try:
            function.__annotations__[name] = get_type_hints(alone, names, include_extras=True)["hint"]
        except (NameError, TypeError):
            UNRESOLVED.append((f"{function.__module__}.{function.__qualname__}", annotation))
            function.__annotations__[name] = Any
    return function


def fields_checked(cls: type) -> type:
    """Return the class; where it is a dataclass, its fields are checked against each other whenever one is made."""
    if dataclasses.is_dataclass(cls) and "__init__" in vars(cls):
        setattr(cls, "__init__", shapes_checked(vars(cls)["__init__"]))  # noqa: B010 - mypy knows no other way
    return cls


class Decorating(ast.NodeTransformer):
    """Writes the decorators into a module's source."""

    def __init__(self) -> None:
        self.inside = 0
        """How many functions the node is inside of."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        inside, self.inside = self.inside, 0
        self.generic_visit(node)
        self.inside = inside
        node.decorator_list.insert(0, _named(fields_checked, node))  # outside of @dataclass, which makes the fields
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.inside += 1
        self.generic_visit(node)
        self.inside -= 1
        node.decorator_list.append(_named(closure_checked if self.inside else checked, node))
        return node


def _named(decorator: Callable[..., Any], at: ast.stmt) -> ast.expr:
    """Return a reference to a decorator that no name of the module can hide."""
    written = ast.parse(f"__import__('sys').modules[{__name__!r}].{decorator.__name__}", mode="eval").body
    for part in ast.walk(written):
        ast.copy_location(part, at)
    return written


class Loader(SourceFileLoader):
    """Compiles a module with its decorators, once."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a source with decorators: what Python itself caches beside it has none."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        cached = cache_from_source(path, optimization="checked")
        key = hashlib.sha256(b"\0".join([OWN, path.encode(), bytes([sys.flags.optimize]), source])).digest()
        with suppress(OSError):
            found = self.get_data(cached)
            if found.startswith(key):
                return cast(CodeType, marshal.loads(found[len(key) :]))  # noqa: S302 - our own
        tree = ast.fix_missing_locations(Decorating().visit(ast.parse(source, path)))
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        if not sys.dont_write_bytecode:
            self.set_data(cached, key + marshal.dumps(code))
        return code


class Finder(MetaPathFinder):
    """Finds the modules of ncscan before Python's own finder does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "ncscan":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def check_ncscan() -> None:
    """Check all that is imported of ncscan from now on."""
    assert not [name for name in sys.modules if name.partition(".")[0] == "ncscan"], "ncscan is imported already"
    sys.meta_path.insert(0, Finder())
