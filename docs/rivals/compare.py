"""Seven tables beside the leaderboard, of all parts together: python docs/rivals/compare.py

The first two: differences from tuned Top-k at both tolerances in R^2, .002 and .005. The third: the candidates at .005
beside tuned Top-k at .002; its own candidate at .005 has less R^2 in some cells. The fourth: every method beside Top-k
at the same learning rate, scale and steps. All trials are in that one (test split, tuning seed 0), none is picked: each
method was tried at the same eight pairs of a learning rate and a scale. A penalty's weight goes with the pair. Then the
first, cell by cell, in MS and in MS by other families; and the fourth, rate by rate, in MS, with R^2 in brackets.
"""

import measures
import pandas as pd
from sae_workflow import settings

from sae.report.bootstrap import wider_interval
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.tables import markdown
from sae.report.trials import RECIPE
from sae.scoring.selection import CELL

TIGHT, WIDER = 0.002, 0.005
TUNED = ["R2", "MS", "MS_dead_as_0", "MS_independent", "purity-null", "AUC", "dead"]
AT_RECIPE = {
    "R2": "r2",
    "MS": "ms_mean_alive",
    "MS_dead_as_0": "ms_mean",
    "MS_independent": "ms_independent",
    "purity-null": "purity",
    "dead": "dead",
}


def at_tolerance(tolerance: float, of_topk: float) -> pd.DataFrame:
    """A row per cell and method: its candidate's scores on test less those of Top-k's candidate.

    Without a candidate it has the scores of the method that it is compared with; without one in any cell, no rows.

    Args:
        tolerance, of_topk: at which the method's candidate was chosen, and Top-k's.
    """
    every = measures.read("tables/fair.csv").set_index([*CELL, "method"])
    rows = every[every["tolerance"] == tolerance]
    some = rows[rows["status"] != "tie"].index.unique("method")
    topk = every[every["tolerance"] == of_topk].xs("topk", level="method")[TUNED]
    return _less(rows[rows.index.isin(some, level="method")][TUNED], topk)


def at_recipe() -> pd.DataFrame:
    """A row per cell, pair and method: its score on test less that of Top-k at the same pair."""
    rows = across_groups(measures.read("metrics.csv"))
    rows = rows[(rows["protocol"] == "fair") & (rows["split"] == "test") & (rows["seed"] == 0)]
    independent = pd.concat(pd.read_csv(file) for file in sorted(measures.HERE.glob("*/independent.csv")))
    rows = rows.merge(independent, on=[*CELL, "method", "trial"], how="left")
    rows["purity"] = rows["purity_binary"] - rows["purity_binary_null"]
    rows = rows.set_index([*CELL, *RECIPE, "method"])[list(AT_RECIPE.values())]
    rows = rows.set_axis(list(AT_RECIPE), axis=1)
    difference = _less(rows, rows.xs("topk", level="method"))
    assert difference["R2"].notna().all()  # Top-k was tried at every pair.
    return difference


def _less(rows: pd.DataFrame, topk: pd.DataFrame) -> pd.DataFrame:
    return rows - topk.reindex(rows.index.droplevel("method")).to_numpy()


def main() -> None:
    """Print a row per method: means over cells, their intervals, and in how many cells the difference is above 0."""
    config = settings.read("config.yaml")
    rule, names = config.claims.model_dump(), Names(settings.names(config, "rivals"))
    tuned, pairs = at_tolerance(TIGHT, TIGHT), at_recipe()
    by_cell = pairs.groupby([*CELL, "method"]).mean()
    for difference in (tuned, at_tolerance(WIDER, WIDER), at_tolerance(WIDER, TIGHT), by_cell):
        found = []
        for method, cells in difference.drop("topk", level="method").groupby("method"):
            row = {"method": names.method(method)}
            for score in difference:
                known = pd.concat({0: cells[score].dropna()}, names=["seed"])  # One seed, or a mean over seeds.
                low, high = wider_interval(known, rule)
                style = "+.0f" if score == "dead" else "+.3f"
                row[score] = f"{known.mean():{style}} [{low:{style}}, {high:{style}}], {(known > 0).sum()}/{len(known)}"
            found.append((-cells["MS"].mean(), row))
        print(markdown(pd.DataFrame([row for _, row in sorted(found, key=lambda of: of[0])])) + "\n")
    by_rate = pairs.groupby(["method", "lr"]).mean()
    of_rates = by_rate["MS"].map("{:+.3f}".format) + by_rate["R2"].map(" ({:+.3f})".format)
    for score in ("MS", "MS_independent"):
        of_cells = tuned[score].map("{:+.3f}".format).unstack(["dataset", "backbone"])
        print(f"{score}\n\n{of_cells.droplevel('k').drop('topk').to_string()}\n")
    print(of_rates.unstack("lr").drop("topk").to_string())


if __name__ == "__main__":
    main()
