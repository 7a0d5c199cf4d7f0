"""Start the server of `sae.core.warm` for the jobs of a run on this machine."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sae.core import warm

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

# What most jobs import. To import them takes a server about as long as two jobs.
MODULES = ["torch", "numpy", "pandas", "pyarrow.parquet", "scipy.sparse", "safetensors.torch", "matplotlib.figure"]
OF_TRAINING = ["torch._dynamo"]  # The first optimiser of a process imports it, in about 2 s.
_WORTH = 8  # jobs
_WORTH_OF_TRAINING = 4  # jobs that train
_LIMITS = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
_started: list[subprocess.Popen] = []  # Their standard input ends with this process, however that ends.


def start(workflow: "Workflow", threads: int) -> None:
    """Start it, and tell this process's jobs where it is, if enough of them are to run here, as they are.

    Args:
        threads: of the jobs that compute; a job with another number starts by itself.
    """
    here = sys.platform == "linux" and workflow.local_exec and not workflow.deployment_settings.deployment_method
    rules = [job.rule.name for job in workflow.dag.needrun_jobs()] if here else []
    if len(rules) < _WORTH:
        return
    training = sum(rule.startswith("train") for rule in rules)
    modules = MODULES + (OF_TRAINING if training >= _WORTH_OF_TRAINING else [])
    place = Path(f".snakemake/warm-{os.getpid()}")
    place.unlink(missing_ok=True)
    # Numerical libraries read these when they are imported; Snakemake sets them for each job.
    limits = dict.fromkeys([f"{name}_NUM_THREADS" for name in _LIMITS] + ["VECLIB_MAXIMUM_THREADS"], str(threads))
    command = [sys.executable, "-m", "sae.core.warm", str(place), *modules]
    pipe, nowhere, environment = subprocess.PIPE, subprocess.DEVNULL, os.environ | limits
    _started.append(subprocess.Popen(command, stdin=pipe, stdout=nowhere, stderr=nowhere, env=environment))
    os.environ[warm.VARIABLE] = str(place)
