"""The fronts for reading: what each method has above its baseline at the same R^2."""

import pandas as pd

from sae.comparison import published
from sae.comparison.intervals import BLOCK, headline
from sae.comparison.scores import ENDPOINTS, SCORES
from sae.report.names import Names

NOTES = """\
Baseline: its own score, over the window of R2 just below its best; mean over cells. Effect, signed so that more is
better: mean over blocks of the method's front minus the baseline's, over that window, chosen on validation and read on
test. In brackets the 95 % interval over (dataset, backbone) blocks, then that over fresh seeds with the cells fixed,
where seeds were trained for it. Up: cells in which it is above 0. Outcome, of the endpoints alone: shown where p < .05
after Holm over methods and endpoints; equivalent where the interval lies within 0.01; else undecided. At lower R2: on
average the method reaches less, by more than the window. Infeasible: cells that are not in the mean, since no trial is
feasible, all seeds diverged, or fresh seeds are missing. A trial is feasible where its L0 is at most 1.02 k and 90 % of
its latents fire on training images (`l0` and `firing` of protocol fair in config.yaml). dR2: difference in test R2 at
the same weights. `sae/comparison/fronts.py` has the rule."""
NONE = "Empty: no method of this experiment has trials beside a baseline's that are feasible."

BY_DATASET = "The effects above, by dataset: means over its blocks. An interval over blocks hides where these differ."

WHAT_IF = """\
Equal test R2: the same vertices, weighted so that both sides have the same R2 on test. The shares of latents that fire:
another bound of what is feasible, with the window and the fronts that follow from it. As the vertices are other ones,
without fresh seeds, they are read with the seed of the tuning, at the rule's own bound too."""


def what_if(means: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The means of :func:`sae.comparison.fronts.sensitivity`, for reading."""
    parts = [
        as_text(rows, names).assign(**{"what if": said})
        for said, rows in means.groupby("asked", sort=False)
    ]
    shown = pd.concat(parts).fillna("-") if parts else pd.DataFrame(columns=["method"])
    return shown[
        ["what if", *shown.columns.drop(["what if", "outcome"], errors="ignore")]
    ]


def by_dataset(cells: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The effects of :func:`sae.comparison.fronts.by_cell` at the headline's width, a column for each dataset."""
    blocks = (
        headline(cells)
        .groupby(["method", "score", *BLOCK], sort=False)["effect"]
        .mean()
    )
    shown = []
    for (method, score), of in blocks.dropna().groupby(["method", "score"], sort=False):
        line = {"method": names.method(method), "score": SCORES[score].label}
        means = of.groupby("dataset", sort=False).mean()
        shown.append(
            line
            | {
                names.dataset(dataset): published.signed(effect)
                for dataset, effect in means.items()
            }
        )
    return pd.DataFrame(shown).fillna("-")


def as_text(means: pd.DataFrame, names: Names) -> pd.DataFrame:
    """What :func:`sae.comparison.intervals.means` returned, for reading."""
    shown = []
    # Scores that are no endpoint are shown at the headline's width alone, and only with an interval.
    known = means.index.isin(headline(means).index) & means["low"].notna()
    shown_too = means["score"].isin(ENDPOINTS) | known
    for row in means[
        shown_too & (means["effect"].notna() | (means["infeasible"] > 0))
    ].to_dict("records"):
        outcome = "-" if pd.isna(row["outcome"]) else row["outcome"]
        line = {
            "method": names.method(row["method"]),
            "score": SCORES[row["score"]].label,
        }
        line |= {
            "width": f"{row['width']:g}",
            "baseline": published.interval(row["level"], write="{:.3f}".format),
        }
        line |= {"effect": published.interval(row["effect"], row["low"], row["high"])}
        over_seeds = published.interval(
            row["effect"], row["low_seeds"], row["high_seeds"]
        )
        line |= {"over seeds": over_seeds.partition(" ")[2]}
        line |= {
            "up": f"{row['up']}/{row['cells']}",
            "infeasible": str(row["infeasible"]),
        }
        line |= {"dR2": published.interval(row["r2_difference"])}
        line |= {"shortfall": published.interval(row["shortfall"])}
        shown.append(
            line | {"outcome": outcome + (" at lower R2" if row["at_lower_r2"] else "")}
        )
    table = pd.DataFrame(shown)
    return table.loc[:, (table != "").any()]  # Seeds of their own are not everywhere.
