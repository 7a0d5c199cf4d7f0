"""Say that a job was killed, what the usual cause is, and what to set.

The shell of a job calls this, and the live view where the shell was killed too.
"""

import os
import re
import sys
import time
from contextlib import suppress

from sae.steps import STEPS
from sae_workflow.preflight import STOP_SIGNALS
from sae_workflow.start import say

_STEP = re.compile(r"\bpython -m sae (\w+)")


def explanation(step: str | None) -> str:
    """Return the line for a step that ended without a word, by SIGKILL."""
    advice = STEPS[step].memory if step in STEPS else "give it more memory"
    return (
        f"{step or 'the job'} was killed (SIGKILL), most often by the system because memory ran out: "
        f"{advice}; what is finished is kept"
    )


def step_of_command(command: str) -> str | None:
    """Return the step that the shell command of a job runs."""
    step = _STEP.search(command)
    return step[1] if step else None


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
        command: the arguments of its Python: -m sae STEP ... --log FILE.
    """
    is_step = command[:2] == ("-m", "sae") and len(command) > 2
    line = f"error: {explanation(command[2] if is_step else None)}"
    log = command[command.index("--log") + 1] if "--log" in command else None
    if log is None or not _is_standard_error(log):
        say(line, sys.stderr)
    if log is not None:
        with suppress(OSError), open(log, "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S,000')} ERROR {line}\n")


def _is_standard_error(file: str) -> bool:
    """Whether a file is what this process writes its errors to."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(2))
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
