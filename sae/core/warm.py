"""Jobs that need not import PyTorch: they fork from a server that has.

A run on one machine starts some hundred jobs, each of which would spend about two seconds on imports. The server
(`python -m sae.core.warm SOCKET MODULE ...`) imports other people's modules once, and waits at a Unix socket. A job
(`python -m sae`, where the environment variable `SAE_WARM` names that socket) hands its arguments, environment and open
files over and waits; the fork does what the job would have done. It reads the project's own code anew. Where there is
no server, or one that was started in another environment, a job does its work itself.

A job that is killed takes its fork with it, and signals to stop go on to the fork. A server whose standard input ends
takes no more jobs, and ends with its last fork: jobs outlive a killed Snakemake, as they do without a server.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import IO, Any

VARIABLE = "SAE_WARM"
# What the shells of jobs may set. Any other variable may have decided how a module was imported.
_FREE = {VARIABLE, "SAE_EXTENSIONS", "_", "OLDPWD", "PWD", "SHLVL", "TEMP", "TEMPDIR", "TMP", "TMPDIR"}
_STOPS = [getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)]
_PATIENCE = 1  # seconds that a client may keep the others waiting; one that is late does its work itself
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def hand_over() -> None:
    """Let the server run this process, `python -m sae ...`, and exit as the fork does. Return if there is none."""
    place = os.environ.pop(VARIABLE, None)
    if place is None:
        return
    pid = 0
    with socket.socket(socket.AF_UNIX) as server, server.makefile("rb") as answers:
        with suppress(OSError):
            server.connect(place)
            _ask(server)
            pid = json.loads(answers.readline() or "0")
        if pid:
            _wait(answers, pid)


def _ask(server: socket.socket) -> None:
    files = [int(name) for name in os.listdir("/proc/self/fd")]
    files = [file for file in files if _is_inherited(file)]
    os.umask(umask := os.umask(0))
    request = {
        "argv": sys.argv[1:],
        "files": files,
        "cwd": os.getcwd(),
        "umask": umask,
        "ignored": [number for number in _STOPS if signal.getsignal(number) == signal.SIG_IGN],
        "python": sys.prefix,
        "environment": dict(os.environ),
    }
    socket.send_fds(server, [b"\n"], files)
    _say(server, request)


def _is_inherited(file: int) -> bool:
    with suppress(OSError):  # The one that listed the others is closed by now.
        return os.get_inheritable(file)
    return False


def _wait(answers: IO[bytes], pid: int) -> None:
    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in _STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    answer = answers.readline()
    if not answer:
        sys.exit("error: the process that started this job ended (out of memory?); run again")
    code = os.waitstatus_to_exitcode(json.loads(answer))
    if code < 0:  # A signal ended the fork: end likewise.
        with suppress(OSError):  # SIGKILL has no other handler.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _say(other: socket.socket, message: Any) -> None:
    other.sendall(json.dumps(message).encode() + b"\n")


class Server:
    """The server, and in each of its forks what is left of it."""

    def __init__(self, place: str, environment: dict[str, str]) -> None:
        self.place, self.environment = place, _fixed(environment)
        self.listener = socket.socket(socket.AF_UNIX)
        self.jobs: dict[int, tuple[int, socket.socket]] = {}  # By what is readable when the fork ends: pid, its client.
        self.closing = False

    def serve(self) -> dict[str, Any] | None:
        """Start a fork for every client. Returns in each fork, with what is asked of it, and at the end, with None."""
        os.umask(0o077)  # Nobody else may have code run.
        self.listener.bind(self.place)
        self.listener.listen(64)
        while not (self.closing and not self.jobs):
            for ready in self._ready():
                if ready == sys.stdin.fileno():
                    self._close()
                elif ready == self.listener.fileno():
                    if request := self._fork(self.listener.accept()[0]):
                        return request
                elif ready in self.jobs:
                    self._end(ready)
                else:
                    self._kill(ready)
        return None

    def _ready(self) -> list[int]:
        # First the forks that ended: their clients are told before they count as gone.
        poll = select.poll()
        for file in (*self.jobs, *(client.fileno() for _, client in self.jobs.values())):
            poll.register(file, select.POLLIN)
        for file in () if self.closing else (sys.stdin.fileno(), self.listener.fileno()):
            poll.register(file, select.POLLIN)
        return [file for file, _ in poll.poll()]

    def _close(self) -> None:
        self.closing = True
        self.listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self.place)

    def _fork(self, client: socket.socket) -> dict[str, Any] | None:
        request, files = _asked(client)
        known = {"environment": self.environment, "python": sys.prefix}
        pid = 0
        if request and known == {"environment": _fixed(request["environment"]), "python": request["python"]}:
            try:
                pid = os.fork()
            except OSError:
                pass  # No memory for one: the client does its work itself.
            else:
                if pid == 0:
                    self._leave(client)
                    return request | {"received": files}
        for file in files:
            os.close(file)
        with suppress(OSError):
            _say(client, pid)
        if pid:
            self.jobs[os.pidfd_open(pid)] = pid, client
        else:
            client.close()
        return None

    def _leave(self, client: socket.socket) -> None:
        """In a fork: let go of what is the server's, so that the end of a process is seen by whom it concerns."""
        for of_server in (self.listener, client, *(client for _, client in self.jobs.values())):
            of_server.close()
        for file in self.jobs:
            os.close(file)
        self.jobs = {}

    def _end(self, job: int) -> None:
        pid, client = self.jobs.pop(job)
        os.close(job)
        with suppress(OSError), client:
            _say(client, os.waitpid(pid, 0)[1])

    def _kill(self, gone: int) -> None:
        for pid, client in self.jobs.values():
            if client.fileno() == gone:
                os.kill(pid, signal.SIGKILL)


def _asked(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a client asks for, and its open files; nothing of one that is stopped or killed meanwhile."""
    request: dict[str, Any] = {}
    files: list[int] = []
    client.settimeout(_PATIENCE)
    with suppress(OSError, ValueError):
        _, files, *_ = socket.recv_fds(client, 1, 253)
        with client.makefile("rb") as stream:
            request = json.loads(stream.readline())
        client.settimeout(None)
    return request, files


def _fixed(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _FREE}


def become(request: dict[str, Any]) -> None:
    """Turn this fork into `python -m sae ...` as a client asked for it."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    files, received = request["files"], request["received"]
    for file, moved in zip(files, _out_of_the_way(received, max(files, default=0) + 1), strict=True):
        os.dup2(moved, file)
        os.close(moved)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    for number in _STOPS:
        own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else own)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)  # One that came meanwhile is delivered now.
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # It is read from the environment once.
    for name in [name for name in sys.modules if name.partition(".")[0] == "sae"]:
        del sys.modules[name]
    sys.argv[1:] = request["argv"]
    runpy.run_module("sae", run_name="__main__", alter_sys=True)


def _out_of_the_way(files: list[int], free: int) -> list[int]:
    """The same open files under numbers from `free`."""
    import fcntl

    moved = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, free) for file in files]
    for file in files:
        os.close(file)
    return moved


def main(place: str, *modules: str) -> None:
    """Serve until standard input ends and the last fork has ended; not where the system or Python lacks pidfds."""
    # A terminal sends them to the whole group: a fork takes them once it can, the server never.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    os.close(os.pidfd_open(os.getpid()))
    environment = dict(os.environ)  # Imports may add to it (torch._dynamo does); jobs have what was there before.
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # The forks share what was imported: their collections leave it alone.
    request = Server(place, environment).serve()
    if request:
        become(request)


if __name__ == "__main__":
    main(*sys.argv[1:])
