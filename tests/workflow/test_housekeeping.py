"""Unused and prune, on a bank that was really trained and on small files."""

import copy
import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from sae_workflow import housekeeping, recorded_configs, settings
from sae_workflow.command_line import run_command
from sae_workflow.housekeeping import Survey
from support.embeddings import write_split

from sae.bank.read import read
from sae.bank.train import Place
from sae.config.yaml_file import parse_file
from sae.core import files
from sae.protocols import _cell

CONFIG = parse_file(ROOT / "config.yaml")
CONFIG["experiments"] = {"smoke": CONFIG["experiments"]["smoke"]}
CELL = "fashion_mnist_smoke/efficientnet_lite0"
BANK = Path(f"results/smoke/saes/{CELL}/k8/bank.json")
STORE = Path("results/store/saes")


def write(path, text="x"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def main(*words):
    run_command(housekeeping.main, *words)


def everything():
    """Return {path: content} of results/: of a link its target, of a folder None."""
    paths_below = [
        Path(folder) / name
        for folder, folder_names, file_names in os.walk("results")
        for name in folder_names + file_names
    ]
    contents = {}
    for path in sorted(paths_below):
        if path.is_symlink():
            contents[str(path)] = os.readlink(path)
        else:
            contents[str(path)] = path.read_bytes() if path.is_file() else None
    return contents


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder whose results/ has embeddings and the bank of `smoke`."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    embeddings = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    activations = folder / "results/activations" / CELL
    made_by = {
        "dataset": {"fingerprint": "images"},
        "backbone": {"fingerprint": "weights"},
    }
    for split in ("train", "val"):
        write_split(
            activations / split,
            [embeddings],
            pd.DataFrame({"image_id": range(150)}),
            made_by,
        )
    plan = settings.bank_plan(
        settings.load(CONFIG), "smoke", settings.Cell(*CELL.split("/"), 8)
    )
    place = Place(folder / STORE, folder / BANK)
    _cell.train(
        plan,
        activations,
        place,
        folder / f"results/smoke/scores/{CELL}/k8",
        device="cpu",
    )
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """Return a working directory with a copy of what was trained."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def old(run):
    """Add what nothing refers to, and what is ours to keep or not ours beside it.

    Returns:
        The paths of what nothing refers to.
    """
    write("results/README.md")
    files.write_json(
        "results/artifacts/fashion_mnist/artifact.json", {"files": {"data.gz": "0"}}
    )
    files.write_json(
        "results/artifacts/emoji_google/artifact.json", {"files": {"emoji.ttf": "0"}}
    )
    write("results/artifacts/emoji_google/emoji.ttf")
    write("results/datasets/fashion_mnist_smoke/index.parquet")
    write("results/datasets/emoji/index.parquet")
    write(
        "results/activations/emoji/efficientnet_lite0/test/embeddings.npy", "x" * 1000
    )
    write("results/activations/emoji/efficientnet_lite0/.embedding-0/0-of-1/train.npy")
    write(f"results/activations/{CELL}/.embedding-1/0-of-2/train.npy")
    write(f"results/smoke/scores/{CELL}/k8/.rows/select/reconstruction.parquet")
    write(f"results/smoke/scores/{CELL}/embeddings.json")
    write(f"results/smoke/scores/{CELL}/k16/score/latents.parquet")
    write(f"results/smoke/scores/{CELL}/k16/.rows/score/purity.parquet")
    write("results/smoke/scores/emoji/efficientnet_lite0/embeddings.json")
    write("results/smoke/saes/emoji/efficientnet_lite0/k8/bank.json")
    write("results/smoke/metrics.csv")
    write("results/logs/embed/emoji.log")
    files.write_json(
        "results/bygone/saes/emoji/efficientnet_lite0/k8/bank.json",
        {"saes": [{"key": "0" * 32}]},
    )
    write("results/bygone/figures/fig5_probe.pdf")
    write("results/bygone/logs/plot/fig1.log")
    write("results/bygone/warnings/train/emoji/efficientnet_lite0/k8.json")
    write(
        "results/bygone/saes/emoji/efficientnet_lite0/k8/reg1/lambda0.01-lr0.1/seed0/"
        "train.parquet"
    )
    write("results/bygone/scores/emoji/efficientnet_lite0/embeddings.json")
    made_by = {
        "data": {},
        "settings": {},
        "input_scale": 1.0,
        "code": "0",
        "device": "cpu",
    }
    files.write_json(STORE / ("0" * 32) / "result.json", {"made_by": made_by})
    # What a killed process leaves, and what one that is alive works on.
    program = "import os, sys; from sae.core.files import scratch_directory as new; "
    program += "folder = new(sys.argv[1]); folder.__enter__(); os._exit(0)"
    subprocess.run(
        [sys.executable, "-c", program, STORE / ("2" * 32)],
        cwd=run,
        env={"PYTHONPATH": str(ROOT)},
    )
    (of_killed,) = STORE.glob(".*.tmp")
    write(of_killed / "train.parquet")
    suffix = of_killed.name.split("-")[-1]
    of_live = of_killed.name.replace(suffix, f"{os.getpid()}.tmp")
    write(of_killed.with_name(of_live))
    # A user's own.
    write("results/notes.txt")
    files.write_json(
        "results/mine/saes/emoji/efficientnet_lite0/k8/bank.json", {"saes": []}
    )
    write("results/mine/figures/draft.pdf")
    write("results/smoke/notes.txt")
    write("results/datasets/birds/photo.png")
    write("results/datasets/notes.txt")
    write("results/artifacts/pictures.zip")
    write("results/activations/emoji/README.md")
    write(f"results/smoke/scores/{CELL}/kept_by_me.csv")
    files.write_json(
        "results/theirs/saes/emoji/efficientnet_lite0/k8/bank.json", {"saes": []}
    )
    write("results/theirs/logs/notes.txt")
    # What a live process, or one of another machine, writes.
    write(f"results/artifacts/.birds.elsewhere-{os.getpid()}.tmp/photo.png")
    return {
        "results/artifacts/emoji_google",
        "results/datasets/emoji",
        "results/activations/emoji/efficientnet_lite0",
        f"results/smoke/scores/{CELL}/k16",
        "results/smoke/scores/emoji/efficientnet_lite0/embeddings.json",
        "results/smoke/saes/emoji/efficientnet_lite0/k8",
        "results/bygone",
        f"{STORE}/{'0' * 32}",
        str(of_killed),
    }


def unused(config=CONFIG):
    """Return the paths that nothing refers to, by a raw config or a loaded one."""
    if isinstance(config, dict):
        config = settings.load(config)
    return {str(path) for path in Survey(config).unused}


def test_the_embeddings_of_a_judge_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        "results/activations/fashion_mnist_smoke/efficientnet_lite2/test/embeddings.npy"
    )
    assert unused() == {"results/activations/fashion_mnist_smoke/efficientnet_lite2"}
    config = copy.deepcopy(CONFIG)
    config["experiments"]["smoke"]["judges"] = ["efficientnet_lite2"]
    assert unused(config) == set()


@pytest.mark.slow
def test_an_sae_is_used_if_a_bank_lists_it_or_a_job_that_was_killed_asked_for_it(run):
    stored = {path.name for path in STORE.iterdir()}
    bank = read(BANK)
    assert stored == {key for entry in bank.saes for key in (entry.key, entry.trained)}
    assert unused() == set()
    config = copy.deepcopy(CONFIG)
    config["experiments"]["smoke"]["sweep"]["reg2"] = {"lambda": [0.0003, 0.001, 0.003]}
    assert unused(config) == set()  # Still listed: the results of now rest on them.
    # As if the run had been killed before it could write the bank; only what it had
    # asked for is known.
    asked_for = [entry.key for entry in bank.saes[:3]]
    shutil.rmtree(BANK.parent)
    files.write_json(BANK.with_name(".unfinished.json"), {"keys": asked_for})
    assert unused() == {f"{STORE}/{key}" for key in stored - set(asked_for)}
    shutil.rmtree(BANK.parent)
    assert unused() == {f"{STORE}/{key}" for key in stored}


def test_prune_deletes_what_unused_lists_and_nothing_else(old, capsys):
    before = everything()
    main("unused")
    output = capsys.readouterr().out
    assert everything() == before
    assert {
        line.split(" MB  ")[1].split(":")[0]
        for line in output.splitlines()
        if " MB  results" in line
    } == old
    for foreign in ("mine/figures/draft.pdf", "datasets/birds/photo.png"):
        kept, name = foreign.split("/", 1)[0], foreign.split("/", 1)[1]
        assert re.search(rf"  results/{kept}.*: .*it holds .*{Path(name).name}", output)
    main("prune", "--yes")
    gone = {
        path
        for path in before
        if any(path == o or path.startswith(f"{o}/") for o in old)
    }
    # With them the folders that they leave empty.
    gone.update(
        [
            "results/smoke/scores/emoji",
            "results/smoke/saes/emoji",
            "results/smoke/scores/emoji/efficientnet_lite0",
            "results/smoke/saes/emoji/efficientnet_lite0",
        ]
    )
    assert everything() == {
        path: content for path, content in before.items() if path not in gone
    }
    main("unused")
    assert "          0.00 MB  in all" in capsys.readouterr().out


def test_what_lies_behind_a_link_is_left_alone(old, capsys):
    linked = ("store", "activations", "bygone")
    for kind in linked:
        shutil.move(f"results/{kind}", kind)
        os.symlink(f"../{kind}", f"results/{kind}")
    before = {str(path) for kind in linked for path in Path(kind).rglob("*")}
    main("prune", "--yes")
    output = capsys.readouterr().out
    assert "  results/activations: a link to ../activations\n" in output
    after = {str(path) for kind in linked for path in Path(kind).rglob("*")}
    assert after == before
    assert all(Path(f"results/{kind}").is_symlink() for kind in linked)
    assert not Path("results/datasets/emoji").exists()
    shutil.move("results", "all")
    os.symlink("all", "results")
    survey = Survey(settings.load(CONFIG))
    assert (survey.unused, list(survey.kept)) == ({}, [Path("results")])


@pytest.mark.slow
def test_what_cannot_be_read_is_kept_and_named(old):
    # Nobody knows which SAEs a broken list names.
    write(BANK, "{")
    write("results/artifacts/emoji_google/artifact.json", "{")
    survey = Survey(settings.load(CONFIG))
    assert str(BANK) in survey.kept[BANK]
    assert "artifact.json" in survey.kept[Path("results/artifacts/emoji_google")]
    assert not any(len(path.name) == 32 for path in survey.unused)


def test_a_run_that_starts_during_prune_is_held_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alive = Path(f".snakemake/alive-{os.uname().nodename}")
    # A run waits where this one is refused at once.
    with housekeeping.no_run(), open(alive) as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not alive.exists()

    # Where there are no locks, nobody can be held off, and no file stays.
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with housekeeping.no_run():
        pass
    assert not alive.exists()


@pytest.mark.slow
def test_prune_refuses_while_a_run_may_be_alive(old):
    def refused():
        with pytest.raises(SystemExit) as stopped:
            main("prune", "--yes")
        assert everything() == before
        return stopped.value.code  # A text: Python prints it and exits with 1.

    before = everything()
    alive = Path(f".snakemake/alive-{os.uname().nodename}")
    write(".snakemake/locks/0.input.lock")
    assert refused().startswith(
        "error: a run of this folder may be alive: "
        "nothing on this machine recorded its owner"
    )
    write(alive)
    # As a run does, or a job that outlived it, after somebody removed Snakemake's lock.
    with open(alive) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        for _ in range(2):
            assert (
                "another Snakemake, or a job of a killed one, is running here. "
                "Nothing was deleted"
            ) in refused()
            shutil.rmtree(".snakemake/locks", ignore_errors=True)
    write(".snakemake/alive-elsewhere")
    assert "it may be of elsewhere, which cannot be seen from here" in refused()
    os.unlink(".snakemake/alive-elsewhere")
    main("prune", "--yes")
    assert not any(Path(path).exists() for path in old)


DEMO = parse_file(ROOT / "config.yaml")
DEMO["experiments"] = {"demo": DEMO["experiments"]["demo"]}


def dangling():
    return [
        path
        for path in Path("results").rglob("*")
        if path.is_symlink() and not path.exists()
    ]


@pytest.fixture
def elsewhere(run):
    """Return the config by which `smoke` was run, `--configfile mine.yaml`.

    Beside it the record of that config. config.yaml has another experiment alone.
    """
    write("config.yaml", yaml.safe_dump(DEMO))
    smoke = {**DEMO, "experiments": {**DEMO["experiments"], **CONFIG["experiments"]}}
    recorded_configs.write_records(smoke, {"smoke", "all"}, [run / "mine.yaml"], {})
    (record,) = Path("results/smoke/configurations").iterdir()
    return smoke, record


@pytest.mark.slow
def test_what_another_configuration_made_is_used(elsewhere, capsys):
    smoke, record = elsewhere
    demo = settings.load(DEMO)
    before = everything()
    main("prune", "--yes")
    assert everything() == before and unused(demo) == set()
    assert f"  {record}: mine.yaml\n" in capsys.readouterr().out
    # An edit of the same file takes the record's place, and other files have another
    # one.
    fewer = copy.deepcopy(smoke)
    fewer["experiments"]["smoke"]["methods"] = ["topk"]
    fewer["experiments"]["smoke"]["sweep"] = {}
    recorded_configs.write_records(
        fewer, {"smoke"}, ["config.yaml", "mine.yaml", "config.yaml"], {}
    )
    assert list(record.parent.iterdir()) == [record]
    recorded_configs.write_records(smoke, {"smoke"}, ["mine.yaml"], {"options": 1})
    assert len(list(record.parent.iterdir())) == 2 and unused(demo) == set()
    # An experiment that is gone takes its records with it.
    shutil.rmtree("results/smoke")
    assert unused(demo) > {f"{STORE}/{path.name}" for path in STORE.iterdir()}


def test_config_yaml_stands_for_itself(elsewhere):
    smoke, record = elsewhere
    machine = copy.deepcopy(smoke)
    machine["compute"]["threads"] = 7
    recorded_configs.write_records(
        machine, {"demo"}, ["config.yaml", "machine.yaml"], {}
    )
    assert not Path("results/demo").exists()
    # Once config.yaml says the same there is no need of the record.
    write("config.yaml", yaml.safe_dump(machine))
    recorded_configs.write_records(smoke, {"smoke"}, ["mine.yaml"], {})
    assert not record.exists()


def test_a_record_that_cannot_be_read_stops_prune(elsewhere):
    _, record = elsewhere
    content = files.read_json(record)
    content["config"]["extensions"] = "nowhere"
    files.write_json(record, content)
    for problem in ("nowhere is no folder", "was altered"):
        before = everything()
        for command in (["unused"], ["prune", "--yes"]):
            pattern = f"^error: recorded configuration {record} .*{problem}.*"
            with pytest.raises(SystemExit, match=f"(?s){pattern}or delete the file"):
                main(*command)
        assert everything() == before
        record.write_bytes(record.read_bytes()[:-9] + b"x\n")


def test_an_experiment_that_is_gone_is_left_whole_or_deleted_whole(run, monkeypatch):
    write("config.yaml", yaml.safe_dump(DEMO))
    write("results/smoke/notes.txt")
    shutil.rmtree("results/activations")
    before = everything()
    main("prune", "--yes")
    assert everything() == before and not dangling()
    Path("results/smoke/notes.txt").unlink()
    stored_count = len(list(STORE.iterdir()))
    replace = os.replace
    moved_paths = []

    def killed(source, target):
        if len(moved_paths) == 2:
            raise KeyboardInterrupt
        moved_paths.append(source)
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        main("prune", "--yes")
    assert not Path("results/smoke").exists()
    assert len(list(STORE.iterdir())) == stored_count - 1
    main("prune", "--yes")
    assert list(Path("results").rglob("*")) == [STORE.parent]


def test_prune_asks_before_it_deletes(old, monkeypatch, capsys):
    before = everything()
    with pytest.raises(
        SystemExit,
        match=r"^error: nothing was deleted, since there is no terminal .*YES=1",
    ):
        main("prune")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for answer in ("", "n", "nay", EOFError):

        def reply(question, answer=answer):
            assert question == f"\nDelete these {len(old)} files and folders? [y/N] "
            if answer is EOFError:
                raise EOFError
            return answer

        monkeypatch.setattr("builtins.input", reply)
        main("prune")
        assert everything() == before
        assert capsys.readouterr().out.endswith("Nothing was deleted.\n")

    # What a run has taken up meanwhile stays.
    def reply(_):
        write("results/datasets/emoji/mine.txt")
        return "Y"

    monkeypatch.setattr("builtins.input", reply)
    main("prune")
    assert {path for path in old if Path(path).exists()} == {"results/datasets/emoji"}
