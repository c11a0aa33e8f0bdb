"""Layers side by side, each in one thread.

In: a function and its arguments. Out: its results, in order. The only file that starts threads for measuring.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def in_lanes(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Iterator[Result]]:
    """Inside, the results of the items, in their order: as many at once as torch has threads, each in one of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, "ncscan-layers") as lanes:
            waiting: deque[Future[Result]] = deque()
            todo = iter(items)

            def results() -> Iterator[Result]:
                for item in todo:
                    waiting.append(lanes.submit(work, item))
                    if len(waiting) == threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()

            try:
                yield results()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)
