"""The regularizers beside the baseline at the same recipe, pair by pair: python docs/fair/same_recipe.py

All trials are in it (test split, tuning seed 0), none is chosen: each method was tried at the same twelve pairs of a
learning rate and an encoder scale, in as many steps, with one lambda at each pair. The design spreads rates, scales and
lambdas evenly over each other; how the effect goes with each is a plane, fitted in each cell.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sae_workflow import settings

from sae.report.bootstrap import wider_interval
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.tables import markdown
from sae.report.trials import RECIPE
from sae.scoring.selection import CELL

SHOWN = {"R2": "r2", "MS": "ms_mean_alive", "MS_dead_as_0": "ms_mean", "purity-null": "purity", "dead": "dead"}
DRAWN = ["lr", "encoder_scale", "lambda"]


def differences() -> pd.DataFrame:
    """A row per cell, pair and regularizer: its scores on test less the baseline's at the same pair; its lambda."""
    rows = across_groups(pd.read_csv(Path(__file__).parent / "metrics.csv", low_memory=False))
    rows = rows[(rows["protocol"] == "fair") & (rows["split"] == "test") & (rows["seed"] == 0)]
    rows = rows.assign(purity=rows["purity_binary"] - rows["purity_binary_null"]).set_index([*CELL, *RECIPE, "method"])
    scores = rows[list(SHOWN.values())].set_axis(list(SHOWN), axis=1)
    less = scores - scores.xs("topk", level="method").reindex(scores.index.droplevel("method")).to_numpy()
    assert less["R2"].notna().all()  # The baseline was tried at every pair.
    return less.assign(**{"lambda": rows["lambda"]}).drop("topk", level="method").reset_index()


def slopes(cell: pd.DataFrame) -> pd.Series:
    """By how much the differences in MS and purity change with ten times the rate, the scale and the lambda."""
    logs = np.log10(cell[DRAWN].to_numpy())
    known = np.column_stack([np.ones(len(cell)), logs])
    return pd.Series(
        {
            f"{score}, ten times the {name}": slope
            for score in ("MS", "purity-null")
            for name, slope in zip(DRAWN, np.linalg.lstsq(known, cell[score], rcond=None)[0][1:], strict=True)
        }
    )


def main() -> None:
    """Print the mean of all pairs with its interval over cells and in how many cells it is up; then pair by pair."""
    config = settings.read("config.yaml")
    rule, names = config.claims.model_dump(), Names(settings.names(config, "fair"))
    found, every = [], differences()
    for method, rows in every.groupby("method"):
        cells = (
            rows.groupby(CELL)[list(SHOWN)].mean().join(rows.groupby(CELL)[[*DRAWN, "MS", "purity-null"]].apply(slopes))
        )
        row = {"method": names.method(method)}
        for score in cells:
            values = pd.concat({0: cells[score]}, names=["seed"])
            low, high = wider_interval(values, rule)
            style = "+.0f" if score == "dead" else "+.3f"
            row[score] = f"{values.mean():{style}} [{low:{style}}, {high:{style}}], {(values > 0).sum()}/{len(values)}"
        found.append(row)
    print(markdown(pd.DataFrame(found)) + "\n")
    print(every.groupby("k")[DRAWN].apply(lambda drawn: np.log10(drawn).corr()).round(2).to_string() + "\n")
    by_pair = (
        every.groupby(["k", "lr", "encoder_scale", "lambda", "method"])[["R2", "MS", "dead"]].mean().unstack("method")
    )
    by_pair.columns = [f"{names.method(method)}: {score}" for score, method in by_pair]
    for column in by_pair:
        by_pair[column] = by_pair[column].map(("{:+.0f}" if column.endswith("dead") else "{:+.3f}").format)
    by_pair.index = by_pair.index.map(lambda pair: tuple(f"{value:g}" for value in pair))
    print(markdown(by_pair.reset_index()))


if __name__ == "__main__":
    main()
