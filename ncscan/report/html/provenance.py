"""Describe where the numbers of a run come from, for the page: what its checkpoints share, and what differs.

In: what is known of each checkpoint. Out: tables of texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ncscan.tables import plain

MOST_ITEMS = 24
"""The number of items of a list that are spelled out."""


@dataclass(frozen=True)
class Origin:
    """Describes where the numbers of a run come from."""

    run: str
    shared: list[tuple[str, str]]
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    """Each checkpoint, and its values in the columns."""


def origin(run: str, checkpoints: Sequence[Mapping[str, Any]]) -> Origin:
    """Return what the checkpoints of a run share, and what differs between them."""
    facts = {known["checkpoint"]: dict(_flat("", plain(_provenance(known)))) for known in checkpoints}
    keys = list(dict.fromkeys(key for own in facts.values() for key in own))
    first = next(iter(facts.values()))
    shared = [key for key in keys if all(own.get(key) == first.get(key) for own in facts.values())]
    differing = [key for key in keys if key not in shared]
    rows = [(name, [own.get(key, "") for key in differing]) for name, own in facts.items()]
    return Origin(run, [(key, first[key]) for key in shared], differing, rows if differing else [])


def _provenance(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the page's description of a checkpoint's origin, without its step, which the page has elsewhere."""
    facts = {key: checkpoint[key] for key in ("accuracy", "n_samples", "n_classes", "class_names") if key in checkpoint}
    origin = {key: value for key, value in checkpoint.get("provenance", {}).items() if key not in checkpoint}
    return facts | origin


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flat(f"{name}.{key}" if name else key, inner)
        case list():
            items = [" → ".join(str(part) or "(none)" for part in i) if isinstance(i, list) else str(i) for i in value]
            more = [f"… and {len(items) - MOST_ITEMS} more"] if len(items) > MOST_ITEMS else []
            yield name, ", ".join(items[:MOST_ITEMS] + more) or "none"
        case float():
            yield name, f"{value:.6g}"
        case None | "":
            yield name, "none"
        case _:
            yield name, str(value)
