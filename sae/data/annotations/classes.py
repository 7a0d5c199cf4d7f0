"""A dataset's classes are its concepts: the fine ones, and coarse ones if any."""

from pathlib import Path

import pandas as pd

from sae.core import options
from sae.data.concepts import KEYWORDS, Annotations, no_attributes

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
            names = names.str.split(spec.separator).explode()
        named = names[names.notna() & (names != "")]
        image_ids = index["image_id"].loc[named.index]
        tables.append(
            pd.DataFrame({"image_id": image_ids.array, "concept": named.array})
        )
    keywords = pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)
    return Annotations(keywords[KEYWORDS], no_attributes())
