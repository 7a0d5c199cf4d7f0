"""Any dataset of torchvision that yields (PIL image, class number), by the name of its class.

The keywords `test` give the test split. Val is a stratified part of what the keywords `train` give.
"""

import ast
import importlib.util
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import field_validator

from sae.core import files, options
from sae.core.errors import UserError, did_you_mean, in_one_line
from sae.data import indexing
from sae.data.dataset import Dataset
from sae.data.pictures import UNREADABLE

# What torchvision's classes raise on files that they do not expect, or cannot do.
_RAISED = (
    *(
        *UNREADABLE,
        RuntimeError,
        AssertionError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
    ),
    *(pickle.PickleError, tarfile.TarError, zipfile.BadZipFile),
)

VERSION = 1


class Options(options.Options):
    """What may be written of such a dataset."""

    name: str
    root: str
    train: dict[str, Any]
    """Keywords of the class for the images of train and val."""
    test: dict[str, Any]
    val_fraction: options.Share
    split_seed: options.Seed
    download: bool
    """Whether a job of its own brings the images below root where they are not there yet."""

    @field_validator("train", "test")
    @classmethod
    def _no_download(cls, keywords: dict[str, Any]) -> dict[str, Any]:
        if "download" in keywords:
            raise ValueError(
                "set `download` of the entry instead: jobs do not download"
            )
        return keywords


def check_early(spec: Options) -> None:
    """Check the name of a dataset; no job has run yet.

    Raises:
        UserError: torchvision has no such class.
    """
    name = spec.name
    known = _class_names()
    if name not in known:
        raise UserError(
            f"dataset type torchvision, key name: torchvision has no dataset {name!r}; it "
            f"has: {', '.join(known)}{did_you_mean(name, known)}"
        )


def _class_names() -> list[str]:
    """The names of torchvision's datasets, read from its file: an import takes seconds."""
    found = importlib.util.find_spec("torchvision")
    assert found is not None and found.origin is not None
    file = Path(found.origin).parent / "datasets/__init__.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise UserError(f"{file} lists no datasets: install torchvision anew")


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    parts = {part: _open(spec, part) for part in ("train", "test")}
    labels = {part: _labels(spec, part, dataset) for part, dataset in parts.items()}
    ids = [f"{part}/{row}" for part in parts for row in range(len(labels[part]))]
    official = np.repeat(list(parts), [len(labels[part]) for part in parts])
    numbers = np.concatenate(list(labels.values()))
    split = indexing.draw_val(
        official, ids, numbers, spec.val_fraction, spec.split_seed
    )
    classes = getattr(parts["train"], "classes", None)
    if classes and numbers.max(initial=0) >= len(classes):
        what = f"dataset type torchvision, {spec.name}: label {numbers.max()}"
        raise UserError(
            f"{what} is beyond its {len(classes)} class names: put its files under {spec.root} anew"
        )
    called = [classes[number] if classes else number for number in numbers]
    names = [", ".join(c) if isinstance(c, tuple) else str(c) for c in called]

    def open_image(path: str) -> Image.Image:
        part, row = path.split("/")
        return parts[part][int(row)][0]

    return Dataset(indexing.frame(ids, ids, split, numbers, names), open_image)


def download(spec: Options) -> dict[str, int]:
    """Download the images to below `root`, unless they are there; returns {part: number of images}.

    Raises:
        UserError: torchvision cannot download them, or has no such dataset.
    """
    return {part: len(_open(spec, part)) for part in ("train", "test")}


def _open(spec: Options, part: str) -> Any:
    import torchvision.datasets

    name = spec.name
    check_early(spec)
    make, root, keywords = (
        getattr(torchvision.datasets, name),
        spec.root,
        getattr(spec, part),
    )
    what = f"dataset type torchvision, {name}, {part}"
    try:
        try:
            dataset = make(root, **keywords)
            if spec.download:
                dataset[0]  # Places365 itself checks only its lists, not its images.
        except (OSError, RuntimeError):
            if not spec.download:
                raise
            _fetch(make, root, keywords)
            dataset = make(root, **keywords)
        return dataset
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what}: the keywords {keywords} do not suit it ({error}): correct them"
        ) from None
    except _RAISED as error:
        here = f"put the dataset's files under {root}"
        advice = (
            f"the download needs the internet; or {here}"
            if spec.download
            else f"{here}, or set `download: true`"
        )
        raise UserError(f"{what}: {_said(error)}: {advice}") from None


def _said(error: BaseException) -> str:
    kind = (
        ""
        if isinstance(error, OSError | RuntimeError) or not str(error)
        else f"{type(error).__name__}: "
    )
    return kind + in_one_line(error)


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


def _labels(spec: Options, part: str, dataset: Any) -> np.ndarray:
    """(N,) class numbers. No image is decoded where the class keeps its labels in an attribute."""
    what = f"dataset type torchvision, {spec.name}, {part}"
    advice = f"choose a classification dataset, or put its files under {spec.root} anew"
    try:
        kept = next(
            (
                getattr(dataset, a)
                for a in ("targets", "_labels", "labels")
                if hasattr(dataset, a)
            ),
            None,
        )
        if kept is None:
            pairs = (
                dataset._samples
                if hasattr(dataset, "_samples")
                else map(dataset.__getitem__, range(len(dataset)))
            )
            kept = [pair[1] for pair in pairs]
        labels, count = np.asarray(kept), len(dataset)
    except _RAISED as error:
        raise UserError(
            f"{what}: it gives no class numbers ({_said(error)}): {advice}"
        ) from None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} of shape {labels.shape}"
        raise UserError(
            f"{what}: its labels are {found}, expected one class number for each of {count}: {advice}"
        )
    if count and not 0 <= labels.min() <= labels.max() < 2**63:
        found = f"from {labels.min()} to {labels.max()}"
        raise UserError(
            f"{what}: its labels go {found}, expected class numbers from 0: {advice}"
        )
    return labels.astype(np.int64)
