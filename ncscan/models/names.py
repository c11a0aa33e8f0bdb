"""Change the names of a checkpoint's tensors as the user says, before they are laid over those of a model.

In: tensors by their names in the file. Out: the same tensors by other names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ncscan.errors import ModelError
from ncscan.wording import listed_up_to

Value = TypeVar("Value")


def renamed(
    tensors: Mapping[str, Value], prefix: str | None, rename: Sequence[tuple[str, str]], path: Path
) -> dict[str, Value]:
    """Return the tensors whose names begin with the prefix, without it, and with other beginnings replaced.

    Of the pairs in `rename` the first that fits a name replaces its beginning; they see names without the prefix.

    Raises: ModelError when no name begins with the prefix or with what is to be replaced, or two names become one.

    >>> renamed({"net.a.w": 1, "net.b.w": 2, "c": 3}, "net.", [("a.", "fc.")], Path("x.pt"))
    {'fc.w': 1, 'b.w': 2}
    """
    prefix = prefix or ""
    kept = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not kept:
        raise ModelError(f"{path}: no tensor's name begins with --prefix {prefix!a:.60}; {_examples(tensors)}")
    for old, _ in rename:
        if not any(name.startswith(old) for name in kept):
            left = f"no tensor's name begins with {old!a:.60}, the left of --rename"
            raise ModelError(f"{path}: {left}; {_examples(kept)}")
    found: dict[str, Value] = {}
    for name, value in kept.items():
        old, new = next((pair for pair in rename if name.startswith(pair[0])), ("", ""))
        changed = new + name.removeprefix(old)
        if changed in found:
            raise ModelError(f"{path}: --rename gives two tensors the name {changed!a:.60}")
        found[changed] = value
    return found


def _examples(names: Mapping[str, object]) -> str:
    return f"names are {listed_up_to(3, list(names))}"
