"""Any dataset of torchvision that yields (PIL image, class number), by its class.

The keywords `test` give the test split. Val is a stratified part of what the keywords
`train` give.
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
from sae.data.fetch import give_up_on_silence
from sae.data.pictures import UNREADABLE

# What torchvision's classes raise on files that they do not expect, or cannot do.
_RAISED = (
    *UNREADABLE,
    RuntimeError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    pickle.PickleError,
    tarfile.TarError,
    zipfile.BadZipFile,
)
# Where classes keep their labels, one for each image.
_LABEL_ATTRIBUTES = ("targets", "_labels", "labels")

VERSION = 1


class Options(options.Options):
    """The options of such a dataset."""

    name: str
    """The class in torchvision.datasets."""
    root: str
    """Where the images are, or are downloaded to."""
    train: dict[str, Any]
    """Keywords of the class for the images of train and val."""
    test: dict[str, Any]
    """Keywords of the class for the test images."""
    val_fraction: options.Share
    """The share of what `train` gives that is val, in each category."""
    split_seed: options.Seed
    """The seed that draws them."""
    download: bool
    """Whether a job of its own brings the images below root where they are not there
    yet."""

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
    names = _class_names()
    if spec.name not in names:
        raise UserError(
            "dataset type torchvision, key name: torchvision has no dataset "
            f"{spec.name!r}; it has: {', '.join(names)}{did_you_mean(spec.name, names)}"
        )


def _class_names() -> list[str]:
    """Return the names of torchvision's datasets, whose import would take seconds."""
    package = importlib.util.find_spec("torchvision")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "datasets/__init__.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise UserError(f"{file} lists no datasets: install torchvision anew")


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """List the images of both parts; see `sae.data.datasets`.

    Raises:
        UserError: the files are not there, or the class gives no class numbers.
    """
    parts = {part: _open(spec, part) for part in ("train", "test")}
    labels_of_part = {
        part: _labels(spec, part, dataset) for part, dataset in parts.items()
    }
    image_ids = []
    for part, labels_here in labels_of_part.items():
        image_ids += [f"{part}/{row}" for row in range(len(labels_here))]
    official_split = np.repeat(
        list(parts), [len(labels_here) for labels_here in labels_of_part.values()]
    )
    labels = np.concatenate(list(labels_of_part.values()))
    split = indexing.draw_val(
        official_split, image_ids, labels, spec.val_fraction, spec.split_seed
    )

    class_names = getattr(parts["train"], "classes", None)
    if class_names and labels.max(initial=0) >= len(class_names):
        raise UserError(
            f"dataset type torchvision, {spec.name}: label {labels.max()} is beyond "
            f"its {len(class_names)} class names: put its files under {spec.root} anew"
        )
    label_names = [_name_of(label, class_names) for label in labels]

    def open_image(path: str) -> Image.Image:
        part, row = path.split("/")
        return parts[part][int(row)][0]

    index = indexing.frame(image_ids, image_ids, split, labels, label_names)
    return Dataset(index, open_image)


def _name_of(label: int, class_names: Any) -> str:
    name = class_names[label] if class_names else label
    return ", ".join(name) if isinstance(name, tuple) else str(name)


def download(spec: Options) -> dict[str, int]:
    """Download the images to below `root`, unless they are there.

    Returns:
        {part: number of images}.

    Raises:
        UserError: torchvision cannot download them, or has no such dataset.
    """
    return {part: len(_open(spec, part)) for part in ("train", "test")}


def _open(spec: Options, part: str) -> Any:
    import torchvision.datasets

    check_early(spec)
    dataset_class = getattr(torchvision.datasets, spec.name)
    keywords = getattr(spec, part)
    place = f"dataset type torchvision, {spec.name}, {part}"
    try:
        if spec.download:
            return _open_or_download(dataset_class, spec.root, keywords)
        return dataset_class(spec.root, **keywords)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{place}: the keywords {keywords} do not suit it ({error}): correct them"
        ) from None
    except _RAISED as error:
        by_hand = f"put the dataset's files under {spec.root}"
        advice = f"{by_hand}, or set `download: true`"
        if spec.download:
            advice = f"the download needs the internet; or {by_hand}"
        raise UserError(f"{place}: {_describe(error)}: {advice}") from None


def _open_or_download(
    dataset_class: Callable[..., Any], root: str, keywords: dict[str, Any]
) -> Any:
    try:
        dataset = dataset_class(root, **keywords)
        dataset[0]  # Places365 itself checks only its lists, not its images.
        return dataset
    except (OSError, RuntimeError):
        _fetch(dataset_class, root, keywords)
        return dataset_class(root, **keywords)


def _describe(error: BaseException) -> str:
    text = in_one_line(error)
    if isinstance(error, OSError | RuntimeError) or not str(error):
        return text
    return f"{type(error).__name__}: {text}"


def _fetch(
    dataset_class: Callable[..., Any], root: str, keywords: dict[str, Any]
) -> None:
    """Let a class of torchvision download its files, and move them below `root`."""
    # It does so in an empty folder: many classes take what a killed unpacking has left
    # behind for the whole dataset.
    folder = Path(root).expanduser()
    # torchvision asks for no filter, and without one a tar may write anywhere. Python
    # has them since 3.11.4.
    if hasattr(tarfile, "data_filter"):
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    with (
        files.scratch_directory(folder / "download") as scratch,
        give_up_on_silence(),
    ):
        dataset_class(scratch, **keywords, download=True)
        _move(scratch, folder)


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.is_dir() and (target / path.name).is_dir():
            _move(path, target / path.name)
        else:
            os.replace(path, target / path.name)


def _labels(spec: Options, part: str, dataset: Any) -> np.ndarray:
    """Return the class numbers (N,) of one part, if possible without decoding."""
    place = f"dataset type torchvision, {spec.name}, {part}"
    advice = f"choose a classification dataset, or put its files under {spec.root} anew"
    try:
        labels = np.asarray(_stored_labels(dataset))
        image_count = len(dataset)
    except _RAISED as error:
        raise UserError(
            f"{place}: it gives no class numbers ({_describe(error)}): {advice}"
        ) from None
    if labels.shape != (image_count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{place}: its labels are {labels.dtype} of shape {labels.shape}, expected "
            f"one class number for each of {image_count}: {advice}"
        )
    if image_count and not 0 <= labels.min() <= labels.max() < 2**63:
        raise UserError(
            f"{place}: its labels go from {labels.min()} to {labels.max()}, expected "
            f"class numbers from 0: {advice}"
        )
    return labels.astype(np.int64)


def _stored_labels(dataset: Any) -> Any:
    labels = None
    for attribute in _LABEL_ATTRIBUTES:
        if hasattr(dataset, attribute):
            labels = getattr(dataset, attribute)
            break
    if labels is not None:
        return labels
    if hasattr(dataset, "_samples"):
        return [pair[1] for pair in dataset._samples]
    # Images are decoded.
    return [dataset[row][1] for row in range(len(dataset))]
