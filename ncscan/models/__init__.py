"""Build a module, and fill it with the tensors of a checkpoint."""

from ncscan.models.loaded_model import LoadedModel, build

__all__ = [
    "LoadedModel",
    "build",
]
