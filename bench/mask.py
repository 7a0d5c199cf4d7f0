"""What the mask does: `python bench/mask.py docs/results/fair`.

The same trials and seeds of protocol fair, with the penalty on all latents minus with it on those that are active in
the batch. MS is that without near-duplicates; `dead` is on test images. Intervals over (dataset, backbone) blocks.
"""

import argparse
from pathlib import Path

import pandas as pd

from sae.comparison.intervals import BLOCK, student
from sae.comparison.scores import across_groups
from sae.core import files
from sae.scoring.rows import CELL

SCORES = ["ms_mean_alive", "detection_alive", "dead", "r2"]


def main() -> None:
    """Print the mean, half of its 95 % interval, and in how many cells it is above and below 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results",
        type=Path,
        help="folder with metrics.parquet, of a run that ablates the mask",
    )
    metrics = across_groups(
        files.read_parquet(parser.parse_args().results / "metrics.parquet")
    )
    rows, found = (
        metrics[(metrics["split"] == "test") & (metrics["protocol"] == "fair")],
        [],
    )
    for method in ("reg1", "reg2"):
        both = (rows[rows["method"] == name] for name in (method, f"{method}_all"))
        masked, bare = (of.set_index([*CELL, "trial", "seed"])[SCORES] for of in both)
        cells = (bare - masked).dropna().groupby(CELL).mean()
        for score, of in cells.items():
            mean, half, _ = student(of.groupby(BLOCK).mean().to_numpy())
            found.append(
                [method, score, mean, half, int((of > 0).sum()), int((of < 0).sum())]
            )
    columns = ["method", "score", "without the mask", "half", "up", "down"]
    print(pd.DataFrame(found, columns=columns).round(4).to_string())


if __name__ == "__main__":
    main()
