"""Helpers of dataset types: check the root, make an index, draw val from train."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike
from PIL import Image

from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Images
from sae.data import archives
from sae.data.dataset import COLUMNS


def root(place: str) -> Path:
    """Return the `root` of an entry as a path.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(
            f"root {folder} is not a folder; set `root` of the dataset's entry to "
            "where the files lie"
        )
    return folder


def reader(spec: Any) -> Callable[[str], Image.Image]:
    """Return the function that opens an image below the `root` of an entry.

    Args:
        spec: the entry's `Options`, with `root` and, where a parquet file may have the
            images in a column of another name, `image_column`.
    """
    return archives.opener(root(spec.root), getattr(spec, "image_column", "image"))


def contents(folder: Path) -> str:
    """Return the first ten names in a folder, as text for a message."""
    names = sorted(
        f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir()
    )
    shown = ", ".join(names[:10]) or "nothing"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def matching(root: Path, pattern: str) -> list[Path]:
    """Return what matches a glob below a root, sorted.

    Raises:
        UserError: a folder that may hold more of it cannot be read.
    """
    # `Path.glob` passes over such a folder.
    folder = str(PurePath(pattern).parent)
    for place in [root] if folder == "." else root.glob(folder):
        if place.is_dir():
            next(files.walk(place))
    return sorted(root.glob(pattern))


def frame(
    image_id: Any,
    path: Any,
    split: Any,
    label: Any = None,
    label_name: Any = None,
    **more_columns: Any,
) -> pd.DataFrame:
    """Make an index of N rows with the columns `COLUMNS`.

    A column that is not given is null; `group` is then `image_id`.

    Args:
        image_id: N texts, as a list or an array of any kind (for millions, an Arrow
            array).
        path: N texts, which the dataset's `open` takes.
        split: N split names.
        label: N integers; None where images have no single label (the column is then a
            nullable integer).
        label_name: N texts.
        more_columns: the columns `label_coarse`, `label_coarse_name`, `group`.
    """
    image_ids = _text(image_id)
    no_number = pd.array([pd.NA], dtype="Int64")
    no_text = pd.array([pd.NA], dtype="string")
    zeros = np.zeros(len(image_id), dtype=np.int64)
    columns = {
        "image_id": image_ids,
        "path": _text(path),
        "label": no_number.take(zeros) if label is None else label,
        "label_name": no_text.take(zeros) if label_name is None else _text(label_name),
        "label_coarse": no_number.take(zeros),
        "label_coarse_name": no_text.take(zeros),
        "group": image_ids,
        "split": _text(split),
        **more_columns,
    }
    return pd.DataFrame(columns)[COLUMNS]


def _text(values: Any) -> pd.api.extensions.ExtensionArray:
    return pd.array(values, dtype="str")


def keys_or_places(keys: list[str], places: list[str]) -> list[str]:
    """Return names for the images of shards: their keys if no two are the same.

    A key may be a number that starts anew in each shard. Then the places name them.

    Args:
        keys: N keys, of an image within its shard.
        places: N places, of which no two are the same.
    """
    return keys if len(set(keys)) == len(keys) else places


def check_counts(root: Path, images: Images, splits: ArrayLike) -> None:
    """Compare each split's number of images with the one that the config states.

    Args:
        root: the dataset's, for the message.
        images: `images` of the dataset's entry; a split without a number is not
            compared.
        splits: N split names.

    Raises:
        UserError: some differ; the message names every such split, the number expected
            and the number found.
    """
    count_of_split = pd.Series(np.asarray(splits)).value_counts()
    differences = []
    for split, expected in images.model_dump(exclude_none=True).items():
        count = count_of_split.get(split, 0)
        if count != expected:
            differences.append(f"{split} has {count:,} images, expected {expected:,}")
    if differences:
        raise UserError(
            f"root {root}: {'; '.join(differences)}: complete the copy, or, if it is "
            "meant to be partial, set `images` of its entry in the config to its own "
            "counts"
        )


def draw_val(
    splits: np.ndarray,
    image_ids: Sequence[str],
    labels: np.ndarray | None,
    val_size: float,
    seed: int,
) -> np.ndarray:
    """Move a random part of every class from train to val.

    The order of the images does not change which are drawn: each gets its random number
    in the order of the image_ids.

    Args:
        splits: N split names.
        image_ids: N texts, unique.
        labels: N integers; None puts all images into one class.
        val_size: how many of each class: a whole number, or as a float its share, which
            is rounded to whole images.
        seed: of the draw.

    Returns:
        N split names.

    Raises:
        UserError: all images of a class would be drawn.
    """
    train_rows = np.flatnonzero(splits == "train")
    classes = np.zeros(len(train_rows), dtype=np.int64)
    if labels is not None:
        classes = labels[train_rows]
    train_ids = pa.array(image_ids, pa.large_string()).take(pa.array(train_rows))
    order_by_id = pc.sort_indices(train_ids).to_numpy()
    random_key = np.empty(len(train_rows))
    random_key[order_by_id] = np.random.default_rng(seed).random(len(train_rows))

    # By image: the size of its class, and how many of the class are drawn.
    keys_by_class = pd.Series(random_key).groupby(classes)
    class_size = keys_by_class.transform("size").to_numpy()
    if isinstance(val_size, float):
        drawn_count = np.rint(val_size * class_size).astype(np.int64)
    else:
        drawn_count = np.full_like(class_size, val_size)
    is_emptied = drawn_count >= class_size
    if is_emptied.any():
        row = np.argmax(is_emptied)
        raise UserError(
            f"class {classes[row]} has {class_size[row]} training images, and "
            f"{drawn_count[row]} of them would go to val: lower val_per_class or "
            "val_fraction"
        )

    is_drawn = keys_by_class.rank(method="first") <= drawn_count
    new_splits = splits.copy()
    new_splits[train_rows[is_drawn]] = "val"
    return new_splits
