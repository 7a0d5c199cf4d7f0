"""Which scores are read, and how they are laid out to be subtracted."""

from math import nan
from typing import Any

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


def values(rows: pd.DataFrame, metric: str, minus: str | None = None) -> pd.Series:
    """A metric, less `minus` if that is given, row by row; NaN where `rows` lacks either."""
    first, *other = (rows[n].astype(float) if n in rows else pd.Series(nan, rows.index) for n in (metric, minus) if n)
    return first - other[0] if other else first


def by_run(rows: pd.DataFrame, metric: str, minus: str | None = None) -> pd.Series:
    """The same of one method, by `RUN`."""
    return values(rows, metric, minus).set_axis(pd.MultiIndex.from_frame(rows[RUN]))


def diverged(metrics: pd.DataFrame, by: str | list[str] = "method") -> dict[Any, str]:
    """{method, or what `by` names: how many of its SAEs diverged, as '1 of 6'}, of those that have any.

    Args:
        metrics: with `KEY` and status; the rows of one SAE count once.
    """
    saes = metrics.drop_duplicates([*RUN, "method", "trial"])
    lost = saes.assign(lost=saes["status"] == "diverged").groupby(by, sort=False)["lost"].agg(["sum", "size"])
    return {of: f"{n} of {every}" for of, n, every in lost[lost["sum"] > 0].itertuples()}
