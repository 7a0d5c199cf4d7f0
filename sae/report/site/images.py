"""The test images of a dataset: names, classes, and thumbnails on sheets of 16 by 16.

All images have a thumbnail where there are at most `ALL`. Else the highest image of every latent has one, then the
second of every latent, and so on to the tenth, up to `MOST` images; if there is room, others do, evenly spaced. An
image that cannot be read has none, and is named.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sae.data import pictures
from sae.report.names import printed
from sae.report.site import pack
from sae.report.site.concepts import ShownConcepts, images_payload

ALL, MOST = 4096, 12_288
SIDE, ACROSS, QUALITY = (
    64,
    16,
    70,
)  # pixels of a thumbnail, thumbnails across a sheet, of WebP
progress = logging.getLogger("sae.progress")


def classes(index: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """The names of a split's classes, in the order of their numbers, and (N,) the place of each image's among them.

    An image without a label has the place -1. A class without a name is called by its number.
    """
    known = index[index["label"].notna()].drop_duplicates("label").sort_values("label")
    names = [
        str(label) if pd.isna(name) else name
        for label, name in known[["label", "label_name"]].to_numpy(object)
    ]
    places = {label: place for place, label in enumerate(known["label"])}
    return names, index["label"].map(places).fillna(-1).to_numpy(int)


def shown(count: int, tops: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of `count` images that have a thumbnail, ascending.

    Args:
        tops: of each SAE (m, 10) rows of its latents' highest images, -1 where a latent has fewer.
    """
    if count <= ALL:
        return np.arange(count)
    wanted = (
        np.concatenate([top.T for top in tops], axis=1).ravel()
        if len(tops)
        else np.zeros(0, int)
    )
    first = pd.unique(wanted[wanted >= 0])[:MOST]
    others = np.setdiff1d(np.arange(count), first)
    room = min(MOST - len(first), len(others))
    return np.sort(
        np.concatenate(
            [first, others[np.linspace(0, len(others) - 1, room).astype(int)]]
        )
    ).astype(int)


def write(
    folder: Path,
    number: int,
    dataset: str,
    index: pd.DataFrame,
    credit: str,
    open_image: Callable[[str], Image.Image] | None,
    tops: Sequence[np.ndarray],
    concepts: ShownConcepts | None = None,
) -> list[str]:
    """Write `images/{number}` and its sheets; the names of the images that could not be read.

    Args:
        index: of the test split: image_id, path, label, label_name.
        credit: whose pictures these are.
        open_image: None where there are no images.
        tops: see :func:`shown`.
        concepts: those of the test images, where the dataset has any.
    """
    names, labels = classes(index)
    place, lost, small = np.full(len(index), -1), list[str](), list[Image.Image]()
    for row in shown(len(index), tops) if open_image else ():
        try:
            image = open_image(index["path"].iloc[row])  # type: ignore[misc]
        except pictures.UNREADABLE as error:
            lost.append(printed(str(index["image_id"].iloc[row])))
            progress.warning(
                "%s: image %s has no thumbnail: %s", dataset, lost[-1], error
            )
            continue
        image.thumbnail((SIDE, SIDE))
        place[row] = len(small)
        small.append(image)
    side = max((max(image.size) for image in small), default=0)
    sheets = range(-(-len(small) // ACROSS**2))
    for sheet in sheets:
        drawn = _sheet(small[sheet * ACROSS**2 : (sheet + 1) * ACROSS**2], side)
        drawn.save(folder / "data/images" / f"{number}-{sheet}.webp", quality=QUALITY)
    payload: dict[str, Any] = {
        "dataset": dataset,
        "ids": [printed(str(name)) for name in index["image_id"]],
    }
    payload |= {
        "label": pack.index(labels, len(names)),
        "classes": [printed(name) for name in names],
    }
    payload |= {"side": side, "sheets": len(sheets), "credit": credit}
    if concepts is not None:
        payload.update(images_payload(concepts))
    place = np.where(place < 0, pack.NONE["u32"], place)
    pack.put(folder, f"images/{number}", payload | {"place": pack.packed(place, "u32")})
    return lost


def _sheet(small: list[Image.Image], side: int) -> Image.Image:
    """Thumbnails row by row, each in the middle of its place; what they leave free is transparent."""
    plain = all(image.size == (side, side) for image in small)
    rows = -(-len(small) // ACROSS)
    sheet = Image.new("RGB" if plain else "RGBA", (ACROSS * side, rows * side))
    for number, image in enumerate(small):
        left, above = (number % ACROSS) * side, (number // ACROSS) * side
        sheet.paste(
            image,
            (left + (side - image.width) // 2, above + (side - image.height) // 2),
        )
    return sheet
