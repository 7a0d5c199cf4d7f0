"""Faults of the machine: one clear line, nothing half-written, a rerun of equal bytes.

A damaged SAE: `test_reruns.py`; damaged parts of embeddings: `test_embed.py`; SIGKILL:
`test_kill.py`.
"""

import errno
import gc
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Checkout
from support.errors import refused_naming

from sae.__main__ import main
from sae.core import faults, files, paths
from sae.data import fetch
from sae.data.backbone import Backbone
from sae.data.forward import embed_images
from sae.data.parts import PartialArray
from sae.data.splits import SPLITS
from sae.models import saefile
from sae.models.coder import Coder
from sae.steps import STEPS

BANK = "results/tiny/saes/digits/tiny/k4/bank.json"
# Like the Snakefile's targets these name what is on the way: Snakemake makes a lost
# file again only if it is named.
TARGETS = [
    *(f"results/activations/digits/tiny/{split}/manifest.json" for split in SPLITS),
    BANK,
    *(
        f"results/tiny/scores/digits/tiny/k4/{stage}/metrics.parquet"
        for stage in paths.STAGES
    ),
    "results/tiny/metrics.csv",
]
YEAR = 365 * 86_400  # seconds
FULL = (
    r"could not be written: its file system is full .*\. "
    "Free some, then run again: what is finished is kept"
)
CLOSED = r"could not be written: its file system is read-only\. Make it writable"


def run_as_root(*command):
    """Run a command as root, or by sudo where that asks for no password."""
    is_root = os.geteuid() == 0
    sudo = [] if is_root else [shutil.which("sudo") or "false", "-n"]
    return subprocess.run([*sudo, *command], capture_output=True, text=True)


