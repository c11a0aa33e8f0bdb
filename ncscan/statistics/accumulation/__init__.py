"""Pass over the rows of a layer."""

from ncscan.statistics.accumulation.options import AccumulationOptions
from ncscan.statistics.accumulation.parallel import in_threads
from ncscan.statistics.accumulation.passes import layer_stats

__all__ = [
    "AccumulationOptions",
    "in_threads",
    "layer_stats",
]
