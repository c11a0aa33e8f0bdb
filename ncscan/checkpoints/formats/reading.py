"""What every format gives."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ncscan.checkpoints.metadata import Plain


class Found(NamedTuple):
    """What a reader makes of a file's bytes."""

    wrapper: str
    tensors: Mapping[str, torch.Tensor]
    notes: Mapping[str, Plain]
