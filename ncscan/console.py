"""What commands print that is no part of a report: tables of layers, with strangers' text made harmless."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ncscan.wording import visible


def plan(label: str, layers: Sequence[tuple[int, str, str, tuple[int, ...], int, int]]) -> Table:
    """What a dump would hold: depth, name, kind, shape, features and bytes of each layer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(visible(label)), title_justify="left")
    for heading in ("depth", "layer", "kind", "shape", "features", "MB"):
        table.add_column(heading, justify="left" if heading in ("layer", "kind") else "right", overflow="fold")
    for depth, name, kind, shape, features, n_bytes in layers:
        said = (str(depth), name, kind, "×".join(map(str, shape)), f"{features:,}", f"{n_bytes / 1e6:,.1f}")
        table.add_row(*(Text(visible(cell)) for cell in said))
    return table
