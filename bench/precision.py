"""What lower precision changes: `python bench/precision.py [--cells emoji/dinov2_vit_s14 ...]`, on cells of `results/`.

Embedding, of each cell: images/s in float32 and in bfloat16, in turn; how far embeddings in bfloat16, and in batches of
1, lie from those in float32; and what the baseline and both regularizers (`topk`, `reg1`, `reg2`) reach on either,
trained by the recipe `demo` and scored by the embeddings that they were trained on. Training, of the last cell: the
same in float32 and with bfloat16 products. Beside the differences, of the same seed, it prints how far seeds lie apart.

Cells must be in float32: `snakemake results/activations/fashion_mnist/efficientnet_lite0/train/embeddings.npy`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from train_step import settings_of

from sae.core import files
from sae.data import backbone_entries, embed, store
from sae.data import dataset as datasets
from sae.data.entries import parse
from sae.data.forward import embed_images
from sae.data.splits import SPLITS
from sae.data.store import Activations
from sae.models import inputs
from sae.scoring.metrics import _ms, _residuals, purity
from sae.training.loop import train

# Of the methods, with lambda; `--tiny` has a recipe of its own.
METHODS: dict[str, dict[str, float]] = {
    "topk": {},
    "reg1": {"lam": 0.003},
    "reg2": {"lam": 0.003},
}
SCORES = ("r2", "ms", "purity", "dead")
Splits = dict[str, Activations]


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cells",
        nargs="+",
        default=["fashion_mnist/efficientnet_lite0"],
        help="DATASET/BACKBONE",
    )
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument(
        "--timed",
        type=int,
        default=512,
        help="images of test that are timed and compared",
    )
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-training", action="store_true", help="embedding alone")
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="seconds, on handwritten digits, to see that it runs",
    )
    a = parser.parse_args()
    a.changed = {}
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if a.tiny:
            a.k, a.seeds, a.changed = 4, 2, {"m": 32, "batch_size": 50, "epochs": 2}
            a.results, a.cells = digits(Path(scratch)), ["digits/tiny"]
        for cell in a.cells:
            splits = {
                split: store.read(a.results / "activations" / cell / split)
                for split in SPLITS
            }
            exact = {
                split: np.asarray(data.embeddings) for split, data in splits.items()
            }
            embedding(a, cell, splits, exact)
        if not a.no_training:
            print(
                f"\nTraining on {cell}, k = {a.k}, {a.seeds} seeds: float32, and bfloat16 products less float32"
            )
            table(a, splits, (exact, exact), ("float32", "bfloat16"))


def embedding(
    a: argparse.Namespace, cell: str, splits: Splits, exact: dict[str, np.ndarray]
) -> None:
    """Compare the embeddings of a cell, and what is trained on them."""
    rates, paths = {}, splits["test"].index["path"].tolist()[: a.timed]
    kinds: dict[str, dict[str, Any]] = {
        "float32": {},
        "bfloat16": {"precision": "bfloat16"},
        "batches of 1": {},
    }
    networks = {
        kind: network(a, splits["test"].manifest, options)
        for kind, options in kinds.items()
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(1 if a.tiny else 4):
        for kind, made in networks.items():
            start = time.perf_counter()
            found = made(paths, 1 if kind == "batches of 1" else 16)
            seconds[kind].append(time.perf_counter() - start)
            rates[kind] = (
                f"{len(paths) / statistics.median(seconds[kind][1:] or seconds[kind]):.0f} images/s"
            )
            rates[kind] += difference(exact["test"][: len(paths)], found)
    print(f"\nEmbedding {cell}, {len(paths)} test images, {a.threads} threads")
    for kind, said in rates.items():
        print(f"  {kind:14}{said}")
    half = {
        s: networks["bfloat16"](splits[s].index["path"].tolist(), 16)
        for s in ("train", "test")
    }
    print(
        f"  trained on either, k = {a.k}, {a.seeds} seeds: float32, and bfloat16 less float32"
    )
    table(a, splits, (exact, half), ("float32", "float32"))


def network(
    a: argparse.Namespace, manifest: dict[str, Any], options: dict[str, Any]
) -> Callable[[list[str], int], np.ndarray]:
    """A function from images and a batch's size to embeddings, by the backbone of a manifest with other options."""
    index = files.read_json(
        a.results / "datasets" / manifest["dataset"]["name"] / "manifest.json"
    )
    artifacts = a.results / "artifacts"
    entry = parse("backbone", {**manifest["backbone"]["spec"], **options})
    backbone = backbone_entries.load(entry, artifacts, manifest["image_size"])
    how: dict[str, Any] = {
        "open_image": datasets.reader(index["spec"], artifacts),
        "device": "cpu",
        "workers": 0,
        "precision": entry.shared.precision,
    }
    return lambda paths, size: np.concatenate(
        list(embed_images(backbone, paths=paths, batch_size=size, **how))
    )


