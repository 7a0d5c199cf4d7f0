"""What the mask does: `python bench/mask.py docs/results/fair`.

The same trials and seeds of protocol fair, with the penalty on all latents minus with it
on those that are active in the batch. MS is that without near-duplicates; `dead` is on
test images. Intervals are over (dataset, family of backbones) blocks.
"""

import argparse
from pathlib import Path

import pandas as pd
from _comparison import over_blocks, read

from sae.scoring.rows import CELL

SCORES = ["detection_alive", "ms_mean_alive", "dead", "r2"]


def main() -> None:
    """Print the mean, half of its 95 % interval, and the cells above and below 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, help="folder of a run that ablates the mask"
    )
    experiment = read(parser.parse_args().results)
    metrics = experiment.metrics
    rows = metrics[metrics["split"] == "test"]
    lines = []
    for method in ("reg1", "reg2"):
        masked, bare = (
            rows[rows["method"] == name].set_index([*CELL, "trial", "seed"])[SCORES]
            for name in (method, f"{method}_all")
        )
        cells = (bare - masked).dropna().groupby(CELL).mean()
        for score, values in cells.items():
            mean, half, _ = over_blocks(values, experiment.names)
            above, below = int((values > 0).sum()), int((values < 0).sum())
            lines.append([method, score, mean, half, above, below])
    columns = ["method", "score", "without the mask", "half", "up", "down"]
    print(pd.DataFrame(lines, columns=columns).round(4).to_string())


if __name__ == "__main__":
    main()
