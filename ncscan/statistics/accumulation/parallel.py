"""Run the work of several layers in parallel, each in one thread.

In: a function and its arguments. Out: its results, in order. The only file that starts threads for measuring.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from ncscan.statistics.accumulation.careful import careful

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Iterator[Result]]:
    """Give the results of the items inside, in their order: as many at once as torch has threads, each in one."""
    threads = torch.get_num_threads()
    # Set once for all threads: these settings belong to the process, and would change under the other threads.
    with careful(), threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, "ncscan-layers") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            yield (future.result() for future in futures)
        finally:
            for future in futures:
                future.cancel()
