"""What fixing thresholds on held-out images changes: L0 and R^2 on validation, as trained and as judged.

    python bench/thresholds.py results/rivals/saes/emoji_vendors/efficientnet_lite0/k32/bank.json

A row for each method with thresholds in a bank's file: of its SAEs the mean L0 and R^2 on validation images, first with
the thresholds that training fixed (k latents on training images), then with those that the bank has (k on validation).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sae.bank.read import open_sae
from sae.core import files, paths
from sae.data import store
from sae.models import inputs, saefile
from sae.models.coder import Coder


def measured(coder: Coder, x: torch.Tensor) -> tuple[float, float]:
    """L0 and R^2 of prepared inputs (N, d)."""
    codes = coder.encode(x)
    error = (x - coder.reconstruct(x, codes)).square().sum() / (x - x.mean(dim=0)).square().sum()
    return len(codes.values) / len(x), 1 - error.item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    file = parser.parse_args().bank
    bank = files.read_json(file, "bank")
    folder = Path(paths.ACTIVATIONS.format(**bank))
    held_out = np.asarray(store.read(folder / "val").embeddings)
    rows = []
    for entry in bank["saes"]:
        if entry["status"] != "ok":
            continue
        coder, place = open_sae(file, bank, entry), file.parent / bank["store"]
        made_by = files.read_json(place / entry["key"] / "result.json")["made_by"]
        if "thresholds" not in made_by:
            continue
        x = inputs.open_inputs(held_out, coder.input_norm, coder.input_scale, "cpu")[:]
        trained = saefile.load(place / made_by["thresholds"]["of"] / "sae.safetensors")
        rows.append((entry["method"], *measured(trained, x), *measured(coder, x)))
    names = ["method", "L0 as trained", "R2 as trained", "L0", "R2"]
    print(pd.DataFrame(rows, columns=names).groupby("method").mean().round(4).to_string())


if __name__ == "__main__":
    main()
