"""What every format gives."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ncscan.checkpoints.metadata import MetadataValue


class FileContent(NamedTuple):
    """The tensors and the content that a reader finds in a file's bytes."""

    wrapper: str
    tensors: Mapping[str, torch.Tensor]
    notes: Mapping[str, MetadataValue]
