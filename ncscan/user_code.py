"""Code that the user names as `module:function`.

In: the name, and the folder it is relative to. Out: what the function returns. The only file that runs code which
is not ours, so what such code raises becomes one line here, with the user's own traceback behind it.
"""

import importlib
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ncscan.errors import NcscanError, UsageError, named


def call(spec: str, base: Path | None, error: type[NcscanError]) -> object:
    """Import `module:function` from a folder (the current one by default) or an installed package, and call it.

    Random numbers of torch start from one seed, so a model's untrained rest or a random subset is the same each time.

    Raises: UsageError when there is no such function; `error` when it, or its module, raises.
    """
    function = find(spec, base, error)
    with _importing_from((base or Path()).resolve()), guarded(spec, error), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function()


def find(spec: str, base: Path | None, error: type[NcscanError]) -> Callable[[], object]:
    """Import `module:function` and return it; raises as `call` does."""
    name, _, function = spec.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *function.split("."))):
        raise UsageError(f"{spec!a:.100} is not written as module:function")
    folder = (base or Path()).resolve()
    with _importing_from(folder), guarded(spec, error), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            found: object = importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name is None or not f"{name}.".startswith(f"{missing.name}."):
                raise  # one that this module imports
            raise UsageError(f"{spec}: there is no module {missing.name}, neither here nor installed") from missing
        for part in function.split("."):
            if not hasattr(found, part):
                raise UsageError(f"{spec}: {name} has no {function}")
            found = getattr(found, part)
        if not callable(found):
            raise UsageError(f"{spec}: is a {type(found).__name__}, not a function")
        return found


@contextmanager
def guarded(spec: str, error: type[NcscanError]) -> Iterator[None]:
    """Turn whatever the user's code raises into one line; the original stays reachable as the cause."""
    try:
        yield
    except NcscanError:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    # Code that is not ours may raise anything, and a script's `sys.exit()` at import must not end an audit.
    except BaseException as raised:
        raise error(f"{spec} failed: {named(raised)}; call it in Python to see the whole traceback") from raised


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Put `folder` first on the import path, and make other folders' modules of the same names step aside.

    Two runs that each have a `model.py` must not get the model of whichever came first.
    """
    before = sys.path[:]
    sys.path.insert(0, str(folder))
    own = {file.stem for file in folder.glob("*.py")} | {file.parent.name for file in folder.glob("*/__init__.py")}
    own.discard("ncscan")
    installed = [
        Path(sysconfig.get_path(scheme)).resolve() for scheme in ("stdlib", "platstdlib", "purelib", "platlib")
    ]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own and (file := getattr(module, "__file__", None)):
            path = Path(file).resolve()
            if not path.is_relative_to(folder) and not any(path.is_relative_to(place) for place in installed):
                del sys.modules[name]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
