"""Figures of embedding in docs/performance.md, and of input sizes in docs/data.md.

python bench/performance_embedding.py extract      # "From image files to embeddings"
python bench/performance_embedding.py precision    # "Precision"
python bench/performance_embedding.py input-size   # docs/data.md
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import _record as record
import numpy as np
import pandas as pd
import timm
import torch
from _command import add_command, add_numbers, run_script
from _record import Comparison
from PIL import Image

from sae.config.load import read_config
from sae.core import files
from sae.core.options import Precision
from sae.data import archives, backbone_entries, embed, store
from sae.data import dataset as datasets
from sae.data.backbone import Backbone
from sae.data.backbones.timm import preprocessing
from sae.data.entries import parse
from sae.data.forward import embed_images
from sae.data.splits import SPLITS
from sae.data.store import Activations

ROOT = Path(__file__).parent.parent
ARTIFACTS = ROOT / "results/artifacts"
# As our jobs set it (`sae.__main__`): large arrays in large pages.
PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    command = add_command(commands, "extract", time_extraction, writes=True)
    add_numbers(command, images=1000, cores=os.cpu_count() or 1, rounds=5)
    command.add_argument(
        "--workers", type=int, default=0, help="processes of ours that decode"
    )
    command.add_argument("--models", nargs="+", default=[*CONVOLUTIONAL, VIT])
    command.add_argument(
        "--batch",
        type=int,
        nargs="*",
        default=[4, 8, 16, 32, 128],
        help="of the forward pass alone",
    )
    command.add_argument(
        "--short",
        action="store_true",
        help="few images, and no comparison of batch sizes",
    )

    command = add_command(commands, "precision", compare_precisions)
    command.add_argument(
        "--cells",
        nargs="+",
        default=["fashion_mnist/efficientnet_lite0"],
        help="DATASET/BACKBONE",
    )
    command.add_argument("--results", type=Path, default=Path("results"))
    command.add_argument(
        "--timed",
        type=int,
        default=512,
        help="images of test that are timed and compared",
    )
    add_numbers(command, k=16, seeds=3, threads=1)
    command.add_argument("--no-training", action="store_true", help="embedding alone")

    command = add_command(commands, "input-size", compare_input_sizes)
    command.add_argument("--datasets", nargs="+", default=["emoji", "fashion_mnist"])
    command.add_argument(
        "--backbones", nargs="+", default=["dinov2_vit_s14", "efficientnet_lite0"]
    )
    command.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[56, 70, 84, 98, 112, 140, 224],
        help="in pixels",
    )
    command.add_argument("--train", type=int, help="training images; all, if not given")
    add_numbers(command, batch=16, threads=1)


# From image files to embeddings.

CONVOLUTIONAL = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
VIT = "vit_small_patch16_224"
EXTRACTION_TARGET = 1 / 3
# {a way to embed: its environment}
LOOPS = {
    "ours": PAGES,
    "plain": {"THP_MEM_ALLOC_ENABLE": "0"},
    "plain, large pages": PAGES,
}
SHORT_EXTRACTION = {"images": 250, "batch": []}
TINY_EXTRACTION = {
    "images": 8,
    "rounds": 2,
    "batch": [2, 4],
    "models": ["test_efficientnet", "test_vit"],
}


def time_extraction(arguments: argparse.Namespace) -> None:
    """Time the way from image files to embeddings, beside the loop one writes first.

    It is behind both tables of "From image files to embeddings" of docs/performance.md;
    `make bench` runs the short form.

    The plain loop: Pillow, float32, NCHW, batches of 128, decoding in between, the
    model as timm makes it, all cores. Ours: `sae.data.forward.embed_images` in batches
    of 16 on as many threads, what it does to the model before its first batch included.
    Each has a process of its own; they are timed in turn, round after round, so that a
    machine whose speed drifts slows all. The first round does not count. The plain loop
    runs as one starts it, and once more with large arrays in large pages, as our jobs
    set it.

    With the artifacts of the demo (results/artifacts) the images are emoji at 96
    pixels, saved as PNG, and the weights of the EfficientNets are real; else the images
    are crops of photographs and the weights random. The ViT-S/16 at 224 pixels always
    has those.
    """
    if arguments.short:
        vars(arguments).update(SHORT_EXTRACTION)
    if arguments.tiny:
        vars(arguments).update(TINY_EXTRACTION)
    machine = record.machine(arguments.cores)
    print(machine)
    comparisons = []
    for model in arguments.models:
        size = 96
        count = arguments.images
        if model == VIT:
            # It is slow; still a batch of 16 for each core.
            size = 224
            count = max(16 * arguments.cores, arguments.images // 16)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            kind_of_images = write_images(folder, model, count)
            worker = EmbeddingWorker(
                model, size, folder, arguments.cores, arguments.workers
            )
            seconds_of_all = time_loops(worker, arguments.rounds)
            distance = largest_distance(folder)
        seconds = {loop: 1000 * s / count for loop, s in seconds_of_all.items()}
        name = f"{model}, {size} px"
        texts = [
            f"{loop} {s:.2f} ({seconds['ours'] / s:.3f})" for loop, s in seconds.items()
        ]
        print(
            f"{name}, {count} {kind_of_images}, seconds for 1,000 (ours / it): "
            f"{', '.join(texts)}; "
            f"embeddings differ by at most {distance:.1e} of their length"
        )
        comparisons.append(
            Comparison(
                goal="extraction",
                quantity=name,
                ours=seconds["ours"],
                peer="plain loop",
                peer_value=seconds["plain"],
                target=EXTRACTION_TARGET,
                machine=machine,
            )
        )
    record.write(arguments.out, "embed", comparisons)
    if arguments.batch:
        # The last convolutional one, where all models are timed.
        model = arguments.models[:-1][-1:] or arguments.models
        size = 32 if arguments.tiny else 96
        print_rates_by_batch(model[0], size, arguments.batch, arguments.rounds)


def write_images(folder: Path, model: str, count: int) -> str:
    """Write images as files into a folder; return in words what they are."""
    if model not in CONVOLUTIONAL or not (ARTIFACTS / "emoji_google").is_dir():
        write_photographs(folder, count)
        return "photographs (JPEG, 500 x 375)"
    emoji = read_config(ROOT / "config.yaml").datasets["emoji"]
    dataset = datasets.load(emoji.spec, ARTIFACTS)
    for i, path in enumerate(dataset.index["path"].sample(count, random_state=0)):
        dataset.open(path).save(folder / f"{i}.png")
    return "emoji (PNG, 64 x 64)"


def write_photographs(folder: Path, count: int) -> None:
    """Write crops of photographs, 500 x 375 as ImageNet's are on average, as JPEG."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(count):
        x = int(rng.integers(140))
        y = int(rng.integers(52))
        crop = photographs[i % len(photographs)].crop((x, y, x + 500, y + 375))
        crop.save(folder / f"{i}.jpg", quality=90)


