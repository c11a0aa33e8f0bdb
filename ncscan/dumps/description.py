"""Describe a dump in plain values: where it comes from, which layers it keeps, what took gradients.

In: plain values, as JSON has them. Out: dataclasses, those of activations/source.py for instance, whose fields hold
what they are declared to. Whether they agree with each other and with the file is for agreement.py to say.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ncscan.wording import visible

Described = TypeVar("Described")
MAX_TEXT = 10_000
"""The number of characters of a name, a note or a path: it comes again in every row of a table."""
STORED_AS = {
    "float16": "<f2",
    "bfloat16": "<u2",  # HDF5 has no such type: its 16 bits as they are, and the name beside them
    "float32": "<f4",
    "float64": "<f8",
    "uint8": "|u1",
    "int8": "|i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "bool": "|u1",
}
"""Type that torch computes → type that the file holds."""


def from_plain(kind: type[Described], plain: Mapping[str, Any]) -> Described:
    """Return what `asdict` wrote, after a round trip through JSON, when every field holds what it is declared to.

    Raises: ValueError with the place of the first that does not.
    """
    try:
        described = msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise ValueError(visible(f"{kind.__name__}: {error}")[:200]) from None
    _require_plain(plain, msgspec.to_builtins(described))
    return described


def _require_plain(plain: Any, kept: Any) -> None:
    """Refuse keys that no field took, and texts and integers that no table holds."""
    if isinstance(plain, dict):
        for key, value in plain.items():
            if key not in kept:
                raise ValueError(f"{key!a:.80} is the name of no field")
            _require_plain(key, key)
            _require_plain(value, kept[key])
    elif isinstance(plain, list):
        for value, its in zip(plain, kept, strict=True):
            _require_plain(value, its)
    elif isinstance(plain, str) and len(plain) > MAX_TEXT:
        raise ValueError(f"{plain!a:.40}… has more than {MAX_TEXT:,} characters")
    elif isinstance(plain, int) and abs(plain) >= 2**63:
        raise ValueError(f"{plain!a:.40} has more than 63 bits")
