"""A site of generated data, as large as the paper's cells are: 2 SAEs of 8,192 latents, 50,000 images, k = 32.

    python bench/generated_site.py --out FOLDER

The first SAE's latents are the directions of classes with noise, the second's too, in another order.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from sae.comparison.methods import MethodRelations
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.report.names import Names
from sae.report.site import explore
from sae.report.site.build import ShownSae

D, CLASSES, K = 64, 200, 32


def main() -> None:
    """Write it, and print how many MB each part has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="64 latents and 300 images, to see that it runs",
    )
    given = parser.parse_args()
    write(given.out, *((300, 64) if given.tiny else (50_000, 8192)))
    for part in ("data/saes", "data/images", "data", "."):
        size = sum(
            file.stat().st_size
            for file in (given.out / part).rglob("*")
            if file.is_file()
        )
        print(f"{part}: {size / 1e6:.1f} MB")


def write(out: Path, count: int, m: int) -> None:
    """Write a site of one cell with `count` images and 2 SAEs of `m` latents."""
    random = np.random.default_rng(0)
    label = random.integers(0, CLASSES, count)
    directions = random.normal(size=(CLASSES, D))
    embeddings = (directions[label] + random.normal(size=(count, D))).astype(np.float32)
    index = pd.DataFrame(
        {
            "image_id": [f"image {n:05}" for n in range(count)],
            "label": label,
            "group": range(count),
        }
    )
    index = index.assign(
        path=index.index.astype(str), label_name=[f"class {n}" for n in label]
    )
    test = Activations(
        embeddings, index, {"dataset": {"name": "generated", "grouped": False}}
    )
    looks = {
        "topk": MethodRelations(label="Baseline"),
        "reg1": MethodRelations(label="Reg. 1", against="topk"),
    }
    names = Names(
        methods=looks,
        datasets={"generated": "Generated"},
        backbones={"generated": "Generated"},
    )
    shown = [
        _sae(number, method, random, directions, m, test)
        for number, method in enumerate(looks)
    ]
    metrics = pd.DataFrame(
        {
            "m": m,
            "l0": K,
            "r2": [0.8, 0.81],
            "ms_floor": 0.3,
            "ms_mean_alive": [0.5, 0.52],
        }
    )
    metrics["detection_alive"] = [0.7, 0.75]
    explore.compose(out, names, shown, metrics, test, _picture, "Generated.")


def _sae(
    number: int,
    method: str,
    random: np.random.Generator,
    directions: np.ndarray,
    m: int,
    test: Activations,
) -> ShownSae:
    """An SAE whose latents are directions of classes (CLASSES, D) with noise, and a table of random scores."""
    coder = Coder(D, m, K)
    rows = directions[np.arange(m) % CLASSES] + 1.5 * random.normal(size=(m, D))
    weight = torch.from_numpy(random.permutation(rows).astype(np.float32))
    coder.W_dec.data.copy_(torch.nn.functional.normalize(weight, dim=1))
    coder.W_enc.data.copy_(coder.W_dec.data.T)
    fires = coder.firing_counts(coder.open_inputs(test.embeddings))
    table = pd.DataFrame(
        {
            "n_active": fires,
            "ms": random.uniform(0.3, 0.9, m),
            "detection": random.uniform(0.4, 1, m),
        }
    )
    table = table.assign(
        purity=random.uniform(0, 1, m),
        top_class=[f"class {n % CLASSES}" for n in range(m)],
    )
    table.loc[fires < 2, ["ms", "detection", "purity"]] = np.nan
    return ShownSae(number, method, coder, table)


def _picture(path: str) -> Image.Image:
    """A plain gradient with noise, of two colours that hang on the number of the image."""
    random = np.random.default_rng(int(path))
    ends = random.integers(0, 256, (2, 3))
    share = np.linspace(0, 1, 64)[:, None, None]
    pixels = ends[0] * (1 - share) + ends[1] * share + random.normal(0, 12, (64, 64, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