class EmbeddingWorker(NamedTuple):
    """The work of a process that embeds the images of a folder, once a line on stdin.

    Attributes:
        model: A name.
        size: Of the input, in pixels.
        folder: With the images; embeddings are written beside them.
        cores: Threads.
        workers: Processes of ours that decode.
    """

    model: str
    size: int
    folder: Path
    cores: int
    workers: int

    def command(self, loop: str) -> list[str]:
        """Return the command of the process, for one of `LOOPS`."""
        return [sys.executable, __file__, "--worker", loop, *map(str, self)]

    def run(self, loop: str) -> None:
        """Embed all images for each line on stdin, and print the seconds."""
        torch.set_num_threads(self.cores)
        backbone = load_for_extraction(self.model, self.size)
        names = sorted(
            path.name
            for path in self.folder.iterdir()
            if path.suffix in (".jpg", ".png")
        )
        for _ in sys.stdin:
            started = time.perf_counter()
            if loop == "ours":
                embeddings = embed_as_ours(backbone, self.folder, names, self.workers)
            else:
                embeddings = embed_plainly(backbone, self.folder, names)
            print(time.perf_counter() - started, flush=True)
            np.save(self.folder / f"{loop}.npy", embeddings)


def work(loop: str, model: str, size: str, folder: str, *numbers: str) -> None:
    """Run what :meth:`EmbeddingWorker.command` starts."""
    cores, workers = map(int, numbers)
    EmbeddingWorker(model, int(size), Path(folder), cores, workers).run(loop)


def time_loops(worker: EmbeddingWorker, rounds: int) -> dict[str, float]:
    """Return the median seconds of each loop over all images, timed in turn."""
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "bufsize": 1,
    }
    processes = {}
    for loop, environment in LOOPS.items():
        process = subprocess.Popen(
            worker.command(loop), env={**os.environ, **environment}, **pipes
        )
        processes[loop] = cast(Any, process)

    seconds: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for _ in range(rounds + 1):
        for loop, process in processes.items():
            process.stdin.write("go\n")
            seconds[loop].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {loop: statistics.median(s[1:]) for loop, s in seconds.items()}


