"""One cell of the paper at full size on this machine: `python bench/paper_sized.py`, from the project's root.

Per size it writes a store of generated embeddings (`sae.data.synthetic`; val and test have 1/25 of its rows each),
trains one epoch of a bank of three SAEs (`topk`, `reg1`, `reg2`), selects, and runs the stage `score`. At the largest
size it also runs the stages of chosen SAEs: `score_chosen`, `robustness`, `probe`. Each step is the workflow's own
command. After every step it writes a row to `OUT/times.csv`: seconds, CPU seconds, peak memory, bytes written.
`OUT/recovery.csv` gets what each SAE recovers of the generator's concepts. `--tiny` does all of it in seconds, to see
that it works.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from sae.bank import read as bankfile
from sae.core import files, paths, registry
from sae.data import store, synthetic
from sae.scoring import recovery

RECIPE: dict[str, Any] = {
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
    "precision": "float32",
}
TINY = {"m": 64, "batch_size": 256, "auxk_k": 8}
PENALTIES = {"topk": None, "reg1": "off_support_l1", "reg2": "l1_l2_ratio"}
PROBE = {"C": [1.0], "max_iter": 10, "max_train": 100_000}


def main() -> None:
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
    parser.add_argument("--tiny", action="store_true")
    a = parser.parse_args()
    recipe, probe, classes = RECIPE, PROBE, 1000
    if a.tiny:
        a.rows, a.d, a.k, a.concepts, classes = [1500], 24, 4, 48, 10
        recipe, probe = RECIPE | TINY, PROBE | {"max_train": 500}
    plan, options = bank_plan(a.k, recipe), ["--threads", str(a.threads), "--device", a.device]
    times: list[dict[str, Any]] = []
    recovered: list[dict[str, Any]] = []
    for rows in sorted(a.rows):
        folder = a.out / str(rows)
        folder.mkdir(parents=True, exist_ok=True)
        cache = write_command([rows, rows // a.share, a.d, a.concepts, classes], folder)
        for step, command in [("cache", cache), *commands(folder, plan, probe | {"largest": a.k}, options)]:
            if rows < max(a.rows) and step in ("score_chosen", "robustness", "probe", "probe_embeddings"):
                continue
            times.append({"rows": rows, "step": step, "threads": a.threads} | measured(command))
            print(times[-1], flush=True)
            pd.DataFrame(times).to_csv(a.out / "times.csv", index=False)
        recovered += [{"rows": rows} | row for row in truth(folder)]
        pd.DataFrame(recovered).to_csv(a.out / "recovery.csv", index=False)
    print(pd.DataFrame(times).to_string(index=False))
    print(pd.DataFrame(recovered).to_string(index=False))


def write_command(sizes: list[int], folder: Path) -> list[str]:
    """The command that writes `folder`/store; sizes: rows of train, of val and test, d, concepts, classes."""
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import paper_sized as p; p.write"
    return [sys.executable, "-c", f"{program}(*{sizes}, {str(folder / 'store')!r})"]


def write(rows: int, held_out: int, d: int, concepts: int, classes: int, out: str) -> None:
    """Write a store, in a process of its own, since its memory is measured."""
    world = synthetic.world(d, concepts, classes=classes)
    synthetic.write(world, {"train": rows, "val": held_out, "test": held_out}, Path(out))


def bank_plan(k: int, recipe: dict[str, Any], penalties: dict[str, str | None] = PENALTIES) -> dict[str, Any]:
    """The plan of a bank with one SAE of each method."""
    methods: dict[str, dict[str, Any]] = {
        name: {
            "objective": "topk",
            "penalty": penalty,
            "mask": "batch_active" if penalty else None,
            "lambda": 0.001 if penalty else None,
            "options": {},
            "recipe": {},
            "sweep": {},
            "at": None,
            "against": "topk" if penalty and "topk" in penalties else None,
        }
        for name, penalty in penalties.items()
    }
    head = {"dataset": "synthetic", "backbone": "synthetic", "k": k, "seeds": [0]}
    return head | {"recipe": recipe, "methods": methods}


def commands(
    folder: Path, plan: dict[str, Any], probe: dict[str, Any], options: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """(rule, command) of all that the workflow does with a bank; everything lies in `folder`."""
    bank, selection = folder / "bank.json", folder / "scores/selection.parquet"
    given = ["--activations", str(folder / "store"), *options]

    def step(name: str, out: Path, settings: dict[str, Any], *more: str) -> list[str]:
        told = ["--out", str(out), "--settings", json.dumps(settings)]
        return [sys.executable, "-m", "sae", name, *given, *told, *more]

    methods = {name: {"against": spec["against"], "sweep": []} for name, spec in plan["methods"].items()}
    of_bank, chosen = ["--bank", str(bank)], ["--bank", str(bank), "--selection", str(selection)]
    yield "train", step("train", bank, plan, "--store", str(folder / "saes"))
    yield "select", step("select", selection, {"methods": methods, "protocol": "paper"}, *of_bank)
    for stage in paths.STAGES:
        settings = {"metrics": {name: probe if name == "probe" else {} for name in metrics(stage)}}
        files_of = of_bank if stage == "score" else chosen
        yield stage, step("score", folder / "scores" / stage, settings, "--stage", stage, *files_of)
    told = ["--out", str(folder / "embeddings.json"), "--settings", json.dumps(probe)]
    where = ["--activations", str(folder / "store"), "--threads", options[options.index("--threads") + 1]]
    yield "probe_embeddings", [sys.executable, "-m", "sae", "probe", *where, *told]


def metrics(stage: str) -> list[str]:
    """The metrics of a stage."""
    return [name for name in registry.names("metric") if registry.head("metric", name).constants["STAGE"] == stage]


def measured(command: list[str]) -> dict[str, float]:
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


def truth(folder: Path) -> Iterator[dict[str, Any]]:
    """Per SAE of the bank, what it recovers of the generator's concepts on test."""
    test = store.read(folder / "store/test")
    strengths = scipy.sparse.load_npz(folder / "store/truth/test.npz")
    dictionary = np.load(folder / "store/truth/dictionary.npy")
    bank = files.read_json(folder / "bank.json")
    scores = pd.read_parquet(folder / "scores/score/metrics.parquet").query("split == 'test'").set_index("method")
    for entry in bank["saes"]:
        coder = bankfile.open_sae(folder / "bank.json", bank, entry)
        with torch.inference_mode():
            codes = coder.encode(coder.open_inputs(test.embeddings))
        found = recovery.score(coder.W_dec.numpy(force=True), codes, dictionary, strengths)
        scored = scores.loc[entry["method"], ["r2", "ms_mean_alive", "dead"]]
        yield {"method": entry["method"]} | scored.to_dict() | asdict(found)


if __name__ == "__main__":
    main()
