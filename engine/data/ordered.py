"""A map over threads that keeps the order of its arguments."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar('Argument')
Result = TypeVar('Result')


def ordered_map(
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    *,
    threads: int,
    ahead: int = 1,
) -> Generator[Result, None, None]:
    """Map over threads, in the order of the arguments, a few results ahead of the reader.

    Threads are enough because OpenCV and Pillow work outside of the interpreter lock. They end when
    the iterator is exhausted, closed or collected.

    Args:
        function: called from the threads, so it must not change shared state.
        arguments: may be endless; read only as far as results are needed.
        threads: threads; 0 calls in the thread that iterates.
        ahead: results that may wait for the reader while all threads are busy with later ones.

    Yields:
        function(argument). An exception in a call is raised in its place.
    """
    if threads == 0:
        yield from map(function, arguments)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix='decode')
    pending: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) > threads + ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
