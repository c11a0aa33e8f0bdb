"""The state of torch in which activations are multiplied, for as long as passes go on.

In: nothing. Out: a context. The only file that changes what holds for the whole process while layers are measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local

import torch


class _Shared:
    """Holds the settings of the process from before anyone was inside, and how many are."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._precision = torch.get_float32_matmul_precision()
        self._threads = torch.get_num_threads()
        self._own = local()
        """How often each thread is inside."""

    def enter(self) -> None:
        """Make the settings: the precision for all, one thread of torch's for whoever enters."""
        with self._lock:
            if self._inside == 0:
                self._precision = torch.get_float32_matmul_precision()
                self._threads = torch.get_num_threads()
                torch.set_float32_matmul_precision("highest")
            self._inside += 1
            self._own.times = getattr(self._own, "times", 0) + 1
            if self._own.times == 1:
                torch.set_num_threads(1)

    def leave(self) -> None:
        """Give this thread back what torch had, once it is outside, and the process when nobody is inside."""
        with self._lock:
            self._inside -= 1
            self._own.times -= 1
            if self._own.times == 0:
                torch.set_num_threads(self._threads)
            if self._inside == 0:
                torch.set_float32_matmul_precision(self._precision)

    def stay(self) -> None:
        """Keep one thread of torch's in this thread for good: it is of a pool, and ends with it."""
        self._own.times = 1
        torch.set_num_threads(1)


_SHARED = _Shared()


def one_thread() -> None:
    """Keep one thread of torch's in a thread of a pool, for as long as that lives."""
    _SHARED.stay()


@contextmanager
def careful() -> Iterator[None]:
    """Multiply float32 as float32, and go through a block in one thread, whatever the program around us chose.

    TF32 keeps three decimal digits. A block lives in one core's cache; to share it costs more than it gains, and ten
    times more where another process keeps a core busy. BLAS has threads of its own, for the products.

    The precision is the whole process's: the first pass that begins makes it, and the last that ends unmakes it. Torch
    counts its threads for each thread that calls it, so each that leaves gets back what there was before all of them.
    """
    _SHARED.enter()
    try:
        with torch.no_grad():  # which holds for this thread alone
            yield
    finally:
        _SHARED.leave()
