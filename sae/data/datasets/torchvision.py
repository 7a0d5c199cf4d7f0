"""Any dataset of torchvision that yields (PIL image, class number), by the name of its class.

The keywords `test` give the test split. Val is a stratified part of what the keywords `train` give.
"""

import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import field_validator

from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Options as Base
from sae.core.options import Seed, Share
from sae.data import indexing
from sae.data.dataset import Dataset
from sae.data.pictures import UNREADABLE

# What torchvision's classes raise on files that they do not expect, or cannot do.
_RAISED = (
    *(*UNREADABLE, RuntimeError, AssertionError, AttributeError, EOFError, ImportError, LookupError),
    *(pickle.PickleError, tarfile.TarError, zipfile.BadZipFile),
)

VERSION = 1


class Options(Base):
    """What may be written of such a dataset."""

    name: str
    root: str
    train: dict[str, Any]
    """Keywords of the class for the images of train and val."""
    test: dict[str, Any]
    val_fraction: Share
    split_seed: Seed
    download: bool
    """Whether a job of its own brings the images below root where they are not there yet."""

    @field_validator("train", "test")
    @classmethod
    def _no_download(cls, keywords: dict[str, Any]) -> dict[str, Any]:
        if "download" in keywords:
            raise ValueError("set `download` of the entry instead: jobs do not download")
        return keywords


def load(spec: dict[str, Any], _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    parts = {part: _open(spec, part) for part in ("train", "test")}
    labels = {part: _labels(spec, part, dataset) for part, dataset in parts.items()}
    ids = [f"{part}/{row}" for part in parts for row in range(len(labels[part]))]
    count = len(labels["train"])
    split = np.where(np.arange(len(ids)) < count, "train", "test")
    in_val = indexing.draw_fraction(ids[:count], labels["train"], spec["val_fraction"], spec["split_seed"])
    split[:count][in_val] = "val"
    numbers = np.concatenate(list(labels.values()))
    classes = getattr(parts["train"], "classes", None)
    if classes and numbers.max(initial=0) >= len(classes):
        raise UserError(
            f"dataset type torchvision, {spec['name']}: label {numbers.max()} is beyond its {len(classes)} class "
            f"names: put the dataset's files under {spec['root']} anew"
        )
    known, place = np.unique(numbers, return_inverse=True)
    called = [classes[number] if classes else number for number in known]
    names = pd.array([", ".join(c) if isinstance(c, tuple) else str(c) for c in called], dtype="str").take(place)

    def open_image(path: str) -> Image.Image:
        part, row = path.split("/")
        return parts[part][int(row)][0]

    return Dataset(indexing.frame(ids, ids, split, numbers, names), open_image)


def download(spec: dict[str, Any]) -> dict[str, int]:
    """Download the images to below `root`, unless they are there; returns {part: number of images}.

    Raises:
        UserError: torchvision cannot download them, or has no such dataset.
    """
    return {part: len(_open(spec, part)) for part in ("train", "test")}


def _open(spec: dict[str, Any], part: str) -> Any:
    import torchvision.datasets

    name = spec["name"]
    if name not in torchvision.datasets.__all__:
        known = ", ".join(torchvision.datasets.__all__)
        raise UserError(f"dataset type torchvision, key name: torchvision has no dataset {name!r}; it has: {known}")
    make, what = getattr(torchvision.datasets, name), f"dataset type torchvision, {name}, {part}"
    try:
        try:
            dataset = make(spec["root"], **spec[part])
            if spec["download"]:
                dataset[0]  # Places365 itself checks only its lists, not its images.
        except (OSError, RuntimeError):
            if not spec["download"]:
                raise
            _fetch(make, spec["root"], spec[part])
            dataset = make(spec["root"], **spec[part])
        return dataset
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what}: the keywords {spec[part]} do not suit it ({error}): correct them in the config"
        ) from None
    except _RAISED as error:
        advice = (
            f"the download needs the internet; without it, put the dataset's files under {spec['root']}, a folder that "
            "all machines see which work on them"
            if spec["download"]
            else f"put the dataset's files under {spec['root']}, or set `download: true`, which needs the internet"
        )
        raise UserError(f"{what}: {_said(error)}: {advice}") from None


def _said(error: BaseException) -> str:
    kind = "" if isinstance(error, OSError | RuntimeError) and str(error) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def _fetch(make: Callable[..., Any], root: str, keywords: dict[str, Any]) -> None:
    # Into an empty folder: many classes take what a killed unpacking has left behind for the whole dataset.
    folder = Path(root).expanduser()
    # torchvision asks for no filter, and without one a tar may write anywhere. Python has them since 3.11.4.
    if hasattr(tarfile, "data_filter"):
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    with files.scratch_directory(folder / "download") as scratch:
        make(scratch, **keywords, download=True)
        _move(scratch, folder)


def _move(source: Path, target: Path) -> None:
    for item in source.iterdir():
        if item.is_dir() and (target / item.name).is_dir():
            _move(item, target / item.name)
        else:
            os.replace(item, target / item.name)


def _labels(spec: dict[str, Any], part: str, dataset: Any) -> np.ndarray:
    """(N,) class numbers. No image is decoded where the class keeps its labels in an attribute."""
    what = f"dataset type torchvision, {spec['name']}, {part}"
    try:
        kept = next((getattr(dataset, a) for a in ("targets", "_labels", "labels") if hasattr(dataset, a)), None)
        if kept is None and hasattr(dataset, "_samples"):
            kept = [label for _, label in dataset._samples]
        if kept is None:
            kept = [dataset[row][1] for row in range(len(dataset))]
        labels, count = np.asarray(kept), len(dataset)
    except _RAISED as error:
        raise UserError(
            f"{what}: it gives no class numbers ({_said(error)}): choose a classification dataset, or put its files "
            f"under {spec['root']} anew"
        ) from None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{what}: its labels are {labels.dtype} of shape {labels.shape}, expected one class number for each of "
            f"{count} images: choose a classification dataset"
        )
    if count and not 0 <= labels.min() <= labels.max() < 2**63:
        raise UserError(
            f"{what}: its labels go from {labels.min()} to {labels.max()}, expected class numbers from 0: choose "
            "keywords that give images with labels"
        )
    return labels.astype(np.int64)
