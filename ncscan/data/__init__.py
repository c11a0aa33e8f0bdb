"""Give samples in a fixed order."""

from ncscan.data.dataset import MAX_CLASSES, Dataset, Inputs, open_dataset

__all__ = ["MAX_CLASSES", "Dataset", "Inputs", "open_dataset"]
