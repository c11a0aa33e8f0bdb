"""Put the checkpoints of a run in order, by what they record, their names or the user, or say that none is known."""

from ncscan.ordering.given import BY, GivenOrder, parse_order
from ncscan.ordering.integrity import integrity
from ncscan.ordering.names import counts_in, natural
from ncscan.ordering.run_order import BESIDE, NOT_KNOWN, ORDER, CheckpointRecord, PlaceInRun, RunOrder, order_run

__all__ = [
    "BESIDE",
    "BY",
    "NOT_KNOWN",
    "ORDER",
    "CheckpointRecord",
    "GivenOrder",
    "PlaceInRun",
    "RunOrder",
    "counts_in",
    "integrity",
    "natural",
    "order_run",
    "parse_order",
]
