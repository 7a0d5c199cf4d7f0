"""The measures beside the paper's, method by method, with what chance gives and what an untrained SAE has.

They are optional metrics of an experiment (`sae/scoring/metrics/`). Candidates are those of protocol `fair`, on test;
controls are not tuned.
"""

from math import isnan
from typing import NamedTuple

import pandas as pd

from sae.report.names import Names
from sae.report.scores import by_run
from sae.scoring.selection import CELL


class Measure(NamedTuple):
    """A column of the metrics, and the column of what chance gives."""

    column: str
    null: str


MEASURES = {
    "dense > 1 %": Measure("dense_1", "dense_null"),
    "dense > 10 %": Measure("dense_10", "dense_10_null"),
    "redundancy": Measure("redundancy_mean", "redundancy_null"),
    "uniqueness": Measure("uniqueness", "uniqueness_null"),
    "stability": Measure("stability", "stability_null"),
    "stability, alive": Measure("stability_alive", "stability_alive_null"),
    "AUC of 1 latent": Measure("sparse_probe_auc_1", "sparse_probe_auc_null"),
    "AUC of 5 latents": Measure("sparse_probe_auc_5", "sparse_probe_auc_null"),
    "preserved": Measure("preserved_share", "preserved_null"),
    "absorption": Measure("absorption_rate", "absorption_null"),
}
NOTES = """\
Means over cells, on test: of candidates with fresh seeds, then of controls, which are not tuned and stand at their own
R2. Chance: latents that all fire as often (dense: 0 or 1), random directions and images, permuted labels (absorption:
the rate if a class's latent were drawn at random, which is high, and differs from method to method: this is the
baseline's). dense: the share of latents that fire on more than so many images; redundancy: mean over latents of the
highest cosine with another decoder row; uniqueness: of a latent's 16 top images; stability: mean cosine of latents that
are matched between two seeds, which falls with the number of dead ones; stability, alive: of those that fire on
training images; AUC: of probes that read one or five latents; preserved: the share of a classifier's accuracy that
reconstructions keep; absorption: the share of images of a coarse class on which its latent is silent and another one
carries the class. A method without a candidate in any cell has no row; with one in some cells alone, it has the numbers
of the method compared with in the others."""


def table(tuned: pd.DataFrame, untuned: pd.DataFrame, names: Names) -> pd.DataFrame:
    """A row per method and a column per measure, as text, after a row of chance; empty where nothing was measured.

    Cells whose baseline would gain from more steps are left out.

    Args:
        tuned: of :func:`sae.report.fair.picked`.
        untuned: of :func:`sae.scoring.selection.chosen`, of which the controls are shown; on test.
    """
    tuned = tuned[~tuned["undertrained"]]
    columns = {
        name: of.column for name, of in MEASURES.items() if of.column in tuned and tuned[of.column].notna().any()
    }
    if not columns:
        return pd.DataFrame(columns=["method"])
    baseline = tuned[tuned["method"] == names.baselines[0]]
    rows = [{"method": "Chance"} | _means(baseline, {name: MEASURES[name].null for name in columns})]
    trained = set(tuned["method"][~tuned["fallback"]])
    cells = tuned[CELL].drop_duplicates()
    for given, methods in ((tuned, trained), (untuned.merge(cells), set(names.controls) & set(untuned["method"]))):
        for method in names.order(methods):
            rows.append({"method": names.method(method)} | _means(given[given["method"] == method], columns))
    return pd.DataFrame(rows)


def _means(rows: pd.DataFrame, columns: dict[str, str]) -> dict[str, str]:
    """The means over cells of some columns, seeds averaged first."""
    means = {name: by_run(rows, column).dropna().groupby(CELL).mean().mean() for name, column in columns.items()}
    return {name: "-" if isnan(mean) else f"{mean:.3f}" for name, mean in means.items()}
