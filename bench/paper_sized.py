"""One cell of the paper at full size on this machine: `python bench/paper_sized.py`, from the project's root.

Per size it writes a store of generated embeddings (`sae.data.synthetic`; val and test have 1/25 of its rows each),
trains a bank of three SAEs (`topk`, `reg1`, `reg2`) for one epoch, selects, and runs the stage `score`. At the largest
size it also runs the stages of chosen SAEs: `robustness`, `probe`. Each step is the workflow's own command. With
`--whole` the recipe is `paper` of config.yaml, of 50 epochs: `--rows 128117 --whole` is a tenth of ImageNet and of the
steps; all sizes take days on a CPU. After every step it writes a row to `OUT/times.csv`: seconds, CPU seconds,
peak memory, bytes written. `OUT/recovery.csv` gets what each SAE recovers of the generator's concepts. `--tiny` does
all of it in seconds, to see that it works.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from _cell import PROBE, RECIPE, bank_plan, commands, measured, write_command

from sae.bank.read import read as read_bank
from sae.config.load import read_config
from sae.data import store
from sae.scoring.metrics import recovery

ROOT = Path(__file__).parent.parent
TINY = {"m": 64, "batch_size": 256, "auxk_k": 8}


def main() -> None:
    """Run all sizes, smallest first, and print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[100_000, 300_000, 1_281_167]
    )
    parser.add_argument(
        "--share", type=int, default=25, help="rows for each row of val, and of test"
    )
    parser.add_argument("--d", type=int, default=1024)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--concepts", type=int, default=4096)
    parser.add_argument(
        "--whole", action="store_true", help="the recipe `paper` instead of one epoch"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/bench/paper_sized"))
    parser.add_argument("--tiny", action="store_true")
    a = parser.parse_args()
    recipe, probe, classes = RECIPE, PROBE, 1000
    if a.whole:
        recipe = read_config(ROOT / "config.yaml").training["paper"].model_dump()
    if a.tiny:
        a.rows, a.d, a.k, a.concepts, classes = [1500], 24, 4, 48, 10
        recipe, probe = recipe | TINY, PROBE | {"max_train": 500}
    plan, options = (
        bank_plan(a.k, recipe),
        ["--threads", str(a.threads), "--device", a.device],
    )
    times: list[dict[str, Any]] = []
    recovered: list[dict[str, Any]] = []
    for rows in sorted(a.rows):
        folder = a.out / str(rows)
        folder.mkdir(parents=True, exist_ok=True)
        cache = write_command(
            [rows, rows // a.share, a.d, a.concepts, classes], folder / "store"
        )
        for step, command in [
            ("cache", cache),
            *commands(
                folder, folder / "store", plan, probe | {"largest": a.k}, options
            ),
        ]:
            if rows < max(a.rows) and step in (
                "robustness",
                "probe",
                "probe_embeddings",
            ):
                continue
            times.append(
                {"rows": rows, "step": step, "threads": a.threads} | measured(command)
            )
            print(times[-1], flush=True)
            pd.DataFrame(times).to_csv(a.out / "times.csv", index=False)
        recovered += [{"rows": rows} | row for row in truth(folder)]
        pd.DataFrame(recovered).to_csv(a.out / "recovery.csv", index=False)
    print(pd.DataFrame(times).to_string(index=False))
    print(pd.DataFrame(recovered).to_string(index=False))


def truth(folder: Path) -> Iterator[dict[str, Any]]:
    """Per SAE of the bank, what it recovers of the generator's concepts on test."""
    test = store.read(folder / "store/test")
    strengths = scipy.sparse.load_npz(folder / "store/truth/test.npz")
    dictionary = np.load(folder / "store/truth/dictionary.npy")
    bank = read_bank(folder / "bank.json")
    scores = (
        pd.read_parquet(folder / "scores/score/metrics.parquet")
        .query("split == 'test'")
        .set_index("method")
    )
    for entry in bank.saes:
        coder = bank.open(entry)
        with torch.inference_mode():
            codes = coder.encode(coder.open_inputs(test.embeddings))
        found = recovery.of_codes(
            coder.W_dec.numpy(force=True), codes, dictionary, strengths
        )
        scored = scores.loc[entry.method, ["r2", "ms_mean_alive", "dead"]]
        yield {"method": entry.method} | scored.to_dict() | found


if __name__ == "__main__":
    main()
