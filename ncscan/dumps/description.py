"""What a dump says of itself: where it comes from, which layers it keeps, what took gradients.

In: plain values, as JSON has them. Out: dataclasses whose fields hold what they are declared to. Whether they agree
with each other and with the file is for agreement.py to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from ncscan.config import Plain
from ncscan.layer_graph import Tap
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


@dataclass(frozen=True)
class Layer:
    """One tap as the dump keeps it."""

    index: int
    """The number of its group in the file: `/layers/0007`."""
    tap: Tap
    reduction: str
    dtype: str
    n_features: int


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
