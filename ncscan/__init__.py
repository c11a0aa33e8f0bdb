"""ncscan audits trained classifiers for neural collapse, layer by layer."""

__version__ = "0.1.0"
