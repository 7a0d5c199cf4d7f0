"""Say that a job was killed, what the usual cause is, and what to set.

The shell of a job calls this, and the live view where the shell was killed too.

Snakemake lacks it: it says that a shell "died with <Signals.SIGKILL: 9>", and of an
executor's job less.
"""

import os
import re
import sys
import time
from contextlib import suppress

from sae.steps import STEPS
from sae_workflow.command_line import say
from sae_workflow.stop_signals import STOP_SIGNALS

_STEP = re.compile(r"\bpython -m sae (\w+)")


def explain_kill(step: str | None) -> str:
    """Return the line for a job that SIGKILL ended, so that it could say nothing.

    Args:
        step: The step that it ran; None where that is unknown.
    """
    advice = STEPS[step].memory if step in STEPS else "give it more memory"
    return (
        f"{step or 'the job'} was killed (SIGKILL), most often by the system because "
        f"memory ran out: {advice}; what is finished is kept"
    )


def step_of_command(command: str) -> str | None:
    """Return the step that the shell command of a job runs."""
    match = _STEP.search(command)
    return match[1] if match else None


def killed_step(message: str) -> str | None:
    """Return the step whose shell died of SIGKILL, if Snakemake says that of one."""
    is_killed = "died with <Signals.SIGKILL" in message
    return step_of_command(message) if is_killed else None


def was_told_to_stop(message: str) -> bool:
    """Return whether Snakemake says of a shell that it died of a signal to stop."""
    return any(
        f"died with <Signals.{number.name}" in message for number in STOP_SIGNALS
    )


def main(*command: str) -> None:
    """Tell of a job that was killed, on standard error and in its log.

    Args:
        command: The arguments of its Python: -m sae STEP ... --log FILE.
    """
    is_step = command[:2] == ("-m", "sae") and len(command) > 2
    line = f"error: {explain_kill(command[2] if is_step else None)}"
    log = command[command.index("--log") + 1] if "--log" in command else None
    if log is None or not _is_standard_error(log):
        say(line, sys.stderr)
    if log is not None:
        with suppress(OSError), open(log, "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S,000')} ERROR {line}\n")


def _is_standard_error(file: str) -> bool:
    """Return whether a file is the one to which this process writes its errors."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(2))
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
