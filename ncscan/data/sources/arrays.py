"""What every data file gives."""

from typing import NamedTuple

import numpy as np


class Arrays(NamedTuple):
    """The content of data files, still to be judged."""

    inputs: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
