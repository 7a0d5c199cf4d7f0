"""What a run checks before its first job.

These tests need no run of Snakemake, but for that of damaged records.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from sae_workflow import missing_inputs, planned_run, preflight, settings
from support.errors import refused_naming

from sae.core.errors import UserError

CONFIG = settings.load(yaml.safe_load((ROOT / "config.yaml").read_text()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake/metadata").mkdir(parents=True)
    return tmp_path


def test_jobs_run_the_python_that_runs_snakemake(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    preflight.activate_environment()
    python = subprocess.run(
        ["bash", "-c", "command -v python"], capture_output=True, text=True
    ).stdout.strip()
    assert Path(python).parent == Path(sys.executable).parent


def test_records_that_another_user_keeps_closed_are_named(folder, monkeypatch):
    preflight.check_records()
    (folder / ".snakemake/metadata/record").touch()
    # Root may write all.
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "record")
    with pytest.raises(
        UserError, match=r"^\.snakemake/metadata/record is closed to this user"
    ):
        preflight.check_records()


def test_each_run_has_its_plan_for_as_long_as_it_lives(folder, monkeypatch):
    monkeypatch.setenv(planned_run.RUN_VARIABLE, "")
    codes = iter(["then", "now", "now"])
    monkeypatch.setattr(planned_run, "code_hash", lambda *_: next(codes))
    monkeypatch.setattr(planned_run, "_answers", {})
    planned_run.name_run()
    assert planned_run.code_hash_of("sae.core.files") == "then"
    killed = Path(f".snakemake/planned-{socket.gethostname()}-{2**22 + 1}.json")
    elsewhere = Path(".snakemake/planned-elsewhere-1.json")
    for file in (killed, elsewhere):
        file.touch()
    planned_run.write_planned_run({"k": 8})
    assert elsewhere.exists() and not killed.exists()
    # A job's Snakemake: another process, which finds other code.
    monkeypatch.setattr(planned_run, "_answers", {})
    assert planned_run.read_planned_run() == {"k": 8}
    assert planned_run.code_hash_of("sae.core.files") == "then"
    assert planned_run.code_hash_of("sae.core.paths") == "now"
    monkeypatch.setenv(planned_run.RUN_VARIABLE, "a-later-run")
    with refused_naming(".snakemake/planned-a-later-run.json", "does not exist"):
        planned_run.read_planned_run()


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["nosuch"], True),
        (
            ["-n", "--configfile", "config.yaml", "mine.yaml", "--", "smoke", "nosuch"],
            True,
        ),
        (["smoke", "--cores", "2", "--forcerun", "train"], False),
        (["train"], False),
        (["results/smoke/metrics.csv"], False),
        (["results/nosuch/metrics.csv"], True),
        (["results/datasets/emoji/index.parquet"], False),
        (["there.txt"], False),
        ([], False),
    ],
)
@pytest.mark.parametrize(
    "program", ["bin/snakemake", "snakemake/__main__.py", "my_script.py"]
)
def test_an_experiment_that_does_not_exist_lists_those_there_are(
    folder, words, refused, program
):
    (folder / "there.txt").touch()
    (folder / "nosuch").mkdir()  # A folder is no target.

    def refuse():
        missing_inputs.refuse_unknown_targets(
            CONFIG, [program, *words], {*CONFIG.experiments, "train"}.__contains__
        )

    if refused and program != "my_script.py":
        with refused_naming("'nosuch'", "demo", "smoke"):
            refuse()
    else:
        refuse()
