"""Keywords of one's own: a CSV with a row `image,concept` for each keyword of an image.

`image` is the `image_id` of the dataset's index; of a folder of images that is the path
below its root. An image may have any number of keywords, or none.
"""

from pathlib import Path

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data import csv_tables
from sae.data.concepts import Annotations, no_attributes

VERSION = 1
FILES = ("{file}",)
COLUMNS = ["image", "concept"]


class Options(options.Options):
    """Options say where the keywords lie."""

    file: str
    """The CSV, relative to the working directory, or absolute."""


def load(
    spec: Options, _artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says.

    Raises:
        UserError: the file cannot be read, or a row of it is not right; names the row.
    """
    image_ids = frozenset(index["image_id"])
    pairs: dict[tuple[str, str], int] = {}
    try:
        rows = list(csv_tables.read_rows(spec.file))
    except FileNotFoundError:
        raise UserError(f"concepts {spec.file} does not exist") from None
    except csv_tables.UNREADABLE as error:
        raise UserError(f"concepts {spec.file} cannot be read: {error}") from None
    if not rows or [field.strip() for field in rows[0]] != COLUMNS:
        header = ",".join(rows[0]) if rows else "nothing"
        raise UserError(
            f"concepts {spec.file} begins with {header!r}, expected 'image,concept'"
        )
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        place = f"concepts {spec.file} row {number}"
        if len(row) != len(COLUMNS) or not row[0] or not row[1].strip():
            raise UserError(f"{place} is {','.join(row)!r}, expected 'image,concept'")
        image = row[0]
        concept = row[1].strip()
        if image not in image_ids:
            raise UserError(
                f"{place} names the image {image!r}, which the dataset does not have; "
                f"its images are called like {index['image_id'].iloc[0]!r}"
            )
        first = pairs.setdefault((image, concept), number)
        if first != number:
            raise UserError(f"{place} says the same as row {first}")
    keywords = pd.DataFrame([*pairs], columns=["image_id", "concept"], dtype="str")
    return Annotations(keywords, no_attributes())
