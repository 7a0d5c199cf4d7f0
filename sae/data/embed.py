"""Embed a dataset with a frozen backbone into the activation store, in any number of shards that survive a kill.

Batches are cut from each split before shards are: a shard is a run of whole batches, so that an image is embedded in
the same batch whatever the number of shards, and the result is the same to the bit. A shard writes its embeddings to
`.embedding-{key}/{shard}-of-{shards}/` (`sae.data.parts`), from which it also takes up again; when all are there they
become the store's files.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sae import artifacts, files, registry
from sae.codehash import code_hash
from sae.data import dataset as datasets
from sae.data import store
from sae.data.parts import Part
from sae.data.splits import SPLITS
from sae.errors import UserError

progress = logging.getLogger("sae.progress")
LOADERS = "sae.data.backbones"
TELL_EVERY = 15.0  # seconds between lines of progress


@dataclass(frozen=True)
class Backbone:
    """What a loader of `sae.data.backbones` returns.

    Attributes:
        model: from images (N, 3, H, W) to embeddings (N, d).
        transform: from a PIL image to a tensor (3, H, W).
        checkpoint: the weights file, unless an artifact holds it: its hash goes into the fingerprint.
    """

    model: torch.nn.Module
    transform: Callable
    checkpoint: str | None = None


@dataclass(frozen=True)
class Job:
    """A dataset to embed with a backbone.

    Attributes:
        dataset_dir: what :func:`sae.data.dataset.build` wrote.
        name, spec: the backbone, and its mapping in the config.
        artifacts_root: folder of fetched artifacts.
        out: where the splits go.
        batch_size: images a forward pass; small ones fit a CPU's cache and are the fastest there. The spec's own has
            precedence.
        device: a torch device.
        workers: processes that read and decode images; 0: this one.
        shards: into how many parts the work is cut.
    """

    dataset_dir: Path
    name: str
    spec: dict
    artifacts_root: Path
    out: Path
    batch_size: int
    device: str
    workers: int = 0
    shards: int = 1


def embed(job, shard=None):
    """Embed one shard (0 to shards - 1), or, with None, what is missing of all of them, then write the store."""
    manifest = files.read_json(Path(job.dataset_dir) / "manifest.json", "manifest of dataset")
    index = pd.read_parquet(Path(job.dataset_dir) / "index.parquet")
    rows = {split: index[index["split"] == split].drop(columns="split").reset_index(drop=True) for split in SPLITS}
    work = _Work(job, manifest, rows)
    for number in range(job.shards) if shard is None else [shard]:
        work.embed_shard(number)
    if shard is None:
        work.finish()


class _Work:
    def __init__(self, job, manifest, rows):
        self.job, self.manifest, self.rows = job, manifest, rows
        self.batch_size = job.spec.get("batch_size", job.batch_size)
        self.module = registry.load(LOADERS, job.spec["loader"])
        self.cell = f"{manifest['name']} / {job.name}"
        self.backbone = None  # Loaded when it is needed: what only joins finished shards does without.
        dataset_module = registry.module(datasets.DATASETS, manifest["spec"]["type"])
        made_by = {
            "dataset": manifest["fingerprint"],
            "backbone": job.spec,
            "batch_size": self.batch_size,
            "device": torch.device(job.device).type,
            "code": code_hash("sae.data.embed", dataset_module, registry.module(LOADERS, job.spec["loader"])),
            "versions": store.versions(),
        }
        self.folder = Path(job.out) / f".embedding-{files.sha256_text(files.dumps(made_by))[:16]}"

    def ranges(self, shard):
        """{split: (first row, last row + 1)} of a shard: its run of all splits' batches."""
        counts = [-(-len(self.rows[split]) // self.batch_size) for split in SPLITS]
        total, before, found = sum(counts), 0, {}
        for split, count in zip(SPLITS, counts, strict=True):
            first, last = (total * (shard + i) // self.job.shards - before for i in (0, 1))
            first, last = (self.batch_size * min(max(b, 0), count) for b in (first, last))
            found[split] = (min(first, len(self.rows[split])), min(last, len(self.rows[split])))
            before += count
        return found

    def parts(self, shard):
        """{split: Part} of a shard."""
        folder = self.folder / f"{shard}-of-{self.job.shards}"
        folder.mkdir(parents=True, exist_ok=True)
        return {s: Part(folder / f"{s}.npy", last - first) for s, (first, last) in self.ranges(shard).items()}

    def embed_shard(self, shard):
        """Embed what is missing of a shard."""
        parts, ranges = self.parts(shard), self.ranges(shard)
        about = self.folder / f"{shard}-of-{self.job.shards}" / "provenance.json"
        if about.exists() and all(part.complete for part in parts.values()):
            return
        provenance = self.provenance()
        if about.exists() and files.read_json(about) != provenance:
            # Embedded with other weights: nothing of it can be kept.
            shutil.rmtree(about.parent)
            parts = self.parts(shard)
        files.write_json(about, provenance)
        left = {split: part.rows - part.done for split, part in parts.items()}
        clock = _Clock(f"{self.cell}{self.label(shard)}", sum(p.rows for p in parts.values()), sum(left.values()))
        for split, part in parts.items():
            if left[split]:
                first, last = ranges[split]
                for batch in self.batches(split, first + part.done, last):
                    part.append(self.checked(batch, split))
                    clock.tell(len(batch))
        clock.end()

    def label(self, shard):
        return f", shard {shard} of {self.job.shards}" if self.job.shards > 1 else ""

    def checked(self, batch, split):
        stored = batch.astype(self.job.spec.get("dtype", "float32"))
        if stored.ndim != 2 or not np.isfinite(stored).all():
            raise UserError(
                f"{self.cell}, split {split}: the backbone gave shape {batch.shape}, or values that are not finite as "
                f"{stored.dtype}"
            )
        return stored

    def provenance(self):
        """What goes into the manifests; loads the backbone."""
        spec = self.job.spec
        sources = [artifacts.manifest(self.job.artifacts_root, a) for a in artifacts.names(spec)]
        weights, preprocessing = [s["files"] for s in sources], "none"
        if not hasattr(self.module, "embeddings"):
            self.load()
            preprocessing = str(self.backbone.transform)
            weights = weights or (self.backbone.checkpoint and files.sha256(self.backbone.checkpoint))
        # Where the weights lie is not what they are.
        told = {key: value for key, value in spec.items() if key != "checkpoint"}
        return {
            "dataset": {key: self.manifest[key] for key in ("name", "fingerprint", "grouped")},
            "backbone": {
                "name": self.job.name,
                "spec": spec,
                "fingerprint": files.sha256_text(files.dumps([told, weights]))[:16],
            },
            "preprocessing": preprocessing,
            "image_size": self.manifest["spec"].get("image_size"),
            "batch_size": self.batch_size,
            "device": torch.device(self.job.device).type,
            "artifacts": self.manifest["artifacts"] + sources,
        }

    def load(self):
        """Load the backbone, once."""
        if self.backbone is None:
            size = self.manifest["spec"].get("image_size")
            self.backbone = self.module.load(self.job.spec, self.job.artifacts_root, size)

    def batches(self, split, first, last):
        """Yield the embeddings (n, d) of rows `first` to `last` of a split, batch by batch."""
        if hasattr(self.module, "embeddings"):
            given = self.module.embeddings(self.manifest["spec"], self.job.spec, split)
            if len(given) != len(self.rows[split]):
                raise UserError(f"{self.cell}: {len(given)} embeddings of {split} for {len(self.rows[split])} rows")
            yield from (given[i : min(i + self.batch_size, last)] for i in range(first, last, self.batch_size))
            return
        self.load()
        open_image = datasets.reader(self.manifest["spec"], self.job.artifacts_root)
        paths = self.rows[split]["path"][first:last].tolist()
        options = {"device": self.job.device, "workers": self.job.workers, "spec": self.job.spec}
        yield from embed_images(self.backbone, open_image, paths, batch_size=self.batch_size, **options)

    def finish(self):
        """Make the store of the finished shards."""
        shards = [self.parts(shard) for shard in range(self.job.shards)]
        told = [files.read_json(self.folder / f"{i}-of-{self.job.shards}/provenance.json") for i in range(len(shards))]
        if any(provenance != told[0] for provenance in told):
            raise UserError(f"{self.cell}: the shards in {self.folder} have other weights; delete it and run again")
        for split in SPLITS:
            store.adopt(Path(self.job.out) / split, [parts[split] for parts in shards], self.rows[split], told[0])
        for folder in Path(self.job.out).glob(".embedding-*"):
            shutil.rmtree(folder)


def embed_images(backbone, open_image, paths, *, batch_size, device, workers, spec):
    """Yield the embeddings (n, d) float32 of images, batch by batch.

    Args:
        open_image: from one of `paths` to a PIL image.
        workers: processes that open and transform; 0: this one.
        spec: the backbone's mapping in the config, for its `precision`.

    Raises:
        UserError: an image cannot be read.
    """
    cuda = torch.device(device).type == "cuda"
    model = backbone.model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    loader = torch.utils.data.DataLoader(
        _Images(open_image, paths, backbone.transform),
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=_collate,
        pin_memory=cuda,
    )
    half = spec.get("precision") == "bfloat16"
    before = None
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        batch = batch.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(batch.device.type, torch.bfloat16, enabled=half):
            now = model(batch)
        # The last batch is fetched while this one is computed.
        if before is not None:
            yield before.float().cpu().numpy()
        before = now
    yield before.float().cpu().numpy()


class _Images(torch.utils.data.Dataset):
    """Images as tensors; one that cannot be read is a text that says so."""

    def __init__(self, open_image, paths, transform):
        self.open_image, self.paths, self.transform = open_image, paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        try:
            return self.transform(self.open_image(self.paths[i]))
        except UserError as error:
            return str(error)
        except datasets.UNREADABLE as error:
            return f"image {self.paths[i]} cannot be read: {error}"


def _collate(batch):
    wrong = [item for item in batch if isinstance(item, str)]
    return wrong[0] if wrong else torch.stack(batch)


class _Clock:
    """Says from time to time how far the work is."""

    def __init__(self, what, total, left):
        self.what, self.total, self.left, self.count = what, total, left, left
        self.started = self.told = time.monotonic()

    def tell(self, images):
        self.left -= images
        if time.monotonic() - self.told > TELL_EVERY:
            self.told = time.monotonic()
            minutes = self.left / self.rate() / 60
            done = self.total - self.left
            progress.info(
                "%s: %d of %d images, %.0f/s, %.0f min left", self.what, done, self.total, self.rate(), minutes
            )

    def end(self):
        taken_up = f" ({self.total - self.count} were there)" if self.count < self.total else ""
        progress.info("%s: %d images%s, %.0f/s", self.what, self.total, taken_up, self.rate())

    def rate(self):
        return (self.count - self.left) / max(time.monotonic() - self.started, 1e-9)
