"""What a penalty adds to the same trial, by its learning rate: `python bench/rate.py docs/results/fair`.

Trials of protocol fair that differ from the baseline's in the penalty alone: the common points of each cell, with one
lambda. On test, with the seed of the tuning, where 90 % of the baseline's latents fire; MS without near-duplicates.
Last, over Top-k's own trials of a cell, the rank correlation of rate and MS.
"""

import argparse
from pathlib import Path

import pandas as pd

from sae.comparison.scores import across_groups
from sae.core import files
from sae.scoring.rows import CELL

SCORES = ["ms_mean_alive", "detection_alive", "r2"]
POINT = [*CELL, "lr", "encoder_scale", "auxk_alpha", "steps"]
BANDS = [0, 0.0008, 0.0016, 0.004, 1]


def main() -> None:
    """Print the means, by dataset and over all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results",
        type=Path,
        help="folder with metrics.parquet of a run of protocol fair",
    )
    metrics = across_groups(
        files.read_parquet(parser.parse_args().results / "metrics.parquet")
    )
    rows = metrics.query(
        "split == 'test' and protocol == 'fair' and seed == 0 and steps.notna()"
    )
    base = rows[
        (rows["method"] == "topk") & (rows["dead_train"] <= 0.1 * rows["m"])
    ].drop_duplicates(POINT)
    both = rows[rows["method"].isin(["reg1", "reg2"])].merge(
        base[[*POINT, *SCORES]], on=POINT, suffixes=("", " of Top-k")
    )
    # The trials at the common points have one lambda in a cell, the others each their own.
    common = both.groupby([*CELL, "method"])["lambda"].transform(
        lambda of: of.mode().iloc[0]
    )
    both = both[both["lambda"] == common]
    gains = pd.DataFrame(
        {score: both[score] - both[f"{score} of Top-k"] for score in SCORES}
    )
    gains = gains.assign(**both[["dataset", "method", "ms_mean_alive of Top-k"]])
    gains["rate up to"] = pd.cut(
        both["lr"], BANDS, labels=[f"{rate:g}" for rate in BANDS[1:]]
    )
    for by in (["dataset", "rate up to", "method"], ["rate up to", "method"]):
        means = gains.groupby(by, sort=False, observed=True).mean(numeric_only=True)
        print(
            means.assign(trials=gains.groupby(by, observed=True).size())
            .sort_index()
            .round(3)
            .to_string(),
            "\n",
        )
    for cell, of in base.groupby(CELL):
        print(*cell, f"{of['lr'].corr(of['ms_mean_alive'], method='spearman'):+.2f}")


if __name__ == "__main__":
    main()
