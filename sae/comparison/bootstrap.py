"""The interval of a mean over an experiment's cells."""

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # Student's t; scipy.stats takes a second to import.

from sae.config.rule import Rule


def interval(values: pd.Series, rule: Rule) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over cells.

    Args:
        values: indexed by (dataset, backbone, k, seed).

    Blocks (dataset, backbone) are drawn with replacement; in each drawn block, so are its seeds. With one seed the
    interval speaks of blocks only.
    """
    frame = values.rename("value").reset_index()
    block = frame.groupby(["dataset", "backbone"], sort=False).ngroup()
    totals = frame.groupby([block, "seed"], sort=True)["value"].agg(["sum", "count"])
    per_block = [rows.to_numpy(dtype=float) for _, rows in totals.groupby(level=0)]
    rng = np.random.default_rng(rule.bootstrap_seed)
    drawn = rng.integers(len(per_block), size=(rule.resamples, len(per_block)))
    sums = np.zeros((rule.resamples, 2))
    for number, rows in enumerate(per_block):
        # Each of the times this block was drawn, draw as many seeds as it has.
        times = (drawn == number).sum(axis=1)
        for time in range(times.max(initial=0)):
            seeds = rng.integers(len(rows), size=(rule.resamples, len(rows)))
            sums += rows[seeds].sum(axis=1) * (times > time)[:, None]
    means = sums[:, 0] / sums[:, 1]
    tail = (1 - rule.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def wider_interval(values: pd.Series, rule: Rule) -> tuple[float, float]:
    """The lower of two lower ends and the higher of two higher ones: :func:`interval`, and Student's t of block means.

    With few blocks the bootstrap is too narrow. With one block there is no t: both ends are then infinite.
    """
    low, high = interval(values, rule)
    means = values.groupby(["dataset", "backbone"]).mean()
    if len(means) < 2:
        return float("-inf"), float("inf")
    half = float(
        stdtrit(len(means) - 1, (1 + rule.confidence) / 2)
        * means.std(ddof=1)
        / np.sqrt(len(means))
    )
    return min(low, float(means.mean() - half)), max(high, float(means.mean() + half))
