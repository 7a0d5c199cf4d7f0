"""Choose steps and rates of `photographs`, by the rule of its page.

    python bench/photographs_pilot.py results/photographs_pilot docs/results/photographs

It reads what Top-k scores on validation at the listed points, with the seed of the
tuning, writes that as pilot.csv, and prints the choice. Without a run of its own it
reads that file again: `python bench/photographs_pilot.py docs/results/photographs`.
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
TABLE = "pilot.csv"
SCORES = ["r2", "detection_auc", "detection_measured", "dead_train"]


def main() -> None:
    """Print the choice, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, help="folder of the pilot, or of pilot.csv"
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder for pilot.csv")
    arguments = parser.parse_args()

    if arguments.out:
        cells = arguments.results.glob("scores/*/*/*/validation.parquet")
        rows = pd.concat([files.read_parquet(file) for file in sorted(cells)])
        text = listed_points(rows).to_csv(
            index=False, lineterminator="\n", float_format="%.6g"
        )
        files.write_text(arguments.out / TABLE, text)
    points = pd.read_csv((arguments.out or arguments.results) / TABLE)

    feasible = points[points["feasible"]]
    r2 = feasible.pivot(index=CELL, columns="lr", values="r2")
    print(f"R2 of feasible trials\n\n{r2.round(4).to_string()}\n")
    print(f"{mean_best_r2(r2).round(5).to_string()}\n")
    print(f"{points.groupby('dataset')['steps'].max().to_string()}\n")
    by_rate = points.groupby(["backbone", "lr"])[SCORES].mean()
    print(f"means over sets, of all trials\n\n{by_rate.round(3).to_string()}")


def listed_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the trials at the listed points, with the seed of the tuning.

    Args:
        rows: The scores of every SAE on validation.

    Returns:
        Columns `CELL`, lr, steps, feasible and `SCORES`.
    """
    config = settings.read_config(str(ROOT / "config.yaml"))
    rule = settings.front_rule(config, EXPERIMENT)
    # The trials that choose how long to train set no weight of AuxK.
    is_point = rows["swept"].str.split().map(lambda names: "auxk_alpha" in names)
    points = rows[is_point & (rows["seed"] == rule["tuning"])]
    fires = points["dead_train"] <= (1 - rule["firing"]) * points["m"]
    is_sparse = points["l0"] <= rule["l0"] * points["k"]
    is_feasible = (points["status"] == "ok") & fires & is_sparse
    points = points.assign(steps=points["steps"].astype(int), feasible=is_feasible)
    return points[[*CELL, "lr", "steps", "feasible", *SCORES]]


def mean_best_r2(r2: pd.DataFrame) -> pd.Series:
    """Return the mean over cells of the best R^2, by run of neighbouring rates.

    Args:
        r2: A row for each cell, a column for each rate, NaN of what is not feasible.
    """
    means = {}
    for first in range(len(r2.columns) - NEIGHBOURS + 1):
        run = list(r2.columns[first : first + NEIGHBOURS])
        means[f"{run[0]:g} to {run[-1]:g}"] = r2[run].max(axis="columns").mean()
    return pd.Series(means, name="mean of the best R2")


if __name__ == "__main__":
    main()
