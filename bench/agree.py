"""Effects that two experiments have of the same cells: `python bench/agree.py docs/results/fair docs/results/rivals`.

Of each cell, method and score that both have: the effect at the same R^2 on fresh seeds, and Top-k's score there, by
either. They differ in the draw of trials and in its number, which no interval covers. Then, of each method of the
second, the mean effect: with the trials that it has; if Top-k, alone, is given those that it has in the first as well,
which favours it; if all are given theirs. R* is higher then, and a few methods weigh vertices without fresh seeds: all
are read with the seed of the tuning. Trials of one name must be the same SAE in both, as those of `fair` and `rivals`.
"""

import argparse
from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.comparison import board, fronts
from sae.comparison.intervals import headline, means
from sae.comparison.scores import ENDPOINTS, across_groups
from sae.report.tables import Settings
from sae.scoring.rows import CELL

SCORES = [*ENDPOINTS, "measured", "detection"]
SAID = ["score", "method", "effect", "low", "high", "outcome", "up", "cells"]


def main() -> None:
    """Print a row for each score, cell and method, then one for each score and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs=2,
        help="folders of two experiments, named like these",
    )
    found, rows = [], []
    for place in parser.parse_args().results:
        names = Settings.model_validate(
            settings.claims_plan(settings.read("config.yaml"), place.name)
        )
        rows.append(fronts.of_rule(across_groups(board.read(place)[0]), names.fronts))
        effects = (
            _effects(rows[-1], names)
            .groupby(["score", *CELL, "method"])[["effect", "level"]]
            .mean()
        )
        found.append(effects.add_suffix(f" in {place.name}"))
    print(
        pd.concat(found, axis=1, join="inner")
        .round(3)
        .reset_index()
        .to_string(index=False)
    )
    first, second = (of[of["seed"] == names.fronts.tuning] for of in rows)
    baselines = [method for method, other in names.tuned.items() if other is None]
    more = first.merge(second[CELL].drop_duplicates())
    of_baselines = more[more["method"].isin(baselines)]
    given = {
        "as drawn": [],
        "Top-k with its trials of both": [of_baselines],
        "all with their trials of both": [more],
    }
    for said, added in given.items():
        of = pd.concat([second, *added]).drop_duplicates([*fronts.TRIAL, "split"])
        table = means(_effects(of, names)).sort_values(
            ["score", "effect"], ascending=False
        )
        print(f"\n{said}:\n{table[SAID].round(3).to_string(index=False, na_rep='')}")


def _effects(metrics: pd.DataFrame, names: Settings) -> pd.DataFrame:
    effects = headline(fronts.effects(metrics, names.tuned, names.fronts))
    return effects[effects["score"].isin(SCORES)]


if __name__ == "__main__":
    main()
