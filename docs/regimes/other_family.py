"""MS of the candidates of `regimes`, by their own backbone and by another family, from the stored SAEs by numpy alone.

After `snakemake regimes results/activations/fashion_mnist_5k/dinov2_vit_s14/test/embeddings.npy`, in the checkout:
`python docs/regimes/other_family.py` writes other_family.csv. (A judge in the experiment itself would have to embed the
training images of all four datasets too.)
"""

import numpy as np
import pandas as pd

import sae

ACTIVATIONS, OWN, OTHER = "results/activations", "efficientnet_lite0", "dinov2_vit_s14"


def ms(codes, embeddings):
    """Mean cosine of two images, weighed by both activations; mean over latents that two or more images activate."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    alive = codes[:, (codes > 0).sum(0) >= 2]
    square = (alive**2).sum(0)
    return np.mean((((alive.T @ unit) ** 2).sum(1) - square) / (alive.sum(0) ** 2 - square))


def embeddings(dataset, backbone):
    return np.load(f"{ACTIVATIONS}/{dataset}/{backbone}/test/embeddings.npy").astype(np.float64)


other = embeddings("fashion_mnist_5k", OTHER)  # The four datasets have the same test images.
candidates = pd.read_csv("results/regimes/tables/fair.csv").dropna(subset="trial")
candidates = candidates.drop_duplicates(["dataset", "method", "trial"])
rows = []
for dataset, method, trial in candidates[["dataset", "method", "trial"]].itertuples(index=False):
    own = embeddings(dataset, OWN)
    for seed in (3, 4, 5):
        folder = f"results/regimes/saes/{dataset}/{OWN}/k16/{method}/{trial}/seed{seed}"
        codes = sae.load(f"{folder}/sae.safetensors").encode(own.astype(np.float32)).matrix().toarray().astype(float)
        rows.append((dataset, method, trial, seed, ms(codes, own), ms(codes, other), (codes == 0).all(0).sum()))
        print(*rows[-1], flush=True)
columns = ["dataset", "method", "trial", "seed", "ms_own", "ms_other", "dead"]
pd.DataFrame(rows, columns=columns).round(5).to_csv("other_family.csv", index=False)
