"""What the draw of trials is worth: `python bench/draws.py fair docs/results/fair`.

The trials of each cell and method are drawn anew from themselves, with replacement, and effects read with the seed of
the tuning: their mean over blocks as drawn, and mean and standard deviation over the new draws. It cannot show what a
trial outside of these would change.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sae_workflow import settings

from sae.comparison import fronts
from sae.comparison.intervals import BLOCK
from sae.comparison.scores import ENDPOINTS, across_groups
from sae.core import files
from sae.report.tables import Settings
from sae.scoring.rows import CELL

METHOD = [*CELL, "method"]


def main() -> None:
    """Print a row for each score and method, of each dataset with `--by-dataset`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", help="one with protocol fair")
    parser.add_argument("results", type=Path, help="folder with its metrics.parquet")
    parser.add_argument(
        "--config", nargs="*", default=[], help="files laid over config.yaml"
    )
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--by-dataset", action="store_true")
    a = parser.parse_args()
    plan = settings.claims_plan(settings.read("config.yaml", *a.config), a.experiment)
    names = Settings.model_validate(plan)
    rule = names.fronts.model_copy(update={"widths": names.fronts.widths[:1]})
    rows = fronts.of_rule(
        across_groups(files.read_parquet(a.results / "metrics.parquet")), rule
    )
    rows = rows[rows["seed"] == rule.tuning]
    by = ["score", "method", *(["dataset"] if a.by_dataset else [])]

    def means(of: pd.DataFrame) -> pd.Series:
        effects = fronts.effects(of, names.tuned, rule)
        effects = effects[effects["score"].isin(ENDPOINTS)]
        return (
            effects.groupby(["score", "method", *BLOCK])["effect"]
            .mean()
            .groupby(by)
            .mean()
        )

    rng, found = np.random.default_rng(0), []
    by_trial = rows.set_index([*METHOD, "trial"]).sort_index()
    trials = [(cell, of.unique()) for cell, of in rows.groupby(METHOD)["trial"]]
    for _ in range(a.draws):
        drawn = {
            (*cell, trial) for cell, of in trials for trial in rng.choice(of, len(of))
        }
        found.append(means(by_trial[by_trial.index.isin(drawn)].reset_index()))
    table = pd.DataFrame(found)
    print(
        pd.DataFrame({"as drawn": means(rows), "mean": table.mean(), "sd": table.std()})
        .round(4)
        .to_string()
    )


if __name__ == "__main__":
    main()
