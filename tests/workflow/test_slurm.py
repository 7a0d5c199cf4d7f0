"""The workflow on a real Slurm, through profiles/slurm."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import Checkout
from slurm import Cluster

from sae.core import files

pytestmark = pytest.mark.slurm

BANK = "results/tiny/saes/digits/tiny/k4/bank.json"
# No GPU here, and jobs of a bank in one process; jobs are asked about as often as the
# executor can.
COMPUTE = {
    "device": "auto",
    "threads": 1,
    "decode_workers": 0,
    "embed_shards": 1,
    "time_factor": 0.02,
    "memory_factor": 0.1,
    "memory_limit": 4000,
}
POLL = [
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--seconds-between-status-checks",
    "1",
    "--latency-wait",
    "5",
]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, digits):
    """Return a checkout whose embeddings were made without Slurm."""
    checkout = Checkout(tmp_path_factory.mktemp("embedded"), digits)
    checkout.config["compute"]["device"] = "auto"
    checkout.write()
    checkout.snakemake("tiny", "--until", "embed")
    return checkout


class Submitted:
    """A checkout whose Snakemake submits its jobs."""

    def __init__(self, checkout, cluster):
        self.checkout = checkout
        self.cluster = cluster
        self.folder = checkout.folder
        path = f"{cluster.root / 'bin'}{os.pathsep}{checkout.environment['PATH']}"
        self.environment = {
            **checkout.environment,
            **cluster.environment,
            "PATH": path,
        }

    def command(self, *arguments, **compute):
        overlay = {"compute": {**COMPUTE, **compute}}
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        profile = ["--profile", "profiles/slurm", "--configfile", "overlay.yaml", *POLL]
        return [*self.checkout.command(*arguments), *profile]

    def run(self, *arguments, ok=True, **compute):
        """Run Snakemake here and its jobs on the cluster; return what it printed."""
        return self.finish(self.start(*arguments, **compute), ok)

    def start(self, *arguments, **compute):
        return self.popen(self.command(*arguments, **compute))

    def popen(self, command):
        # A file, not a pipe: jobs of a killed Snakemake do not hold it open.
        with open(self.folder / "printed", "w") as printed:
            options = {
                "cwd": self.folder,
                "env": self.environment,
                "stdout": printed,
                "stderr": subprocess.STDOUT,
            }
            return subprocess.Popen(command, **options)

    def finish(self, process, ok=True):
        code = process.wait(timeout=900)
        printed = (self.folder / "printed").read_text()
        assert (code == 0) == ok, printed
        return printed

    def jobs(self, rule=""):
        """Return the jobs of this folder so far, oldest first.

        Each has id, state, partition, memory, time and rule.
        """
        columns = "%A|%T|%P|%m|%l|%k|%Z"
        printed = self.cluster.run(
            "squeue", "--states=all", "--noheader", "--sort=i", f"--format={columns}"
        )
        names = ("id", "state", "partition", "memory", "time", "rule", "folder")
        jobs = [
            dict(zip(names, line.split("|"), strict=True))
            for line in printed.splitlines()
        ]
        return [
            job
            for job in jobs
            if job["folder"] == str(self.folder)
            and job["rule"].startswith(f"rule_{rule}")
        ]

    def wait_for(self, condition):
        """Wait for up to five minutes until a condition holds."""
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "printed").read_text())

    @property
    def finished(self):
        """The keys of the finished SAEs."""
        return {f.name for f in self.folder.glob("results/store/saes/[0-9a-f]*")}

    @property
    def listed(self):
        """The keys of the SAEs in bank.json."""
        return {entry["key"] for entry in files.read_json(self.folder / BANK)["saes"]}


@pytest.fixture
def submitted(embedded, cluster, tmp_path):
    """Return a copy of `embedded` whose Snakemake submits its jobs."""
    folder = tmp_path / "submitted"
    shutil.copytree(embedded.folder, folder, symlinks=True)
    checkout = Checkout.__new__(Checkout)
    checkout.folder = folder
    checkout.config = yaml.safe_load((folder / "config.yaml").read_text())
    checkout.experiment = checkout.config["experiments"]["tiny"]
    return Submitted(checkout, cluster)


def slow(submitted, epochs):
    """Train for long enough to be caught at it."""
    submitted.checkout.config["training"]["tiny"]["epochs"] = epochs
    submitted.checkout.write()


def test_smoke_gives_the_same_bytes_as_without_slurm(make_checkout, cluster):
    local = make_checkout("here")
    submitted = Submitted(make_checkout("there"), cluster)
    for checkout in (local, submitted.checkout):
        checkout.config["compute"].update(COMPUTE)
        checkout.write()
    local.snakemake("smoke")
    artifacts = submitted.folder / "results/artifacts"
    shutil.copytree(local.folder / "results/artifacts", artifacts)
    shutil.rmtree(artifacts / "fashion_mnist")
    submitted.run("smoke", memory_factor=0.5, time_factor=0.1)
    files_of_local = local.results("smoke")
    # How many SAEs there are depends on what was chosen, and so on the machine.
    methods = {
        file.split("/")[4]
        for file in files_of_local
        if file.endswith("sae.safetensors")
    }
    assert methods >= {"topk", "reg1", "reg2", "batch_topk"}
    assert submitted.checkout.results("smoke") == files_of_local

    jobs = submitted.jobs()
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    on_gpu = {
        "embed",
        "train",
        "score",
        "robustness",
        "probe",
        "probe_embeddings",
        "heatmaps",
        "gallery",
        "site",
    }
    for job in jobs:
        rule = re.match(r"rule_([a-z]+(_embeddings)?)", job["rule"])[1]
        has_gpu = "gres/gpu" in cluster.run("scontrol", "show", "job", job["id"])
        assert job["partition"] == ("gpu" if rule in on_gpu else "cpu"), job
        assert has_gpu == (rule in on_gpu), job
    # Downloads are no jobs, since nodes may be offline.
    assert not submitted.jobs("artifact")
    assert (artifacts / "fashion_mnist/artifact.json").exists()


def test_jobs_take_the_config_that_their_run_was_planned_with(submitted):
    process = submitted.start(BANK)
    submitted.wait_for(lambda: list(submitted.folder.glob(".snakemake/planned-*.json")))
    # Nothing is submitted before the plan is written, and no job has read the config.
    slow(submitted, 1)
    submitted.finish(process)
    saes = files.read_json(submitted.folder / BANK)["saes"]
    assert {entry["settings"]["epochs"] for entry in saes} == {4}
    assert not list(submitted.folder.glob(".snakemake/planned-*.json"))


def test_gpu_jobs_stand_in_the_queue_side_by_side(submitted):
    slow(submitted, 500)
    submitted.checkout.experiment["k"] = [4, 8]
    submitted.checkout.write()
    process = submitted.start(BANK, BANK.replace("k4", "k8"))

    def both_run():
        states = [job["state"] for job in submitted.jobs("train")]
        return states == ["RUNNING", "RUNNING"]

    submitted.wait_for(both_run)
    submitted.finish(process)


def test_too_little_memory_is_retried_with_more(submitted):
    # (6000 + 400 + 3000) x 1.5 MB are asked for at a factor of 1, since nothing is
    # known of this backbone.
    submitted.run(BANK, memory_factor=249.9 / 14100)
    jobs = submitted.jobs("train")
    assert len(jobs) > 1
    assert [job["memory"] for job in jobs] == ["250M", "500M", "1000M"][: len(jobs)]
    *states, last_state = [job["state"] for job in jobs]
    assert last_state == "COMPLETED" and "COMPLETED" not in states


def test_too_little_time_is_retried_with_more_and_nothing_is_trained_twice(submitted):
    slow(submitted, 2000)
    process = submitted.start(BANK, time_factor=1 / 240)
    submitted.wait_for(lambda: len(submitted.jobs("train")) > 1)
    before = submitted.finished
    printed = submitted.finish(process)
    jobs = submitted.jobs("train")
    assert [job["time"] for job in jobs[:2]] == ["1:00", "2:00"]
    *states, last_state = [job["state"] for job in jobs]
    assert states == ["TIMEOUT"] * len(states), printed
    assert last_state == "COMPLETED", printed
    log = (submitted.folder / "results/tiny/logs/train/digits/tiny/k4.log").read_text()
    assert before and log.count("found in the store") >= len(before)
    assert log.count(": start ") <= len(submitted.finished - before)


def test_a_cancelled_job_is_retried(submitted):
    slow(submitted, 500)
    process = submitted.start(BANK)
    submitted.wait_for(lambda: submitted.finished)
    job = submitted.jobs("train")[0]
    submitted.cluster.run("scancel", job["id"])
    submitted.finish(process)
    states = [job["state"] for job in submitted.jobs("train")]
    assert states == ["CANCELLED", "COMPLETED"]
    assert submitted.finished == submitted.listed


def test_snakemake_killed_on_the_login_node_picks_up(submitted, embedded):
    slow(submitted, 500)
    run = [sys.executable, "-m", "sae_workflow.run", BANK]
    options = submitted.command()[1:]
    process = submitted.popen([*run, *options])
    submitted.wait_for(lambda: submitted.finished)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout
    for pid in [process.pid, *map(int, children.split())]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    orphan = submitted.jobs("train")[0]
    assert orphan["state"] == "RUNNING"
    before = submitted.finished
    printed = submitted.finish(submitted.popen([*run, *options]))
    assert "its owner is gone: unlocking" in printed
    assert f"A killed run left Slurm jobs {orphan['id']}: cancelling them" in printed
    states = [job["state"] for job in submitted.jobs("train")]
    assert states == ["CANCELLED", "COMPLETED"]
    assert before <= submitted.finished == submitted.listed


def test_a_failing_sae_leaves_its_finished_siblings(submitted):
    # In a folder of one's own: the nodes find it too.
    penalty = submitted.folder / "mine/penalties/wrong.py"
    penalty.parent.mkdir(parents=True)
    penalty.write_text('def penalty(batch):\n    raise ValueError("no such penalty")\n')
    method = {"extends": "topk", "against": "topk", "penalty": "wrong", "lambda": 0.001}
    submitted.checkout.config["extensions"] = "mine"
    submitted.checkout.config["methods"]["wrong"] = method
    submitted.checkout.experiment["methods"].append("wrong")
    submitted.checkout.write()
    printed = submitted.run(BANK, "--retries", "0", ok=False)
    assert "ValueError: no such penalty" in printed
    assert not (submitted.folder / BANK).exists()
    siblings = submitted.finished
    assert len(siblings) == 5
    penalty.write_text("def penalty(batch):\n    return batch.a.sum(dim=1)\n")
    submitted.run(BANK, "--retries", "0")
    assert siblings < submitted.finished == submitted.listed
    log = (submitted.folder / "results/tiny/logs/train/digits/tiny/k4.log").read_text()
    assert log.count("found in the store") == 5
    assert log.count(": start ") == len(submitted.finished - siblings)


def test_a_rejected_submission_is_an_error(submitted):
    profile = submitted.folder / "profiles/slurm/profile.yaml"
    profile.write_text(
        profile.read_text().replace("slurm_partition: gpu", "slurm_partition: nowhere")
    )
    printed = submitted.run(BANK, ok=False)
    assert "invalid partition specified: nowhere" in printed
    assert not submitted.jobs()
