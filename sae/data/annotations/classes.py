"""A dataset's own classes as concepts: the fine ones, and the coarse ones where it has them."""

from pathlib import Path

import pandas as pd

from sae.core import options
from sae.data.concepts import KEYWORDS, Annotations, no_attributes

VERSION = 1


class Options(options.Options):
    """How class names are read."""

    separator: str | None = None
    """What parts several labels in one class name, as `; ` does in those of Open Images; without it a name is one."""


def load(
    spec: Options, _artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says; a dataset without classes has no concepts."""
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