def largest_distance(folder: Path) -> float:
    """Return how far two loops' embeddings of an image lie apart, at most.

    The distance is relative to the length of the plain loop's.
    """
    ours = np.load(folder / "ours.npy")
    plain = np.load(folder / "plain.npy")
    distances = np.linalg.norm(ours - plain, axis=1) / np.linalg.norm(plain, axis=1)
    return float(distances.max())


def load_for_extraction(name: str, size: int) -> Backbone:
    """Load a backbone, with random weights if the demo's artifacts lack it.

    Args:
        name: A model of timm, or an EfficientNet of config.yaml.
        size: Of the input, in pixels; a ViT keeps its own.
    """
    if name in CONVOLUTIONAL and (ARTIFACTS / name).is_dir():
        spec = read_config(ROOT / "config.yaml").backbones[name].spec
        return backbone_entries.load(parse("backbone", spec), ARTIFACTS, size)
    torch.manual_seed(0)
    timm_name = f"tf_{name}" if name in CONVOLUTIONAL else name
    model = timm.create_model(timm_name, num_classes=0)
    is_vit = name in (VIT, "test_vit")
    return Backbone(model, preprocessing(model, None if is_vit else size))


def embed_plainly(backbone: Backbone, folder: Path, names: list[str]) -> np.ndarray:
    """Embed images as one writes it first."""
    model = backbone.model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(names), 128):
            images = [
                Image.open(f"{folder}/{name}").convert("RGB")
                for name in names[start : start + 128]
            ]
            batch = torch.stack([backbone.transform(image) for image in images])
            parts.append(model(batch).numpy())
    return np.concatenate(parts)


def embed_as_ours(
    backbone: Backbone, folder: Path, names: list[str], workers: int
) -> np.ndarray:
    """Embed images by `sae.data.forward`.

    The backbone is made anew, so that folding it counts.
    """
    fresh = Backbone(backbone.model, backbone.transform)
    options: dict[str, Any] = {
        "batch_size": 16,
        "device": "cpu",
        "workers": workers,
    }
    opener = archives.opener(str(folder))
    return np.concatenate(list(embed_images(fresh, opener, names, **options)))


def print_rates_by_batch(
    model_name: str, size: int, batch_sizes: list[int], rounds: int
) -> None:
    """Print images/s of the forward pass alone, one thread, on random images."""
    torch.set_num_threads(1)
    channels_last = torch.channels_last
    backbone = load_for_extraction(model_name, size)
    model = cast(Any, backbone.folded).to(memory_format=channels_last)
    images = {
        batch: torch.randn(batch, 3, size, size).contiguous(memory_format=channels_last)
        for batch in batch_sizes
    }
    rates: dict[int, list[float]] = {batch: [] for batch in batch_sizes}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for batch, x in images.items():
                repeats = 128 // batch
                started = time.perf_counter()
                for _ in range(repeats):
                    model(x)
                seconds = time.perf_counter() - started
                rates[batch].append(repeats * batch / seconds)
    texts = [f"{batch}: {statistics.median(r[1:]):.0f}" for batch, r in rates.items()]
    head = f"{model_name} at {size} px, one thread, forward pass alone"
    print(f"{head}, images/s by batch size: {', '.join(texts)}")


# Precision.

# {method: options of its recipe}; `--tiny` has a recipe of its own.
METHODS: dict[str, dict[str, float]] = {
    "topk": {},
    "reg1": {"lam": 0.003},
    "reg2": {"lam": 0.003},
}
SCORES = ("r2", "ms", "purity", "dead")
Splits = dict[str, Activations]
Embeddings = dict[str, np.ndarray]  # {split: (images, d)}
BATCHES_OF_ONE = "batches of 1"
# {a way to embed: options of the backbone}
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    BATCHES_OF_ONE: {},
}


class TrainingSettings(NamedTuple):
    """The SAEs that are trained on either precision.

    Attributes:
        k: The budget.
        seeds: How many.
        changed: Options of the recipe `demo` with other values.
    """

    k: int
    seeds: int
    changed: dict[str, int]


