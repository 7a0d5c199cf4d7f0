"""Which scores are read, and how they are laid out to be subtracted."""

from math import nan

import pandas as pd

from sae.scoring.selection import CELL

RUN = [*CELL, "seed"]


def across_groups(metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics with every score replaced by its `{score}_across_groups` where that is there.

    Several pictures of one thing, near-duplicates, inflate a score that compares images. Datasets that know them have
    the score without such pairs: it is the one to read.
    """
    suffix = "_across_groups"
    found = {c.removesuffix(suffix): metrics[c] for c in metrics if c.endswith(suffix)}
    return metrics.assign(**{c: across.fillna(metrics[c]) for c, across in found.items() if c in metrics})


def by_run(rows: pd.DataFrame, metric: str, minus: str | None = None) -> pd.Series:
    """A metric of one method, less `minus` if that is given, by `RUN`; NaN where `rows` lacks either."""
    values = [rows[name] if name in rows else pd.Series(nan, rows.index) for name in (metric, minus) if name]
    value = values[0].astype(float) - (values[1].astype(float) if minus else 0.0)
    return pd.Series(value.to_numpy(), pd.MultiIndex.from_frame(rows[RUN]), dtype=float)


def diverged(metrics: pd.DataFrame) -> dict[str, str]:
    """{method: how many of its SAEs diverged, as '1 of 6'}, of the methods that have any.

    Args:
        metrics: with `KEY` and status; the rows of one SAE count once.
    """
    saes = metrics.drop_duplicates([*RUN, "method", "trial"])
    lost = (saes["status"] == "diverged").groupby(saes["method"], sort=False).agg(["sum", "size"])
    return {str(method): f"{n} of {every}" for method, n, every in lost[lost["sum"] > 0].itertuples()}
