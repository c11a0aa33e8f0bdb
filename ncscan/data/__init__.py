"""Give samples in a fixed order."""

from ncscan.data.convert import Inputs, StoredSamples
from ncscan.data.dataset import MAX_CLASSES, Dataset, open_dataset

__all__ = ["MAX_CLASSES", "Dataset", "Inputs", "StoredSamples", "open_dataset"]
