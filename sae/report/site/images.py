"""The test images of a dataset: names, classes, thumbnails and larger pictures.

Thumbnails lie on sheets of 16 by 16. All images have one where there are at most `ALL`.
Else the images of blind trials have one; then the highest image of every latent, the
second of every latent, and so on to the tenth, up to `MOST` images. If there is room,
others do, evenly spaced. An image that cannot be read has none, and is named.

An image with a thumbnail that is larger than this has a picture as well, in a file of
its own: the highest of the latents first, then others by lot, as long as there are
bytes left. No image is drawn larger than it is.
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
PICTURE_SIDE = 160  # pixels of a picture
PICTURE_QUALITY = 50  # of WebP; 70 looks the same, and takes a quarter more
# Of the pictures, for each image: 10,000 images are under 40 MB with all that is shown.
PICTURE_BYTES = 2500
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
    needed = pd.unique(np.append(trial_images, rows_by_rank(highest_images)))[:MOST]

    remaining = np.setdiff1d(np.arange(image_count), needed)
    room = min(MOST - len(needed), len(remaining))
    evenly_spaced = np.linspace(0, len(remaining) - 1, room).astype(int)
    rows = np.concatenate([needed, remaining[evenly_spaced]])
    return np.sort(rows).astype(int)


def rows_by_rank(highest_images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rows of each latent's highest images, once each.

    The highest image of every latent comes first, then the second of every latent, ...

    Args:
        highest_images: As :func:`rows_with_thumbnail` takes them.
    """
    if not len(highest_images):
        return NO_ROWS
    by_rank = np.concatenate([rows.T for rows in highest_images], axis=1).ravel()
    return pd.unique(by_rank[by_rank >= 0])


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
    """Write `images/{number}`, its sheets and its pictures.

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
    (folder / "data/images").mkdir(parents=True, exist_ok=True)
    image_names = [printed(str(name)) for name in index["image_id"]]
    thumbnails: dict[int, Image.Image] = {}
    unreadable_rows: list[int] = []
    picture_sizes = np.zeros((len(index), 2), int)
    if open_image is not None:
        rows = rows_with_thumbnail(len(index), highest_images, trial_images)
        bytes_left = PICTURE_BYTES * max(len(index), ALL)
        for row in _most_shown_first(rows, highest_images):
            try:
                image = open_image(index["path"].iloc[row])
            except pictures.UNREADABLE as error:
                unreadable_rows.append(row)
                progress.warning(
                    "%s: image %s has no thumbnail: %s",
                    dataset,
                    image_names[row],
                    error,
                )
                continue
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            if max(image.size) > SIDE and bytes_left > 0:
                picture_file = folder / f"data/images/{number}/{row}.webp"
                picture_file.parent.mkdir(exist_ok=True)
                image.save(picture_file, quality=PICTURE_QUALITY)
                picture_sizes[row] = image.size
                bytes_left -= picture_file.stat().st_size
            image.thumbnail((SIDE, SIDE))
            thumbnails[row] = image

    side = max((max(image.size) for image in thumbnails.values()), default=0)
    sizes = {image.size for image in thumbnails.values()}
    fill_squares = sizes == {(side, side)}
    rows_on_sheets = sorted(thumbnails)
    sheet_starts = range(0, len(thumbnails), ACROSS**2)
    for sheet_number, start in enumerate(sheet_starts):
        rows_on_sheet = rows_on_sheets[start : start + ACROSS**2]
        shown = [thumbnails[row] for row in rows_on_sheet]
        sheet = _sheet(shown, side, fill_squares)
        sheet_file = folder / "data/images" / f"{number}-{sheet_number}.webp"
        sheet.save(sheet_file, quality=QUALITY)

    class_names, image_classes = classes(index)
    places = np.full(len(index), pack.NONE["u32"])
    places[rows_on_sheets] = np.arange(len(rows_on_sheets))
    widths, heights = picture_sizes.T
    payload = {
        "ids": image_names,
        "label": pack.index(image_classes, len(class_names)),
        "classes": [printed(name) for name in class_names],
        "side": side,
        "fillSquares": fill_squares,
        "sheets": len(sheet_starts),
        "place": pack.packed(places, "u32"),
        "pictures": {
            "width": pack.packed(widths, "u8"),
            "height": pack.packed(heights, "u8"),
        },
        "credit": credit,
    }
    if concepts is not None:
        payload.update(images_payload(concepts))
    pack.put(folder, f"images/{number}", payload)
    return [image_names[row] for row in sorted(unreadable_rows)]


def _most_shown_first(
    rows: np.ndarray, highest_images: Sequence[np.ndarray]
) -> np.ndarray:
    by_rank = rows_by_rank(highest_images)
    by_lot = np.random.default_rng(0).permutation(rows)
    return pd.unique(np.append(by_rank[np.isin(by_rank, rows)], by_lot))


def _sheet(thumbnails: list[Image.Image], side: int, fill_squares: bool) -> Image.Image:
    # What they leave free is transparent.
    mode = "RGB" if fill_squares else "RGBA"
    row_count = -(-len(thumbnails) // ACROSS)
    sheet = Image.new(mode, (ACROSS * side, row_count * side))
    for number, image in enumerate(thumbnails):
        row, column = divmod(number, ACROSS)
        x = column * side + (side - image.width) // 2
        y = row * side + (side - image.height) // 2
        sheet.paste(image, (x, y))
    return sheet