@contextmanager
def mounted(folder, options):
    """Mount a file system of its own at a folder; yields a function that remounts it.

    Where that is not allowed the test is skipped, which the end of a session counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = run_as_root("mount", "-t", "tmpfs", "-o", options, "none", folder)
    if mount.returncode != 0:
        pytest.skip(
            "mounting a small file system takes root, or sudo without a password"
        )
    try:
        yield lambda options: run_as_root(
            "mount", "-o", f"remount,{options}", folder
        ).check_returncode()
    finally:
        run_as_root("umount", "--lazy", folder).check_returncode()


def fill(disk):
    """Write a file `filler` until nothing fits on the disk any more."""
    with open(disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(1 << 16)):
            pass


def left_in(folder):
    return sorted(f.name for f in folder.rglob("*"))


def of_sae(file):
    saefile.save(Coder(64, 512, 4), file)


def of_table(file):
    values = np.random.default_rng(0).random((10_000, 4))
    files.write_parquet(file, pd.DataFrame(values, columns=list("abcd")))


def of_figure(file):
    from matplotlib.figure import Figure

    Figure(figsize=(9, 9)).add_subplot().imshow(
        np.random.default_rng(0).random((200, 200))
    ).figure.savefig(file, format="png")


@pytest.mark.parametrize("write", [of_sae, of_table, of_figure])
@pytest.mark.disk
def test_whoever_writes_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, write):
    with mounted(tmp_path / "disk", "size=64k"):
        for place in (files.atomic_file, files.atomic_directory):
            with (
                pytest.raises(OSError) as caught,
                place(tmp_path / "disk/results/made") as temporary,
            ):
                write(temporary / "part" if temporary.is_dir() else temporary)
            line, code = faults.explain(caught.value, "train")
            assert code == 1 and re.fullmatch(
                f"{tmp_path}/disk/results/made {FULL}", line
            )
            assert left_in(tmp_path / "disk") == ["results"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EDQUOT, "quota there is used up"),
        (errno.EACCES, "closed to this"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_quota_limits_and_missing_rights_name_the_file(tmp_path, code, says):
    with (
        pytest.raises(OSError) as caught,
        files.atomic_file(tmp_path / "made") as temporary,
    ):
        raise OSError(code, os.strerror(code), str(temporary))
    assert faults.explain(caught.value, "score")[0].startswith(f"{tmp_path / 'made'} ")
    assert says in faults.explain(caught.value, "score")[0]


def test_a_limit_of_threads_is_said():
    error = RuntimeError("can't start new thread")
    line, code = faults.explain(error, "train")
    assert code == 1 and line.startswith("train could start no further thread")
    assert "ulimit -u" in line
    # A lock that another process holds is something else.
    assert faults.explain(BlockingIOError(errno.EAGAIN, "busy", "a.lock"), "x") is None


def test_a_limit_of_files_that_torch_meets_is_said():
    error = RuntimeError("unable to open shared memory: Too many open files (24)")
    assert "ulimit -n" in faults.explain(error, "train")[0]


def too_large_for_torch():
    torch.empty(10**15)


def too_large_for_numpy():
    np.empty(10**15)


def too_large_for_python():
    raise MemoryError


def worker_ended():
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


@pytest.mark.parametrize(
    "work",
    [too_large_for_torch, too_large_for_numpy, too_large_for_python, worker_ended],
)
def test_too_little_memory_is_one_line_that_says_what_to_lower(work):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        work()
    line, code = faults.explain(caught.value, "embed", STEPS["embed"].memory)
    pattern = (
        r"embed ran out of memory \(.+\): lower compute\.embed_batch_size or "
        r"compute\.decode_workers, .*"
    )
    assert code == 1 and re.fullmatch(pattern, line)


def test_other_troubles_stay_what_they_are(tmp_path):
    for error in (
        ValueError("No such thing"),
        FileNotFoundError(errno.ENOENT, "gone", "x"),
        OSError("odd"),
    ):
        with pytest.raises(type(error)) as caught, files.atomic_file(tmp_path / "made"):
            raise error
        assert caught.value is error and faults.explain(error, "score") is None
    # What cannot be read while another file is written is named, not the other one.
    with (
        pytest.raises(PermissionError, match="images/3") as caught,
        files.atomic_file(tmp_path / "made"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "images/3")
    assert faults.explain(caught.value, "embed")[0].startswith(
        "images/3 is closed to this user"
    )


@pytest.mark.disk
def test_embeddings_go_on_after_a_full_disk(tmp_path):
    rows = np.arange(40_000, dtype=np.float32).reshape(-1, 8)
    batches = np.split(rows, 50)
    with mounted(tmp_path / "disk", "size=80k") as remount:
        path = tmp_path / "disk/train.npy"
        part = PartialArray(path, len(rows))
        batches_kept = 0
        with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
            for batch in batches:
                part.append(batch)
                batches_kept += 1
        remount("size=1m")
        part = PartialArray(path, len(rows))
        assert 0 < part.rows_written == 100 * batches_kept < len(rows)
        for batch in batches[batches_kept:]:
            part.append(batch)
        assert (np.load(path) == rows).all()


@pytest.mark.disk
def test_a_full_disk_is_not_blamed_on_a_source(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").write_bytes(bytes(100_000))

    def from_folder(_reference, _scratch, _file_names):
        return tmp_path / "source"

    spec = {
        "files": {"f": files.sha256(tmp_path / "source/f")},
        "sources": [{"url": "here"}, {"url": "there"}],
    }
    with mounted(tmp_path / "disk", "size=64k"), pytest.MonkeyPatch.context() as patch:
        patch.setitem(fetch.SOURCES, "url", from_folder)
        with pytest.raises(
            OSError, match=f"No space left on device: '{tmp_path}/disk/a/f'"
        ):
            fetch.fetch("a", spec, tmp_path / "disk")
        assert left_in(tmp_path / "disk") == ["a"]


def test_full_shared_memory_is_told_and_is_no_endless_wait(monkeypatch):
    # In a thread of the queue, where torch would do it by itself, the failure is
    # printed and the batch never comes.
    def full(_tensor):
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: "
            "No space left on device (28)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    backbone = Backbone(torch.nn.Flatten(), lambda image: torch.zeros(3, 2, 2))
    options = {"batch_size": 2, "device": "cpu", "workers": 1}
    with refused_naming("shared memory", "/dev/shm", "fewer workers"):
        list(embed_images(backbone, str, ["a", "b", "c"], **options))


@pytest.fixture
def step(digits, capsys, monkeypatch):
    """Return a function that runs the step `dataset` in this process.

    It returns the exit code and what the step printed.
    """
    log = logging.getLogger("sae")
    # Those of other tests' commands print to streams that may be closed.
    monkeypatch.setattr(log, "handlers", [])
    level_before = log.level

    def run(folder, *options):
        spec = {"type": "image_folder", "root": str(digits), "image_size": 32}
        arguments = ["dataset", "--name", "digits", "--artifacts", "nowhere"]
        arguments += ["--out", str(folder), "--spec", files.dumps(spec)]
        try:
            return main([*arguments, *options]), capsys.readouterr().err
        finally:
            for handler in list(log.handlers):
                log.removeHandler(handler)
                with suppress(OSError):
                    handler.close()
            # A file that could not be flushed stays open till then, and its disk busy.
            gc.collect()

    yield run
    log.setLevel(level_before)


@pytest.mark.disk
def test_a_step_on_a_full_or_read_only_disk_says_one_line_though_its_log_lies_there_too(
    step, tmp_path
):
    disk = tmp_path / "disk"
    log = ("--log", str(disk / "logs/dataset.log"))
    with mounted(disk, "size=64k") as remount:
        (disk / "logs").mkdir()
        fill(disk)
        code, output = step(disk / "dataset", *log)
        assert code == 1 and re.fullmatch(
            f"error: {disk}/dataset/index.parquet {FULL}\n", output
        )
        assert left_in(disk / "dataset") == []
        (disk / "filler").unlink()
        remount("ro")
        code, output = step(disk / "dataset", *log)
        assert code == 1 and re.fullmatch(
            f"error: {disk}/logs/dataset.log {CLOSED}.*\n", output
        )
        remount("rw")
        assert step(disk / "dataset", *log) == (0, "")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, digits):
    """Return a finished run up to the metrics, whose bytes the others must give."""
    checkout = Checkout(tmp_path_factory.mktemp("undisturbed"), digits)
    checkout.snakemake(*TARGETS)
    return checkout


@pytest.fixture
def finished(undisturbed, tmp_path, digits):
    """Return a copy of the undisturbed run, to damage."""
    (tmp_path / "finished").mkdir()
    checkout = Checkout(tmp_path / "finished", digits)
    for folder in ("results", ".snakemake"):
        shutil.copytree(
            undisturbed.folder / folder, checkout.folder / folder, symlinks=True
        )
    assert not has_jobs(checkout)
    return checkout


def has_jobs(checkout):
    """Return whether a dry run names anything to do."""
    return "Nothing to be done" not in checkout.snakemake("-n", *TARGETS)


def everything(checkout):
    """Return {path: content} of embeddings, SAEs, scores and metrics."""
    store = checkout.folder / "results/activations"
    embeddings = {
        str(f.relative_to(store)): f.read_bytes()
        for f in store.glob("digits/tiny/[a-z]*/*")
    }
    assert len(embeddings) == 9
    return {**checkout.results(), **embeddings}


def temporaries(checkout):
    return [f for f in (checkout.folder / "results").rglob("*.tmp")]


@pytest.mark.slow
@pytest.mark.disk
def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_space(
    undisturbed, make_checkout
):
    checkout = make_checkout()
    disk = checkout.folder / "results"
    with mounted(disk, "size=200k") as remount:
        for size, file_pattern in (
            (200, r"results/activations/digits/tiny/\.embedding-\w+/0-of-1/train\.npy"),
            (800, r"results/store/saes/\w{32}"),
        ):
            remount(f"size={size}k")
            output = checkout.snakemake(*TARGETS, ok=False)
            assert re.search(f"^error: {file_pattern} {FULL}$", output, re.M)
            assert "Traceback" not in output and "Logging error" not in output
            assert not temporaries(checkout)
        time_by_sae = {
            f: f.stat().st_mtime for f in disk.glob("store/saes/*/sae.safetensors")
        }
        assert time_by_sae
        remount("size=20m")
        checkout.snakemake(*TARGETS)
        assert {f: f.stat().st_mtime for f in time_by_sae} == time_by_sae
        assert everything(checkout) == everything(undisturbed)


@pytest.mark.slow
@pytest.mark.disk
def test_a_full_or_read_only_checkout_is_said_before_any_job(digits, tmp_path):
    with mounted(tmp_path / "disk", "size=8m") as remount:
        checkout = Checkout(tmp_path / "disk", digits)
        fill(tmp_path / "disk")
        for arguments in (("tiny",), ("-n", "tiny")):
            output = checkout.snakemake(*arguments, ok=False)
            assert re.search(rf"^\.snakemake {FULL}", output, re.M)
            assert "Traceback" not in output and "Logging error" not in output
        (tmp_path / "disk/filler").unlink()
        remount("ro")
        output = checkout.snakemake("tiny", ok=False)
        assert re.search(rf"^\.snakemake {CLOSED}", output, re.M)
        assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.disk
def test_read_only_results_can_be_looked_at_but_not_added_to(finished, undisturbed):
    disk = finished.folder / "results"
    shutil.move(disk, finished.folder / "aside")
    with mounted(disk, "size=20m") as remount:
        shutil.copytree(
            finished.folder / "aside", disk, symlinks=True, dirs_exist_ok=True
        )
        for table in (
            "metrics.csv",
            "metrics.sums.json",
            "made_by.json",
            "metrics.parquet",
            "curves.parquet",
            "latents.parquet",
            "selection.parquet",
        ):
            (disk / "tiny" / table).unlink()
        remount("ro")
        assert has_jobs(finished)
        output = finished.snakemake(*TARGETS, ok=False)
        assert re.search(f"^results {CLOSED}", output, re.M)
        assert "Traceback" not in output
        sae = next(disk.glob("tiny/saes/**/topk/**/sae.safetensors"))
        embeddings = disk / "activations/digits/tiny/test/embeddings.npy"
        codes = finished.folder / "codes.parquet"
        step = ["encode", "--sae", sae, "--source", embeddings, "--out", codes]
        subprocess.run(
            [sys.executable, "-m", "sae", *step], cwd=finished.folder, check=True
        )
        assert len(pd.read_parquet(codes)) > 100
        remount("rw")
        finished.snakemake(*TARGETS)
        assert everything(finished) == everything(undisturbed)


@pytest.mark.slow
@pytest.mark.disk
def test_a_dry_run_of_a_read_only_checkout_from_a_folder_of_links(finished, tmp_path):
    disk = tmp_path / "disk"
    with mounted(disk, "size=40m") as remount:
        shutil.copytree(finished.folder, disk, symlinks=True, dirs_exist_ok=True)
        remount("ro")
        linked = tmp_path / "linked"
        recipe = (
            f"mkdir {linked} && cd {linked} && ln -s {disk}/* . "
            f"&& cp -r {disk}/.snakemake . && snakemake -n {TARGETS[-1]}"
        )
        process = finished.run("sh", "-c", recipe)
        assert "Nothing to be done" in process.stdout + process.stderr


ADVICE = re.compile(
    r"^error: .*[;:] delete (\S+?)(?: and (\S+?))?,? and run again$", re.M
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("activations/digits/tiny/train/embeddings.npy", "train"),
        ("activations/digits/tiny/val/index.parquet", "score"),
        ("datasets/digits/index.parquet", "embed"),
        ("tiny/saes/digits/tiny/k4/bank.json", "score"),
    ],
)
def test_what_the_message_on_a_damaged_file_says_is_all_that_is_to_do(
    finished, undisturbed, file, rule
):
    damaged = finished.folder / "results" / file
    # Else no score is computed, and nothing is read that could be damaged.
    shutil.rmtree(finished.folder / "results/tiny/scores/digits/tiny/k4/.rows")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    output = finished.snakemake(*TARGETS, "--forcerun", rule, ok=False)
    advice = ADVICE.search(output)
    assert advice, output
    for path in filter(None, advice.groups()):
        path = damaged if path == "it" else finished.folder / path
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finished.snakemake(*TARGETS)
    assert everything(finished) == everything(undisturbed)
    assert not has_jobs(finished)


@pytest.mark.slow
def test_a_damaged_part_of_an_embedding_costs_its_batches_and_no_more(
    undisturbed, make_checkout
):
    checkout = make_checkout()
    checkout.config["compute"]["embed_shards"] = 2
    checkout.write()
    checkout.snakemake(*TARGETS, "--until", "embed_shard")
    (part,) = (checkout.folder / "results").glob(
        "activations/digits/tiny/.embedding-*/0-of-2/train.npy"
    )
    raw = bytearray(part.read_bytes())
    raw[len(raw) // 2] ^= 1
    part.write_bytes(raw)
    output = checkout.snakemake(*TARGETS)
    line = re.search(
        r"digits / tiny, shard 0 of 2: \d+ images \((\d+) were there\)", output
    )
    assert line[1] != "0"
    assert everything(checkout) == everything(undisturbed)


def redate(folders, seconds):
    for folder in folders:
        for file in folder.rglob("*"):
            stat = file.lstat()
            os.utime(
                file, (stat.st_atime, stat.st_mtime + seconds), follow_symlinks=False
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folders", "seconds", "lost"),
    [
        # Everything older than the backbone's weights: all is looked at again.
        ([""], -YEAR, None),
        # The jobs that read them would fail until that date.
        (["datasets", "activations"], YEAR, "tiny"),
    ],
)
def test_a_clock_that_jumped_costs_at_most_one_rerun(
    finished, undisturbed, folders, seconds, lost
):
    root = finished.folder / "results"
    stored = {f: f.stat().st_ino for f in root.glob("store/saes/*/sae.safetensors")}
    redate([root / folder for folder in folders], seconds)
    if lost:
        shutil.rmtree(root / lost)
    finished.snakemake(*TARGETS)
    assert not has_jobs(finished)
    assert everything(finished) == everything(undisturbed)
    assert {f: f.stat().st_ino for f in stored} == stored  # Nothing was trained again.


def wait_for(condition, process):
    """Wait until a condition holds, while a process runs."""
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_told_to_stop_says_so_leaves_nothing_and_goes_on(
    finished, undisturbed, workers
):
    activations = finished.folder / "results/activations/digits/tiny"
    shutil.rmtree(activations)
    spec = files.dumps(finished.config["backbones"]["tiny"])
    step = ["-m", "sae", "embed", "--name", "tiny", "--spec", spec]
    step += ["--dataset", "results/datasets/digits"]
    step += ["--artifacts", "results/artifacts", "--out", activations]
    # Slow enough to be caught.
    step += ["--batch-size", "1", "--workers", str(workers)]
    process = finished.start(*step, start_new_session=True)
    journals = ".embedding-*/0-of-1/train.npy.journal"

    def a_batch_is_kept():
        return any(f.stat().st_size for f in activations.glob(journals))

    wait_for(a_batch_is_kept, process)
    os.killpg(process.pid, signal.SIGTERM)  # As Slurm does: every process of the job.
    output = process.communicate()[0]
    assert output == (
        "error: embed was told to stop (SIGTERM); "
        "what it has finished is kept, run again to go on\n"
    )
    assert process.returncode == 143 and not temporaries(finished)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    again = finished.run(*step)
    assert again.returncode == 0
    assert re.search(r"500 images \([1-9]\d* were there\)", again.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["all", "snakemake"])
def test_a_run_told_to_stop_ends_and_the_rerun_gives_the_same_bytes(
    make_checkout, undisturbed, stopped
):
    checkout = make_checkout()
    process = checkout.start(*checkout.command(*TARGETS), start_new_session=True)
    stored = checkout.folder / "results/store/saes"
    wait_for(lambda: list(stored.glob("[0-9a-f]*")), process)
    inode_by_sae = {
        f: f.stat().st_ino for f in stored.glob("[0-9a-f]*/sae.safetensors")
    }
    send_signal = os.killpg if stopped == "all" else os.kill
    send_signal(process.pid, signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == 1, output
    assert "Traceback" not in output
    assert "python -m sae" not in output.partition("stopped")[2]
    assert output.count("stopped by SIGTERM: running jobs end now") == 1
    assert output.count(
        "error: train was told to stop (SIGTERM); "
        "what it has finished is kept, run again to go on"
    )
    assert not (checkout.folder / BANK).exists()
    assert not temporaries(checkout)
    checkout.snakemake(*TARGETS)  # No lock is left.
    assert everything(checkout) == everything(undisturbed)
    assert inode_by_sae
    assert {f: f.stat().st_ino for f in inode_by_sae} == inode_by_sae
