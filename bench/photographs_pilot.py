"""Choose steps and rates of `photographs`, by the rule of its page.

    python bench/photographs_pilot.py results/photographs_pilot docs/results/photographs

It reads what Top-k scores on validation, prints the choice, and writes pilot.csv: each
cell's steps, and its R^2 at each rate, which is empty where the trial is not feasible.
"""

import argparse
from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.core import files
from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
EXPERIMENT = "photographs_pilot"
NEIGHBOURS = 3  # rates of a run


def main() -> None:
    """Print the choice, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of the pilot")
    parser.add_argument("out", type=Path, help="folder for pilot.csv")
    arguments = parser.parse_args()

    cells = arguments.results.glob("scores/*/*/*/validation.parquet")
    rows = pd.concat([files.read_parquet(file) for file in sorted(cells)])
    table = r2_by_rate(feasible_points(rows))
    text = table.to_csv(lineterminator="\n", float_format="%.6g")
    files.write_text(arguments.out / "pilot.csv", text)
    print(table.round(4).to_string())
    print(f"\n{mean_best_r2(table).round(5).to_string()}\n")
    print(table["steps"].groupby(level="dataset", sort=False).max().to_string())


def feasible_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the feasible trials at the listed points, of the seed of the tuning."""
    config = settings.read_config(str(ROOT / "config.yaml"))
    rule = settings.front_rule(config, EXPERIMENT)
    # The trials that choose how long to train set no weight of AuxK.
    is_point = rows["swept"].str.split().map(lambda names: "auxk_alpha" in names)
    is_of_tuning = rows["seed"] == rule["tuning"]
    fires = rows["dead_train"] <= (1 - rule["firing"]) * rows["m"]
    is_sparse = rows["l0"] <= rule["l0"] * rows["k"]
    is_feasible = (rows["status"] == "ok") & fires & is_sparse
    return rows[is_point & is_of_tuning & is_feasible]


def r2_by_rate(points: pd.DataFrame) -> pd.DataFrame:
    """Return each cell's steps, and its R^2 by rate, indexed by `CELL`."""
    r2 = points.pivot(index=CELL, columns="lr", values="r2")
    steps = points.groupby(CELL)["steps"].max().astype(int)
    r2.insert(0, "steps", steps)
    return r2


def mean_best_r2(table: pd.DataFrame) -> pd.Series:
    """Return the mean over cells of the best R^2, by run of neighbouring rates."""
    rates = table.columns.drop("steps")
    means = {}
    for first in range(len(rates) - NEIGHBOURS + 1):
        run = list(rates[first : first + NEIGHBOURS])
        means[f"{run[0]:g} to {run[-1]:g}"] = table[run].max(axis="columns").mean()
    return pd.Series(means, name="mean of the best R2")


if __name__ == "__main__":
    main()
