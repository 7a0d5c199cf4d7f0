"""sae_workflow.lock, where no run of Snakemake is needed to tell."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from sae_workflow import lock, run

from sae.core.errors import UserError

RUN = "sae_cbeb6cc1-af7e-4079-befc-2b050aab342b"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake/slurm_logs").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def queue(folder, text, code=0):
    """Write a `squeue` that prints `text` and ends with an exit code."""
    (folder / "bin/squeue").write_text(
        f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n"
    )
    (folder / "bin/squeue").chmod(0o755)


def test_only_jobs_that_snakemake_submitted_from_here_count(folder):
    rows = [
        f"1|{RUN}|rule_train_wildcards_demo|{folder}",
        f"2|{RUN}|rule_train_wildcards_demo|{folder}/elsewhere",
        f"3|my_own_job||{folder}",
        f"4|{RUN}|my own comment|{folder}",
    ]
    queue(folder, "\n".join(rows))
    assert lock.queued_jobs() == ["1"]


def test_a_queue_that_does_not_answer_is_no_empty_queue(folder):
    queue(folder, "", code=1)
    with pytest.raises(UserError, match="`squeue` does not work here"):
        lock.queued_jobs()


def test_jobs_of_a_run_that_may_be_alive_stop_this_one(folder, monkeypatch):
    queue(folder, f"7|{RUN}|rule_train|{folder}")
    (folder / ".snakemake/alive-elsewhere").touch()
    with open(lock.alive_file(), "a+") as file:
        monkeypatch.setattr(lock, "_held_files", [file])
        with pytest.raises(
            UserError,
            match=r"Slurm jobs 7 are of another run .* it may be of elsewhere",
        ):
            lock.end_orphans()


def hold(ready):
    lock.hold()
    ready.set()
    time.sleep(60)


def test_the_lock_is_proven_free_only_when_its_holder_is_gone(folder):
    ready = multiprocessing.Event()
    holder = multiprocessing.Process(target=hold, args=(ready,))
    holder.start()
    assert ready.wait(30)
    assert lock.obstacle_to_unlocking() == (
        "another Snakemake, or a job of a killed one, is running here"
    )
    holder.kill()
    holder.join()
    assert lock.obstacle_to_unlocking() is None


def end_slowly(ready):
    """Release the lock after half a second, as Snakemake that was told to stop."""
    lock.hold()
    Path(".snakemake/locks/0.input.lock").touch()
    ready.set()
    time.sleep(0.5)
    Path(".snakemake/locks/0.input.lock").unlink()
    lock._release()


def test_a_run_that_is_about_to_end_is_waited_for(folder, monkeypatch):
    monkeypatch.setattr(
        run, "run_snakemake", lambda *_: pytest.fail("there is nothing to unlock")
    )
    (folder / ".snakemake/locks").mkdir()
    ready = multiprocessing.Event()
    ending = multiprocessing.Process(target=end_slowly, args=(ready,))
    ending.start()
    assert ready.wait(30)
    run.free_the_folder([])
    ending.join()
    assert not (folder / ".snakemake/locks/0.input.lock").exists()


def test_mistakes_in_a_config_are_told_while_a_run_is_at_work(
    folder, monkeypatch, capsys
):
    monkeypatch.setattr(run, "PATIENCE", 0)
    (folder / ".snakemake/locks").mkdir()
    (folder / ".snakemake/locks/0.input.lock").touch()
    (folder / "config.yaml").write_text("experiments: {}\n")
    (folder / "mine.yaml").write_text("seeeds: [0]\n")
    with pytest.raises(SystemExit, match="locked by a run"):
        run.free_the_folder(["--configfile", "config.yaml", "mine.yaml"])
    assert "mine.yaml: config key seeeds" in capsys.readouterr().err
