"""Give samples in a fixed order."""

from ncscan.data.dataset import HELD_OUT, MAX_CLASSES, OUTSIDE, SPLITS, TRAINING, Dataset, Inputs, open_dataset

__all__ = ["HELD_OUT", "MAX_CLASSES", "OUTSIDE", "SPLITS", "TRAINING", "Dataset", "Inputs", "open_dataset"]
