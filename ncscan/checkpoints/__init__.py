"""Read bytes of unknown origin as tensors and metadata. Nothing in a file runs."""

from ncscan.checkpoints.checkpoint import Checkpoint, load
from ncscan.checkpoints.discovery import ENDINGS, find, natural
from ncscan.checkpoints.state_dict import WEIGHTS, StateChoice
from ncscan.pickles import MAX_NOTES

__all__ = ["ENDINGS", "MAX_NOTES", "WEIGHTS", "Checkpoint", "StateChoice", "find", "load", "natural"]
