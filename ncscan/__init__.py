"""ncscan audits trained classifiers for neural collapse, layer by layer.

The data's way: a checkpoint's bytes become tensors (checkpoint), the tensors a module (model), a forward pass of it
is traced (taps, graph), the training set (dataset) is replayed through it (replay), and every layer's activations
are kept (store). A dump is read twice: class sums, then everything about samples minus their class mean (accumulate,
statistics). Numbers come from those sums alone (metrics, weights), runs are put in order (trajectory), and tables,
charts and a page are written (report). jobs wires the stages together; cli prints.

    import ncscan
    table = ncscan.measure(features, labels, weight=W, bias=b)
"""

from typing import TYPE_CHECKING, Any

from ncscan.version import __version__ as __version__

__all__ = ["__version__", "measure"]

if TYPE_CHECKING:
    from ncscan.api import measure


def __getattr__(name: str) -> Any:
    # torch and pandas take seconds to import: they come with the first use, not with the name.
    if name == "measure":
        from ncscan.api import measure

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
