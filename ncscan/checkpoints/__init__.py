"""Read bytes of unknown origin as tensors and metadata. Nothing in a file runs."""

from ncscan.checkpoints.checkpoint import ENDINGS, Checkpoint, natural
from ncscan.checkpoints.metadata import MAX_NOTES

__all__ = ["ENDINGS", "MAX_NOTES", "Checkpoint", "natural"]
