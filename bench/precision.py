"""What lower precision changes: `python bench/precision.py`, on Fashion-MNIST and EfficientNet-Lite0 of the demo.

Embedding: the same images in batches of 16, 1 and 64, and in bfloat16; how far each lies from batches of 16 in float32,
and what an SAE reaches that was trained on the bfloat16 ones. Training: every method in float32 and with bfloat16
products, seed by seed; beside their difference, how far seeds lie apart.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from sae.core import files, registry
from sae.data import dataset as datasets
from sae.data import embed, store
from sae.data.splits import SPLITS
from sae.models import codes as coding
from sae.models import inputs
from sae.scoring.metrics import monosemanticity, purity, reconstruction
from sae.training.loop import Settings, train

METHODS = {"none": 0.0, "off_support_l1": 0.003, "l1_l2_ratio": 0.003}
SCORES = ("r2", "ms", "purity", "dead")


def main():
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--activations", type=Path, default=Path("results/activations/fashion_mnist/efficientnet_lite0")
    )
    parser.add_argument("--dataset", type=Path, default=Path("results/datasets/fashion_mnist"))
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    splits = {split: store.read(a.activations / split) for split in SPLITS}
    exact = {split: np.asarray(data.embeddings) for split, data in splits.items()}
    print("\nEmbedding: difference from batches of 16 in float32, over", len(exact["test"]), "test images")
    for name, options in {
        "float32, batches of 1": {"batch_size": 1},
        "float32, batches of 64": {"batch_size": 64},
        "bfloat16, batches of 16": {"batch_size": 16, "precision": "bfloat16"},
    }.items():
        print(f"  {name:26}{difference(exact['test'], embedded(a, splits, 'test', options))}")
    half = {s: embedded(a, splits, s, {"batch_size": 16, "precision": "bfloat16"}) for s in ("train", "test")}
    print(f"\nTraining, means over {a.seeds} seeds (k = {a.k}):")
    rows = [
        {"method": method, "precision": precision, "seed": seed}
        | scores(exact, splits["test"], recipe(a, method, seed, precision), method)
        for method in METHODS
        for precision in ("float32", "bfloat16")
        for seed in range(a.seeds)
    ]
    rows += [
        {"method": "none", "precision": "on bfloat16 embeddings", "seed": seed}
        | scores(half, splits["test"], recipe(a, "none", seed, "float32"), "none")
        for seed in range(a.seeds)
    ]
    table = pd.DataFrame(rows)
    print(table.groupby(["method", "precision"], sort=False)[list(SCORES)].mean().round(4).to_string())
    by_seed = table.set_index(["precision", "method", "seed"])[list(SCORES)]
    paired = by_seed.loc["bfloat16"] - by_seed.loc["float32"]
    print("\nbfloat16 minus float32, of the same seed: mean")
    print(paired.groupby("method", sort=False).mean().round(4).to_string())
    print("\nstandard deviation between seeds, float32")
    print(by_seed.loc["float32"].groupby("method", sort=False).std().round(4).to_string())


def embedded(a, splits, split, options):
    """Embeddings of a split, made again with other options."""
    manifest = splits[split].manifest
    index = files.read_json(a.dataset / "manifest.json")
    spec = manifest["backbone"]["spec"] | options
    backbone = registry.load(embed.LOADERS, spec["loader"]).load(spec, "results/artifacts", manifest["image_size"])
    open_image = datasets.reader(index["spec"], "results/artifacts")
    paths = splits[split].index["path"].tolist()
    batches = embed.embed_images(
        backbone, open_image, paths, batch_size=options["batch_size"], device="cpu", workers=0, spec=spec
    )
    return np.concatenate(list(batches))


def difference(exact, other):
    """How far embeddings lie from the exact ones, as text."""
    cosine = (inputs.unit_rows(exact) * inputs.unit_rows(other)).sum(axis=1)
    relative = np.linalg.norm(exact - other, axis=1) / np.linalg.norm(exact, axis=1)
    return (
        f"relative distance {np.median(relative):.1e} (largest {relative.max():.1e}), 1 - cosine {1 - cosine.min():.1e}"
    )


def recipe(a, method, seed, precision):
    """The demo's recipe for one SAE."""
    demo = yaml.safe_load(Path("config.yaml").read_text())["training"]["demo"]
    demo = {key: demo[key] for key in Settings.__dataclass_fields__ if key in demo}
    chosen = {"k": a.k, "lam": METHODS[method], "mask": "batch_active", "seed": seed, "precision": precision}
    return Settings(**demo | chosen)


def scores(embeddings, test, settings, method):
    """Train on `embeddings["train"]`, score on `embeddings["test"]`, all in float32."""
    scale = inputs.total_variance(inputs.prepare(embeddings["train"], settings.input_norm)) ** -0.5
    x = {split: inputs.prepare(embeddings[split], settings.input_norm, scale) for split in ("train", "test")}
    penalty = None if method == "none" else registry.load("sae.training.penalties", method).penalty
    sae, _ = train(x["train"], settings, penalty)
    with torch.no_grad():
        codes = coding.encode(sae, x["test"])
        ms = monosemanticity.scores(monosemanticity.scale_activations(codes), test.embeddings)
        pure = purity.score(codes, test.index["label"].to_numpy(dtype=np.int64), permutations=1)
        fit = reconstruction.score(sae, x["test"], codes)
    dead = int((codes.firing_counts() == 0).sum())
    return {"r2": fit.r2, "ms": monosemanticity.summary(ms).mean_alive, "purity": pure.binary, "dead": dead}


if __name__ == "__main__":
    main()
