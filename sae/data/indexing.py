"""What dataset types share: check the root, make an index, check counts, draw val from train."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike
from PIL import Image

from sae.core.errors import UserError
from sae.core.options import Images
from sae.data import archives
from sae.data.dataset import COLUMNS


def root(place: str) -> Path:
    """The `root` of an entry as a path.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(
            f"root {folder} is not a folder; set `root` of the dataset's entry to where the files lie"
        )
    return folder


def reader(spec: Any) -> Callable[[str], Image.Image]:
    """The function that opens an image below the `root` of an entry; see `sae.data.dataset.reader`."""
    return archives.opener(root(spec.root), getattr(spec, "image_column", "image"))


def contents(folder: Path, most: int = 10) -> str:
    """The first names in a folder, as text for a message."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    shown = ", ".join(names[:most]) or "nothing"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def frame(
    image_id: Any,
    path: Any,
    split: Any,
    label: Any = None,
    label_name: Any = None,
    **others: Any,
) -> pd.DataFrame:
    """An index of N rows with the columns `COLUMNS`. A column that is not given is null; `group` is then `image_id`.

    Args:
        image_id, path, split, label_name: N texts, as a list or an array of any kind (for millions, an Arrow array).
        label: N integers; None where images have no single label (the column is then a nullable integer).
        others: the columns `label_coarse`, `label_coarse_name`, `group`.
    """
    rows = len(image_id)
    image_id = _text(image_id)
    number, text = pd.array([pd.NA], dtype="Int64"), pd.array([pd.NA], dtype="string")
    nothing = np.zeros(rows, dtype=np.int64)
    columns = {
        "image_id": image_id,
        "path": _text(path),
        "label": number.take(nothing) if label is None else label,
        "label_name": text.take(nothing) if label_name is None else _text(label_name),
        "label_coarse": number.take(nothing),
        "label_coarse_name": text.take(nothing),
        "group": image_id,
        "split": _text(split),
    } | others
    return pd.DataFrame(columns)[COLUMNS]


def _text(values: Any) -> pd.api.extensions.ExtensionArray:
    return pd.array(values, dtype="str")


def distinct(keys: list[str], places: list[str]) -> list[str]:
    """`keys` if no two are the same, else `places`: a key may be a number that starts anew in each shard."""
    return keys if len(set(keys)) == len(keys) else places


def check_counts(root: Path, images: Images, splits: ArrayLike) -> None:
    """Compare each split's number of images with `images` of the entry, where that is given.

    Args:
        splits: N split names.

    Raises:
        UserError: some differ; the message names every such split, the number expected and the number found.
    """
    found = pd.Series(np.asarray(splits)).value_counts()
    wrong = [
        f"{split} has {found.get(split, 0):,} images, expected {expected:,}"
        for split, expected in images.model_dump(exclude_none=True).items()
        if found.get(split, 0) != expected
    ]
    if wrong:
        advice = "if it is meant to be partial, set `images` of its entry in the config to its own counts"
        raise UserError(
            f"root {root}: {'; '.join(wrong)}: complete the copy, or, {advice}"
        )


def draw_val(
    splits: np.ndarray,
    image_ids: Sequence[str],
    labels: np.ndarray | None,
    wanted: float,
    seed: int,
) -> np.ndarray:
    """Move a random part of every class from train to val. The order of the images does not change which are drawn.

    Args:
        splits: N split names.
        image_ids: N texts, unique.
        labels: N integers; None puts all images into one class.
        wanted: how many of each class: a whole number, or as a float its share, which is rounded to whole images.
        seed: of the draw.

    Returns:
        N split names.

    Raises:
        UserError: all images of a class would be drawn.
    """
    train = np.flatnonzero(splits == "train")
    classes = np.zeros(len(train), dtype=np.int64) if labels is None else labels[train]
    by_name = pc.sort_indices(
        pa.array(image_ids, pa.large_string()).take(pa.array(train))
    ).to_numpy()
    key = np.empty(len(train))
    key[by_name] = np.random.default_rng(seed).random(len(train))
    of_class = pd.Series(key).groupby(classes)
    size = of_class.transform("size").to_numpy()
    take = (
        np.rint(wanted * size).astype(np.int64)
        if isinstance(wanted, float)
        else np.full_like(size, wanted)
    )
    if (take >= size).any():
        worst = np.argmax(take >= size)
        found = (
            f"{size[worst]} training images, and {take[worst]} of them would go to val"
        )
        raise UserError(
            f"class {classes[worst]} has {found}: lower val_per_class or val_fraction"
        )
    drawn = splits.copy()
    drawn[train[of_class.rank(method="first") <= take]] = "val"
    return drawn
