"""Fashion-MNIST, Lite0: methods at one learning rate and scale, on test, one tuning seed: same_recipe.csv.

The candidates of MonoLoss and of the regularizers have this pair, the baseline's has another. MS by DINOv2, which took
no part, is computed here by numpy alone from the stored SAEs; all else is in metrics.csv. In the checkout:

    snakemake rivals --configfile config.yaml docs/rivals/fashion_lite0/part.yaml
    python docs/rivals/same_recipe.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

import sae

LR, SCALE, SEED = 0.001, 0.123, 0
CELL, JUDGE = "fashion_mnist_13k/efficientnet_lite0", "fashion_mnist_13k/dinov2_vit_s14"
SHOWN = ["r2", "ms_mean_alive", "purity_binary", "purity_binary_null", "dead", "dense_1", "dense_10"]


def ms(codes, embeddings):
    """Mean cosine of two images, weighed by both activations; mean over latents that two or more images activate."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    codes = codes - codes.min(0)  # Of a latent that is silent nowhere.
    alive = codes[:, (codes > 0).sum(0) >= 2]
    square = (alive**2).sum(0)
    return np.mean((((alive.T @ unit) ** 2).sum(1) - square) / (alive.sum(0) ** 2 - square))


own, judge = (np.load(f"results/activations/{cell}/test/embeddings.npy") for cell in (CELL, JUDGE))
rows = pd.read_csv(Path(__file__).parent / "fashion_lite0/metrics.csv", low_memory=False)
same = (rows["lr"] == LR) & (rows["encoder_scale"] == SCALE) & (rows["seed"] == SEED) & (rows["split"] == "test")
rows = rows[same & (rows["protocol"] == "fair")].sort_values("method")
for index, row in rows.iterrows():
    file = f"results/rivals/saes/{CELL}/k32/{row['method']}/{row['trial']}/seed{SEED}/sae.safetensors"
    codes = sae.load(file).encode(own).matrix().toarray().astype(float)
    rows.loc[index, ["ms_own_again", "ms_dinov2"]] = ms(codes, own.astype(float)), ms(codes, judge.astype(float))
assert np.allclose(rows["ms_own_again"], rows["ms_mean_alive"], atol=1e-5)  # The same definition.
rows[["method", "trial", *SHOWN, "ms_dinov2"]].round(4).to_csv("same_recipe.csv", index=False)
