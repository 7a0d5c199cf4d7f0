"""The scores of an SAE, each once: its column, its label, which direction is better.

Every table, figure, claim and page looks up here what it shows.
"""

from math import nan
from typing import Any, NamedTuple

import pandas as pd

from sae.scoring.rows import CELL

RUN = [*CELL, "seed"]


class Score(NamedTuple):
    """A score of an SAE.

    Attributes:
        column: The column of the metrics that holds it.
        heading: Its heading in the paper's tables.
        label: Its name in print.
        what: Its meaning, in one sentence.
        minus: A column that is subtracted.
        better: +1 if more is better, -1 if less; 0 if methods are not compared in it.
        compared: Whether methods are compared in it.
        worth: Whether the controls say what it is worth; of these, more is better.
        style: How it is written.
        chance: Its value by chance, where that is known beforehand.
    """

    column: str
    heading: str
    label: str = ""
    what: str = ""
    minus: str | None = None
    better: int = 1
    compared: bool = False
    worth: bool = False
    style: str = ".3f"
    chance: float | None = None

    def of(self, rows: pd.DataFrame) -> pd.Series:
        """Return its values, NaN where `rows` lack a column."""
        return values(rows, self.column, self.minus)


# Fields that several scores share.
_COMPARED: dict[str, Any] = {"compared": True, "worth": True}
_COUNT: dict[str, Any] = {"better": -1, "style": ".0f"}
# Sentences of `what`, and parts of sentences.
_MS = (
    "Monosemanticity Score: how alike the images are that activate a latent, mean over "
    "latents that fire on two test images or more."
)
_DETECTION = (
    "AUC: how well an encoder of another family tells a latent's images from others "
    "after ten examples; the mean of two views of the whole dictionary, per latent and "
    "per activation."
)
_PER_LATENT = (
    "Detection as the mean over all latents. A latent that fires too rarely to be "
    "measured counts as .5, as do all but one of a cluster of latents that are nearly "
    "the same."
)
_PER_ACTIVATION = (
    "Detection as the mean over all that fires on held-out images: each latent weighs "
    "as many images as it fires on; what cannot be measured counts as .5."
)
_MEASURED_AUC = "Detection as the mean over the latents that can be measured alone."
_COVERAGE = "Share of the latents that fire often enough for detection."
_USABLE = (
    "Share of the latents whose detection is .8 or more; a cluster of latents that are "
    "nearly the same counts once."
)
_EFFECTIVE = (
    "How many latents would fire as unevenly if some fired equally often and the "
    "others never (exp of the entropy of firings), as a share of all."
)
_NESTED = (
    "Share of the live latents of which 90 % of the images lie within another's images."
)
_COPIES = (
    "Share of the live latents that fire on nearly the same images as another (Jaccard "
    "of .9 or more)."
)
_PIXELS = (
    "Detection by 8 x 8 pixels of the images in place of an encoder: what takes no "
    "network to see. A control, and no end in itself."
)
_OTHERS = "MS as backbones of other families see the images"
_ACROSS = "without pairs of near-duplicates, where the dataset knows them"
_PURITY = "Share of a latent's images that are of its most frequent class"
_ABOVE = f"{_PURITY}, minus the same under permuted labels."
_PROBE = "Accuracy of linear probes on few activations, mean over how many."
_DEAD = "Latents that no training image activates."
_MATCH = (
    "How well latents match the keywords that people gave the images: F1 minus chance, "
    "mean over concepts."
)
_NAMED = (
    "Share of the latents that have a name: a keyword that half of the test images or "
    "more have on which the latent is high."
)
_PAIRS = (
    "How surely latents switch where a picture changes in one attribute alone, mean "
    "over attributes; 1 if always."
)
_STABILITY = "How well another seed finds the same latents."
# By name. Where metrics went through `across_groups`, "ms" is across groups in datasets
# that have groups.
SCORES = {
    "r2": Score(
        "r2",
        "R2",
        "R²",
        "Share of the embeddings' variance that is reconstructed.",
        worth=True,
        chance=0,
    ),
    "l0": Score(
        "l0",
        "L0",
        "L0",
        "Mean number of active latents an image.",
        better=0,
        style=".1f",
    ),
    "detection": Score(
        "detection", "detection", "detection", _DETECTION, **_COMPARED, chance=0.5
    ),
    "detection_per_latent": Score(
        "detection_per_latent",
        "detection_per_latent",
        "detection per latent",
        _PER_LATENT,
        **_COMPARED,
        chance=0.5,
    ),
    "detection_per_activation": Score(
        "detection_per_activation",
        "detection_per_activation",
        "detection per activation",
        _PER_ACTIVATION,
        **_COMPARED,
        chance=0.5,
    ),
    "detection_measured_auc": Score(
        "detection_measured_auc",
        "detection_measured_auc",
        "detection of measured latents",
        _MEASURED_AUC,
        chance=0.5,
    ),
    "detection_pixels": Score(
        "detection_pixels",
        "detection_pixels",
        "detection by 8 x 8 pixels",
        _PIXELS,
        **_COMPARED,
        chance=0.5,
    ),
    "coverage": Score("coverage", "coverage", "coverage", _COVERAGE, compared=True),
    "usable": Score("usable", "usable", "usable latents", _USABLE, compared=True),
    "effective": Score(
        "effective", "effective", "effective latents", _EFFECTIVE, compared=True
    ),
    "nested": Score(
        "nested", "nested", "nested latents", _NESTED, compared=True, better=-1
    ),
    "copies": Score("copies", "copies", "copies", _COPIES, compared=True, better=-1),
    "ms": Score("ms_mean_alive", "MS_mean_alive", "MS", _MS, **_COMPARED),
    "ms_independent": Score(
        "ms_mean_alive_independent",
        "MS_independent",
        "MS by other families",
        f"{_OTHERS}.",
        **_COMPARED,
    ),
    "ms_all": Score(
        "ms_mean",
        "MS_mean",
        "MS, dead latents as 0",
        "MS, mean over all latents.",
        worth=True,
    ),
    "ms_median": Score("ms_median", "MS_median"),
    "ms_median_alive": Score("ms_median_alive", "MS_median_alive"),
    "ms_across": Score(
        "ms_mean_alive_across_groups",
        "MS_across",
        "MS across groups",
        f"MS {_ACROSS}.",
        worth=True,
    ),
    "ms_independent_across": Score(
        "ms_mean_alive_independent_across_groups",
        "MS_independent_across",
        "MS by other families, across groups",
        f"{_OTHERS}, {_ACROSS}.",
        worth=True,
    ),
    "floor": Score(
        "ms_floor",
        "floor",
        "MS of any two images",
        "Mean cosine of two test images.",
        better=0,
    ),
    "purity": Score(
        "purity_binary",
        "binary-null",
        "purity above chance",
        _ABOVE,
        "purity_binary_null",
        **_COMPARED,
        chance=0,
    ),
    "purity_raw": Score("purity_binary", "binary", "purity", f"{_PURITY}."),
    "purity_weighted": Score("purity_weighted", "weighted"),
    "purity_min10": Score(
        "purity_binary_min10",
        "binary_min10",
        "purity of latents with 10 images",
        worth=True,
    ),
    "concepts_match": Score(
        "concepts_match",
        "concepts_match",
        "match with concepts",
        _MATCH,
        **_COMPARED,
        chance=0,
    ),
    "names_share": Score(
        "names_share", "names_share", "latents with a name", _NAMED, **_COMPARED
    ),
    "concepts_pairs": Score(
        "concepts_pairs",
        "concepts_pairs",
        "switching with attributes",
        _PAIRS,
        **_COMPARED,
        chance=0,
    ),
    "probe_auc": Score("probe_auc", "AUC", "probe AUC", _PROBE, **_COMPARED),
    "probe_auc_above_1": Score("probe_auc_above_1", "AUC_above_1"),
    "probe_top1": Score(
        "probe_top1",
        "top1",
        "probe accuracy",
        "Accuracy of a linear probe.",
        worth=True,
    ),
    "probe_top1_raw": Score("probe_top1_raw", "top1_raw", better=0),
    "probe_edges": Score("probe_edges", "edges", better=0, style=".1f"),
    "probe_unconverged": Score(
        "probe_unconverged", "unconverged", better=0, style=".1f"
    ),
    "stability": Score(
        "stability_alive", "stability", "stability", _STABILITY, compared=True
    ),
    "dead": Score(
        "dead",
        "dead",
        "dead on test images",
        "Latents that no test image activates.",
        **_COUNT,
    ),
    "dead_train": Score(
        "dead_train",
        "dead_train",
        "dead on training images",
        _DEAD,
        **_COUNT,
        compared=True,
    ),
    "n_k_over_m": Score("n_k_over_m", "n_k_over_m", better=0, style=".0f"),
}
# The scores in which methods are compared, all of them of the same SAEs.
COMPARED = [name for name, score in SCORES.items() if score.compared]


