"""What a dump says of itself: where it comes from, which layers it keeps, what took gradients.

In: plain values, as JSON has them. Out: dataclasses whose fields hold what they are declared to. Whether they agree
with each other and with the file is for agreement.py to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ncscan.config import Plain
from ncscan.layer_graph import Tap

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


@dataclass(frozen=True)
class Provenance:
    """Tells where a dump comes from, in plain values: no time, no absolute path, so equal inputs give equal bytes."""

    run: str
    group: str
    checkpoint: str
    checkpoint_sha256: str
    tensors_sha256: str
    checkpoint_format: str
    step: int | None
    epoch: int | None
    file_number: int | None
    notes: Mapping[str, Plain]
    model_source: str
    activation: str
    """The activation of a rebuilt `mlp`; else empty."""
    linear_head: int | None
    prefix_map: tuple[tuple[str, str], ...]
    matched: int
    total: int
    unmatched: tuple[str, ...]
    """Parameters that a checkpoint which was loaded in part did not fill, and why."""
    stored_dtype: str
    compute_dtype: str
    """The type of the weights: half precision is widened, exactly."""
    dataset: str
    dataset_fingerprint: str
    """The fingerprint of values, labels and normalisation."""
    split: str
    class_names: tuple[str, ...]
    selectors: tuple[str, ...]
    reduction: str
    dtype: str
    """`as computed`, or the type that was asked for."""
    device: str
    batch_size: int
    versions: Mapping[str, str]
    train: Mapping[str, Plain]
    """The [train] section of ncscan.toml."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Provenance":
        """Return what `asdict` wrote, after a round trip through JSON."""
        known = {f.name: _tupled(plain[f.name]) for f in fields(cls)}
        return cls(**known)


@dataclass(frozen=True)
class GradientRow:
    """One number that took gradients of the model, made while it was at hand."""

    layer_or_map: str
    """A linear map, a pair of consecutive ones as `first..next`, or empty for the whole network."""
    metric: str
    quantity: str
    value: float | None
    reason: str
    """Why there is no value, else empty."""
    n_samples: int
    """How many samples it was made of."""
    estimate: bool
    """Whether those were a part of the data, or random signs stood for many outputs: else it is exact."""


@dataclass(frozen=True)
class Gradients:
    """The numbers that `--gradients` left in a dump."""

    n_samples: int
    rows: tuple[GradientRow, ...]

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Gradients":
        """Return what `asdict` wrote, after a round trip through JSON."""
        return cls(plain["n_samples"], tuple(GradientRow(**row) for row in plain["rows"]))


@dataclass(frozen=True)
class Layer:
    """One tap as the dump keeps it."""

    index: int
    """The number of its group in the file: `/layers/0007`."""
    tap: Tap
    reduction: str
    dtype: str
    n_features: int


def checked(described: Described) -> Described:
    """Return what was read from a file, when every field of it holds what it is declared to."""
    hints = _hints(type(described))  # type: ignore[arg-type] # mypy does not take a class for hashable
    for name, hint in hints.items():
        if not _fits(value := getattr(described, name), hint):
            raise ValueError(f"{name} of a {type(described).__name__} is {value!a:.80}")
    return described


@cache
def _hints(described: type[object]) -> dict[str, Any]:
    """Return the declared types of a class; a dump has hundreds of objects of each."""
    return get_type_hints(described)


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value read from JSON is of a declared type.

    Types are plain values, tuples and mappings of them, and dataclasses.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        each = [inner[0]] * len(value) if isinstance(value, tuple) and inner[-1] is ... else inner
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if origin is Mapping:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if isinstance(hint, type) and is_dataclass(hint):
        return isinstance(value, hint) and checked(value) is value
    bounded = len(value) <= MAX_TEXT if isinstance(value, str) else not isinstance(value, int) or abs(value) < 2**63
    return type(value) is hint and bounded


def _tupled(value: Any) -> Any:
    """Turn every list back into a tuple, since JSON knows no tuples."""
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else value
