"""Do the ranges of `fair` fit its baseline? `python bench/pilot.py results/pilot`, after config/experiments/pilot.yaml.

Of each cell, on validation alone: how long it trains, how many of the baseline's trials are feasible, the rate of the
best feasible one, and the rates that were tried on either side of it. The ranges fit where four trials or more are
feasible and the best one lies inside: a higher and a lower rate were tried.

With `--steps` it says how long each cell trains: `python bench/pilot.py
results/decisive_pilot --steps`. The protocol doubled the baseline's steps as long as
that gained it something on validation, and wrote what it chose beside the bank. Last
stands the largest number of steps that any cell of a dataset asks for.
"""

import argparse
from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.comparison.scores import across_groups
from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
FEWEST = 4


def main() -> None:
    """Print a row a cell, and whether all fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="a CSV of every trial, or length")
    parser.add_argument(
        "--steps", action="store_true", help="how long each cell trains, and why"
    )
    a = parser.parse_args()
    if a.steps:
        print_steps(a.results, a.out)
        return
    rows = trials(a.results)
    if a.out:
        rows.to_csv(a.out, index=False, float_format="%.5g")
    found = pd.DataFrame([row(cell, of) for cell, of in rows.groupby(CELL)])
    print(found.to_markdown(index=False, floatfmt=".3g"))
    print(
        "every cell that is there fits"
        if found["fits"].all()
        else "the ranges do not fit everywhere"
    )


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
    is_length = ~rows["trial"].str.contains("auxk_alpha") & (rows["protocol"] == "fair")
    rows = rows[is_length & (rows["status"] == "ok") & rows["r2"].notna()]
    best_places = rows.groupby([*CELL, "steps"])["r2"].idxmax()
    best = rows.loc[best_places].sort_values([*CELL, "steps"])
    scores = best[["r2", "ms_mean_alive"]]
    gains = scores.groupby([best[name] for name in CELL]).diff().add_suffix(" gained")
    lengths = pd.concat([best[[*CELL, "steps", "lr"]], scores, gains], axis="columns")
    return lengths.astype({"steps": int})


def read_validation(run_folder: Path) -> pd.DataFrame:
    """Return the rows of every SAE on validation, of the cells whose bank is made."""
    files_of_cells = sorted(run_folder.glob("scores/*/*/*/validation.parquet"))
    return pd.concat(map(pd.read_parquet, files_of_cells), ignore_index=True)


def trials(results: Path) -> pd.DataFrame:
    """A row per trial of the baseline at its cell's common points and around them, and whether it is feasible."""
    rule = settings.front_rule(settings.read_config(str(ROOT / "config.yaml")), "fair")
    rows = read_validation(results)
    # Those that only say how long to train have no weight of AuxK of their own.
    rows = rows[
        rows["trial"].str.contains("auxk_alpha") & (rows["seed"] == rule["tuning"])
    ].reset_index(drop=True)
    rows["firing"] = 1 - rows["dead_train"] / rows["m"]
    within = (rows["l0"] <= rule["l0"] * rows["k"]) & (rows["firing"] >= rule["firing"])
    rows["feasible"] = (rows["status"] == "ok") & within
    columns = [
        "lr",
        "encoder_scale",
        "auxk_alpha",
        "steps",
        "r2",
        "ms_mean_alive",
        "l0",
        "firing",
        "feasible",
    ]
    return rows[[*CELL, "trial", *columns]]


def row(cell: tuple, of: pd.DataFrame) -> dict:
    """What is printed of a cell."""
    feasible, rates = of[of["feasible"]], of["lr"]
    found = dict(zip(CELL, cell, strict=True)) | {
        "steps": int(of["steps"].max()),
        "feasible": f"{len(feasible)}/{len(of)}",
    }
    if feasible.empty:
        return found | {"fits": False}
    best = feasible.loc[feasible["r2"].idxmax()]
    inside = bool(rates.min() < best["lr"] < rates.max())
    any_best = of.loc[of["r2"].idxmax()]
    return found | {
        "best feasible rate": best["lr"],
        "rates tried": f"{rates.min():g} to {rates.max():g}",
        "its R2": best["r2"],
        "firing": best["firing"],
        "best R2 of all": any_best["r2"],
        "its firing": any_best["firing"],
        "fits": inside and len(feasible) >= FEWEST,
    }


if __name__ == "__main__":
    main()
