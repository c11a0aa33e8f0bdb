"""ncscan audits trained classifiers for neural collapse, layer by layer.

The data's way: a checkpoint's bytes become tensors (checkpoints), the tensors a module (models), a forward pass of it
is traced, and samples in a fixed order (data) are replayed through it (activations); every layer's rows are kept
(dumps). They are read twice: class sums, then everything about samples minus their class mean (statistics). Numbers
come from those sums alone (metrics) with how far they can be trusted (uncertainty), theorems are applied (theory), runs
put in order (trajectory); tables, comparisons, charts and a page are written (tables, compare, report). pipeline wires
the stages together; cli prints.

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
