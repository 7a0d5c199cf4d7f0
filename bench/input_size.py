"""How well embeddings at several input sizes tell the labels apart: the figures from which docs/data.md chooses one.

    python bench/input_size.py --datasets emoji
    python bench/input_size.py --datasets fashion_mnist --train 3000

The accuracy of 5 nearest neighbours, by cosine, of the validation split among the training images (`--train`: so many
of them, seeded), and images a second, decoding included. Needs the artifacts of the datasets and backbones, as `make
demo` leaves them. `--tiny` takes seconds, to see that it runs.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from sae.config.load import read_config
from sae.data import backbone_entries
from sae.data import dataset as datasets
from sae.data.backbone import Backbone
from sae.data.backbones.timm import preprocessing
from sae.data.entries import parse
from sae.data.forward import embed_images

ROOT = Path(__file__).parent.parent
ARTIFACTS = ROOT / "results/artifacts"


def main() -> None:
    """Print a line for each dataset, backbone and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", default=["emoji", "fashion_mnist"])
    parser.add_argument(
        "--backbones", nargs="+", default=["dinov2_vit_s14", "efficientnet_lite0"]
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[56, 70, 84, 98, 112, 140, 224],
        help="in pixels",
    )
    parser.add_argument("--train", type=int, help="training images; all, if not given")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--tiny", action="store_true", help="handwritten digits by an untrained network"
    )
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    options: dict[str, Any] = {
        "batch_size": a.batch,
        "device": "cpu",
        "workers": 0,
    }
    if a.tiny:
        a.datasets, a.backbones, a.sizes, a.train = (
            ["digits"],
            ["test_efficientnet"],
            [32, 48],
            100,
        )
    for name in a.datasets:
        data = (
            digits()
            if a.tiny
            else datasets.load(
                read_config(ROOT / "config.yaml").datasets[name].spec, ARTIFACTS
            )
        )
        index = data.index
        train, val = (index[index["split"] == split] for split in ("train", "val"))
        train = train.sample(min(a.train or len(train), len(train)), random_state=0)
        for backbone in a.backbones:
            for size in a.sizes:
                network = load(backbone, size)
                started = time.perf_counter()
                x = [
                    np.concatenate(
                        list(
                            embed_images(
                                network, data.open, rows["path"].tolist(), **options
                            )
                        )
                    )
                    for rows in (train, val)
                ]
                rate = (len(train) + len(val)) / (time.perf_counter() - started)
                y = [rows["label"].to_numpy(dtype=np.int64) for rows in (train, val)]
                accuracy = (
                    KNeighborsClassifier(5, metric="cosine")
                    .fit(x[0], y[0])
                    .score(x[1], y[1])
                )
                counts = f"{len(train)} train, {len(val)} val"
                print(
                    f"{name} ({counts}), {backbone}, {size} px: {accuracy:.4f}, {rate:.0f} images/s",
                    flush=True,
                )


def load(name: str, size: int) -> Backbone:
    """A backbone of config.yaml at an input size; else a model of timm, untrained."""
    known = read_config(ROOT / "config.yaml").backbones
    if name in known:
        entry = parse("backbone", known[name].spec)
        return backbone_entries.load(entry, ARTIFACTS, size)
    model = timm.create_model(name, num_classes=0)
    return Backbone(model, preprocessing(model, size))


def digits() -> datasets.Dataset:
    """scikit-learn's handwritten digits."""
    images, labels = load_digits(return_X_y=True)
    splits = np.where(np.arange(len(images)) % 9 == 0, "val", "train")
    index = pd.DataFrame(
        {"path": [str(i) for i in range(len(images))], "label": labels, "split": splits}
    )
    bytes_ = (images.reshape(-1, 8, 8) * 15.9).astype("uint8")
    return datasets.Dataset(
        index, lambda path: Image.fromarray(bytes_[int(path)]).convert("RGB")
    )


if __name__ == "__main__":
    main()
