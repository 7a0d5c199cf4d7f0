"""Embed a dataset with a frozen backbone, split by split, into the activation store."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from sae import artifacts, files, registry
from sae.data import dataset as datasets
from sae.data import store
from sae.data.splits import SPLITS
from sae.errors import UserError

progress = logging.getLogger("sae.progress")


@dataclass(frozen=True)
class Backbone:
    """What a loader of `sae.data.backbones` returns.

    Attributes:
        model: from images (N, 3, H, W) to embeddings (N, d).
        transform: from a PIL image to a tensor (3, H, W).
        checkpoint: the local weights file, when there is one: its hash goes into the fingerprint.
    """

    model: torch.nn.Module
    transform: Callable
    checkpoint: str | None = None


def embed(dataset_name, dataset_dir, backbone_name, backbone_spec, artifacts_root, out, *, batch_size, device):
    """Write the embeddings of all splits of a built dataset to `out/{split}/`.

    Args:
        dataset_dir: what :func:`sae.data.dataset.build` wrote.
        out: one folder a split is made in it (`sae.data.store`).
        batch_size: images a forward pass; small ones fit a CPU's cache and are the fastest there.
        device: a torch device.
    """
    manifest = files.read_json(Path(dataset_dir) / "manifest.json", "manifest of dataset")
    index = pd.read_parquet(Path(dataset_dir) / "index.parquet")
    dataset = datasets.load(manifest["spec"], artifacts_root)
    loader = registry.load("sae.data.backbones", backbone_spec["loader"])
    backbone = loader.load(backbone_spec, artifacts_root, manifest["spec"].get("image_size"))
    model = backbone.model.eval().to(device, memory_format=torch.channels_last)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    sources = [artifacts.manifest(artifacts_root, a) for a in artifacts.names(backbone_spec)]
    weights = [s["files"] for s in sources] or (backbone.checkpoint and _weights_hash(backbone.checkpoint))
    provenance = {
        "dataset": {key: manifest[key] for key in ("name", "fingerprint", "grouped")},
        "backbone": {
            "name": backbone_name,
            "spec": backbone_spec,
            "fingerprint": files.sha256_text(files.dumps([backbone_spec, weights]))[:16],
        },
        "preprocessing": str(backbone.transform),
        "artifacts": manifest["artifacts"] + sources,
    }
    for split in SPLITS:
        rows = index[index["split"] == split].drop(columns="split").reset_index(drop=True)
        started = time.perf_counter()
        batches = _forward(dataset, rows["path"], backbone.transform, model, batch_size, device)
        store.write(Path(out) / split, batches, rows, provenance)
        rate = len(rows) / (time.perf_counter() - started)
        progress.info("%s / %s: %s, %d images, %.0f images/s", dataset_name, backbone_name, split, len(rows), rate)


def _forward(dataset, paths, transform, model, batch_size, device):
    with torch.inference_mode():
        for start in range(0, len(paths), batch_size):
            images = torch.stack([transform(_open(dataset, p)) for p in paths[start : start + batch_size]])
            images = images.to(device).contiguous(memory_format=torch.channels_last)
            yield model(images).float().cpu().numpy()


def _open(dataset, path):
    try:
        return dataset.open(path)
    except (OSError, SyntaxError) as error:  # PIL raises SyntaxError on some broken PNGs.
        raise UserError(f"image {path} cannot be read: {error}") from None


def _weights_hash(checkpoint):
    return files.sha256(checkpoint) if Path(checkpoint).is_file() else checkpoint
