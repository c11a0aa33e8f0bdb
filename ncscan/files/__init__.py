"""Read strangers' files within limits, and change files of our own as one."""

from ncscan.files.disk import ALIGNMENT, Disk, sync
from ncscan.files.reading import in_sight, is_folder
from ncscan.files.sets import cannot_write, claimed, pending, remove_left, replace_files, scratch, write_whole

__all__ = [
    "ALIGNMENT",
    "Disk",
    "cannot_write",
    "claimed",
    "in_sight",
    "is_folder",
    "pending",
    "remove_left",
    "replace_files",
    "scratch",
    "sync",
    "write_whole",
]
