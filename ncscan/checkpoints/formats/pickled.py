"""Turn what was read of a pickle into states whose tensors can be made.

In: names and descriptions of tensors, and the bytes that they are views of. Out: the content of the file.
"""

from functools import partial
from pathlib import Path

import torch

from ncscan.checkpoints.formats.reading import FileContent, StoredState
from ncscan.checkpoints.formats.refusals import RESAVE
from ncscan.checkpoints.formats.storages import Storages
from ncscan.errors import CheckpointError, one_line
from ncscan.files import zip_archive
from ncscan.pickles import BadPickle, Content, NumpyArray, PickledState
from ncscan.wording import listed_up_to


def file_content(content: Content, storages: Storages, path: Path) -> FileContent:
    """Return the states of a pickle, each with what makes its tensors."""
    states = tuple(
        StoredState(wrapper, partial(_tensors, state, storages, path))
        for state in content.states
        for wrapper in state.wrappers
    )
    holds = f"a {content.kind}" + (f" of {listed_up_to(8, content.keys)}" if content.keys else "")
    return FileContent(states, content.notes, content.inert, holds)


def _tensors(state: PickledState, storages: Storages, path: Path) -> dict[str, torch.Tensor]:
    if state.odd:
        named = listed_up_to(3, state.odd)
        raise CheckpointError(f"{path}: holds tensors that are not dense ({named}); make them dense before saving")
    if state.bad_names:
        raise CheckpointError(f"{path}: a tensor's name is no name ({state.bad_names[0]}); {RESAVE}")
    try:
        return {
            name: storages.array(tensor) if isinstance(tensor, NumpyArray) else storages.tensor(tensor)
            for name, tensor in state.tensors.items()
        }
    except (zip_archive.BadArchive, BadPickle) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path}: torch cannot make its tensors ({one_line(error)})") from error
