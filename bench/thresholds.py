"""What fixing thresholds on held-out images changes: L0 and R^2 on validation, as trained and as judged.

    python bench/thresholds.py results/rivals/saes/emoji_vendors_split1/efficientnet_lite0/k32/bank.json

A row for each method with thresholds in a bank's file: of its SAEs the mean L0 and R^2 on validation images, first with
the thresholds that training fixed (k latents on training images), then with those that the bank has (k on validation).
`--tiny` trains such a bank on generated embeddings first, in seconds, to see that it runs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _cell import RECIPE, bank_plan, measured, write_command

from sae.bank.read import read as read_bank
from sae.core import files, paths
from sae.data import store
from sae.models import inputs, saefile
from sae.models.coder import Coder


def of_inputs(coder: Coder, x: torch.Tensor) -> tuple[float, float]:
    """L0 and R^2 of prepared inputs (N, d)."""
    codes = coder.encode(x)
    error = (x - coder.reconstruct(x, codes)).square().sum() / (
        x - x.mean(dim=0)
    ).square().sum()
    return len(codes.values) / len(x), 1 - error.item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("bank", type=Path, nargs="?")
    what.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    if a.tiny:
        with tempfile.TemporaryDirectory() as name:
            report(tiny_bank(Path(name)), Path(name) / "store")
    else:
        report(
            a.bank, Path(paths.ACTIVATIONS.format(**files.read_json(a.bank, "bank")))
        )


def tiny_bank(folder: Path) -> Path:
    """Train a bank with thresholds in a folder, on generated embeddings in its `store`."""
    plan = bank_plan(
        4, RECIPE | {"m": 64, "auxk_k": 32, "batch_size": 64}, {"topk": None}
    )
    plan["methods"]["batch_topk"] = plan["methods"]["topk"] | {
        "objective": "batch_topk",
        "against": "topk",
    }
    embeddings, bank = folder / "store", folder / "bank.json"
    measured(write_command([600, 120, 16, 64, 4], embeddings))
    places = [
        "--activations",
        str(embeddings),
        "--store",
        str(folder / "saes"),
        "--bank",
        str(bank),
    ]
    places += ["--scores", str(folder / "scores")]
    measured(
        [sys.executable, "-m", "sae", "train", *places, "--settings", json.dumps(plan)]
    )
    return bank


def report(file: Path, activations: Path) -> None:
    """Print the table of a bank, whose embeddings lie in `activations`."""
    bank = read_bank(file)
    held_out = np.asarray(store.read(activations / "val").embeddings)
    rows = []
    for entry in filter(lambda e: e.ok, bank.saes):
        coder, place = bank.open(entry), file.parent / bank.store
        made_by = files.read_json(place / entry.key / "result.json")["made_by"]
        if "thresholds" not in made_by:
            continue
        x = inputs.open_inputs(held_out, coder.input_norm, coder.input_scale, "cpu")[:]
        trained = saefile.load(place / made_by["thresholds"]["of"] / "sae.safetensors")
        rows.append((entry.method, *of_inputs(trained, x), *of_inputs(coder, x)))
    names = ["method", "L0 as trained", "R2 as trained", "L0", "R2"]
    print(
        pd.DataFrame(rows, columns=names).groupby("method").mean().round(4).to_string()
    )


if __name__ == "__main__":
    main()
