"""Define what a source of models is given."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch


class ModelRequest(NamedTuple):
    """A network that is asked for, for the tensors of one checkpoint."""

    spec: str
    """The source as the user wrote it."""
    path: Path
    """The checkpoint, for messages."""
    tensors: Mapping[str, torch.Tensor]
    """Its tensors by their names, less the containers of data parallelism and compilation."""
    activation: str | None
    """What stands between the layers of an `mlp`, where it was said."""
    linear_head: int | None
    """How many layers at the end of an `mlp` have no activation between them, where it was said."""
    base: Path | None
    """The folder that modules are imported from, the current one by default."""
