"""Time the way from image files to embeddings, beside the loop that one writes first: `make bench`, or

    python bench/embed.py [--images 1000 --cores 2 --rounds 5]

The plain loop: Pillow, float32, NCHW, batches of 128, decoding in between, the model as timm makes it, all cores. Ours:
`sae.data.forward.embed_images` in batches of 16 on as many threads, what it does to the model before its first batch
included. Each has a process of its own; they are timed in turn, round after round, so that a machine whose speed drifts
slows all. The first round does not count. The plain loop runs as one starts it, and once more with large arrays in
large pages, as our jobs set it.

With the artifacts of the demo (results/artifacts) the images are emoji at 96 pixels, saved as PNG, and the weights of
the EfficientNets are real; else the images are crops of photographs and the weights random. The ViT-S/16 at 224 pixels
always has those. `--tiny` takes seconds, to see that it runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import _record as record
import numpy as np
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sae.config.load import read_config
from sae.data import archives, backbone_entries
from sae.data import dataset as datasets
from sae.data.backbone import Backbone
from sae.data.backbones.timm import preprocessing
from sae.data.entries import parse
from sae.data.forward import embed_images

ROOT = Path(__file__).parent.parent
ARTIFACTS = ROOT / "results/artifacts"
CONVOLUTIONAL, VIT = (
    ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    "vit_small_patch16_224",
)
TARGET = 1 / 3
# As our jobs set it (`sae.__main__`): large arrays in large pages.
PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
LOOPS = {
    "ours": PAGES,
    "plain": {"THP_MEM_ALLOC_ENABLE": "0"},
    "plain, large pages": PAGES,
}


def main() -> None:
    """Print the comparisons, and write them as rows (`bench/_record.py`)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument(
        "--workers", type=int, default=0, help="processes of ours that decode"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=[*CONVOLUTIONAL, VIT])
    parser.add_argument(
        "--batch",
        type=int,
        nargs="*",
        default=[4, 8, 16, 32, 128],
        help="of the forward pass alone",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="few images, and no comparison of batch sizes",
    )
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="tiny models and few images: the figures mean nothing",
    )
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        return work(a, *a.worker)
    if a.short:
        a.images, a.batch = 250, []
    if a.tiny:
        a.images, a.rounds, a.batch, a.models = (
            8,
            2,
            [2, 4],
            ["test_efficientnet", "test_vit"],
        )
    where, rows = record.machine(a.cores), []
    print(where)
    for name in a.models:
        # A ViT is slow; still a batch of 16 for each core.
        size, count = (
            (224, max(16 * a.cores, a.images // 16)) if name == VIT else (96, a.images)
        )
        with tempfile.TemporaryDirectory() as folder:
            what = images(Path(folder), name, count)
            seconds = {
                loop: 1000 * s / count
                for loop, s in compare(a, name, size, folder).items()
            }
            apart = difference(Path(folder))
        rows.append(
            record.row(
                "extraction",
                f"{name}, {size} px",
                seconds["ours"],
                "plain loop",
                seconds["plain"],
                TARGET,
                where,
            )
        )
        print(
            f"{name}, {size} px, {count} {what}, seconds for 1,000 (ours / it): ",
            end="",
        )
        print(
            ", ".join(
                f"{loop} {s:.2f} ({seconds['ours'] / s:.3f})"
                for loop, s in seconds.items()
            ),
            end="; ",
        )
        print(f"embeddings differ by at most {apart:.1e} of their length")
    record.write(a.out, "embed", rows)
    if a.batch:
        by_batch_size(a, a.models[-2] if len(a.models) > 1 else a.models[0])


def images(folder: Path, name: str, count: int) -> str:
    """Write `count` images as files into a folder; returns what they are."""
    if name not in CONVOLUTIONAL or not (ARTIFACTS / "emoji_google").is_dir():
        photographs(folder, count)
        return "photographs (JPEG, 500 x 375)"
    dataset = datasets.load(
        read_config(ROOT / "config.yaml").datasets["emoji"].spec, ARTIFACTS
    )
    for i, path in enumerate(dataset.index["path"].sample(count, random_state=0)):
        dataset.open(path).save(folder / f"{i}.png")
    return "emoji (PNG, 64 x 64)"


def photographs(folder: Path, count: int) -> None:
    """Crops of real photographs, 500 x 375 as ImageNet's are on average, saved as JPEG."""
    sources, rng = (
        [Image.fromarray(image) for image in load_sample_images().images],
        np.random.default_rng(0),
    )
    for i in range(count):
        left, top = int(rng.integers(140)), int(rng.integers(52))
        sources[i % len(sources)].crop((left, top, left + 500, top + 375)).save(
            folder / f"{i}.jpg", quality=90
        )


def compare(
    a: argparse.Namespace, name: str, size: int, folder: str
) -> dict[str, float]:
    """Median seconds of each loop over all images of a folder; their embeddings lie beside them."""
    options = ["--cores", str(a.cores), "--workers", str(a.workers), "--worker"]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "bufsize": 1,
    }
    processes, seconds = {}, {loop: cast(list[float], []) for loop in LOOPS}
    for loop, environment in LOOPS.items():
        command = [sys.executable, __file__, *options, loop, name, str(size), folder]
        processes[loop] = cast(
            Any, subprocess.Popen(command, env={**os.environ, **environment}, **pipes)
        )
    for _ in range(a.rounds + 1):
        for loop, process in processes.items():
            process.stdin.write("go\n")
            seconds[loop].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {loop: statistics.median(s[1:]) for loop, s in seconds.items()}


def difference(folder: Path) -> float:
    """The largest distance between the embeddings that the two loops made of an image, over the length of the plain."""
    ours, plain = (np.load(folder / f"{loop}.npy") for loop in ("ours", "plain"))
    return float(
        (np.linalg.norm(ours - plain, axis=1) / np.linalg.norm(plain, axis=1)).max()
    )


def work(a: argparse.Namespace, loop: str, name: str, size: str, folder: str) -> None:
    """One run over the images for each line on stdin; prints its seconds."""
    torch.set_num_threads(a.cores)
    made = load(name, int(size))
    paths = sorted(
        path.name for path in Path(folder).iterdir() if path.suffix in (".jpg", ".png")
    )
    for _ in sys.stdin:
        started = time.perf_counter()
        found = (
            ours(made, folder, paths, a.workers)
            if loop == "ours"
            else plain(made, folder, paths)
        )
        print(time.perf_counter() - started, flush=True)
        np.save(Path(folder) / f"{loop}.npy", found)


def load(name: str, size: int) -> Backbone:
    """A backbone; with random weights, unless it is one of the demo and its weights are there."""
    if name in CONVOLUTIONAL and (ARTIFACTS / name).is_dir():
        entry = parse(
            "backbone", read_config(ROOT / "config.yaml").backbones[name].spec
        )
        return backbone_entries.load(entry, ARTIFACTS, size)
    torch.manual_seed(0)
    model = timm.create_model(
        f"tf_{name}" if name in CONVOLUTIONAL else name, num_classes=0
    )
    return Backbone(
        model, preprocessing(model, None if name in (VIT, "test_vit") else size)
    )


def plain(backbone: Backbone, folder: str, paths: list[str]) -> np.ndarray:
    """What one writes first."""
    model, found = backbone.model.eval(), []
    with torch.no_grad():
        for start in range(0, len(paths), 128):
            batch = [
                Image.open(f"{folder}/{path}").convert("RGB")
                for path in paths[start : start + 128]
            ]
            found.append(
                model(
                    torch.stack([backbone.transform(image) for image in batch])
                ).numpy()
            )
    return np.concatenate(found)


def ours(backbone: Backbone, folder: str, paths: list[str], workers: int) -> np.ndarray:
    """`sae.data.forward`; the backbone is made anew, so that folding it counts."""
    backbone = Backbone(backbone.model, backbone.transform)
    options: dict[str, Any] = {
        "batch_size": 16,
        "device": "cpu",
        "workers": workers,
    }
    return np.concatenate(
        list(embed_images(backbone, archives.opener(folder), paths, **options))
    )


def by_batch_size(a: argparse.Namespace, name: str) -> None:
    """The forward pass alone, one thread, on random images."""
    torch.set_num_threads(1)
    size = 32 if a.tiny else 96
    model = cast(Any, load(name, size).folded).to(memory_format=torch.channels_last)
    random = {
        b: torch.randn(b, 3, size, size).contiguous(memory_format=torch.channels_last)
        for b in a.batch
    }
    rates: dict[int, list[float]] = {b: [] for b in a.batch}
    with torch.inference_mode():
        for _ in range(a.rounds + 1):
            for batch, x in random.items():
                start = time.perf_counter()
                for _ in range(128 // batch):
                    model(x)
                rates[batch].append(
                    128 // batch * batch / (time.perf_counter() - start)
                )
    print(
        f"{name} at {size} px, one thread, forward pass alone, images/s by batch size: ",
        end="",
    )
    print(
        ", ".join(
            f"{batch}: {statistics.median(r[1:]):.0f}" for batch, r in rates.items()
        )
    )


if __name__ == "__main__":
    main()