def compare_precisions(arguments: argparse.Namespace) -> None:
    """Compare lower precision with float32, on cells of `results/`.

    It is behind "What it changes" and the table after it, and behind the range of
    "Training", in "Precision" of docs/performance.md.

    Embedding, of each cell: images/s in float32 and in bfloat16, in turn; how far
    embeddings in bfloat16, and in batches of 1, lie from those in float32; and what the
    baseline and both regularizers (`topk`, `reg1`, `reg2`) reach on either, trained by
    the recipe `demo` and scored by the embeddings that they were trained on. Training,
    of the last cell: the same in float32 and with bfloat16 products. Beside the
    differences, of the same seed, it prints how far seeds lie apart.

    Cells must be in float32: `snakemake
    results/activations/fashion_mnist/efficientnet_lite0/train/embeddings.npy`.
    """
    torch.set_num_threads(arguments.threads)
    training = TrainingSettings(arguments.k, arguments.seeds, {})
    rounds = 4
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.tiny:
            training = TrainingSettings(4, 2, {"m": 32, "batch_size": 50, "epochs": 2})
            rounds = 1
            arguments.results = embed_digits(Path(scratch))
            arguments.cells = ["digits/tiny"]
        for cell in arguments.cells:
            activations = arguments.results / "activations" / cell
            splits = {split: store.read(activations / split) for split in SPLITS}
            exact = {
                split: np.asarray(activations.embeddings)
                for split, activations in splits.items()
            }
            networks = {
                precision: network_of(
                    arguments.results, splits["test"].manifest, options
                )
                for precision, options in PRECISIONS.items()
            }
            paths = splits["test"].index["path"].tolist()[: arguments.timed]
            threads = f"{arguments.threads} threads"
            facts = time_networks(networks, paths, exact["test"], rounds)
            print(f"\nEmbedding {cell}, {len(paths)} test images, {threads}")
            for precision, fact in facts.items():
                print(f"  {precision:14}{fact}")

            half = {
                split: networks["bfloat16"](splits[split].index["path"].tolist(), 16)
                for split in ("train", "test")
            }
            saes = f"k = {training.k}, {training.seeds} seeds"
            print(f"  trained on either, {saes}: float32, and bfloat16 less float32")
            float32 = ("float32", "float32")
            print_scores(training, splits, (exact, half), float32)
        if not arguments.no_training:
            print(
                f"\nTraining on {cell}, {saes}: "
                "float32, and bfloat16 products less float32"
            )
            print_scores(training, splits, (exact, exact), ("float32", "bfloat16"))


Network = Callable[[list[str], int], np.ndarray]


def network_of(
    results: Path, manifest: dict[str, Any], options: dict[str, Any]
) -> Network:
    """Return a function from paths of images and a batch's size to embeddings.

    Args:
        results: The folder with datasets and artifacts.
        manifest: Of the store whose backbone is used.
        options: Of the backbone, with other values.
    """
    dataset = manifest["dataset"]["name"]
    index = files.read_json(results / "datasets" / dataset / "manifest.json")
    artifacts = results / "artifacts"
    entry = parse("backbone", {**manifest["backbone"]["spec"], **options})
    backbone = backbone_entries.load(entry, artifacts, manifest["image_size"])
    # A manifest may have `auto`; it counts as float32, as bfloat16 is tried apart.
    is_bfloat16 = entry.shared.precision == "bfloat16"
    precision: Precision = "bfloat16" if is_bfloat16 else "float32"
    open_image = datasets.reader(index["spec"], artifacts)

    def embed_paths(paths: list[str], batch_size: int) -> np.ndarray:
        batches = embed_images(
            backbone,
            open_image=open_image,
            paths=paths,
            batch_size=batch_size,
            device="cpu",
            workers=0,
            precision=precision,
        )
        return np.concatenate(list(batches))

    return embed_paths


def time_networks(
    networks: dict[str, Network], paths: list[str], exact: np.ndarray, rounds: int
) -> dict[str, str]:
    """Return {precision: images/s, and the distance from the exact embeddings}.

    Args:
        networks: {precision: a function to embeddings}.
        paths: Of images.
        exact: (images, d) embeddings in float32, of these images and perhaps more.
        rounds: How often; of several the first does not count.
    """
    seconds: dict[str, list[float]] = {precision: [] for precision in networks}
    facts = {}
    for _ in range(rounds):
        for precision, embed_paths in networks.items():
            started = time.perf_counter()
            embeddings = embed_paths(paths, 1 if precision == BATCHES_OF_ONE else 16)
            seconds[precision].append(time.perf_counter() - started)
            counted = seconds[precision][1:] or seconds[precision]
            rate = len(paths) / statistics.median(counted)
            distance = describe_distance(exact[: len(paths)], embeddings)
            facts[precision] = f"{rate:.0f} images/s{distance}"
    return facts


