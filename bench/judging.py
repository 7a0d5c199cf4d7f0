"""How many raters find a difference between methods: `python bench/judging.py`.

Raters are simulated. A latent's chance of a right answer is drawn around its method's
mean, and a rater is better or worse at all of them. Each rater is asked about ten
latents of each method, out of the pool that a site has, as the view *Judge* draws them.
The answers are read as `python -m sae judged` reads them. A row says, for so many
raters and a true difference, how often a method is called better or worse (its power;
at no difference its size), how often the interval holds the truth, and how wide it is.
"""

import argparse

import numpy as np
import pandas as pd

from sae.comparison import ratings
from sae.comparison.verdicts import is_shown
from sae.report.site.trials import POOL

ASKED = 10  # latents of a method that a rater is asked about
RATERS = (3, 5, 10, 20, 40, 80, 160)
DIFFERENCES = (0.0, 0.05, 0.1)


# Detection, the same question to another backbone, has a mean of .69 to .84 and a
# standard deviation of .06 to .10 over the demo's latents. People are taken to be as
# good, and a little less alike.
BASELINE = 0.75  # the mean chance of a right answer on the baseline's latents
BETWEEN_LATENTS = 0.1  # standard deviation of that chance between latents
BETWEEN_RATERS = 0.05  # and between raters


def simulate(rng: np.random.Generator, raters: int, difference: float) -> pd.DataFrame:
    """Return simulated answers to trials of a baseline and one method."""
    rows = []
    skill = rng.normal(0, BETWEEN_RATERS, raters)
    means = {"topk": BASELINE, "reg1": BASELINE + difference}
    for method, mean in means.items():
        chance = rng.normal(mean, BETWEEN_LATENTS, POOL)
        for rater in range(raters):
            for latent in rng.choice(POOL, ASKED, replace=False):
                probability = np.clip(chance[latent] + skill[rater], 0, 1)
                rows.append((rater, method, latent, rng.random() < probability))
    answers = pd.DataFrame(rows, columns=["rater", "method", "latent", "correct"])
    return answers.assign(
        correct=answers["correct"].astype(float), dataset="d", backbone="b", k=8
    )


def rates(raters: int, difference: float, runs: int) -> dict[str, float]:
    """Return how the rule reads so many simulated studies."""
    shown = np.zeros(runs)
    covered = np.zeros(runs)
    widths = np.zeros(runs)
    for run in range(runs):
        rng = np.random.default_rng([raters, int(1000 * difference), run])
        answers = simulate(rng, raters, difference)
        table = ratings.shares_right(answers, ["topk", "reg1"])
        row = table.iloc[1]
        shown[run] = is_shown(row["outcome"])
        covered[run] = row["difference_low"] <= difference <= row["difference_high"]
        widths[run] = row["difference_high"] - row["difference_low"]
    return {
        "called better or worse": shown.mean(),
        "interval holds the truth": covered.mean(),
        "half width": widths.mean() / 2,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="studies a row")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    arguments = parser.parse_args()
    runs = 2 if arguments.tiny else arguments.runs
    rows = []
    for difference in DIFFERENCES:
        for raters in RATERS[:2] if arguments.tiny else RATERS:
            reading = rates(raters, difference, runs)
            rows.append({"raters": raters, "true difference": difference, **reading})
    print(pd.DataFrame(rows).round(3).to_markdown(index=False))


if __name__ == "__main__":
    main()
