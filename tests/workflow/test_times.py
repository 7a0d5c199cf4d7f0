"""sae_workflow.times, on files written by hand."""

import pandas as pd
from sae_workflow import times
from sae_workflow.start import start

from sae.core import files

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
    metrics = pd.DataFrame({"dataset": "emoji", "backbone": "lite0", "k": [8, 16, 16], "ms_mean_alive_by_judge": 0.5})
    files.write_parquet(tmp_path / "results/demo/metrics.parquet", metrics)
    start(times.main, "demo", "--out", "times.json")
    assert files.read_json(tmp_path / "times.json")["jobs"] == [
        {"step": "embed", "jobs": 3, "minutes": "3.0", "longest": "90 s", "memory": "700 MiB"},
        {"step": "train", "jobs": 3, "minutes": "2.0", "longest": "60 s", "memory": "400 MiB"},
    ]
