"""MS of every trial by backbones of other families, which the run has of candidates alone: PART/independent.csv.

By numpy alone, from the stored SAEs, in the checkout where the part was run. Test split, tuning seed 0. The arguments
are the part, its backbone, and the backbones of other families:

    python docs/rivals/independent.py fashion_lite0 efficientnet_lite0 dinov2_vit_s14
    python docs/rivals/independent.py fashion_lite2 efficientnet_lite2 dinov2_vit_s14
    python docs/rivals/independent.py fashion_dinov2 dinov2_vit_s14 efficientnet_lite0 efficientnet_lite2
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import sae

DATASET = "fashion_mnist_13k"


def ms(codes, embeddings):
    """Mean cosine of two images, weighed by both activations; mean over latents that two or more images activate."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    codes = codes - codes.min(0)  # What a latent that fires on every image has everywhere.
    alive = codes[:, (codes > 0).sum(0) >= 2]
    square = (alive**2).sum(0)
    return np.mean((((alive.T @ unit) ** 2).sum(1) - square) / (alive.sum(0) ** 2 - square))


part, backbone, *judges = sys.argv[1:]
own, *others = (
    np.load(f"results/activations/{DATASET}/{name}/test/embeddings.npy").astype(float) for name in (backbone, *judges)
)
folder = Path(__file__).parent / part
rows = pd.read_csv(folder / "metrics.csv", low_memory=False)
rows = rows[(rows["protocol"] == "fair") & (rows["seed"] == 0) & (rows["split"] == "test")].sort_values(
    ["method", "lr"]
)
for index, row in rows.iterrows():
    file = f"results/rivals/saes/{DATASET}/{backbone}/k32/{row['method']}/{row['trial']}/seed0/sae.safetensors"
    codes = sae.load(file).encode(own.astype(np.float32)).matrix().toarray().astype(float)
    rows.loc[index, ["again", "ms_independent"]] = ms(codes, own), np.mean([ms(codes, judge) for judge in others])
assert np.allclose(rows["again"], rows["ms_mean_alive"], atol=1e-5)  # The same definition.
shown = ["dataset", "backbone", "k", "method", "trial", "ms_independent"]
rows[shown].round(5).to_csv(folder / "independent.csv", index=False)
