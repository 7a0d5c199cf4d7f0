"""A dataset that is to be embedded with a backbone: what a job is told of it, and more.

`sae.data.embed` does the work.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sae.core import files, versions
from sae.core.options import Count, Precision, Whole
from sae.data import backbone_entries, store
from sae.data.entries import (
    BackboneEntry,
    DatasetEntry,
    ImageDatasetEntry,
    NetworkEntry,
    parse,
)
from sae.data.splits import SPLITS


@dataclass(frozen=True)
class Job:
    """A dataset to embed with a backbone, as the command line says it.

    Attributes:
        dataset_dir: the folder that :func:`sae.data.dataset.build` wrote.
        name: the backbone's.
        spec: the backbone's mapping in the config.
        artifacts_root: folder of fetched artifacts; None where none are needed.
        out: the folder of the splits' folders.
        batch_size: images in one forward pass, unless the spec has a `batch_size`. On a
            CPU small batches are fastest, because they fit its cache.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
        workers: number of forked processes that read and decode images; with 0, this
            process does. On macOS keep 0.
        shards: the number of parts into which the work is cut.
        shared: other people's folders like `out`, only read: finished splits in them
            are copied, not made again.
    """

    dataset_dir: Path
    name: str
    spec: dict[str, Any]
    artifacts_root: Path | None
    out: Path
    batch_size: Count
    device: str = "cpu"
    workers: Whole = 0
    shards: Count = 1
    shared: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Extraction:
    """The dataset and the backbone of a job, read from disk and checked.

    Attributes:
        job: what the command line said.
        title: what messages call the two, such as "emoji / dinov2_vit_s14".
        dataset_manifest: what the dataset's `manifest.json` holds.
        rows: {split: its rows of the dataset's index, numbered from 0}.
        dataset: the dataset's entry in the config.
        backbone: the backbone's entry; `precision: auto` is what it stands for here.
        batch_size: images in one forward pass.
        image_size: the input size in pixels that the loader is asked for; None: the
            model's own.
        precision: of the network.
        folder: where the work lies until it is finished, and its finished splits for
            good. The key in its name hashes all that an embedding depends on, except
            the weights.
    """

    job: Job
    title: str
    dataset_manifest: dict[str, Any]
    rows: dict[str, pd.DataFrame]
    dataset: DatasetEntry
    backbone: BackboneEntry
    batch_size: int
    image_size: int | None
    precision: Precision
    folder: Path

    @property
    def device_type(self) -> str:
        """The kind of device, such as "cuda" for cuda:1."""
        return torch.device(self.job.device).type


def prepare(job: Job) -> Extraction:
    """Read the dataset of a job and check what the config says of both.

    Raises:
        UserError: the dataset's index is missing or altered, or an entry is not right.
    """
    manifest = files.read_json(job.dataset_dir / "manifest.json", "manifest of dataset")
    index_file = job.dataset_dir / "index.parquet"
    files.check_sum(
        index_file,
        manifest["sha256"],
        f"{job.dataset_dir}/manifest.json",
        f"delete {job.dataset_dir} and run again",
    )
    index = files.read_parquet(index_file)
    rows = {}
    for split in SPLITS:
        split_rows = index[index["split"] == split]
        rows[split] = split_rows.drop(columns="split").reset_index(drop=True)

    backbone = backbone_entries.settle_precision(
        parse("backbone", job.spec), job.device
    )
    dataset = parse("dataset", manifest["spec"])
    batch_size = job.batch_size
    image_size = None
    precision: Precision = "float32"
    if isinstance(dataset, ImageDatasetEntry):
        image_size = dataset.image_size
    if isinstance(backbone, NetworkEntry):
        batch_size = backbone.batch_size or batch_size
        image_size = backbone.image_size or image_size
        assert backbone.precision != "auto"  # It was settled.
        precision = backbone.precision
    made_by = {
        "dataset": manifest["fingerprint"],
        "backbone": backbone_entries.identity(backbone),
        "batch_size": batch_size,
        "device": torch.device(job.device).type,
        "versions": versions.joined(
            [
                ("data", "embed"),
                ("dataset", dataset.type),
                ("backbone", backbone.loader),
            ]
        ),
        "libraries": store.versions(),
    }
    key = files.sha256_text(files.dumps(made_by))[:16]
    return Extraction(
        job=job,
        title=f"{manifest['name']} / {job.name}",
        dataset_manifest=manifest,
        rows=rows,
        dataset=dataset,
        backbone=backbone,
        batch_size=batch_size,
        image_size=image_size,
        precision=precision,
        folder=job.out / f".embedding-{key}",
    )
