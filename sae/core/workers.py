"""Processes that work for a job side by side, each with the job's code, threads and extensions.

They are started anew (`spawn`), since PyTorch's threads do not survive a fork, and end with the job, however it ends.
"""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]
_failed: list[Exception] = []


@contextmanager
def pool(count: int, start: Callable[..., None], *arguments: object) -> Iterator[Map]:
    """A function that maps in so many processes, in the given order; the processes are started when it is first used.

    Args:
        start: called in each process, with the arguments, before anything else.
    """
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, context, initializer=functools.partial(_begin, start, *arguments))
    try:
        yield lambda work, items: executor.map(functools.partial(_call, work), items)
    except BaseException:
        # Not to wait for what is half done: the job was told to stop, or has failed.
        for process in list((executor._processes or {}).values()):
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None], *arguments: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The job gets it too, and ends this process.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        start(*arguments)
    except Exception as error:  # Else the job would learn no more than that a process ended.
        _failed.append(error)


def _call(work: Callable[[Item], Result], item: Item) -> Result:
    if _failed:
        raise _failed[0]
    return work(item)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
