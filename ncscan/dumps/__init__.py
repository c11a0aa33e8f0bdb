"""Keep activations on disk, and read them back."""

from ncscan.dumps.discovery import DUMP_SUFFIX, describe_unfinished, find_dumps, find_unfinished
from ncscan.dumps.reader import Dump, finished
from ncscan.dumps.size_plan import SizePlan, plan
from ncscan.dumps.writer import DumpFacts, remove_partial, write_dump

__all__ = [
    "DUMP_SUFFIX",
    "Dump",
    "DumpFacts",
    "SizePlan",
    "describe_unfinished",
    "find_dumps",
    "find_unfinished",
    "finished",
    "plan",
    "remove_partial",
    "write_dump",
]
