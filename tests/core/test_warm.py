"""sae.core.warm, with a package `sae` that has nothing but it and a __main__ written here."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
JOB = """
import sys
from sae.core import warm
if __name__ == "__main__":
    warm.hand_over()
    import json, os, resource, signal, time
    what, *rest = sys.argv[1:]
    said = {"was_imported": "colorsys" in sys.modules, "argv": rest, "cwd": os.getcwd(), "pid": os.getpid()}
    said |= {"umask": os.umask(0), "own": os.environ.get("TMPDIR"), "ninth": os.path.exists("/proc/self/fd/9")}
    def stop(number, _frame):
        os.write(1, b"stopped by %d" % number)
        sys.exit(5)
    signal.signal(signal.SIGTERM, stop)
    print(json.dumps(said), flush=True)
    if what == "exit":
        sys.exit(int(rest[0]))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise ValueError("on stderr")
    if what == "wait":
        time.sleep(30)
"""


class Place:
    """A folder with that package, and a server for it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "sae/core").mkdir(parents=True)
        for name in ("sae/__init__.py", "sae/core/__init__.py"):
            (folder / name).write_text("")
        shutil.copy(ROOT / "sae/core/warm.py", folder / "sae/core/warm.py")
        (folder / "sae/__main__.py").write_text(JOB)
        self.environment = {**os.environ, "PYTHONPATH": str(folder)}
        self.environment.pop("SAE_WARM", None)
        self.server = self.serve("socket")
        until(lambda: self.reachable())

    def serve(self, name, before=""):
        # Some modules set variables when they are imported, as torch._dynamo does; jobs have none of these.
        (self.folder / "sets_a_variable.py").write_text("import os\nos.environ['SET_BY_AN_IMPORT'] = '1'\n")
        command = f"{before} exec {sys.executable} -m sae.core.warm {name} colorsys no_such_module sets_a_variable"
        pipe = subprocess.PIPE
        return subprocess.Popen(["bash", "-c", command], cwd=self.folder, stdin=pipe, env=self.environment)

    def connected(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.folder / "socket"))
        return client

    def reachable(self):
        return (self.folder / "socket").exists() and self.run("exit", "0").returncode == 0

    def start(self, *arguments, before="", **changed):
        environment = self.environment | {"SAE_WARM": "socket"} | changed
        command = f"{before} exec {sys.executable} -m sae {' '.join(arguments)}"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", "-c", command], cwd=self.folder, env=environment, **pipes)

    def run(self, *arguments, **changed):
        process = self.start(*arguments, **changed)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def until(true):
    latest = time.monotonic() + 30
    while not true():
        assert time.monotonic() < latest
        time.sleep(0.02)


def ended(pid):
    # A fork of a server that was killed is a zombie until its new parent looks.
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.server.kill()
    made.server.communicate()


def test_a_fork_is_the_job(place):
    (place.folder / "own").mkdir()
    done = place.run("exit", "3", "x=1", before="umask 027; exec 9</dev/null;", TMPDIR="own")
    said = json.loads(done.stdout)
    assert done.returncode == 3 and said["was_imported"]
    assert said["argv"] == ["3", "x=1"] and said["cwd"] == str(place.folder)
    assert said["umask"] == 0o027 and said["own"] == "own" and said["ninth"]


def test_what_a_job_says_and_how_it_ends(place):
    failed = place.run("fail")
    assert failed.returncode == 1 and "ValueError: on stderr" in failed.stderr
    killed = place.run("kill")
    assert json.loads(killed.stdout)["was_imported"] and killed.returncode == -signal.SIGKILL


def test_code_is_read_when_the_job_starts(place):
    file = place.folder / "sae/__main__.py"
    file.write_text(JOB.replace("int(rest[0])", "7"))
    done = place.run("exit", "3")
    assert json.loads(done.stdout)["was_imported"] and done.returncode == 7


def test_another_environment_or_no_server_is_a_job_of_its_own(place):
    own = place.run("exit", "4", OMP_NUM_THREADS="77")
    assert own.returncode == 4 and not json.loads(own.stdout)["was_imported"]
    place.server.stdin.close()
    place.server.wait(timeout=120)
    assert not (place.folder / "socket").exists()
    alone = place.run("exit", "5")
    assert alone.returncode == 5 and not json.loads(alone.stdout)["was_imported"]


def test_signals(place):
    asked = place.start("wait")
    json.loads(asked.stdout.readline())
    asked.send_signal(signal.SIGTERM)
    out, _ = asked.communicate(timeout=120)
    assert out == f"stopped by {int(signal.SIGTERM)}" and asked.returncode == 5

    killed = place.start("wait")
    fork = json.loads(killed.stdout.readline())["pid"]
    assert fork != killed.pid
    killed.kill()
    killed.wait(timeout=120)
    until(lambda: ended(fork))


def test_a_job_outlives_the_run_and_dies_with_the_server(place):
    job = place.start("wait")
    fork = json.loads(job.stdout.readline())["pid"]
    place.server.stdin.close()
    until(lambda: not (place.folder / "socket").exists())
    assert job.poll() is None and not ended(fork)
    place.server.kill()
    _, err = job.communicate(timeout=120)
    assert job.returncode == 1 and "the process that started this job ended" in err
    until(lambda: ended(fork))


def test_a_client_that_is_stopped_or_killed_amid_its_request_harms_no_other(place):
    job = place.start("wait")
    json.loads(job.stdout.readline())
    with closing(place.connected()) as killed:
        socket.send_fds(killed, [b"\n"], [0])
        killed.sendall(b'{"argv": ["')
    with closing(place.connected()):  # Says nothing.
        assert json.loads(place.run("exit", "0").stdout)["was_imported"]
    assert job.poll() is None and place.server.poll() is None
    assert set(os.listdir(f"/proc/{place.server.pid}/fd")) == {"0", "1", "2", "3", "4", "5"}  # Two of them of `job`.
    job.kill()
    job.communicate()


def test_a_signal_that_comes_before_the_fork_can_take_it_is_kept(place):
    request = {"argv": ["wait"], "files": [1, 2], "cwd": str(place.folder), "umask": 0o22, "ignored": []}
    request |= {"python": sys.prefix, "environment": place.environment}
    served = 0
    while served < 8:
        with closing(place.connected()) as client, open(os.devnull, "w") as null, client.makefile("rb") as answers:
            socket.send_fds(client, [b"\n"], [null.fileno()] * 2)
            client.sendall(json.dumps(request).encode() + b"\n")
            fork = json.loads(answers.readline())
            if fork == 0:  # The machine is so busy that the request came late. (And 0 would be the tests themselves.)
                continue
            served += 1
            os.kill(fork, signal.SIGTERM)
            client.settimeout(20)
            # By default, or by the job's own handler.
            assert json.loads(answers.readline()) in (signal.SIGTERM, 5 << 8)


def test_a_low_limit_of_open_files(place):
    server = place.serve("low", before="ulimit -n 64;")
    until(lambda: (place.folder / "low").exists())
    assert place.run("exit", "3", before="exec 9</dev/null;", SAE_WARM="low").returncode == 3
    server.communicate()  # Its input ends: it ends.


def test_a_python_without_pidfds_serves_none(place):
    (place.folder / "sitecustomize.py").write_text("import os\ndel os.pidfd_open\n")
    server = place.serve("none")
    assert server.wait(timeout=120) == 1 and not (place.folder / "none").exists()
