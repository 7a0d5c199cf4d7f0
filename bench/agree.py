"""Effects that two experiments have of the same cells, and what each lends the other.

    python bench/agree.py docs/results/fair docs/results/rivals

First, of each cell, method and score that both have: the effect at the same R^2 and the
baseline's score there, by either. They differ in the draw of trials and in its number,
which no interval covers. Then, of each method of the second experiment, the mean effect:
with the trials that it has; if the baseline, alone, is given those that it has in the
first as well, which favours it; if all are given theirs. All of these are read with the
seed of the tuning, since a few vertices have no fresh seeds. Trials of one name must be
the same SAE in both experiments, as those of `fair` and `rivals` are.
"""

import argparse
from pathlib import Path

import pandas as pd
from _comparison import Experiment, read

from sae.comparison import outcomes, readings
from sae.comparison.fronts import TRIAL
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL

SCORES = [*ENDPOINTS, "measured", "detection"]
SHOWN = ["score", "method", "effect", "low", "high", "outcome", "up", "cells"]


def main() -> None:
    """Print a row for each score, cell and method, then one for each score and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs=2, help="folders named like these")
    folders = parser.parse_args().results
    first, second = (read(folder) for folder in folders)
    by_experiment = [
        _cells(experiment).add_suffix(f" in {folder.name}")
        for experiment, folder in zip((first, second), folders, strict=True)
    ]
    both = pd.concat(by_experiment, axis=1, join="inner")
    print(both.round(3).reset_index().to_string(index=False))

    shared = first.tuning.merge(second.tuning[CELL].drop_duplicates())
    baselines = [name for name, other in second.names.tuned.items() if other is None]
    of_baselines = shared[shared["method"].isin(baselines)]
    added = {
        "as drawn": [],
        "the baseline with its trials of both": [of_baselines],
        "all with their trials of both": [shared],
    }
    for title, rows in added.items():
        trials = pd.concat([second.tuning, *rows]).drop_duplicates([*TRIAL, "split"])
        print(f"\n{title}:\n{_means(trials, second)}")


def _cells(experiment: Experiment) -> pd.DataFrame:
    """Return effect and baseline by score, cell and method."""
    effects = experiment.effects()
    effects = effects[effects["score"].isin(SCORES)]
    by_cell = effects.groupby(["score", *CELL, "method"])
    return by_cell[["effect", "level"]].mean()


def _means(trials: pd.DataFrame, experiment: Experiment) -> str:
    """Return the means of some trials as a table of text."""
    names = experiment.names
    rule = names.fronts.model_copy(update={"widths": names.fronts.widths[:1]})
    found = readings.read(trials, names.tuned, rule)
    means = outcomes.means(found, names.families, names.intervals)
    means = means[means["score"].isin(SCORES)]
    means = means.sort_values(["score", "effect"], ascending=False)
    return means[SHOWN].round(3).to_string(index=False, na_rep="")


if __name__ == "__main__":
    main()
