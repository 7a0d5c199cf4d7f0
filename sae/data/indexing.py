"""What the dataset types share: a root that exists, index columns, counts that must match, a val part of train."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sae.data.dataset import COLUMNS
from sae.core.errors import UserError


def root(spec):
    """`spec["root"]` as a path.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(spec["root"])
    if not folder.is_dir():
        raise UserError(
            f"dataset type {spec['type']}: root {folder} is not a folder; set `root` to where the files lie"
        )
    return folder


def contents(folder, most=10):
    """The first names in a folder, as text for a message."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    shown = ", ".join(names[:most]) or "nothing"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def frame(image_id, path, split, label=None, label_name=None, **others):
    """An index of N rows with the columns `COLUMNS`; what is not given is null, `group` is the image itself.

    Args:
        image_id, path, split, label_name: N texts, as a list or an array of any kind (for millions, an Arrow array).
        label: N integers; None where there is no single label (the column is then a nullable integer).
        others: `label_coarse`, `label_coarse_name`, `group`.
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


def _text(values):
    return pd.array(values, dtype="str")


def distinct(keys, places):
    """The images' own names where they differ, else their places; a key may be a number that each shard starts anew."""
    return keys if len(set(keys)) == len(keys) else places


def check_counts(spec, splits):
    """Compare each split's number of images with `spec["images"]`, where that is given.

    Args:
        splits: N split names.

    Raises:
        UserError: names every split that differs, with what was expected and what was found.
    """
    found = pd.Series(splits).value_counts()
    wrong = [
        f"{split} has {found.get(split, 0):,} images, expected {expected:,}"
        for split, expected in spec.get("images", {}).items()
        if found.get(split, 0) != expected
    ]
    if wrong:
        raise UserError(
            f"dataset type {spec['type']}, root {spec['root']}: {'; '.join(wrong)}: complete the copy, or, if it is "
            f"meant to be partial, set `images` of its entry in the config to its own counts"
        )


def draw(image_ids, labels, wanted, seed):
    """A seeded random part of every class; the same images whatever their order.

    Args:
        image_ids: N texts, unique.
        labels: N integers, or None for one class.
        wanted: from the classes' sizes (C,) to how many to take of each (C,).
        seed: of the draw.

    Returns:
        (N,) bool, true for what is drawn.

    Raises:
        UserError: a class would be drawn whole.
    """
    labels = np.zeros(len(image_ids), dtype=np.int64) if labels is None else np.asarray(labels)
    by_name = pc.sort_indices(pa.array(image_ids, pa.large_string())).to_numpy()
    key = np.empty(len(labels))
    key[by_name] = np.random.default_rng(seed).random(len(labels))
    order = np.lexsort((key, labels))
    classes, first, size = np.unique(labels[order], return_index=True, return_counts=True)
    take = np.broadcast_to(wanted(size), size.shape)
    if (take >= size).any():
        worst = np.argmax(take >= size)
        raise UserError(
            f"class {classes[worst]} has {size[worst]} training images, and {take[worst]} of them would go to val: "
            f"lower val_per_class or val_fraction"
        )
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = np.arange(len(labels)) - np.repeat(first, size) < np.repeat(take, size)
    return chosen


def draw_fraction(image_ids, labels, fraction, seed):
    """:func:`draw` with the same share of every class, rounded to whole images."""
    return draw(image_ids, labels, lambda size: np.rint(fraction * size).astype(np.int64), seed)
