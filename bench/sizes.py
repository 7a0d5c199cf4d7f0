"""Effects at the same R^2, by dataset: `python bench/sizes.py docs/results/sizes`.

It is behind the first and the last table of results of docs/results/sizes. The table
between them, by learning rate, is of `fair.py rate`.

Means over fresh seeds, half of Student's 95 % interval over these, p; the baseline's
score there; its highest R^2. Then, with the seed of the tuning, what Top-k's trials of
high rate change: 27,000 images with those of high_rates.csv as well, 55,000 images
without its own.
"""

import argparse
from pathlib import Path

import pandas as pd
from _comparison import read_experiment

from sae.comparison.intervals import student
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import read_metrics

# The learning rate from which on it is high; from twice this on too many latents die.
HIGH = 0.0045


def main() -> None:
    """Print a row for each score, method and dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of experiment sizes")
    run_folder = parser.parse_args().results
    experiment = read_experiment(run_folder, experiment="sizes")
    keys = ["score", "method", "dataset"]
    for key, rows in experiment.effects().groupby(keys, sort=False):
        mean, half, p = student(rows["effect"].to_numpy())
        level = rows["level"].mean()
        best_r2 = rows["best_r2"].mean()
        beside = f"the baseline {level:.3f}, R² {best_r2:.3f}, {rows['status'].iloc[0]}"
        print(*key, f"{mean:+.3f} ± {half:.3f}, p {p:.3f}; {beside}")

    tuning = experiment.tuning
    of_27k, of_55k = (
        tuning[tuning["dataset"] == f"fashion_mnist_{size}"] for size in ("27k", "55k")
    )
    more = read_metrics(run_folder / "high_rates.csv")
    # They count as trials of the tuning, which set these options.
    tuned = " ".join(experiment.names.fronts.tuned)
    more = more.assign(trial=more["method"], method="topk", swept=tuned)
    is_high = of_55k["lr"].between(HIGH, 2 * HIGH)
    trials_by_title = {
        "27k, as drawn": of_27k,
        "27k, with the high rates": pd.concat([of_27k, more]),
        "55k, as drawn": of_55k,
        "55k, without them": of_55k[(of_55k["method"] != "topk") | ~is_high],
    }
    for title, trials in trials_by_title.items():
        effects = experiment.effects(trials)
        for row in effects[effects["score"].isin(ENDPOINTS)].itertuples():
            print(f"{title}: {row.score} {row.method} {row.effect:+.3f}")


if __name__ == "__main__":
    main()
