"""Effects that two experiments have of the same cells: `python bench/agree.py docs/results/fair docs/results/rivals`.

Of each cell, method and score that both have: the effect at the same R^2 on fresh seeds, and Top-k's score there, by
either. They differ in the draw of trials and in its number, which no interval covers.
"""

import argparse
from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.comparison import board, fronts
from sae.comparison.intervals import headline
from sae.comparison.scores import across_groups
from sae.report.tables import Settings

SCORES = ("ms", "detection_alive", "measured", "detection")
KEY = ["score", "dataset", "backbone", "k", "method"]


def main() -> None:
    """Print a row for each score, cell and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs=2, help="folders of two experiments, named like these")
    found = []
    for place in parser.parse_args().results:
        names = Settings.model_validate(settings.claims_plan(settings.read("config.yaml"), place.name))
        metrics = fronts.of_rule(across_groups(board.read(place)[0]), names.fronts)
        effects = headline(fronts.effects(metrics, names.tuned, names.fronts))
        of_seeds = effects[effects["score"].isin(SCORES)].groupby(KEY)[["effect", "level"]]
        found.append(of_seeds.mean().add_suffix(f" in {place.name}"))
    print(pd.concat(found, axis=1, join="inner").round(3).reset_index().to_string(index=False))


if __name__ == "__main__":
    main()
