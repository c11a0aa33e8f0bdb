"""Read bytes of unknown origin as tensors and metadata. Nothing in a file runs."""

from ncscan.checkpoints.checkpoint import Checkpoint, load
from ncscan.checkpoints.discovery import find, looks_like_one
from ncscan.checkpoints.file_kinds import unused_words
from ncscan.checkpoints.state_dict import WEIGHTS, StateChoice
from ncscan.pickles import MAX_NOTES

__all__ = [
    "MAX_NOTES",
    "WEIGHTS",
    "Checkpoint",
    "StateChoice",
    "find",
    "load",
    "looks_like_one",
    "unused_words",
]
