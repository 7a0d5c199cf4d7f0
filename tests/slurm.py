"""A real Slurm of one machine, for tests.

It has no systemd, no cgroups and no accounting, and listens on the loopback address
alone. It needs Debian's packages slurmctld, slurmd, slurm-client and munge. All that it
writes lies in one folder; it is stopped by the process ids that its daemons wrote
there.
"""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

COMMANDS = (
    "sbatch",
    "srun",
    "squeue",
    "scancel",
    "sinfo",
    "scontrol",
    "sacct",
    "sacctmgr",
    "sshare",
)
DAEMONS = ("slurmd", "slurmctld", "munged")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge.sock
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
PlugStackConfig={root}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Memory is watched every second, and a job above its limit is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=5
# Ended jobs stay listed, so that tests can ask about them.
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} \\
    State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes={host} MaxTime=60 State=UP
"""


class Cluster:
    """A cluster of one node, with the partitions `cpu` and `gpu`.

    Its GPUs are no more than names.

    Attributes:
        root: The folder of all that it writes.
        host: The node's name.
        cpus: The cores that it offers; the machine may have others.
        memory: The memory that it offers, in MB.
        gpus: The GPUs that it offers.
    """

    def __init__(self, root, cpus=4, memory=20_000, gpus=2):
        self.root = Path(root)
        self.host = socket.gethostname().split(".")[0]
        self.cpus = cpus
        self.memory = memory
        self.gpus = gpus

    @property
    def environment(self):
        """The variables by which a process finds this cluster."""
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": path}

    def run(self, *command):
        """Run a command of Slurm, and return what it prints."""
        return subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def start(self):
        """Write the configuration and start the daemons.

        It returns when the node takes jobs.

        Raises:
            RuntimeError: the node takes none for 20 seconds; with the daemons' logs.
        """
        for folder in ("state", "spool", "bin", "munge"):
            (self.root / folder).mkdir(parents=True)
        for folder in (self.root, *self.root.iterdir()):
            folder.chmod(0o755)
        self._configure()
        root = self.root
        (root / "munge").chmod(0o700)
        (root / "munge/key").write_bytes(os.urandom(1024))
        (root / "munge/key").chmod(0o400)
        munge = [
            f"--key-file={root}/munge/key",
            f"--socket={root}/munge.sock",
            f"--pid-file={root}/munged.pid",
            f"--log-file={root}/munge/log",
            f"--seed-file={root}/munge/seed",
        ]
        for daemon in (
            ["munged", "--force", *munge],
            ["slurmctld", "-c"],
            ["slurmd", "-N", self.host],
        ):
            subprocess.run(
                [f"/usr/sbin/{daemon[0]}", *daemon[1:]],
                env={**os.environ, **self.environment},
                check=True,
                capture_output=True,
            )
        ask_for_state = ["sinfo", "--noheader", "--partition=cpu", "--format=%T"]
        for _ in range(100):
            with contextlib.suppress(subprocess.SubprocessError):
                if self.run(*ask_for_state).strip() == "idle":
                    return
            time.sleep(0.2)
        logs = [log.read_text() for log in root.glob("slurm*.log")]
        raise RuntimeError("\n".join(logs))

    def _configure(self):
        root = self.root
        port, slurmd_port = _free_ports(2)
        config = CONFIG.format(
            root=root,
            host=self.host,
            user=getpass.getuser(),
            port=port,
            slurmd_port=slurmd_port,
            cpus=self.cpus,
            memory=self.memory,
            gpus=self.gpus,
        )
        (root / "slurm.conf").write_text(config)
        (root / "plugstack.conf").write_text("")
        (root / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        for number in range(self.gpus):
            (root / f"gpu{number}").write_text("")
        gres = [f"Name=gpu File={root}/gpu{number}\n" for number in range(self.gpus)]
        (root / "gres.conf").write_text("".join(gres))
        # Inside a job the executor's plugin drops SLURM_CONF: hence wrappers that set
        # it.
        for name in COMMANDS:
            wrapper = root / "bin" / name
            wrapper.write_text(
                f"#!/bin/sh\nexport SLURM_CONF={root}/slurm.conf\n"
                f'exec /usr/bin/{name} "$@"\n'
            )
            wrapper.chmod(0o755)

    def stop(self):
        """Cancel all jobs and end the daemons."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", "--me")
            for _ in range(60):
                if not self.run("squeue", "--noheader"):
                    break
                time.sleep(0.5)
        for daemon in DAEMONS:
            file = self.root / f"{daemon}.pid"
            if file.exists():
                _end(int(file.read_text()))


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for free_socket in sockets:
        free_socket.bind(("127.0.0.1", 0))
    ports = [free_socket.getsockname()[1] for free_socket in sockets]
    for free_socket in sockets:
        free_socket.close()
    return ports


def _end(pid):
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(50):
            try:
                os.kill(pid, signal_number)
            except ProcessLookupError:
                return
            time.sleep(0.1)
