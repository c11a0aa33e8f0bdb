"""Read pickles as data, in a process of their own: nothing in them is imported or called."""

from ncscan.pickles.arrays import FORMATS
from ncscan.pickles.calls import DTYPES
from ncscan.pickles.content import VALUE, WRAPPERS, Content, PickledState
from ncscan.pickles.distributed import Distributed, Item, Piece
from ncscan.pickles.isolated import read, read_as
from ncscan.pickles.notes import EPOCH_NOTES, MAX_NOTES, MAX_TEXT, STEP_NOTES, Note, first_count, plain
from ncscan.pickles.stream import is_torch_stream
from ncscan.pickles.values import BadPickle, NumpyArray, Storage, View

__all__ = [
    "DTYPES",
    "EPOCH_NOTES",
    "FORMATS",
    "MAX_NOTES",
    "MAX_TEXT",
    "STEP_NOTES",
    "VALUE",
    "WRAPPERS",
    "BadPickle",
    "Content",
    "Distributed",
    "Item",
    "Note",
    "NumpyArray",
    "PickledState",
    "Piece",
    "Storage",
    "View",
    "first_count",
    "is_torch_stream",
    "plain",
    "read",
    "read_as",
]
