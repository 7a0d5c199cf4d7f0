"""Effects at the same R^2, by dataset: `python bench/sizes.py docs/results/sizes`.

Means over fresh seeds, half of Student's 95 % interval over these, p; the baseline's score there; its highest R^2.
Then, with the seed of the tuning, what Top-k's trials of high rate change: 27,000 images with those of high_rates.csv
as well, 55,000 images without its own.
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
HIGH = 0.0045  # the learning rate from which on it is high; from twice this on too many latents die


def main() -> None:
    """Print a row for each score, method and dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, help="folder with metrics.parquet of experiment sizes"
    )
    results = parser.parse_args().results
    names = Settings.model_validate(
        settings.claims_plan(settings.read(*CONFIG), "sizes")
    )
    metrics = fronts.of_rule(
        across_groups(files.read_parquet(results / "metrics.parquet")), names.fronts
    )
    effects = headline(fronts.effects(metrics, names.tuned, names.fronts))
    for cell, of in effects.groupby(["score", "method", "dataset"], sort=False):
        mean, half, p = student(of["effect"].to_numpy())
        level, star = of["level"].mean(), of["star"].mean()
        print(
            *cell,
            f"{mean:+.3f} ± {half:.3f}, p {p:.3f}; the baseline {level:.3f}, R² {star:.3f}",
        )
    tuned, more = (
        metrics[metrics["seed"] == names.fronts.tuning],
        pd.read_csv(results / "high_rates.csv"),
    )
    of_27k, of_55k = (
        tuned[tuned["dataset"] == f"fashion_mnist_{size}"] for size in ("27k", "55k")
    )
    # Their names in a trial of the tuning's form, so that they count as such.
    trial = (
        more["method"] + "-" + of_27k.loc[of_27k["method"] == "topk", "trial"].iloc[-1]
    )
    with_more = pd.concat([of_27k, more.assign(method="topk", trial=trial)])
    without = of_55k[
        (of_55k["method"] != "topk") | ~of_55k["lr"].between(HIGH, 2 * HIGH)
    ]
    asked = {
        "27k, as drawn": of_27k,
        "27k, with the high rates": with_more,
        "55k, as drawn": of_55k,
    }
    for said, rows in (asked | {"55k, without them": without}).items():
        effects = headline(fronts.effects(rows, names.tuned, names.fronts))
        for row in effects[effects["score"].isin(ENDPOINTS)].itertuples():
            print(f"{said}: {row.score} {row.method} {row.effect:+.3f}")


if __name__ == "__main__":
    main()