def table(
    a: argparse.Namespace,
    splits: Splits,
    embeddings: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    products: tuple[str, str],
) -> None:
    """Print the scores on the first embeddings, with the first products, and how far those of the second lie off."""
    found: dict[str, list[pd.DataFrame]] = {}
    for method in METHODS:
        for x, precision in zip(embeddings, products, strict=True):
            rows = [
                scores(a, x, splits, method, seed, precision) for seed in range(a.seeds)
            ]
            found.setdefault(method, []).append(pd.DataFrame(rows))
        one, other = found[method]
        cells = [
            f"{one[s].mean():.4f}, {(other[s] - one[s]).mean():+.4f} ({one[s].std():.4f})"
            for s in SCORES
        ]
        print(f"  | {method} | " + " | ".join(cells) + " |", flush=True)
    print(
        f"  {', '.join(SCORES)}; in brackets the standard deviation between seeds. MS above the baseline's:",
        end="",
    )
    for method in ("reg1", "reg2"):
        one, other = (
            x["ms"].mean() - base["ms"].mean()
            for x, base in zip(found[method], found["topk"], strict=True)
        )
        print(f" {method} {one:+.4f} and {other:+.4f}", end="")
    print()


def digits(folder: Path) -> Path:
    """A folder of results: scikit-learn's handwritten digits, embedded by an untrained backbone."""
    import timm
    from PIL import Image
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    for i, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        path = (
            folder
            / "images"
            / ("train", "val", "test")[i % 3]
            / str(label)
            / f"{i}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 600:
            Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).save(path)
    torch.manual_seed(0)
    save_file(
        timm.create_model("test_efficientnet").state_dict(),
        folder / "backbone.safetensors",
    )
    spec: dict[str, Any] = {
        "type": "image_folder",
        "root": str(folder / "images"),
        "image_size": 32,
    }
    datasets.build("digits", spec, None, folder / "datasets/digits")
    spec = {
        "loader": "timm",
        "model": "test_efficientnet",
        "checkpoint": str(folder / "backbone.safetensors"),
    }
    embed.embed(
        embed.Job(
            folder / "datasets/digits",
            "tiny",
            spec,
            folder,
            folder / "activations/digits/tiny",
            16,
            "cpu",
        )
    )
    return folder


def difference(exact: np.ndarray, other: np.ndarray) -> str:
    """How far embeddings lie from the exact ones, as text."""
    cosine = (inputs.unit_rows(exact) * inputs.unit_rows(other)).sum(axis=1)
    relative = np.linalg.norm(exact - other, axis=1) / np.linalg.norm(exact, axis=1)
    off = f"{np.median(relative):.1e} (largest {relative.max():.1e})"
    return f", relative distance {off}, 1 - cosine {1 - cosine.min():.1e}"


def scores(
    a: argparse.Namespace,
    embeddings: dict[str, np.ndarray],
    splits: Splits,
    method: str,
    seed: int,
    precision: str,
) -> dict[str, float]:
    """Train by the demo's recipe on `embeddings["train"]`, score on `embeddings["test"]`, all in float32."""
    changed = (
        {"k": a.k, "seed": seed, "precision": precision} | METHODS[method] | a.changed
    )
    s, entries = settings_of(method, "demo", **changed)
    scale = (
        inputs.total_variance(inputs.prepare(embeddings["train"], s.input_norm)) ** -0.5
    )
    x = {
        split: inputs.prepare(embeddings[split], s.input_norm, scale)
        for split in ("train", "test")
    }
    coder, _ = train(x["train"], s, *entries)
    codes = coder.encode(x["test"])
    ms = _ms.summary(
        _ms.scores(_ms.scale_activations(codes), embeddings["test"])
    ).mean_alive
    pure = purity.of_codes(
        codes, splits["test"].index["label"].to_numpy(dtype=np.int64)
    )["binary"]
    dead = int((codes.firing_counts() == 0).sum())
    return {
        "r2": _residuals.score_reconstruction(coder, x["test"], codes).r2,
        "ms": ms,
        "purity": pure,
        "dead": dead,
    }


if __name__ == "__main__":
    main()
