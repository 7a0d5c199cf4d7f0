"""Which MS is read where images have groups."""

import pandas as pd


def across_groups(metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics with every score replaced by its `{score}_across_groups` where that is there.

    Several pictures of one thing, near-duplicates, inflate a score that compares images. Datasets that know them have
    the score without such pairs: it is the one to read.
    """
    suffix = "_across_groups"
    found = {c.removesuffix(suffix): metrics[c] for c in metrics if c.endswith(suffix)}
    return metrics.assign(**{c: across.fillna(metrics[c]) for c, across in found.items() if c in metrics})
