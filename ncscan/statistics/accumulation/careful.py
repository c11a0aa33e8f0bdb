"""The state of torch in which activations are multiplied, for as long as passes go on.

In: nothing. Out: a context. The only file that changes what holds for the whole process while layers are measured.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch


class _Shared:
    """Settings of the whole process, for as long as anyone is inside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before = ExitStack()
        """Gives torch back the settings that it had before the first came in."""

    def enter(self) -> None:
        """Make the settings, unless another has."""
        with self._lock:
            if self._inside == 0:
                self._before.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
                self._before.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_float32_matmul_precision("highest")
                torch.set_num_threads(1)
            self._inside += 1

    def leave(self) -> None:
        """Unmake them, unless another is still inside."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.close()


_SHARED = _Shared()


@contextmanager
def careful() -> Iterator[None]:
    """Multiply float32 as float32, and go through a block in one thread, whatever the program around us chose.

    TF32 keeps three decimal digits. A block lives in one core's cache; to share it costs more than it gains, and ten
    times more where another process keeps a core busy. BLAS has threads of its own, for the products.

    Both settings are the whole process's: the first pass that begins makes them, and the last that ends unmakes them.
    """
    _SHARED.enter()
    try:
        with torch.no_grad():  # which holds for this thread alone
            yield
    finally:
        _SHARED.leave()
