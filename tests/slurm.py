"""A real Slurm of one machine, for tests: no systemd, no cgroups, no accounting; on the
loopback address alone.

Needs Debian's packages slurmctld, slurmd, slurm-client and munge. All that it writes lies in one folder; it is stopped
by the process ids that its daemons wrote there.
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
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes={host} MaxTime=60 State=UP
"""


class Cluster:
    """One node, the partitions `cpu` and `gpu`, and GPUs that are no more than names."""

    def __init__(self, root, cpus=4, memory=20_000, gpus=2):
        self.root, self.host = Path(root), socket.gethostname().split(".")[0]
        self.cpus, self.memory, self.gpus = cpus, memory, gpus

    @property
    def environment(self):
        """What a process needs to find this cluster."""
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": path}

    def run(self, *command):
        """What a command of Slurm prints."""
        environment = os.environ | self.environment
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def start(self):
        """Write the configuration, start the daemons, and wait until the node takes
        jobs.
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
        ]
        munge += [f"--log-file={root}/munge/log", f"--seed-file={root}/munge/seed"]
        environment = os.environ | self.environment
        for daemon in (
            ["munged", "--force", *munge],
            ["slurmctld", "-c"],
            ["slurmd", "-N", self.host],
        ):
            subprocess.run(
                [f"/usr/sbin/{daemon[0]}", *daemon[1:]],
                env=environment,
                check=True,
                capture_output=True,
            )
        for _ in range(100):
            with contextlib.suppress(subprocess.SubprocessError):
                if (
                    self.run(
                        "sinfo", "--noheader", "--partition=cpu", "--format=%T"
                    ).strip()
                    == "idle"
                ):
                    return
            time.sleep(0.2)
        raise RuntimeError(
            "\n".join(log.read_text() for log in root.glob("slurm*.log"))
        )

    def _configure(self):
        root, ports = self.root, _free_ports(2)
        values = {
            "root": root,
            "host": self.host,
            "user": getpass.getuser(),
            "port": ports[0],
            "slurmd_port": ports[1],
        }
        values |= {"cpus": self.cpus, "memory": self.memory, "gpus": self.gpus}
        (root / "slurm.conf").write_text(CONFIG.format(**values))
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
                f'#!/bin/sh\nexport SLURM_CONF={root}/slurm.conf\nexec /usr/bin/{name} "$@"\n'
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
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _end(pid):
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(50):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            time.sleep(0.1)
