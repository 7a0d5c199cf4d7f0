"""Effects at the same R^2, by dataset: `python bench/sizes.py docs/results/sizes`.

Means over fresh seeds, half of Student's 95 % interval over these, p; the baseline's score there; its highest R^2. Then
those of one dataset with the seed of the tuning, and where the baseline has the trials of high_rates.csv as well.
"""

import argparse
from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.comparison import fronts
from sae.comparison.intervals import headline, student
from sae.comparison.scores import ENDPOINTS, across_groups
from sae.core import files
from sae.report.tables import Settings

CONFIG = ("config.yaml", "config/experiments/sizes.yaml")


def main() -> None:
    """Print a row for each score, method and dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with metrics.parquet of experiment sizes")
    results = parser.parse_args().results
    names = Settings.model_validate(settings.claims_plan(settings.read(*CONFIG), "sizes"))
    metrics = fronts.of_rule(across_groups(files.read_parquet(results / "metrics.parquet")), names.fronts)
    effects = headline(fronts.effects(metrics, names.tuned, names.fronts))
    for cell, of in effects.groupby(["score", "method", "dataset"], sort=False):
        mean, half, p = student(of["effect"].to_numpy())
        level, star = of["level"].mean(), of["star"].mean()
        print(*cell, f"{mean:+.3f} ± {half:.3f}, p {p:.3f}; the baseline {level:.3f}, R² {star:.3f}")
    more = pd.read_csv(results / "high_rates.csv")
    drawn = metrics[(metrics["dataset"] == more["dataset"][0]) & (metrics["seed"] == names.fronts.tuning)]
    # Their names in a trial of the tuning's form, so that they count as such.
    trial = more["method"] + "-" + drawn.loc[drawn["method"] == "topk", "trial"].iloc[-1]
    both = pd.concat([drawn, more.assign(method="topk", trial=trial)])
    for said, rows in (("as drawn", drawn), ("with the high rates", both)):
        effects = headline(fronts.effects(rows, names.tuned, names.fronts))
        shown = effects[effects["score"].isin(ENDPOINTS)][["score", "method", "effect", "level"]]
        print(f"\n{more['dataset'][0]}, {said}\n{shown.round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
