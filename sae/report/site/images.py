"""The test images of a dataset: names, classes, and thumbnails on sheets of 16 by 16.

All images have a thumbnail where there are at most `ALL`. Else the images of blind
trials have one; then the highest image of every latent, the second of every latent, and
so on to the tenth, up to `MOST` images. If there is room, others do, evenly spaced. An
image that cannot be read has none, and is named.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sae.data import pictures
from sae.report.names import printed
from sae.report.site import pack
from sae.report.site.concepts import ShownConcepts, images_payload

ALL = 4096  # images
MOST = 12_288  # thumbnails
SIDE = 64  # pixels of a thumbnail
ACROSS = 16  # thumbnails across a sheet
QUALITY = 70  # of WebP
NO_ROWS = np.zeros(0, int)
progress = logging.getLogger("sae.progress")


def classes(index: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Return the classes of a split.

    Args:
        index: Of the split: label, label_name.

    Returns:
        The classes' names, in the order of their numbers, a class without a name being
        called by its number; and (images,) the place of each image's class among them,
        -1 of an image without a label.
    """
    labelled = index[index["label"].notna()]
    by_label = labelled.drop_duplicates("label").sort_values("label")
    names = [
        str(label) if pd.isna(name) else name
        for label, name in by_label[["label", "label_name"]].to_numpy(object)
    ]
    places = {label: place for place, label in enumerate(by_label["label"])}
    return names, index["label"].map(places).fillna(-1).to_numpy(int)


def rows_with_thumbnail(
    image_count: int,
    highest_images: Sequence[np.ndarray],
    trial_images: np.ndarray = NO_ROWS,
) -> np.ndarray:
    """Return the rows of images that have a thumbnail, ascending.

    Args:
        image_count: How many images there are.
        highest_images: Of each SAE (m, 10) rows of its latents' highest images, -1
            where a latent has fewer.
        trial_images: Rows of the images of blind trials.
    """
    if image_count <= ALL:
        return np.arange(image_count)
    by_rank = NO_ROWS
    if len(highest_images):
        # The highest image of every latent, then the second of every latent, ...
        by_rank = np.concatenate([rows.T for rows in highest_images], axis=1).ravel()
    needed = pd.unique(np.append(trial_images, by_rank[by_rank >= 0]))[:MOST]

    remaining = np.setdiff1d(np.arange(image_count), needed)
    room = min(MOST - len(needed), len(remaining))
    evenly_spaced = np.linspace(0, len(remaining) - 1, room).astype(int)
    rows = np.concatenate([needed, remaining[evenly_spaced]])
    return np.sort(rows).astype(int)


def write(
    folder: Path,
    number: int,
    dataset: str,
    index: pd.DataFrame,
    credit: str,
    open_image: Callable[[str], Image.Image] | None,
    highest_images: Sequence[np.ndarray],
    trial_images: np.ndarray = NO_ROWS,
    concepts: ShownConcepts | None = None,
) -> list[str]:
    """Write `images/{number}` and its sheets.

    Args:
        folder: The folder of the site.
        number: The place of the dataset in the site's list.
        dataset: The name of the dataset.
        index: Of the test split: image_id, path, label, label_name.
        credit: Whose pictures these are.
        open_image: None where there are no images.
        highest_images, trial_images: As :func:`rows_with_thumbnail` takes them.
        concepts: Those of the test images, where the dataset has any.

    Returns:
        The names of the images that could not be read.
    """
    thumbnails: list[Image.Image] = []
    unreadable: list[str] = []
    thumbnail_numbers = np.full(len(index), -1)
    if open_image is not None:
        for row in rows_with_thumbnail(len(index), highest_images, trial_images):
            try:
                image = open_image(index["path"].iloc[row])
            except pictures.UNREADABLE as error:
                name = printed(str(index["image_id"].iloc[row]))
                unreadable.append(name)
                progress.warning(
                    "%s: image %s has no thumbnail: %s", dataset, name, error
                )
                continue
            image.thumbnail((SIDE, SIDE))
            thumbnail_numbers[row] = len(thumbnails)
            thumbnails.append(image)

    side = max((max(image.size) for image in thumbnails), default=0)
    sheet_starts = range(0, len(thumbnails), ACROSS**2)
    for sheet_number, start in enumerate(sheet_starts):
        sheet = _sheet(thumbnails[start : start + ACROSS**2], side)
        sheet_file = folder / "data/images" / f"{number}-{sheet_number}.webp"
        sheet.save(sheet_file, quality=QUALITY)

    class_names, image_classes = classes(index)
    payload = {
        "dataset": dataset,
        "ids": [printed(str(name)) for name in index["image_id"]],
        "label": pack.index(image_classes, len(class_names)),
        "classes": [printed(name) for name in class_names],
        "side": side,
        "sheets": len(sheet_starts),
        "credit": credit,
    }
    if concepts is not None:
        payload.update(images_payload(concepts))
    without_none = np.where(thumbnail_numbers < 0, pack.NONE["u32"], thumbnail_numbers)
    payload["place"] = pack.packed(without_none, "u32")
    pack.put(folder, f"images/{number}", payload)
    return unreadable


def _sheet(thumbnails: list[Image.Image], side: int) -> Image.Image:
    """Draw thumbnails row by row, each in the middle of its square.

    What they leave free is transparent.

    Args:
        thumbnails: Up to `ACROSS` rows of them.
        side: Of a square, in pixels.
    """
    fill_squares = all(image.size == (side, side) for image in thumbnails)
    mode = "RGB" if fill_squares else "RGBA"
    row_count = -(-len(thumbnails) // ACROSS)
    sheet = Image.new(mode, (ACROSS * side, row_count * side))
    for number, image in enumerate(thumbnails):
        row, column = divmod(number, ACROSS)
        x = column * side + (side - image.width) // 2
        y = row * side + (side - image.height) // 2
        sheet.paste(image, (x, y))
    return sheet