def describe_distance(exact: np.ndarray, embeddings: np.ndarray) -> str:
    """Describe how far embeddings (images, d) lie from the exact ones."""
    from sae.models import inputs

    cosine = (inputs.unit_rows(exact) * inputs.unit_rows(embeddings)).sum(axis=1)
    lengths = np.linalg.norm(exact, axis=1)
    relative = np.linalg.norm(exact - embeddings, axis=1) / lengths
    distance = f"{np.median(relative):.1e} (largest {relative.max():.1e})"
    return f", relative distance {distance}, 1 - cosine {1 - cosine.min():.1e}"


def print_scores(
    training: TrainingSettings,
    splits: Splits,
    embeddings: tuple[Embeddings, Embeddings],
    products: tuple[str, str],
) -> None:
    """Print scores of SAEs, and how far those of a second way lie off.

    Args:
        training: What is trained.
        splits: With the labels.
        embeddings: Of the first way, and of the second.
        products: The precision of training, of the first way, and of the second.
    """
    tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}
    for method in METHODS:
        first, second = (
            pd.DataFrame(
                [
                    train_and_score(training, x, splits, method, seed, precision)
                    for seed in range(training.seeds)
                ]
            )
            for x, precision in zip(embeddings, products, strict=True)
        )
        tables[method] = (first, second)
        cells = []
        for score in SCORES:
            difference = (second[score] - first[score]).mean()
            mean = f"{first[score].mean():.4f}, {difference:+.4f}"
            cells.append(f"{mean} ({first[score].std():.4f})")
        print(f"  | {method} | " + " | ".join(cells) + " |", flush=True)

    gains = ""
    for method in ("reg1", "reg2"):
        first, second = (
            of_method["ms"].mean() - of_baseline["ms"].mean()
            for of_method, of_baseline in zip(
                tables[method], tables["topk"], strict=True
            )
        )
        gains += f" {method} {first:+.4f} and {second:+.4f}"
    spread = "in brackets the standard deviation between seeds"
    print(f"  {', '.join(SCORES)}; {spread}. MS above the baseline's:{gains}")


def train_and_score(
    training: TrainingSettings,
    embeddings: Embeddings,
    splits: Splits,
    method: str,
    seed: int,
    precision: str,
) -> dict[str, float]:
    """Train by the demo's recipe on train, and score on test, all in float32.

    Args:
        training: What is trained.
        embeddings: Of train and test.
        splits: With the labels.
        method: One of `METHODS`.
        seed: Of the training.
        precision: Of its products.

    Returns:
        {score: value} of `SCORES`.
    """
    from performance_training import settings_of

    from sae.models import inputs
    from sae.scoring.metrics import _ms, _residuals, purity
    from sae.training.loop import train

    changed = {
        "k": training.k,
        "seed": seed,
        "precision": precision,
        **METHODS[method],
        **training.changed,
    }
    settings, entries = settings_of(method, "demo", **changed)
    norm = settings.input_norm
    scale = inputs.total_variance(inputs.prepare(embeddings["train"], norm)) ** -0.5
    x_train, x_test = (
        inputs.prepare(embeddings[split], norm, scale) for split in ("train", "test")
    )
    coder, _ = train(x_train, settings, *entries)
    codes = coder.encode(x_test)
    scaled = _ms.scale_activations(codes)
    labels = splits["test"].index["label"].to_numpy(dtype=np.int64)
    return {
        "r2": _residuals.score_reconstruction(coder, x_test, codes).r2,
        "ms": _ms.summary(_ms.scores(scaled, embeddings["test"])).mean_alive,
        "purity": purity.of_codes(codes, labels)["binary"],
        "dead": int((codes.firing_counts() == 0).sum()),
    }


