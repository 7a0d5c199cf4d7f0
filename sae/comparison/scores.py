"""What can be compared: each score once, with its column, its name in print, and which way is better."""

from math import nan
from typing import Any, NamedTuple

import pandas as pd

from sae.scoring.rows import CELL

RUN = [*CELL, "seed"]


class Score(NamedTuple):
    """A score of an SAE.

    Attributes:
        column: of the metrics.
        label: in print.
        better: +1 if more is better, -1 if less.
        minus: a column that is subtracted.
        endpoint: whether methods are judged by it. Each such score has a front of its own; others are read at the
            vertices and weights of the first.
        what: one plain sentence.
        chance: what it is where nothing was learned, as far as that is one number.
    """

    column: str
    label: str
    better: int = 1
    minus: str | None = None
    endpoint: bool = False
    what: str = ""
    chance: float | None = None

    def of(self, rows: pd.DataFrame) -> pd.Series:
        """Its values, NaN where `rows` lack a column."""
        return values(rows, self.column, self.minus)


# By the name that tables have. MS is across groups, where a dataset has groups.
SCORES: dict[str, Score] = {
    "ms": Score(
        "ms_mean_alive",
        "MS",
        endpoint=True,
        what="How alike the images are on which a latent fires, as its own backbone sees them: mean over live latents.",
    ),
    "detection_alive": Score(
        "detection_alive",
        "detection",
        endpoint=True,
        what="How well a backbone of another family finds a latent's images, shown some of them: an AUC, mean over the "
        "latents that fire often enough.",
        chance=0.5,
    ),
    "detection": Score(
        "detection",
        "detection, whole dictionary",
        what="Detection from 0 (chance) to 1, mean over the whole dictionary: a latent that fires too rarely counts 0.",
        chance=0.0,
    ),
    "ms_independent": Score(
        "ms_mean_alive_independent",
        "MS by other families",
        what="MS as backbones of other families see the images, which took no part in training.",
    ),
    "ms_all": Score("ms_mean", "MS, dead latents as 0", what="MS, mean over all latents: one without a score is 0."),
    "purity": Score(
        "purity_binary",
        "purity above chance",
        minus="purity_binary_null",
        what="The share of a latent's images that are of its main class, less what it is with shuffled labels.",
        chance=0.0,
    ),
    "probe_auc": Score(
        "probe_auc",
        "probe AUC",
        what="How well a linear probe tells the classes from an image's few strongest latents.",
    ),
    "stability": Score(
        "stability_alive", "stability", what="How alike the live latents are that other seeds find: a cosine."
    ),
    "dead": Score(
        "dead_train",
        "fewer dead on training images",
        better=-1,
        what="How many latents fire on no training image.",
    ),
}
ENDPOINTS = [name for name, score in SCORES.items() if score.endpoint]


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
