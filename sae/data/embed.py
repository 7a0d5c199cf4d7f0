"""Embed a dataset with a frozen backbone into the activation store, in any number of shards that survive a kill.

Batches are cut from each split before shards are: a shard is a run of whole batches, so that an image is embedded in
the same batch whatever the number of shards, and the result is the same to the bit. A shard writes its embeddings to
`.embedding-{key}/{shard}-of-{shards}/` (`sae.data.parts`), from which it also takes up again; when all are there they
become the store's files.
"""

import logging
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sae.data import artifacts
from sae.core import files, registry
from sae.core.codehash import code_hash
from sae.data import dataset as datasets
from sae.data import store
from sae.data.parts import Part
from sae.data.splits import SPLITS
from sae.core.errors import UserError

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
        workers: processes that read and decode images (forked: leave it at 0 on macOS); 0: this one.
        shards: into how many parts the work is cut.
        shared: folders like `out` of others, only read: finished splits that are there are taken, not made.
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
    shared: tuple = ()


def embed(job, shard=None):
    """Embed one shard (0 to shards - 1), or, with None, what is missing of all of them, then write the store.

    Raises:
        UserError: an image, the backbone or its embeddings are not right; there is no such shard.
    """
    if job.shards < 1 or not (shard is None or 0 <= shard < job.shards):
        raise UserError(f"shard {shard} of {job.shards}: shards are numbered from 0 to their number - 1")
    work = _Extraction(job)
    for number in range(job.shards) if shard is None else [shard]:
        # What only joins finished shards does without the backbone; a shard's own job looks whether it has changed.
        with work.locked(number):
            if work.restore():  # By now: another process may have held the lock.
                return
            if shard is not None or job.shards == 1 or not work.is_complete(number):
                work.embed_shard(number)
    if shard is None:
        with ExitStack() as locks:
            for number in range(job.shards):
                locks.enter_context(work.locked(number))
            if not work.restore():
                work.finish()


def fingerprint(spec, backbone, artifacts_root):
    """What a loaded backbone is: its mapping in the config, but for where its weights lie, and the hashes of those."""
    weights = [artifacts.manifest(artifacts_root, a)["files"] for a in artifacts.names(spec)]
    return _fingerprint(spec, weights or (backbone.checkpoint and files.sha256(backbone.checkpoint)))


def _fingerprint(spec, weights):
    return files.sha256_text(files.dumps([_without_places(spec), weights]))[:16]


def _without_places(spec):
    places = {"checkpoint"} | ({"pretrained"} if Path(spec.get("pretrained", "/")).exists() else set())
    return {key: value for key, value in spec.items() if key not in places}


def _weights(provenance):
    # All else that an embedding depends on is in the key of the folder.
    return provenance["backbone"]["fingerprint"]


