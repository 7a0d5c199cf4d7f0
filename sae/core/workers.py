"""Make the process of a step ready, and those that work for it side by side.

Each process has the same code and as many threads. The processes beside the step's own
are started anew (`spawn`), since PyTorch's threads do not survive a fork, and end with
the step, however it ends.
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
from typing import Any, NamedTuple, TypeVar

from sae.core import codehash, files, progress, registry
from sae.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]
# These lists hold one thing or none.
#
# The error that kept this process of a pool from becoming ready, if one did.
_start_errors: list[Exception] = []
# The step and the number of threads of this process, once they are known. Each process
# of a pool begins with them, too.
_steps: list["RunningStep"] = []
_threads: list[int] = []


class RunningStep(NamedTuple):
    """A step that runs, as far as each of its processes has to know.

    Attributes:
        step: Its name.
        extensions: The folder of a user's entries, if there is one.
        code: The hash that the step's code is to have, then the dotted names of the
            modules that it covers; empty if the code is not checked.
        log: The file that gets all that the step says, a line each; None for none.
    """

    step: str
    extensions: str | None
    code: tuple[str, ...]
    log: Path | None

    def begin(self) -> None:
        """Make this process ready: its log, its extensions and its code.

        Raises:
            UserError: As :meth:`check_code`; or there is no such folder.
        """
        _steps[:] = [self]
        _log_to(self.log)
        registry.extend(self.extensions)
        self.check_code()

    def check_code(self) -> None:
        """Check that the code is as it was when the run was planned.

        Raises:
            UserError: It was edited since.
        """
        if not self.code or not self.code[0]:
            return
        planned_hash, *modules = self.code
        present_hash = codehash.code_hash(*modules)
        if present_hash != planned_hash:
            raise UserError(
                f"the code of the step {self.step} was edited after this run was "
                f"planned (its hash is {present_hash}, planned was {planned_hash}; "
                f"{', '.join(modules)}): run again, to plan with the code as it is then"
            )


def start_torch(threads: int) -> None:
    """Let PyTorch compute the same each time, with so many threads.

    This holds for this process and for those that :func:`pool` starts afterwards.

    Args:
        threads: The number of CPU threads. Results depend on it.
    """
    # cuBLAS is deterministic only with a fixed workspace, which it reads when CUDA
    # starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Large arrays in large pages: in small ones paging took a third of a training step
    # of the paper's size.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import torch

    _threads[:] = [threads]
    torch.set_num_threads(threads)
    # What `use_deterministic_algorithms(True)` does, without importing the compiler,
    # which takes 1.6 s a job.
    torch.set_deterministic_debug_mode("error")
    # With it comes a fill of every new array, a tenth of a training step, to show who
    # reads what nobody wrote.
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False


def available_device(name: str) -> str:
    """Return the name of a device of PyTorch that this machine has.

    Args:
        name: Such as "cpu" or "cuda:1"; "auto" is the best that there is.

    Raises:
        UserError: No device is called that, or it is not here.
    """
    import torch

    # The best comes first.
    device_counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if name == "auto":
        return next(kind for kind, count in device_counts.items() if count)

    kinds = "|".join(device_counts)
    match = re.fullmatch(rf"({kinds})(?::(\d+))?", name)
    if not match:
        raise UserError(
            f"device {name!r} is not known; allowed: auto, {', '.join(device_counts)}, "
            "cuda:1 for the second"
        )
    kind = match[1]
    number = int(match[2] or 0)
    if number >= device_counts[kind]:
        raise UserError(
            f"PyTorch {torch.__version__} finds no {name} on {socket.gethostname()}: "
            "ask for one, install a build of PyTorch that knows it, or take cpu "
            "(--device; compute.device in config.yaml)"
        )
    return name


def _log_to(file: Path | None) -> None:
    """Log progress and trouble on the terminal, and everything in the file, if any."""
    root = logging.getLogger("sae")
    root.setLevel(logging.DEBUG)
    if file is None or not _is_stderr(file):
        terminal = logging.StreamHandler()
        terminal.addFilter(_is_for_terminal)
        root.addHandler(terminal)
    if file is None:
        return

    file.parent.mkdir(parents=True, exist_ok=True)
    # The step's own process is the first that logs; those of a pool add to its log.
    if multiprocessing.parent_process() is None:
        if not _is_stderr(file):
            files.check_replaceable(file)
            file.unlink(missing_ok=True)
        progress.report_in(progress.progress_path(file))
    handler = _LogFile(file, mode="a", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.addHandler(handler)


def _is_for_terminal(record: logging.LogRecord) -> bool:
    is_progress = record.name.startswith("sae.progress")
    return is_progress or record.levelno >= logging.WARNING


def _is_stderr(file: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(file), os.fstat(2))
    return False


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short, without a message of its own."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report an error other than that of a disk, as logging does."""
        # The step reports a full disk, once, if it cannot write either.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def pool(count: int) -> Iterator[Map | None]:
    """Yield a function that maps in several processes, in the order of the items.

    The processes are started when the function is first used.

    Args:
        count: The number of processes. For one, which this process is, None is yielded.
    """
    if count == 1:
        yield None
        return
    executor = ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=_begin_process,
        initargs=(_steps, _threads),
    )

    def map_in_processes(
        work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        return executor.map(functools.partial(_work_if_ready, work), items)

    try:
        yield map_in_processes
    except BaseException:
        # The step was told to stop, or has failed: what is half done is not awaited.
        for process in list((executor._processes or {}).values()):
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin_process(steps: list[RunningStep], threads: list[int]) -> None:
    """Make a process of a pool ready, as the step's own process is."""
    # The step's own process gets Ctrl-C too, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        codehash.run_what_is_hashed()
        for step in steps:
            step.begin()
        for count in threads:
            start_torch(count)
    except Exception as error:
        # If it were raised here, the step would only learn that a process ended.
        _start_errors.append(error)


def _work_if_ready(work: Callable[[Item], Result], item: Item) -> Result:
    if _start_errors:
        raise _start_errors[0]
    return work(item)


def _end_with_parent() -> None:
    """Wait until the step's own process ends, then end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
