"""A folder of images: `root/{train,val,test}/{class}/*`, read by torchvision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from sae.core.errors import UserError
from sae.core.options import Options as Base
from sae.data import archives, indexing
from sae.data.dataset import Dataset
from sae.data.splits import SPLITS


class Options(Base):
    """What may be written of such a dataset."""

    root: str
    """Relative to the working directory, or absolute."""


def reader(spec: dict[str, Any]) -> Callable[[str], Image.Image]:
    """The function that opens an image; see `sae.data.dataset.reader`."""
    return archives.opener(spec["root"])


def load(spec: dict[str, Any], _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    from torchvision.datasets import ImageFolder

    root = Path(spec["root"])
    missing = [split for split in SPLITS if not (root / split).is_dir()]
    if missing:
        raise UserError(f"image folder {root}: expected train/, val/ and test/ in it; missing: {', '.join(missing)}")
    paths: list[str] = []
    splits: list[str] = []
    labels: list[int] = []
    classes: list[str] | None = None
    for split in SPLITS:
        try:
            folder = ImageFolder(root / split)
        except FileNotFoundError as error:
            raise UserError(f"image folder {root / split}: {error}") from None
        if classes is not None and classes != folder.classes:
            raise UserError(f"image folder {root}: train/ has the classes {classes}, {split}/ has {folder.classes}")
        classes = folder.classes
        paths += [Path(path).relative_to(root).as_posix() for path, _ in folder.samples]
        splits += [split] * len(folder.samples)
        labels += folder.targets
    names = [folder.classes[label] for label in labels]
    return Dataset(indexing.frame(paths, paths, splits, labels, names), reader(spec))