class _Extraction:
    """The work on one dataset and backbone, and where it is kept until it is finished.

    The key of its folder holds all that an embedding depends on, but for the weights: those stand in each shard's
    `provenance.json`.
    """

    def __init__(self, job):
        self.job, self.manifest = job, files.read_json(Path(job.dataset_dir) / "manifest.json", "manifest of dataset")
        index_file = Path(job.dataset_dir) / "index.parquet"
        if files.sha256(index_file) != self.manifest["sha256"]:
            raise UserError(f"{index_file} is not the one of its manifest; delete {job.dataset_dir} and run again")
        index = pd.read_parquet(index_file)
        self.rows = {s: index[index["split"] == s].drop(columns="split").reset_index(drop=True) for s in SPLITS}
        self.batch_size = job.spec.get("batch_size", job.batch_size)
        self.module = registry.load(LOADERS, job.spec["loader"])
        self.given = hasattr(self.module, "embeddings")
        self.cell = f"{self.manifest['name']} / {job.name}"
        self.backbone = None
        dataset_module = registry.module(datasets.DATASETS, self.manifest["spec"]["type"])
        device = torch.device(job.device).type
        made_by = {
            "dataset": self.manifest["fingerprint"],
            "backbone": _without_places(job.spec),
            "batch_size": self.batch_size,
            "device": device,
            "threads": torch.get_num_threads() if device == "cpu" else None,
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

    def place(self, shard):
        """The folder of a shard."""
        return self.folder / f"{shard}-of-{self.job.shards}"

    def locked(self, shard):
        """A context that keeps other processes off a shard: a second one would write into the same file."""

        def tell():
            progress.info("%s%s: waits for another process that embeds it", self.cell, self.label(shard))

        return files.locked(self.folder / "locks" / f"{shard}.of.{self.job.shards}", tell)

    def parts(self, shard):
        """{split: Part} of a shard."""
        self.place(shard).mkdir(parents=True, exist_ok=True)
        ranges = self.ranges(shard).items()
        return {split: Part(self.place(shard) / f"{split}.npy", last - first) for split, (first, last) in ranges}

    def is_complete(self, shard):
        """Whether a shard has all its rows."""
        recorded = (self.place(shard) / "provenance.json").exists()
        return recorded and all(part.complete for part in self.parts(shard).values())

    def embed_shard(self, shard):
        """Embed what is missing of a shard."""
        recorded, provenance = self.place(shard) / "provenance.json", self.provenance()
        if recorded.exists() and _weights(files.read_json(recorded)) != _weights(provenance):
            shutil.rmtree(self.place(shard))  # Of other weights: nothing of it can be kept.
        parts, ranges = self.parts(shard), self.ranges(shard)
        files.write_json(recorded, provenance)
        missing = {split: part.rows - part.done for split, part in parts.items()}
        clock = _Clock(f"{self.cell}{self.label(shard)}", sum(p.rows for p in parts.values()), sum(missing.values()))
        for split, part in parts.items():
            if missing[split]:
                first, last = ranges[split]
                for batch in self.batches(split, first + part.done, last):
                    part.append(self.checked(batch, split))
                    clock.tell(len(batch))
        clock.end()

    def label(self, shard):
        return f", shard {shard} of {self.job.shards}" if self.job.shards > 1 else ""

    def checked(self, batch, split):
        """A batch as it is stored."""
        given = batch.dtype if self.given and batch.dtype in (np.float16, np.float32) else np.float32
        stored = batch.astype(self.job.spec.get("dtype", given))
        if stored.ndim != 2 or not np.isfinite(stored).all():
            raise UserError(
                f"{self.cell}, split {split}: the backbone gave shape {batch.shape}, or values that are not finite as "
                f"{stored.dtype}"
            )
        return stored

    def provenance(self):
        """What goes into the manifests; loads the backbone, or reads the given embeddings through."""
        spec = self.job.spec
        sources = [artifacts.manifest(self.job.artifacts_root, a) for a in artifacts.names(spec)]
        if self.given:
            given = self.module.files(self.manifest["spec"], spec)
            preprocessing, made = "none", _fingerprint(spec, {s: files.sha256(f) for s, f in given.items()})
        else:
            self.load()
            preprocessing = str(self.backbone.transform)
            made = fingerprint(spec, self.backbone, self.job.artifacts_root)
        return {
            "dataset": {key: self.manifest[key] for key in ("name", "fingerprint", "grouped")},
            "backbone": {"name": self.job.name, "spec": spec, "fingerprint": made},
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
        if self.given:
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
        recorded = [files.read_json(self.place(shard) / "provenance.json") for shard in range(self.job.shards)]
        if len(set(map(_weights, recorded))) > 1:
            raise UserError(f"{self.cell}: the shards in {self.folder} have other weights; delete it and run again")
        kinds = {(p.shape[1], p.dtype.name) for parts in shards for p in parts.values() if p.rows}
        if len(kinds) > 1:
            raise UserError(f"{self.cell}: embeddings of different (d, dtype): {sorted(kinds)}")
        out = Path(self.job.out)
        for split in SPLITS:
            store.adopt(out / split, [parts[split] for parts in shards], self.rows[split], recorded[0])
        # Links to the finished files, which take no space: Snakemake deletes what a job made while it was not there to
        # see it end, and embeds no second time thanks to these.
        for split in SPLITS:
            files.link_or_copy(out / split, self.folder / "finished" / split)
        for folder in [*(f for f in out.glob(".embedding-*") if f != self.folder), *self.folder.glob("*-of-*")]:
            shutil.rmtree(folder)

    def restore(self):
        """Take finished splits, deleted here or made by others, if they are of the same things; whether it was so."""
        for place in (self.job.out, *self.job.shared):
            finished = {split: Path(place) / self.folder.name / "finished" / split for split in SPLITS}
            if not all((folder / "manifest.json").is_file() for folder in finished.values()):
                continue
            try:
                recorded = [store.read(folder).manifest for folder in finished.values()]
            except UserError:
                continue
            if set(map(_weights, recorded)) != {_weights(self.provenance())}:
                continue
            for split, folder in finished.items():
                if place != self.job.out:
                    # Not linked: Snakemake dates what a job made anew, and these are others'.
                    files.copy_files(folder, self.folder / "finished" / split)
                files.link_or_copy(self.folder / "finished" / split, Path(self.job.out) / split)
            progress.info("%s: was finished before%s", self.cell, "" if place == self.job.out else f", in {place}")
            return True
        return False


def embed_images(backbone, open_image, paths, *, batch_size, device, workers, spec):
    """Yield the embeddings (n, d) float32 of images, batch by batch; on a GPU one batch late.

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
        worker_init_fn=_silence_threads,
        pin_memory=cuda,
    )
    half = spec.get("precision") == "bfloat16"
    pending = []
    for batch in loader:
        if isinstance(batch, str):
            yield from (embeddings.cpu().numpy() for embeddings in pending)
            raise UserError(batch)
        batch = batch.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(batch.device.type, torch.bfloat16, enabled=half):
            pending.append(model(batch).float())
        # On a GPU a batch is fetched while the next is computed.
        if len(pending) > cuda:
            yield pending.pop(0).cpu().numpy()
    yield from (embeddings.cpu().numpy() for embeddings in pending)


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
    if wrong:
        return wrong[0]
    batch = torch.stack(batch)
    if torch.utils.data.get_worker_info() is not None:
        try:
            # Else a thread of the queue does it, where a failure goes unheard and the reader waits for ever.
            batch.share_memory_()
        except RuntimeError as error:
            return f"processes that decode lack shared memory ({error}): make /dev/shm larger, or use fewer workers"
    return batch


def _silence_threads(_worker):
    # The thread that hands a batch over reports a reader that was stopped meanwhile by this hook. A worker's own errors
    # take another way, to the reader.
    sys.excepthook = lambda *_: None


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
