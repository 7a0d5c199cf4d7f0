"""Images per second: `python bench/embed.py`; with `--tiny` in seconds, to see that it still runs.

First it times a backbone's forward pass by batch size, on random images. Then it times the whole way from JPEG files to
embeddings: the plain loop (batches of 128, NCHW, decoding in between) against this project's (batches of 16,
channels_last, decoding in a worker process), both with all of the machine's cores. What is compared is timed in turn,
round after round, so that a machine whose speed drifts slows all of them.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import create_transform, resolve_data_config

from sae.data import archives
from sae.data.embed import Backbone, embed_images

Transform = Callable[[Image.Image], torch.Tensor]


def main() -> None:
    """Print both comparisons: medians, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16, 32, 128])
    parser.add_argument("--images", type=int, default=384, help="photographs (500 x 375) of the second comparison")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--tiny", action="store_true", help="a small model and few images: the figures mean nothing")
    a = parser.parse_args()
    models = [a.model, "vit_small_patch16_224"]
    if a.tiny:
        a.model, a.size, a.rounds, a.batch, a.images, models = "test_efficientnet", 32, 1, [2, 4], 8, ["test_vit"]
    by_batch_size(a)
    for name in models:
        against_plain(a, name)


def by_batch_size(a: argparse.Namespace) -> None:
    """The forward pass alone, one thread."""
    torch.set_num_threads(1)
    model = cast(Any, timm.create_model(a.model).eval()).to(memory_format=torch.channels_last)  # torch's stub lacks it.
    images = {b: torch.randn(b, 3, a.size, a.size).contiguous(memory_format=torch.channels_last) for b in a.batch}
    rates: dict[int, list[float]] = {b: [] for b in a.batch}
    with torch.inference_mode():
        for _ in range(a.rounds + 1):
            for batch, x in images.items():
                start = time.perf_counter()
                for _ in range(128 // batch):
                    model.forward_features(x)
                rates[batch].append(128 // batch * batch / (time.perf_counter() - start))
    medians = {b: statistics.median(r[1:]) for b, r in rates.items()}
    print(f"{a.model} at {a.size} px, one thread, forward pass alone")
    for batch, rate in medians.items():
        print(f"  batch {batch:4d}: {rate:6.0f} images/s, {rate / medians[max(medians)]:.2f} of batch {max(medians)}")


def against_plain(a: argparse.Namespace, name: str) -> None:
    """From JPEG files to embeddings, at the model's own size."""
    model = timm.create_model(name, num_classes=0).eval()
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), a.images)
        loops = {"plain": lambda: plain(a, model, transform, folder, paths)}
        loops["ours"] = lambda: ours(a, model, transform, folder, paths)
        seconds: dict[str, list[float]] = {loop: [] for loop in loops}
        for _ in range(a.rounds):
            for loop, run in loops.items():
                start = time.perf_counter()
                run()
                seconds[loop].append(time.perf_counter() - start)
        rates = {loop: len(paths) / statistics.median(s) for loop, s in seconds.items()}
    print(f"{name}, JPEG to embedding, {a.cores} cores: ", end="")
    print(", ".join(f"{k} {v:.1f} images/s" for k, v in rates.items()), f"ratio {rates['ours'] / rates['plain']:.2f}")


def photographs(folder: Path, count: int) -> list[str]:
    """Crops of real photographs, 500 x 375 as ImageNet's are on average, saved as JPEG."""
    sources, rng = [Image.fromarray(image) for image in load_sample_images().images], np.random.default_rng(0)
    for i in range(count):
        left, top = int(rng.integers(140)), int(rng.integers(52))
        sources[i % len(sources)].crop((left, top, left + 500, top + 375)).save(folder / f"{i}.jpg", quality=90)
    return [f"{i}.jpg" for i in range(count)]


def plain(
    a: argparse.Namespace, model: torch.nn.Module, transform: Transform, folder: str, paths: list[str]
) -> np.ndarray:
    """What one writes first."""
    torch.set_num_threads(a.cores)
    model = cast(Any, model).to(memory_format=torch.contiguous_format)
    found = []
    with torch.no_grad():
        for start in range(0, len(paths), 128):
            images = [transform(Image.open(f"{folder}/{p}").convert("RGB")) for p in paths[start : start + 128]]
            found.append(model(torch.stack(images)).numpy())
    return np.concatenate(found)


def ours(
    a: argparse.Namespace, model: torch.nn.Module, transform: Transform, folder: str, paths: list[str]
) -> np.ndarray:
    """`sae.data.embed`, with a worker for decoding."""
    torch.set_num_threads(a.cores)
    open_image = archives.opener(folder)
    backbone = Backbone(model, transform)
    batches = embed_images(backbone, open_image, paths, batch_size=16, device="cpu", workers=1, spec={})
    return np.concatenate(list(batches))


if __name__ == "__main__":
    main()
