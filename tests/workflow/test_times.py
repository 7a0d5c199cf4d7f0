"""sae_workflow.times and sae_workflow.check, on files written by hand."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from sae_workflow import check, times
from sae_workflow.command_line import run_command

from sae.bank import store
from sae.core import files, paths
from sae.data.splits import SPLITS

HEAD = "s\tcpu_time\tmax_rss\n"


def test_times_are_those_of_the_experiments_own_banks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = {
        "logs/embed/emoji/lite0.tsv": (90, 500),
        "logs/embed/emoji/lite0/0-of-2.tsv": (30, 700),
        "logs/embed/emoji/judge.tsv": (60, 600),
        "logs/embed/emoji/elsewhere.tsv": (1000, 9000),
        "demo/logs/train/emoji/lite0/k8.tsv": (10, 300),
        "demo/logs/train/emoji/lite0/k16.tsv": (50, 400.4),
        "demo/logs/train/emoji/lite0/k16/1-of-3.tsv": (60, 300),
        "demo/logs/train/emoji/lite0/k32.tsv": (1000, 9000),  # Of an earlier config.
        "demo/logs/bygone/emoji/lite0/k32.tsv": (1000, 9000),
    }
    for name, (seconds, memory) in jobs.items():
        file = tmp_path / "results" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{HEAD}{seconds}\t1\t{memory}\n")
    metrics = pd.DataFrame({"dataset": "emoji", "backbone": "lite0", "k": [8, 16, 16]})
    files.write_parquet(tmp_path / "results/demo/metrics.parquet", metrics)
    made_by = {"cells": {"emoji / lite0": {}, "emoji / judge": {}}}
    files.write_json(tmp_path / "results/demo/made_by.json", made_by)
    run_command(times.main, "demo", "--out", "times.json")
    assert files.read_json(tmp_path / "times.json")["jobs"] == [
        {
            "step": "embed",
            "jobs": 3,
            "minutes": "3.0",
            "longest": "90 s",
            "memory": "700 MiB",
        },
        {
            "step": "train",
            "jobs": 3,
            "minutes": "2.0",
            "longest": "60 s",
            "memory": "400 MiB",
        },
    ]
    # Also where standard streams are closed: the site's job would fail.
    again = f"'{sys.executable}' -m sae_workflow.times demo --out again.json"
    subprocess.run(["bash", "-c", f"{again} <&- >&- 2>&-"], check=True)
    assert Path("again.json").read_bytes() == Path("times.json").read_bytes()


def test_warnings_are_listed_once_with_the_jobs_that_they_are_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = "dataset emoji: 3 of 9 images cannot be read"
    silent = "{}: mine seed 0: penalty mine had no gradient"
    warnings_of_file = {
        "warnings/dataset/emoji": [broken],
        "warnings/dataset/elsewhere": ["of another experiment"],
        "warnings/embed/emoji/lite0/0-of-2": ["1 is zero"],
        "warnings/embed/emoji/lite0/1-of-2": ["1 is zero"],
        "warnings/embed/emoji/elsewhere": ["of another experiment"],
        "warnings/imported/theirs": ["it explains nothing"],
        "demo/warnings/train/emoji/lite0/k8": [silent.format("emoji / lite0 / k8")],
        "demo/warnings/train/emoji/lite0/k16": [silent.format("emoji / lite0 / k16")],
        "demo/warnings/train/emoji/lite0/k32": ["of an earlier config"],
        "demo/warnings/collect": ["of all cells"],
        "demo/warnings/plot/fig1": ["too many points"],
    }
    for name, texts in warnings_of_file.items():
        files.write_json(f"results/{name}.json", {"warnings": texts})
    metrics = {
        "dataset": "emoji",
        "backbone": "lite0",
        "k": [8, 16],
        "method": "theirs",
    }
    files.write_parquet("results/demo/metrics.parquet", pd.DataFrame(metrics))
    files.write_json("results/demo/made_by.json", {"cells": {"emoji / lite0": {}}})
    assert sorted(times.warnings_of_jobs("demo")) == [
        "collect: of all cells",
        "dataset emoji: 3 of 9 images cannot be read",
        "embed emoji/lite0: 1 is zero",
        "imported theirs: it explains nothing",
        "plot fig1: too many points",
        "train emoji/lite0/k16, train emoji/lite0/k8: mine seed 0: penalty mine had no "
        "gradient",
    ]


def test_what_an_earlier_config_left_is_not_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    banks = {
        ("old", "lite0", 8): "gone.safetensors",
        ("new", "lite0", 8): None,
        ("new", "lite0", 16): "gone",
    }
    made_sae = {"recipe": "any"}
    key = store.store_key(made_sae)
    files.write_json(Path(paths.STORE) / key / store.RESULT_FILE, {"made_by": made_sae})
    for (dataset, backbone, k), sae in banks.items():
        place = {"dataset": dataset, "backbone": backbone, "k": k}
        saes = [{"path": sae, "sha256": "0", "key": key}]
        bank = paths.BANK.format(experiment="demo", **place)
        files.write_json(bank, {**place, "saes": saes})
    for backbone in ("lite0", "judge"):
        for split in SPLITS:
            file = paths.EMBEDDINGS_MANIFEST.format(
                dataset="new", backbone=backbone, split=split
            )
            files.write_json(file, {"sha256": {}})
    index = tmp_path / paths.DATASET.format(dataset="new")
    index.parent.mkdir(parents=True)
    index.with_name("index.parquet").write_bytes(b"index")
    files.write_json(index, {"sha256": files.sha256(index.with_name("index.parquet"))})
    metrics = pd.DataFrame({"dataset": ["new"], "backbone": "lite0", "k": 8})
    files.write_parquet("results/demo/metrics.parquet", metrics)
    made_by = {"cells": {"new / lite0": {}, "new / judge": {}}}
    files.write_json("results/demo/made_by.json", made_by)
    assert check.main("demo") == 0, capsys.readouterr().err
    of_judge = {"dataset": "new", "backbone": "judge", "split": "test"}
    file = Path(paths.EMBEDDINGS_MANIFEST.format(**of_judge))
    content = file.read_bytes()
    file.write_bytes(content.replace(b"sha256", b"sha257"))
    assert check.main("demo") and str(file) in capsys.readouterr().err
    file.write_bytes(content)
    bank = paths.BANK.format(experiment="demo", dataset="new", backbone="lite0", k=8)
    Path(bank).unlink()
    assert check.main("demo")
    assert "new / lite0 / 8, which has no bank.json" in capsys.readouterr().err
