"""What can be compared: each score once, with its column, its name in print, which way is better, what chance gives."""

from typing import NamedTuple

import pandas as pd

from sae.report.scores import values


class Score(NamedTuple):
    """A score of an SAE.

    Attributes:
        column: of the metrics.
        label: in print.
        better: +1 if more is better, -1 if less.
        minus: a column that is subtracted.
        chance: what an SAE has by chance, in words.
        endpoint: whether methods are judged by it. Each such score has a front of its own; others are read at the
            vertices and weights of the first.
    """

    column: str
    label: str
    better: int = 1
    minus: str | None = None
    chance: str = ""
    endpoint: bool = False

    def of(self, rows: pd.DataFrame) -> pd.Series:
        """Its values, NaN where `rows` lack a column."""
        return values(rows, self.column, self.minus)


# By the name that tables have. MS is across groups, where a dataset has groups.
SCORES: dict[str, Score] = {
    "ms": Score("ms_mean_alive", "MS", chance="the mean cosine of two images", endpoint=True),
    "detection_alive": Score("detection_alive", "detection", chance="0.5", endpoint=True),
    "detection": Score("detection", "detection, whole dictionary", chance="0"),
    "ms_independent": Score("ms_mean_alive_independent", "MS by other families", chance="the mean cosine"),
    "ms_all": Score("ms_mean", "MS, dead latents as 0", chance="the mean cosine"),
    "purity": Score("purity_binary", "purity above chance", minus="purity_binary_null", chance="0"),
    "probe_auc": Score("probe_auc", "probe AUC"),
    "stability": Score("stability_alive", "stability", chance="a random decoder's"),
    "dead": Score("dead_train", "dead on training images", better=-1),
}
ENDPOINTS = [name for name, score in SCORES.items() if score.endpoint]