def embed_digits(folder: Path) -> Path:
    """Embed scikit-learn's handwritten digits by an untrained backbone.

    Returns:
        The folder, which then is one of results.
    """
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    for i, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        split = ("train", "val", "test")[i % 3]
        path = folder / "images" / split / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 600:
            Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).save(path)
    torch.manual_seed(0)
    weights = folder / "backbone.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)

    images: dict[str, Any] = {
        "type": "image_folder",
        "root": str(folder / "images"),
        "image_size": 32,
    }
    dataset = folder / "datasets/digits"
    datasets.build("digits", images, None, dataset)
    backbone = {
        "loader": "timm",
        "model": "test_efficientnet",
        "checkpoint": str(weights),
    }
    activations = folder / "activations/digits/tiny"
    embed.embed(embed.Job(dataset, "tiny", backbone, folder, activations, 16, "cpu"))
    return folder


# Input sizes.

TINY_INPUT_SIZE = {
    "datasets": ["digits"],
    "backbones": ["test_efficientnet"],
    "sizes": [32, 48],
    "train": 100,
}


def compare_input_sizes(arguments: argparse.Namespace) -> None:
    """Compare how well embeddings at several input sizes tell the labels apart.

    It is behind the table of docs/data.md from which 98 pixels are chosen:

        ... input-size --datasets emoji
        ... input-size --datasets fashion_mnist --train 3000

    The accuracy of 5 nearest neighbours, by cosine, of the validation split among the
    training images (`--train`: so many of them, seeded), and images a second, decoding
    included. Needs the artifacts of the datasets and backbones, as `make demo` leaves
    them. `--tiny` takes handwritten digits by an untrained network.
    """
    from sklearn.neighbors import KNeighborsClassifier

    torch.set_num_threads(arguments.threads)
    if arguments.tiny:
        vars(arguments).update(TINY_INPUT_SIZE)
    for name in arguments.datasets:
        dataset = load_digits_dataset() if arguments.tiny else load_dataset(name)
        index = dataset.index
        train, val = (index[index["split"] == split] for split in ("train", "val"))
        count = min(arguments.train or len(train), len(train))
        train = train.sample(count, random_state=0)
        for backbone_name in arguments.backbones:
            for size in arguments.sizes:
                backbone = load_backbone(backbone_name, size)
                started = time.perf_counter()
                x_train, x_val = (
                    embed_rows(backbone, dataset, rows, arguments.batch)
                    for rows in (train, val)
                )
                rate = (len(train) + len(val)) / (time.perf_counter() - started)
                y_train, y_val = (
                    rows["label"].to_numpy(dtype=np.int64) for rows in (train, val)
                )
                neighbours = KNeighborsClassifier(5, metric="cosine")
                accuracy = neighbours.fit(x_train, y_train).score(x_val, y_val)
                counts = f"{len(train)} train, {len(val)} val"
                setting = f"{name} ({counts}), {backbone_name}, {size} px"
                print(f"{setting}: {accuracy:.4f}, {rate:.0f} images/s", flush=True)


def embed_rows(
    backbone: Backbone, dataset: datasets.Dataset, rows: pd.DataFrame, batch_size: int
) -> np.ndarray:
    """Return the embeddings (images, d) of rows of a dataset's index."""
    batches = embed_images(
        backbone,
        dataset.open,
        rows["path"].tolist(),
        batch_size=batch_size,
        device="cpu",
        workers=0,
    )
    return np.concatenate(list(batches))


def load_dataset(name: str) -> datasets.Dataset:
    """Load a dataset of config.yaml."""
    spec = read_config(ROOT / "config.yaml").datasets[name].spec
    return datasets.load(spec, ARTIFACTS)


def load_backbone(name: str, size: int) -> Backbone:
    """Load a backbone of config.yaml at an input size, or timm's, untrained."""
    backbones = read_config(ROOT / "config.yaml").backbones
    if name in backbones:
        entry = parse("backbone", backbones[name].spec)
        return backbone_entries.load(entry, ARTIFACTS, size)
    model = timm.create_model(name, num_classes=0)
    return Backbone(model, preprocessing(model, size))


def load_digits_dataset() -> datasets.Dataset:
    """Load scikit-learn's handwritten digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    splits = np.where(np.arange(len(images)) % 9 == 0, "val", "train")
    paths = [str(i) for i in range(len(images))]
    index = pd.DataFrame({"path": paths, "label": labels, "split": splits})
    pixels = (images.reshape(-1, 8, 8) * 15.9).astype("uint8")
    return datasets.Dataset(
        index, lambda path: Image.fromarray(pixels[int(path)]).convert("RGB")
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        run_script(__doc__, add_commands)
