"""MS by the own backbone and by another family, from the stored SAEs by numpy alone: other_family.csv.

The candidates of `regimes`, and the trials of `tuned_shorter`. In the checkout:

    snakemake regimes
    snakemake tuned_shorter --configfile config.yaml docs/regimes/tuned/shorter.yaml
    snakemake results/activations/fashion_mnist_5k/dinov2_vit_s14/test/embeddings.npy
    python docs/regimes/other_family.py

A judge in the experiment itself would have to embed the training images of all four datasets too.
"""

import functools

import numpy as np
import pandas as pd

import sae

OWN, OTHER = "efficientnet_lite0", "dinov2_vit_s14"


def ms(codes, embeddings):
    """Mean cosine of two images, weighed by both activations; mean over latents that two or more images activate."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    alive = codes[:, (codes > 0).sum(0) >= 2]
    square = (alive**2).sum(0)
    return np.mean((((alive.T @ unit) ** 2).sum(1) - square) / (alive.sum(0) ** 2 - square))


@functools.cache
def embeddings(dataset, backbone):
    return np.load(f"results/activations/{dataset}/{backbone}/test/embeddings.npy").astype(np.float64)


def row(experiment, dataset, method, trial, seed):
    own = embeddings(dataset, OWN)
    folder = f"results/{experiment}/saes/{dataset}/{OWN}/k16/{method}/{trial}/seed{seed}"
    codes = sae.load(f"{folder}/sae.safetensors").encode(own.astype(np.float32)).matrix().toarray().astype(float)
    return experiment, dataset, method, trial, seed, ms(codes, own), ms(codes, other), (codes == 0).all(0).sum()


other = embeddings("fashion_mnist_5k", OTHER)  # All datasets here have the same test images.
candidates = pd.read_csv("results/regimes/tables/fair.csv").dropna(subset="trial")
candidates = candidates.drop_duplicates(["dataset", "method", "trial"])[["dataset", "method", "trial"]]
rows = [row("regimes", *key, seed) for key in candidates.itertuples(index=False) for seed in (3, 4, 5)]
for dataset in ("fashion_mnist_13k", "fashion_mnist_27k", "fashion_mnist_55k"):
    trials = [("topk", "default")] + [("reg1", f"lambda{value}") for value in (0.0003, 0.001, 0.0018, 0.0032)]
    rows += [row("tuned_shorter", dataset, *trial, seed) for trial in trials for seed in (0, 1, 2)]
columns = ["experiment", "dataset", "method", "trial", "seed", "ms_own", "ms_other", "dead"]
pd.DataFrame(rows, columns=columns).round(5).to_csv("other_family.csv", index=False)
