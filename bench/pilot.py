"""Say whether the ranges of protocol `fair` fit its baseline, and how long it trains.

    python bench/pilot.py results/pilot
    python bench/pilot.py results/decisive_pilot --steps

The first reads what config/experiments/pilot.yaml trains. Of each cell it prints, on
validation alone: how long it trains, how many of the baseline's trials are feasible,
the rate of the best feasible one, and the rates that were tried on either side of it.
The ranges fit where four trials or more are feasible and the best one lies inside: a
higher and a lower rate were tried.

With `--steps` it says how long each cell trains. The protocol doubled the baseline's
steps as long as that gained it something on validation, and wrote what it chose beside
the bank. Last stands the largest number of steps that any cell of a dataset asks for.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from sae_workflow import settings

from sae.comparison.scores import across_groups
from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
FEWEST_FEASIBLE = 4  # trials of a cell that the ranges fit
# What a CSV has of each trial, beside its cell and its name.
TRIAL_COLUMNS = [
    *("lr", "encoder_scale", "auxk_alpha", "steps", "r2", "ms_mean_alive", "l0"),
    *("firing", "feasible"),
]


def main() -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="a CSV of every trial, or length")
    parser.add_argument(
        "--steps", action="store_true", help="how long each cell trains, and why"
    )
    arguments = parser.parse_args()
    if arguments.steps:
        print_steps(arguments.results, arguments.out)
    else:
        print_fit(arguments.results, arguments.out)


def print_fit(run_folder: Path, table_file: Path | None) -> None:
    """Print a row for each cell, and whether the ranges fit all of them.

    Args:
        run_folder: The folder of the pilot; cells whose bank is not made are left out.
        table_file: A CSV of the trials, or None.
    """
    trials = tried_points(run_folder)
    if table_file:
        trials.to_csv(table_file, index=False, float_format="%.5g")
    cells = pd.DataFrame(
        [describe_cell(cell, of_cell) for cell, of_cell in trials.groupby(CELL)]
    )
    print(cells.to_markdown(index=False, floatfmt=".3g"))
    if cells["fits"].all():
        print("every cell that is there fits")
    else:
        print("the ranges do not fit everywhere")


def print_steps(run_folder: Path, table_file: Path | None) -> None:
    """Print how long each cell trains, what each length gains, and the largest number.

    Args:
        run_folder: The folder of the pilot; cells whose bank is not made are left out.
        table_file: A CSV of the lengths, or None.
    """
    lengths = tried_lengths(run_folder)
    chosen = chosen_steps(run_folder)
    if table_file:
        lengths.to_csv(table_file, index=False, float_format="%.5g")
    # Three digits are not enough of R^2, of which .002 decides.
    print(lengths.round(4).to_markdown(index=False))
    print(chosen.to_markdown(index=False))
    for dataset, cells in chosen.groupby("dataset", sort=False):
        steps = cells["steps"].max()
        print(f"{dataset}: {steps} steps, the largest of {len(cells)} cells")


def chosen_steps(run_folder: Path) -> pd.DataFrame:
    """Return how many steps the protocol chose in each cell.

    Returns:
        Columns `CELL`, steps and undertrained: whether the last doubling still gained
        the baseline something, so that only `most_steps` ended it.
    """
    files_of_cells = sorted(run_folder.glob("scores/*/*/*/selection.parquet"))
    rows = pd.concat(map(pd.read_parquet, files_of_cells), ignore_index=True)
    rows = rows[rows["protocol"] == "fair"].dropna(subset="steps")
    facts = rows[[*CELL, "steps", "undertrained"]].drop_duplicates()
    return facts.astype({"steps": int, "undertrained": bool})


def tried_lengths(run_folder: Path) -> pd.DataFrame:
    """Return what the baseline scores on validation at each length that was tried.

    Returns:
        Columns `CELL`, steps, lr (of the three rates that of the highest R^2), r2, MS
        (without near-duplicates), and what these two gain over the length before.
    """
    rows = across_groups(read_validation(run_folder))
    # Trials that say how long to train have no weight of AuxK of their own.
    is_length = ~_sets_auxk_alpha(rows) & (rows["protocol"] == "fair")
    rows = rows[is_length & (rows["status"] == "ok") & rows["r2"].notna()]
    best_places = rows.groupby([*CELL, "steps"])["r2"].idxmax()
    best = rows.loc[best_places].sort_values([*CELL, "steps"])
    scores = best[["r2", "ms_mean_alive"]]
    gains = scores.groupby([best[name] for name in CELL]).diff().add_suffix(" gained")
    lengths = pd.concat([best[[*CELL, "steps", "lr"]], scores, gains], axis="columns")
    return lengths.astype({"steps": int})


def _sets_auxk_alpha(rows: pd.DataFrame) -> pd.Series:
    """Say which rows are of a trial with a weight of AuxK of its own."""
    return rows["swept"].str.split().map(lambda names: "auxk_alpha" in names)


def read_validation(run_folder: Path) -> pd.DataFrame:
    """Return the rows of every SAE on validation, of the cells whose bank is made."""
    files_of_cells = sorted(run_folder.glob("scores/*/*/*/validation.parquet"))
    return pd.concat(map(pd.read_parquet, files_of_cells), ignore_index=True)


def tried_points(run_folder: Path) -> pd.DataFrame:
    """Return the baseline's trials at its cells' common points and around them.

    Args:
        run_folder: The folder of the pilot.

    Returns:
        Columns `CELL`, trial and `TRIAL_COLUMNS`; `feasible` says whether the trial is,
        by the rule of `fair`.
    """
    rule = settings.front_rule(settings.read_config(str(ROOT / "config.yaml")), "fair")
    rows = read_validation(run_folder)
    # Trials that say how long to train have no weight of AuxK of their own.
    is_point = _sets_auxk_alpha(rows)
    is_of_tuning = rows["seed"] == rule["tuning"]
    points = rows[is_point & is_of_tuning].reset_index(drop=True)

    points["firing"] = 1 - points["dead_train"] / points["m"]
    fires_enough = points["firing"] >= rule["firing"]
    is_sparse = points["l0"] <= rule["l0"] * points["k"]
    points["feasible"] = (points["status"] == "ok") & is_sparse & fires_enough
    return points[[*CELL, "trial", *TRIAL_COLUMNS]]


def describe_cell(cell: tuple, trials: pd.DataFrame) -> dict[str, Any]:
    """Return the printed row of a cell.

    Args:
        cell: Its values of `CELL`.
        trials: Its rows of :func:`tried_points`.
    """
    feasible = trials[trials["feasible"]]
    row: dict[str, Any] = {
        **dict(zip(CELL, cell, strict=True)),
        "steps": int(trials["steps"].max()),
        "feasible": f"{len(feasible)}/{len(trials)}",
    }
    if feasible.empty:
        return {**row, "fits": False}

    best = feasible.loc[feasible["r2"].idxmax()]
    best_of_all = trials.loc[trials["r2"].idxmax()]
    lowest_rate = trials["lr"].min()
    highest_rate = trials["lr"].max()
    lies_inside = bool(lowest_rate < best["lr"] < highest_rate)
    return {
        **row,
        "best feasible rate": best["lr"],
        "rates tried": f"{lowest_rate:g} to {highest_rate:g}",
        "its R2": best["r2"],
        "firing": best["firing"],
        "best R2 of all": best_of_all["r2"],
        "its firing": best_of_all["firing"],
        "fits": lies_inside and len(feasible) >= FEWEST_FEASIBLE,
    }


if __name__ == "__main__":
    main()
