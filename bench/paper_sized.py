"""One cell of the paper at full size on this machine: `python bench/paper_sized.py`.

Per size: write a store of generated embeddings (`sae.data.synthetic`; val and test have 1/25 of its rows each), train
one epoch of a bank of three SAEs (baseline, Reg. 1, Reg. 2) and score it on both splits; at the largest size also
evaluate it, probes included. Each step is the workflow's own command. Writes, after every step, a row to
`OUT/times.csv`: seconds, CPU seconds, peak memory, bytes written; and to `OUT/recovery.csv` what each SAE recovers of
the generator's concepts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from sae.bank import read as bankfile
from sae.core import files
from sae.data import store, synthetic
from sae.models import codes as coding
from sae.scoring.metrics import recovery

TRAINING = {
    "m": 8192,
    "epochs": 1,
    "batch_size": 2048,
    "lr": 0.001,
    "adam_eps": 6.25e-10,
    "decay_fraction": 0.2,
    "auxk_alpha": 0.03125,
    "auxk_k": 512,
    "dead_after": 100_000,
    "input_norm": "unit_l2",
    "unit_variance": True,
    "tied": False,
    "log_every": 10,
}
LAMBDAS = {"off_support_l1": [0.001], "l1_l2_ratio": [0.001]}
PROBE = {"C": [1.0], "max_iter": 10, "max_train": 100_000}


def main():
    """Run all sizes, smallest first, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_281_167])
    parser.add_argument("--share", type=int, default=25, help="rows for each row of val, and of test")
    parser.add_argument("--d", type=int, default=1024)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--concepts", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/bench/paper_sized"))
    parser.add_argument("--write-only", type=int, metavar="ROWS", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.write_only:
        held_out = a.write_only // a.share
        world = synthetic.world(a.d, a.concepts, classes=1000)
        synthetic.write(world, {"train": a.write_only, "val": held_out, "test": held_out}, a.out)
        return
    times, recovered = [], []
    for rows in sorted(a.rows):
        folder = a.out / str(rows)
        folder.mkdir(parents=True, exist_ok=True)
        for step, command in steps(a, rows, folder):
            times.append({"rows": rows, "step": step, "threads": a.threads} | measured(command))
            print(times[-1], flush=True)
            pd.DataFrame(times).to_csv(a.out / "times.csv", index=False)
        recovered += [{"rows": rows} | row for row in truth(folder)]
        pd.DataFrame(recovered).to_csv(a.out / "recovery.csv", index=False)
    print(pd.DataFrame(times).to_string(index=False))
    print(pd.DataFrame(recovered).to_string(index=False))


def steps(a, rows, folder):
    """(name, command) of each step."""
    sae, options = [sys.executable, "-m", "sae"], ["--threads", str(a.threads), "--device", a.device]
    same = ["--d", str(a.d), "--concepts", str(a.concepts), "--share", str(a.share)]
    activations = ["--activations", str(folder / "store")]
    yield "cache", [sys.executable, __file__, "--write-only", str(rows), *same, "--out", str(folder / "store")]
    plan = {"dataset": "synthetic", "backbone": "synthetic", "k": a.k, "seeds": [0], "mask": "batch_active"}
    plan |= {"lambdas": LAMBDAS, "training": TRAINING}
    bank = folder / "bank.json"
    train = ["--settings", json.dumps(plan), "--store", str(folder / "saes"), "--out", str(bank)]
    yield "train", [*sae, "train", *activations, *train, *options]
    scores = folder / "scores.parquet"
    score = ["--bank", str(bank), "--scores", str(scores), "--curves", str(folder / "curves.parquet")]
    yield "score", [*sae, "score", *activations, *score, *options]
    if rows < max(a.rows):
        return
    ablation = folder / "bank_all.json"
    files.write_json(ablation, {"dataset": "synthetic", "backbone": "synthetic", "k": a.k, "saes": []})
    evaluate = ["--bank", str(bank), "--ablation", str(ablation), "--scores", str(scores), "--judges"]
    settings = json.dumps({"largest": a.k, "probe": PROBE})
    yield (
        "evaluate",
        [*sae, "evaluate", *activations, *evaluate, "--out", str(folder), "--settings", settings, *options],
    )


def measured(command):
    """Run a command: seconds, CPU seconds, its peak resident memory and the bytes it wrote to disk."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {command}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),
        "written_gb": round(used.ru_oublock * 512 / 1e9, 2),
    }


def truth(folder):
    """Per SAE of the bank, what it recovers of the generator's concepts on test."""
    test = store.read(folder / "store/test")
    strengths = scipy.sparse.load_npz(folder / "store/truth/test.npz")
    dictionary = np.load(folder / "store/truth/dictionary.npy")
    bank = files.read_json(folder / "bank.json")
    scores = pd.read_parquet(folder / "scores.parquet").query("split == 'test'").set_index(["regularizer", "lambda"])
    for entry in bank["saes"]:
        model = bankfile.open_sae(folder / "bank.json", bank, entry)
        with torch.inference_mode():
            codes = coding.encode(model, model.open_inputs(test.embeddings))
        found = recovery.score(model.W_dec.numpy(), codes, dictionary, strengths)
        scored = scores.loc[(entry["regularizer"], entry["lambda"]), ["r2", "ms_mean_alive", "dead"]]
        yield {"regularizer": entry["regularizer"], "lambda": entry["lambda"]} | scored.to_dict() | asdict(found)


if __name__ == "__main__":
    main()
