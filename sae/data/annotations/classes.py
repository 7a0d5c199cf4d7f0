"""A dataset's own classes as concepts: the fine ones, and the coarse ones where it has them."""

from pathlib import Path

import pandas as pd

from sae.core import options
from sae.data.concepts import Annotations, no_attributes

VERSION = 1


class Options(options.Options):
    """There is nothing to choose."""


def load(
    _spec: Options, _artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says; a dataset without classes has no concepts."""
    tables = []
    for column in ("label_name", "label_coarse_name"):
        labelled = index[index[column].notna()]
        table = pd.DataFrame(
            {"image_id": labelled["image_id"], "concept": labelled[column].astype(str)}
        )
        tables.append(table)
    keywords = pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)
    return Annotations(keywords, no_attributes())
