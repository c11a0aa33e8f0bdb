"""Run the work of several layers in parallel, each in one thread.

In: a function and its arguments. Out: its results, in order. The only file that starts threads for measuring.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from ncscan.statistics.accumulation.careful import careful, one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Iterator[Result]]:
    """Give the results of the items inside, in their order: as many at once as torch has threads, each in one."""
    threads = torch.get_num_threads()
    # Set once for all threads: these settings belong to the process, and would change under the other threads.
    with careful(), threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, "ncscan-layers", one_thread) as pool:
        futures = deque(pool.submit(work, item) for item in items)
        try:
            yield _results(futures)
        finally:
            for future in futures:
                future.cancel()


def _results(futures: deque[Future[Result]]) -> Iterator[Result]:
    """Yield the results in their order; a future that has given its own is let go, and all that it holds with it."""
    while futures:
        yield futures.popleft().result()
