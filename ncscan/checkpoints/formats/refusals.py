"""Explain why a file is refused, and how to save it so that it is read."""

from collections.abc import Iterable

from ncscan.wording import listed_up_to

RESAVE = "save the weights alone: torch.save(model.state_dict(), …) or safetensors.torch.save_file(…)"

NO_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (257, b"ustar", "a tar archive; unpack it and name the checkpoint inside, or, if torch wrote it, " + RESAVE),
    (0, b"\x89HDF", f"an HDF5 file, not a torch checkpoint; {RESAVE}"),
    (0, b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (0, b"<", "a web page, perhaps the answer of a failed download; fetch the file again"),
)
"""Files that are no checkpoints but are met under a checkpoint's name: where the mark lies, the mark, the message."""


def listed(names: Iterable[object]) -> str:
    """Return the first few names of a file, safe to print."""
    return listed_up_to(8, [f"{name!a:.60}" for name in names])
