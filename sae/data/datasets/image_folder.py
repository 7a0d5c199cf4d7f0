"""A folder of images: `root/{train,val,test}/{class}/*`, read by torchvision."""

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from sae.core.errors import UserError
from sae.core.options import Options as Base
from sae.data.dataset import COLUMNS, Dataset
from sae.data.splits import SPLITS


class Options(Base):
    """What may be written of such a dataset."""

    root: str
    """Relative to the working directory, or absolute."""


def load(spec: dict[str, Any], _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    from torchvision.datasets import ImageFolder

    root = Path(spec["root"])
    missing = [split for split in SPLITS if not (root / split).is_dir()]
    if missing:
        raise UserError(f"image folder {root}: expected train/, val/ and test/ in it; missing: {', '.join(missing)}")
    rows: list[tuple] = []
    classes: list[str] | None = None
    for split in SPLITS:
        try:
            folder = ImageFolder(root / split)
        except FileNotFoundError as error:
            raise UserError(f"image folder {root / split}: {error}") from None
        if classes is not None and classes != folder.classes:
            raise UserError(f"image folder {root}: train/ has the classes {classes}, {split}/ has {folder.classes}")
        classes = folder.classes
        for path, label in folder.samples:
            relative = Path(path).relative_to(root).as_posix()
            rows.append((relative, relative, label, classes[label], pd.NA, pd.NA, relative, split))
    index = pd.DataFrame(rows, columns=COLUMNS)
    index = index.astype({"label_coarse": "Int64", "label_coarse_name": "string"})

    def open_image(path: str) -> Image.Image:
        with Image.open(root / path) as image:
            return image.convert("RGB")

    return Dataset(index, open_image)
