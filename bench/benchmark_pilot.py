"""Choose rates, steps and the pair of scales of `benchmark`, from Top-k on validation.

    snakemake benchmark_pilot --until train
    python bench/benchmark_pilot.py results/benchmark_pilot docs/results/benchmark

The first trains Top-k alone, and reads no test image. The second writes what it scores
on validation to `pilot.csv`, and prints the choice; without a run it reads that file:
`python bench/benchmark_pilot.py docs/results/benchmark`.

The rule is that of the experiment: of the trials that are compared those count, in each
cell, that reconstruct as well as the best of them, and of these the one with the highest
detection. What is chosen has the highest mean of that over cells:

- steps of a set: 125, 250, 500 or 1,000, over its two cells, at five rates;
- rates: three neighbours of the five, at these steps;
- the pair (encoder scale, weight of AuxK) of methods with options of their own: one of
  two, at 500 steps.
"""

import argparse
from pathlib import Path

import pandas as pd

from sae.core import files
from sae.scoring import choice
from sae.scoring.choice import DETECTION
from sae.scoring.metrics.detection import CHANCE
from sae.scoring.rows import CELL

TABLE = "pilot.csv"
COLUMNS = [
    *(*CELL, "lr", "steps", "encoder_scale", "auxk_alpha"),
    *("status", "r2", "l0", DETECTION),
]
PAIR = ["encoder_scale", "auxk_alpha"]
PAIR_OF_STEPS = 0.1  # of trials with several numbers of steps: both are this
STEPS_OF_PAIRS = 500
NEIGHBOURS = 3


def main() -> None:
    """Print what is chosen, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="of the pilot, or with pilot.csv")
    parser.add_argument("out", type=Path, nargs="?", help="folder for pilot.csv")
    arguments = parser.parse_args()
    if arguments.out:
        write(arguments.results, arguments.out / TABLE)
    trials = pd.read_csv((arguments.out or arguments.results) / TABLE)
    cells = trials.set_index(CELL).index.unique()

    of_pair = trials[trials["encoder_scale"] == PAIR_OF_STEPS]
    by_steps = highest_detection(of_pair, ["steps"], cells).groupby("dataset").mean()
    print(f"detection by steps\n\n{by_steps.round(4).to_string()}\n")
    steps_of_set = by_steps.idxmax(axis="columns")
    print(f"{steps_of_set.to_string()}\n")

    at_steps = of_pair[of_pair["steps"] == of_pair["dataset"].map(steps_of_set)]
    by_rate = highest_detection(at_steps, ["lr"], cells)
    print(f"by rate, at these steps\n\n{by_rate.mean().round(4).to_string()}\n")
    rates = list(by_rate)
    for first in range(len(rates) - NEIGHBOURS + 1):
        run = rates[first : first + NEIGHBOURS]
        mean = by_rate[run].max(axis="columns").mean()
        print(f"{', '.join(f'{rate:g}' for rate in run)}: {mean:.4f}")

    of_pairs = trials[trials["steps"] == STEPS_OF_PAIRS]
    by_pair = highest_detection(of_pairs, PAIR, cells)
    print(f"\nby pair\n\n{by_pair.mean().round(4).to_string()}")


def write(results: Path, file: Path) -> None:
    """Write the trials of all cells."""
    cells = sorted(results.glob("scores/*/*/*/validation.parquet"))
    rows = pd.concat([files.read_parquet(cell) for cell in cells])
    rows = rows[(rows["trial"] != "default") & (rows["seed"] == 0)]
    text = rows[COLUMNS].to_csv(index=False, float_format="%.6g")
    files.write_text(file, text)


def highest_detection(
    trials: pd.DataFrame, by: list[str], cells: pd.MultiIndex
) -> pd.DataFrame:
    """Return the highest detection of each cell (rows) and value of `by` (columns).

    It is that of the trials that reconstruct as well as the best of these trials in the
    cell; where there is none, it counts as chance.
    """
    feasible = trials[choice.feasible(trials)]
    best_r2 = feasible.groupby(CELL)["r2"].transform("max")
    as_well = feasible[feasible["r2"] >= best_r2 - choice.MARGIN]
    table = as_well.groupby([*CELL, *by])[DETECTION].max().unstack(by)
    values = trials.set_index(by).index.unique().sort_values()
    return table.reindex(index=cells, columns=values).fillna(CHANCE)


if __name__ == "__main__":
    main()
