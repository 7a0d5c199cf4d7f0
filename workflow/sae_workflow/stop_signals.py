"""How a run and its jobs end when they are told to.

Ctrl-C, `kill` and a terminal that is closed tell them so.

Snakemake lacks it: it would end in tracebacks, or wait for all jobs at work.
"""

import _thread
import atexit
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from sae.core import faults
from sae.core.faults import silence

# What asks a run to end: Ctrl-C, `kill` or a service manager, a terminal that is
# closed.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED = (
    "stopped by {name}: running jobs end now. What is finished is kept, down to each "
    "SAE and batch of embeddings; run the same command again to go on.\n"
)
PATIENCE = 15  # seconds that a job that was told to end may take before it is killed
# {signal: what this module handles it with}
_handlers: dict[signal.Signals, Callable[[int, FrameType | None], NoReturn]] = {}


def stop_in_one_line() -> None:
    """Let the first signal to stop say one line and end this process and its jobs.

    Further signals are dropped, and what this process says from then on: Snakemake
    would end in tracebacks of its event loop. Its log in .snakemake/log has the rest.
    A signal that was ignored when this process began (in the background of a script,
    under nohup) stays ignored.
    """

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        # A handler that does nothing: what starts now would inherit that a signal is
        # ignored, and could not be told to end.
        for stop_signal in STOP_SIGNALS:
            signal.signal(stop_signal, lambda *_: None)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        below_the_live_view = "\n" if os.isatty(2) else ""
        # Standard error may be a terminal or a pipe that is gone.
        with suppress(OSError):
            os.write(2, (below_the_live_view + _STOPPED.format(name=name)).encode())
        silence(2)
        # Not `threading.Thread`: this may interrupt the start of another one, which
        # holds a lock that it would wait for.
        _thread.start_new_thread(_end_jobs, (number,))
        raise SystemExit(128 + number)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            # Not in a thread of a program that calls Snakemake.
            with suppress(ValueError):
                signal.signal(number, stop)
                _handlers[number] = stop
                # Python drops its own handlers while it ends: a second Ctrl-C would
                # kill it then, and take the place of its exit code.
                atexit.register(signal.signal, number, signal.SIG_IGN)
    faults.hold_back(False, *STOP_SIGNALS)


def take_back_from_scheduler(scheduler: object) -> None:
    """Take SIGTERM back from a scheduler of Snakemake's, which was just made.

    The scheduler would wait for all jobs at work. If it got a signal already, that
    counts now.
    """
    for number, handler in _handlers.items():
        with suppress(ValueError):
            signal.signal(number, handler)
    if getattr(scheduler, "_user_kill", None):
        os.kill(os.getpid(), signal.SIGTERM)


def _end_jobs(number: int) -> None:
    """Tell the jobs on this machine to end, later ones too, until this process ends.

    A signal to this process alone does not reach them. Jobs on a cluster are for the
    executor to cancel.

    Args:
        number: The signal that this process got.
    """
    import psutil
    from snakemake.shell import shell

    # Jobs know two signals (`sae.core.faults`).
    signal_for_jobs = number if number == signal.SIGINT else signal.SIGTERM
    signalled: set[psutil.Process] = set()
    latest = time.monotonic() + PATIENCE
    while True:
        for job in list(shell._processes.values()):
            with suppress(psutil.Error):
                shell_of_job = psutil.Process(job.pid)
                processes = [*shell_of_job.children(recursive=True), shell_of_job]
                if time.monotonic() > latest:
                    for process in processes:
                        process.kill()
                for process in processes:
                    if process not in signalled:
                        signalled.add(process)
                        process.send_signal(signal_for_jobs)
        time.sleep(0.1)


def shell_prefix(into_log: bool) -> str:
    """Return what the shell of a job on this machine takes `python` for.

    Python that is starting would end in a traceback on Ctrl-C, or without a word;
    `sae.__main__` lets signals through once it can. The shell waits for Python: else
    Snakemake would take the job for ended, and tell of an error. Of Python that is
    killed, which can say nothing itself, the shell says so
    (`sae_workflow.killed_jobs`).

    Args:
        into_log: Whether all that the job says goes into the log of its command.
    """
    redirect = (
        'if [[ "$*" =~ --log\\ ([^\\ ]+) ]]; '
        'then exec >>"${BASH_REMATCH[1]}" 2>&1; fi; '
        if into_log
        else ""
    )
    # Where `env` is too old to hold signals back, Python starts without that.
    hold_back = "env --block-signal=INT --block-signal=TERM"
    # In braces, or the shell would say "Hangup" of an `env` that a closed terminal
    # ends.
    can_hold_back = f"{{ {hold_back} true; }} 2>/dev/null"
    choose_start = f"held=command; if {can_hold_back}; then held='{hold_back}'; fi; "
    wait_for_python = "trap 'exit 130' INT; trap 'exit 143' TERM; trap 'exit 129' HUP; "
    tell_of_kill = (
        'PYTHONPATH="workflow${PYTHONPATH:+:$PYTHONPATH}" command python'
        ' -m sae_workflow.killed_jobs "$@" || true'
    )
    return_code = (
        f"local code=$?; if [ $code = 137 ]; then {tell_of_kill}; fi; return $code"
    )
    run_python = f'{redirect}$held python "$@" || {{ {return_code}; }}'
    return f"{wait_for_python}{choose_start}python() {{ {run_python}; }}; "
