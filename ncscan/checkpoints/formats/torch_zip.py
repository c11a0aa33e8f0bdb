"""Read what torch writes as a zip archive: torch.save, torch.jit.save, torch.export.save.

In: the bytes of an archive. Out: the tensors of the pickle in it, or of its tables of weights. Programs in it are not
looked at.
"""

from pathlib import Path

from ncscan.checkpoints.formats.archive import CODE, Archive
from ncscan.checkpoints.formats.exported import exported, is_exported
from ncscan.checkpoints.formats.reading import FileContent
from ncscan.errors import CheckpointError
from ncscan.files import zip_archive
from ncscan.pickles import BadPickle


def torch_zip(data: bytes, path: Path) -> FileContent:
    """Read the bytes of an archive of torch; CheckpointError when they are damaged or made to harm."""
    try:
        archive = Archive(data)
        if is_exported(archive):
            return exported(archive, path)
        script = any(name == "constants.pkl" or name.startswith(CODE) for name in archive.members)
        return archive.content("script" if script else "archive", path)
    except (zip_archive.BadArchive, BadPickle) as error:
        raise CheckpointError(f"{path}: {error}") from error
