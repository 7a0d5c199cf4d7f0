"""What lower precision changes: `python bench/precision.py`, on Fashion-MNIST and EfficientNet-Lite0 of the demo.

Embedding: it embeds the same images in batches of 16, 1 and 64, and in bfloat16. It says how far each lies from batches
of 16 in float32, and what an SAE reaches that was trained on the bfloat16 ones. Training: it trains the baseline and
both regularizers (`topk`, `reg1`, `reg2`) in float32 and with bfloat16 products, seed by seed. Beside their difference
it prints how far seeds lie apart.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from train_step import settings_of

from sae.core import files
from sae.data import dataset as datasets
from sae.data import embed, store
from sae.data.splits import SPLITS
from sae.data.store import Activations
from sae.models import inputs
from sae.scoring.metrics import _ms, _residuals, purity
from sae.training.loop import train

# Of the methods, with lambda; `--tiny` has a recipe of its own.
METHODS: dict[str, dict[str, float]] = {"topk": {}, "reg1": {"lam": 0.003}, "reg2": {"lam": 0.003}}
SCORES = ("r2", "ms", "purity", "dead")
Splits = dict[str, Activations]


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--activations", type=Path, default=Path("results/activations/fashion_mnist/efficientnet_lite0")
    )
    parser.add_argument("--dataset", type=Path, default=Path("results/datasets/fashion_mnist"))
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="seconds, on handwritten digits, to see that it runs")
    a = parser.parse_args()
    a.changed = {}
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if a.tiny:
            a.k, a.seeds, a.changed = 4, 2, {"m": 32, "batch_size": 50, "epochs": 2}
            a.activations, a.dataset = digits(Path(scratch))
        compare(a)


def compare(a: argparse.Namespace) -> None:
    """Embedding, then training."""
    splits = {split: store.read(a.activations / split) for split in SPLITS}
    exact = {split: np.asarray(data.embeddings) for split, data in splits.items()}
    print("\nEmbedding: difference from batches of 16 in float32, over", len(exact["test"]), "test images")
    variants: dict[str, dict[str, Any]] = {
        "float32, batches of 1": {"batch_size": 1},
        "float32, batches of 64": {"batch_size": 64},
        "bfloat16, batches of 16": {"batch_size": 16, "precision": "bfloat16"},
    }
    for name, options in variants.items():
        print(f"  {name:26}{difference(exact['test'], embedded(a, splits, 'test', options))}")
    half = {s: embedded(a, splits, s, {"batch_size": 16, "precision": "bfloat16"}) for s in ("train", "test")}
    print(f"\nTraining, means over {a.seeds} seeds (k = {a.k}):")
    rows: list[dict[str, Any]] = [
        {"method": method, "precision": precision, "seed": seed} | scores(a, exact, splits, method, seed, precision)
        for method in METHODS
        for precision in ("float32", "bfloat16")
        for seed in range(a.seeds)
    ]
    rows += [
        {"method": "topk", "precision": "on bfloat16 embeddings", "seed": seed}
        | scores(a, half, splits, "topk", seed, "float32")
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


def digits(folder: Path) -> tuple[Path, Path]:
    """Folders of the activations and of the index of scikit-learn's handwritten digits, by an untrained backbone."""
    import timm
    from PIL import Image
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    for i, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        path = folder / "images" / ("train", "val", "test")[i % 3] / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 600:
            Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).save(path)
    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "backbone.safetensors")
    spec: dict[str, Any] = {"type": "image_folder", "root": str(folder / "images"), "image_size": 32}
    datasets.build("digits", spec, None, folder / "dataset")
    spec = {"loader": "timm", "model": "test_efficientnet", "checkpoint": str(folder / "backbone.safetensors")}
    embed.embed(embed.Job(folder / "dataset", "tiny", spec, folder, folder / "activations", 16, "cpu"))
    return folder / "activations", folder / "dataset"


def embedded(a: argparse.Namespace, splits: Splits, split: str, options: dict[str, Any]) -> np.ndarray:
    """Embeddings of a split, made again with other options."""
    manifest = splits[split].manifest
    index = files.read_json(a.dataset / "manifest.json")
    spec = manifest["backbone"]["spec"] | options
    backbone = embed.load(spec, "results/artifacts", manifest["image_size"])
    open_image = datasets.reader(index["spec"], "results/artifacts")
    paths = splits[split].index["path"].tolist()
    batches = embed.embed_images(
        backbone, open_image, paths, batch_size=options["batch_size"], device="cpu", workers=0, spec=spec
    )
    return np.concatenate(list(batches))


def difference(exact: np.ndarray, other: np.ndarray) -> str:
    """How far embeddings lie from the exact ones, as text."""
    cosine = (inputs.unit_rows(exact) * inputs.unit_rows(other)).sum(axis=1)
    relative = np.linalg.norm(exact - other, axis=1) / np.linalg.norm(exact, axis=1)
    return (
        f"relative distance {np.median(relative):.1e} (largest {relative.max():.1e}), 1 - cosine {1 - cosine.min():.1e}"
    )


def scores(
    a: argparse.Namespace,
    embeddings: dict[str, np.ndarray],
    splits: Splits,
    method: str,
    seed: int,
    precision: str,
) -> dict[str, float]:
    """Train by the demo's recipe on `embeddings["train"]`, score on `embeddings["test"]`, all in float32."""
    changed = {"k": a.k, "seed": seed, "precision": precision} | METHODS[method] | a.changed
    s, entries = settings_of(method, "demo", **changed)
    scale = inputs.total_variance(inputs.prepare(embeddings["train"], s.input_norm)) ** -0.5
    x = {split: inputs.prepare(embeddings[split], s.input_norm, scale) for split in ("train", "test")}
    coder, _ = train(x["train"], s, *entries)
    codes = coder.encode(x["test"])
    ms = _ms.summary(_ms.scores(_ms.scale_activations(codes), splits["test"].embeddings)).mean_alive
    pure = purity.of_codes(codes, splits["test"].index["label"].to_numpy(dtype=np.int64))["binary"]
    dead = int((codes.firing_counts() == 0).sum())
    return {"r2": _residuals.fit(coder, x["test"], codes).r2, "ms": ms, "purity": pure, "dead": dead}


if __name__ == "__main__":
    main()
