"""`ncscan metrics`: what is measured."""

from rich import box
from rich.markup import escape
from rich.table import Table

from ncscan.cli.console import out


def metrics() -> None:
    """Show what is measured: names, formulas, values at collapse."""
    from ncscan.metrics import CLASS_METRICS, GRADIENT_DEFINITIONS, HELD_OUT, METRICS, NETWORK, WEIGHT_METRICS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("metric", "at collapse", "formula", "source"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "metric")
    for metric in (*NETWORK, *METRICS, *CLASS_METRICS, *WEIGHT_METRICS, *HELD_OUT, *GRADIENT_DEFINITIONS):
        table.add_row(metric.name, metric.at_collapse, escape(metric.formula), metric.source)
    out.print(table)
