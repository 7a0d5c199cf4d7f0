"""What a job starts with, and the processes that work for it side by side, each with the same code and threads.

These are started anew (`spawn`), since PyTorch's threads do not survive a fork, and end with the job, however it ends.
"""

import functools
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple, TypeVar

from sae.core import codehash, headway, registry
from sae.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]
_failed: list[Exception] = []
# Of this process: what each process of a pool begins with, too.
_jobs: list["Job"] = []
_threads: list[int] = []


class Job(NamedTuple):
    """A step that runs, as far as each of its processes has to know.

    Attributes:
        step: its name.
        extensions: the folder of a user's own entries, if there is one.
        code: the hash that the step's code is to have, and the modules that it covers; or nothing.
        log: the file that gets all that it says, a line each.
    """

    step: str
    extensions: str | None
    code: tuple[str, ...]
    log: Path | None

    def begin(self) -> None:
        """Make this process ready.

        Raises:
            UserError: as :meth:`check_code`; or there is no such folder.
        """
        _jobs[:] = [self]
        _log_to(self.log)
        registry.extend(self.extensions)
        self.check_code()

    def check_code(self) -> None:
        """Compare the code with what was planned.

        Raises:
            UserError: it was edited since.
        """
        planned, *modules = self.code or ("",)
        if planned and (found := codehash.code_hash(*modules)) != planned:
            raise UserError(
                f"the code of the step {self.step} was edited after this run was planned (its hash is {found}, planned "
                f"was {planned}; {', '.join(modules)}): run again, to plan with the code as it is then"
            )


def start_torch(threads: int) -> None:
    """Give PyTorch so many threads, here and in the processes of a `pool`, and let it compute the same each time."""
    # cuBLAS is deterministic only with a fixed workspace, which it reads when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Large arrays in large pages: in small ones paging took a third of a training step of the paper's size.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import torch

    _threads[:] = [threads]
    torch.set_num_threads(threads)
    # What `use_deterministic_algorithms(True)` does, without importing the compiler, which takes 1.6 s a job.
    torch.set_deterministic_debug_mode("error")
    # With it comes a fill of every new array, a tenth of a training step, to show who reads what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def device(asked: str) -> str:
    """The device of PyTorch that is meant: "auto" is the best that there is.

    Raises:
        UserError: nothing is called that, or it is not here.
    """
    import torch

    # How many there are of each.
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": cuda, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if asked == "auto":
        return next(name for name, count in there.items() if count)
    named = re.fullmatch(rf"({'|'.join(there)})(?::(\d+))?", asked)
    if not named:
        raise UserError(
            f"device {asked!r} is not known; allowed: auto, {', '.join(there)}, cuda:1 for the second"
        )
    if int(named[2] or 0) >= there[named[1]]:
        raise UserError(
            f"PyTorch {torch.__version__} finds no {asked} on {socket.gethostname()}: ask for one, install a build "
            "of PyTorch that knows it, or take cpu (--device; compute.device in config.yaml)"
        )
    return asked


def _log_to(file: Path | None) -> None:
    # The terminal gets progress and trouble, the file everything.
    root = logging.getLogger("sae")
    root.setLevel(logging.DEBUG)
    if not (file and _is_stderr(file)):
        console = logging.StreamHandler()
        console.addFilter(
            lambda record: (
                record.name == "sae.progress" or record.levelno >= logging.WARNING
            )
        )
        root.addHandler(console)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if (
            multiprocessing.parent_process() is None
        ):  # The job's own process, the first that logs.
            if not _is_stderr(file):
                file.unlink(missing_ok=True)
            headway.tell_in(headway.file_of(file))
        handler = _LogFile(file, mode="a", encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)


def _is_stderr(file: Path) -> bool:
    """Whether this process's stderr already is this file."""
    with suppress(OSError):
        return os.path.samestat(os.stat(file), os.fstat(2))
    return False


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        # A full disk cuts the log short. The step tells of it, once, if it cannot write either.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def pool(count: int) -> Iterator[Map | None]:
    """A function that maps in so many processes, in the given order; None for one, which this process is.

    The processes are started when it is first used.
    """
    if count == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(
        count, context, initializer=_begin, initargs=(_jobs, _threads)
    )
    try:
        yield lambda work, items: executor.map(functools.partial(_call, work), items)
    except BaseException:
        # Not to wait for what is half done: the job was told to stop, or has failed.
        for process in list((executor._processes or {}).values()):
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin(jobs: list[Job], threads: list[int]) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # The job gets it too, and ends this process.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        codehash.run_what_is_hashed()
        for job in jobs:
            job.begin()
        for number in threads:
            start_torch(number)
    except (
        Exception
    ) as error:  # Else the job would learn no more than that a process ended.
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
