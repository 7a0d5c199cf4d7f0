"""workflow/housekeeping.py, on a bank that was really trained and on small files written by hand."""

import copy
import fcntl
import json
import os
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
from sae_workflow import settings
from sae_workflow.housekeeping import Survey, main, sizes

from sae.bank.train import Place, train_bank
from sae.data import store

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
CONFIG["experiments"] = {"smoke": CONFIG["experiments"]["smoke"]}
CELL = "fashion_mnist_smoke/efficientnet_lite0"
BANK = Path(f"results/smoke/saes/{CELL}/k8/bank.json")
STORE = Path("results/store/saes")


def write(path, text="x"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def everything():
    """{path: content, or where a link leads} of results/."""
    found = [Path(folder) / name for folder, names, files in os.walk("results") for name in names + files]
    return {
        str(p): os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None for p in sorted(found)
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """results/ with embeddings and the bank of `smoke`, and its members without the mask in bank_all.json."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    embeddings = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    activations = folder / "results/activations" / CELL
    store.write(activations / "train", [embeddings], pd.DataFrame({"image_id": range(150)}), {})
    plan = settings.bank_plan(CONFIG, "smoke", *CELL.split("/"), 8)
    for mask, name in (("batch_active", "bank.json"), ("all", "bank_all.json")):
        out = folder / BANK.with_name(name)
        train_bank(plan | {"mask": mask}, activations, Place(folder / STORE, out), device="cpu")
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A working directory with a copy of it."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def old(run):
    """Adds what nothing refers to, and beside it what is ours to keep or not ours; returns the former, as paths."""
    write("results/README.md")
    write("results/artifacts/fashion_mnist/artifact.json", '{"files": {"data.gz": "0"}}')
    write("results/artifacts/emoji_google/artifact.json", '{"files": {"emoji.ttf": "0"}}')
    write("results/artifacts/emoji_google/emoji.ttf")
    write("results/datasets/fashion_mnist_smoke/index.parquet")
    write("results/datasets/emoji/index.parquet")
    write("results/activations/emoji/efficientnet_lite0/test/embeddings.npy", "x" * 1000)
    write("results/activations/emoji/efficientnet_lite0/.embedding-0/0-of-1/train.npy")
    write(f"results/activations/{CELL}/.embedding-1/0-of-2/train.npy")
    write(f"results/smoke/scores/{CELL}/k8/scores.parquet")
    write(f"results/smoke/scores/{CELL}/embeddings.json")
    write(f"results/smoke/scores/{CELL}/k16/scores.parquet")
    write("results/smoke/scores/emoji/efficientnet_lite0/embeddings.json")
    write("results/smoke/saes/emoji/efficientnet_lite0/k8/bank.json")
    write("results/smoke/metrics.csv")
    write("results/logs/embed/emoji.log")
    write("results/bygone/saes/emoji/efficientnet_lite0/k8/bank.json", '{"saes": [{"key": "%s"}]}' % ("0" * 32))
    write("results/bygone/figures/fig5_probe.pdf")
    write("results/bygone/logs/plot/fig1.log")
    result = {"made_by": {"dataset": "emoji", "backbone": "b", "regularizer": "none", "settings": {}, "code": "0"}}
    result["made_by"] |= {"input_scale": 1.0, "device": "cpu", "data": {}}
    write(STORE / ("0" * 32) / "result.json", json.dumps(result))
    # What a killed process leaves, and what one that is alive works on.
    program = "import os, sys; from sae.core.files import scratch_directory as s; c = s(sys.argv[1]); c.__enter__(); os._exit(0)"
    subprocess.run([sys.executable, "-c", program, STORE / ("2" * 32)], cwd=run, env={"PYTHONPATH": str(ROOT)})
    (left,) = STORE.glob(".*.tmp")
    write(left / "train.parquet")
    write(left.with_name(left.name.replace(left.name.split("-")[-1], f"{os.getpid()}.tmp")))
    # A user's own.
    write("results/notes.txt")
    write("results/mine/saes/emoji/efficientnet_lite0/k8/bank.json")
    write("results/mine/figures/draft.pdf")
    write("results/smoke/notes.txt")
    write("results/datasets/birds/photo.png")
    return {
        "results/artifacts/emoji_google",
        "results/datasets/emoji",
        "results/activations/emoji/efficientnet_lite0",
        f"results/smoke/scores/{CELL}/k16",
        "results/smoke/scores/emoji/efficientnet_lite0/embeddings.json",
        "results/smoke/saes/emoji/efficientnet_lite0/k8",
        "results/bygone",
        f"{STORE}/{'0' * 32}",
        str(left),
    }


def unused(config=CONFIG):
    return set(map(str, Survey(config).unused))


def test_sizes_count_a_file_once_and_follow_no_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("results/artifacts/a/b", "x" * 10)
    write("results/activations/d/b/train/embeddings.npy", "x" * 200)
    Path("results/activations/d/b/.embedding-0").mkdir()
    os.link("results/activations/d/b/train/embeddings.npy", "results/activations/d/b/.embedding-0/train.npy")
    write("results/store/saes/0/sae", "x" * 3000)
    write("results/smoke/metrics.csv", "x" * 40000)
    os.symlink("../store/saes/0", "results/smoke/sae")
    write("results/bygone/saes/sae", "x" * 500000)
    write("results/notes.txt", "x" * 6000000)
    write("elsewhere/file")
    os.symlink("../elsewhere", "results/datasets")
    link = os.lstat("results/datasets")
    assert link.st_size > 0
    assert sizes(CONFIG) == {
        "artifacts": 10,
        "weights": 0,
        "datasets": 0,
        "activations": 200,
        "store/saes": 3000,
        "bygone": 500000,
        "smoke": 40000,
        "anything else": 6000000,
    }


def test_an_sae_is_used_if_a_bank_lists_it_or_would_train_it(run):
    keys = {f"{STORE}/{path.name}" for path in STORE.iterdir()}
    assert len(keys) == 9 + 8 and unused() == set()
    config = copy.deepcopy(CONFIG)
    config["experiments"]["smoke"]["lambdas"]["l1_l2_ratio"] = [0.0003, 0.001, 0.003]
    assert unused(config) == set()  # Still listed: the results of now rest on them.
    # As if the run had been killed before it could write the lists.
    listed = [
        entry
        for name in ("bank.json", "bank_all.json")
        for entry in json.loads(BANK.with_name(name).read_text())["saes"]
    ]
    BANK.unlink()
    BANK.with_name("bank_all.json").unlink()
    assert unused() == set()
    dropped = {e["key"] for e in listed if (e["regularizer"], e["lambda"]) == ("l1_l2_ratio", 0.01)}
    assert len(dropped) == 2 and unused(config) == {f"{STORE}/{key}" for key in dropped}
    for part, key, value in (
        ("training", "smoke", CONFIG["training"]["smoke"] | {"lr": 0.002}),
        ("training", "smoke", CONFIG["training"]["smoke"] | {"unit_variance": False}),
    ):
        assert unused(CONFIG | {part: CONFIG[part] | {key: value}}) == keys
    # Made on a GPU through a profile, of which config.yaml knows nothing.
    assert unused(CONFIG | {"compute": CONFIG["compute"] | {"device": "cuda"}}) == set()
    # Other code, then other embeddings, then none that anybody could compare.
    (changed,) = (
        STORE / e["key"] for e in listed if (e["lambda"], e["mask"]) == (0.003, "all") and "l2" in e["regularizer"]
    )
    result = json.loads((changed / "result.json").read_text())
    result["made_by"]["code"] = "0" * 16
    write(changed / "result.json", json.dumps(result))
    assert unused() == {str(changed)}
    manifest = Path(f"results/activations/{CELL}/train/manifest.json")
    found = json.loads(manifest.read_text())
    write(manifest, json.dumps(found | {"sha256": found["sha256"] | {"index.parquet": "0"}}))
    assert unused() == keys
    manifest.unlink()
    assert unused() == {str(changed)}


def test_prune_deletes_what_unused_lists_and_nothing_else(old, capsys):
    before = everything()
    main("unused")
    said = capsys.readouterr().out
    assert everything() == before
    assert {line.split(" MB  ")[1].split(":")[0] for line in said.splitlines() if " MB  results" in line} == old
    for foreign in (
        "notes.txt",
        "mine: it holds figures/draft.pdf",
        "smoke/notes.txt",
        "datasets/birds: it holds photo.png",
    ):
        assert f"  results/{foreign}\n" in said
    main("prune")
    gone = {path for path in before if any(path == o or path.startswith(f"{o}/") for o in old)}
    # With them the folders that they leave empty.
    gone |= {f"results/{path}" for path in ("activations/emoji", "smoke/scores/emoji", "smoke/saes/emoji")}
    gone |= {f"results/smoke/{kind}/emoji/efficientnet_lite0" for kind in ("scores", "saes")}
    assert everything() == {path: content for path, content in before.items() if path not in gone}
    main("unused")
    assert "          0.00 MB  in all" in capsys.readouterr().out


def test_what_lies_behind_a_link_is_left_alone(old, capsys):
    for kind in ("store", "activations", "bygone"):
        shutil.move(f"results/{kind}", kind)
        os.symlink(f"../{kind}", f"results/{kind}")
    shared = {str(p) for kind in ("store", "activations", "bygone") for p in Path(kind).rglob("*")}
    main("prune")
    said = capsys.readouterr().out
    assert "  results/store: ../store\n" in said and "  results/activations: ../activations\n" in said
    assert {str(p) for kind in ("store", "activations", "bygone") for p in Path(kind).rglob("*")} == shared
    assert all(Path(f"results/{kind}").is_symlink() for kind in ("store", "activations", "bygone"))
    assert not Path("results/datasets/emoji").exists()
    shutil.move("results", "all")
    os.symlink("all", "results")
    survey = Survey(CONFIG)
    assert (survey.unused, survey.shared) == ({}, [Path("results")])


def test_what_cannot_be_read_is_kept_and_named(old):
    broken = STORE / ("0" * 32)
    for text in ("{", "[]", '{"made_by": {}}', None):
        write(broken / "result.json", text) if text else (broken / "result.json").unlink()
        survey = Survey(CONFIG)
        assert set(survey.unreadable) == {broken} and set(map(str, survey.unused)) == old - {str(broken)}
    # Nobody knows which SAEs a broken list names.
    write(BANK, "{")
    write("results/artifacts/emoji_google/artifact.json", "{")
    survey = Survey(CONFIG)
    assert set(survey.unreadable) == {BANK, Path("results/artifacts/emoji_google/artifact.json")}
    assert str(BANK) in survey.unreadable[BANK] and not any(len(path.name) == 32 for path in survey.unused)


def test_prune_refuses_while_a_run_may_be_alive(old):
    def refused():
        with pytest.raises(SystemExit) as stopped:
            main("prune")
        assert everything() == before
        return stopped.value.code  # A text: Python prints it and exits with 1.

    before = everything()
    alive = Path(f".snakemake/alive-{os.uname().nodename}")
    write(".snakemake/locks/0.input.lock")
    assert refused().startswith("error: a run of this folder may be alive: nothing on this machine recorded its owner")
    write(alive)
    with open(alive) as file:  # As a run does, or a job that outlived it, after somebody removed Snakemake's lock.
        fcntl.flock(file, fcntl.LOCK_SH)
        for _ in range(2):
            assert "another Snakemake, or a job of a killed one, is running here. Nothing was deleted" in refused()
            shutil.rmtree(".snakemake/locks", ignore_errors=True)
    write(".snakemake/alive-elsewhere")
    assert "it may be of elsewhere, which cannot be seen from here" in refused()
    os.unlink(".snakemake/alive-elsewhere")
    main("prune")
    assert not any(Path(path).exists() for path in old)
