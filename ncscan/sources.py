"""Where models and data come from: one row for each form in which a user may name a source.

In: the text of an option or of ncscan.toml. Out: its row, with the function that opens such a source. A row gives that
function by its name, so that no command imports what it was not asked for.
"""

import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ncscan.wording import listed


class SourceForm(NamedTuple):
    """One form of a source."""

    word: str
    """The word before the colon, or the whole text where there is none; empty for a module of the user's."""
    written: str
    """The form as messages and help show it."""
    opener: str
    """The function that opens such a source, as `module:function`."""

    @property
    def is_code(self) -> bool:
        """Return whether opening it runs code that is not ours."""
        return not self.word

    def open(self) -> Callable[..., Any]:
        """Import the function and return it."""
        found: Callable[..., Any] = pkgutil.resolve_name(self.opener)
        return found


MODEL_SOURCES = (
    SourceForm("mlp", "mlp", "ncscan.models.sources.mlp:from_tensors"),
    SourceForm("", "module:function", "ncscan.models.sources.user_function:from_function"),
)
"""Each function takes a `ModelRequest` and returns the nn.Module, still to be filled."""

DATA_SOURCES = (
    SourceForm("npz", "npz:FILE", "ncscan.data.sources.npz:from_npz"),
    SourceForm("idx", "idx:DIR", "ncscan.data.sources.mnist_idx:from_idx"),
    SourceForm("", "module:function", "ncscan.data.sources.user_function:from_function"),
)
"""Each function takes a `DataRequest` and returns the `StoredSamples`."""


def form_of(spec: str, forms: Sequence[SourceForm]) -> SourceForm | None:
    """Return the form of a text; None where it has none of them.

    >>> [form and form.written for form in (form_of(spec, DATA_SOURCES) for spec in ("npz:a.npz", "my:data", "npz"))]
    ['npz:FILE', 'module:function', None]

    A form without a colon leaves its word to modules: `mlp` is built in, `mlp:make` is a function of the user's mlp.py.
    """
    word, colon, rest = spec.partition(":")
    if not word or bool(colon) != bool(rest):
        return None
    own = {form.word: form for form in forms if bool(colon) == (":" in form.written)}
    return own.get(word, own.get(""))


def choices(forms: Sequence[SourceForm]) -> str:
    """Return all forms, for a message.

    >>> choices(DATA_SOURCES)
    'npz:FILE, idx:DIR or module:function'
    """
    return listed([form.written for form in forms], "or")
