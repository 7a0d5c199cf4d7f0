"""A dataset's classes are its concepts: the fine ones, and coarse ones if any."""

from pathlib import Path

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data.concepts import KEYWORDS, SEPARATOR, Annotations, no_attributes

VERSION = 1


class Options(options.Options):
    """Options say how class names are read."""

    separator: str | None = None
    """What parts several labels in one class name, as `; ` in those of Open Images."""


def load(
    spec: Options, _artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load class names as keywords; a dataset without classes has none."""
    tables = []
    for column in ("label_name", "label_coarse_name"):
        names = index[column].astype("str")
        if spec.separator is not None:
            parts = names.str.split(spec.separator).explode()
            names = parts.astype("str").str.strip()
        named = names[names.notna() & (names != "")]
        image_ids = index["image_id"].loc[named.index]
        tables.append(
            pd.DataFrame({"image_id": image_ids.array, "concept": named.array})
        )
        unusable = named[named.str.contains(SEPARATOR, regex=False)]
        if len(unusable):
            image_id = index["image_id"].loc[unusable.index[0]]
            raise UserError(
                f"the class {unusable.iloc[0]!r}, of image {image_id!r}, contains "
                f"{SEPARATOR!r}, which parts keywords: rename it (its folder, where "
                "folders name classes), or give the dataset `concepts` of its own"
            )
    keywords = pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)
    return Annotations(keywords[KEYWORDS], no_attributes())
