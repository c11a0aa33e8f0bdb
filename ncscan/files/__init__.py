"""Read strangers' files within limits, and change files of our own as one."""

from ncscan.files import zip_archive
from ncscan.files.disk import ALIGNMENT, Disk, sync
from ncscan.files.reading import fits, in_sight, is_folder, opened, parse_json, read, read_rest
from ncscan.files.sets import cannot_write, claimed, pending, remove_left, replace_files, scratch, write_whole

__all__ = [
    "ALIGNMENT",
    "Disk",
    "cannot_write",
    "claimed",
    "fits",
    "in_sight",
    "is_folder",
    "opened",
    "parse_json",
    "pending",
    "read",
    "read_rest",
    "remove_left",
    "replace_files",
    "scratch",
    "sync",
    "write_whole",
    "zip_archive",
]