def across_groups(metrics: pd.DataFrame) -> pd.DataFrame:
    """Replace every score by its `{score}_across_groups`, where that is there.

    Several pictures of one thing, near-duplicates, inflate a score that compares
    images. Datasets that know their near-duplicates have the score without such pairs,
    too: it is the one to read.
    """
    suffix = "_across_groups"
    replaced = {}
    for name in metrics:
        score = name.removesuffix(suffix)
        if name.endswith(suffix) and score in metrics:
            replaced[score] = metrics[name].fillna(metrics[score])
    return metrics.assign(**replaced)


def by_run(rows: pd.DataFrame, score: str) -> pd.Series:
    """Return a score of one method, indexed by `RUN`.

    Args:
        rows: Metrics of the method, a row for each run.
        score: Its name in `SCORES`.
    """
    return SCORES[score].of(rows).set_axis(pd.MultiIndex.from_frame(rows[RUN]))


def values(rows: pd.DataFrame, metric: str, minus: str | None = None) -> pd.Series:
    """Return a metric of each row, less that of `minus` if it is given.

    The values are NaN where `rows` lack a column.
    """
    column = _column_or_nan(rows, metric)
    if not minus:
        return column
    return column - _column_or_nan(rows, minus)


def _column_or_nan(rows: pd.DataFrame, name: str) -> pd.Series:
    if name in rows:
        return rows[name].astype(float)
    return pd.Series(nan, rows.index)


def diverged(metrics: pd.DataFrame, by: str | list[str] = "method") -> dict[Any, str]:
    """Return how many SAEs diverged, of each method that lost any.

    Args:
        metrics: With the columns of `sae.scoring.rows.KEY` and the status. An SAE
            counts once, however many rows it has.
        by: The column or columns whose values are the keys.

    Returns:
        {method, or the values of several columns: a text such as "1 of 6"}.
    """
    saes = metrics.drop_duplicates([*RUN, "method", "trial"])
    saes = saes.assign(is_diverged=saes["status"] == "diverged")
    groups = saes.groupby(by, sort=False)
    counts = groups["is_diverged"].agg(["sum", "size"])
    counts = counts[counts["sum"] > 0]
    return {
        key: f"{diverged_count} of {count}"
        for key, diverged_count, count in counts.itertuples()
    }
