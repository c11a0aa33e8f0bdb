"""Read a pickle that is a file of its own: torch's format before 1.6, or what `pickle.dump` writes."""

from pathlib import Path

from ncscan import pickles
from ncscan.checkpoints.formats.archive import MAX_PICKLE
from ncscan.checkpoints.formats.pickled import file_content
from ncscan.checkpoints.formats.reading import FileContent
from ncscan.checkpoints.formats.storages import Storages
from ncscan.errors import CheckpointError
from ncscan.pickles import BadPickle, is_torch_stream


def torch_stream(data: bytes, path: Path) -> FileContent:
    """Read the bytes of a pickle and of the storages behind it; CheckpointError when they are damaged or harmful."""
    try:
        # The storages come last and are not the pickle's business; a bare pickle has them in it.
        ours = is_torch_stream(data)
        content = pickles.read(data[:MAX_PICKLE] if ours else data, "stream")
        spans = _spans(data, content) if ours else {}

        def stored(key: str) -> memoryview:
            if key not in spans:
                raise BadPickle(f"lacks the storage {key!a:.60}; is it damaged?")
            return memoryview(data)[spans[key]]

        storages = Storages(stored, content.pieces, little_endian=content.little_endian)
        return file_content(content, storages, path)
    except BadPickle as error:
        raise CheckpointError(f"{path}: {error}") from error


def _spans(data: bytes, content: pickles.Content) -> dict[str, slice]:
    """Return where each storage lies: behind the pickles, each after its number of elements in 8 bytes."""
    spans: dict[str, slice] = {}
    place = content.end
    for key, size in content.members:
        start = place + 8
        place = start + size * int.from_bytes(data[place:start], "little", signed=True)
        if not start <= place <= len(data):
            raise BadPickle("is cut off within its tensors, or damaged")
        spans[key] = slice(start, place)
    if place != len(data):
        raise BadPickle("holds something behind its tensors")
    return spans
