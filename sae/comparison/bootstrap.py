"""Bootstrap intervals of a mean over an experiment's cells."""

import numpy as np
import pandas as pd

from sae.comparison.intervals import BACKBONE, student
from sae.config.rule import ClaimRule


def interval(values: pd.Series, rule: ClaimRule) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over cells.

    Blocks (dataset, backbone) are drawn with replacement; in each drawn block, so are
    its seeds. With one seed the interval speaks of blocks only.

    Args:
        values: Indexed by (dataset, backbone, k, seed).
        rule: How many resamples are drawn, and the interval's coverage.

    Returns:
        The lower and the upper end.
    """
    rows = values.rename("value").reset_index()
    block = rows.groupby(BACKBONE, sort=False).ngroup()
    totals = rows.groupby([block, "seed"], sort=True)["value"].agg(["sum", "count"])
    # Of each block (seeds, 2): the sum of its values, and how many there are.
    seed_totals = [
        of_block.to_numpy(dtype=float) for _, of_block in totals.groupby(level=0)
    ]

    rng = np.random.default_rng(rule.bootstrap_seed)
    block_count = len(seed_totals)
    drawn_blocks = rng.integers(block_count, size=(rule.resamples, block_count))
    resampled = np.zeros((rule.resamples, 2))  # sum and count of each resample
    for number, of_block in enumerate(seed_totals):
        # Each of the times that this block was drawn, draw as many seeds as it has.
        times_drawn = (drawn_blocks == number).sum(axis=1)
        seed_count = len(of_block)
        for repeat in range(times_drawn.max(initial=0)):
            seeds = rng.integers(seed_count, size=(rule.resamples, seed_count))
            is_drawn = (times_drawn > repeat)[:, None]
            resampled += of_block[seeds].sum(axis=1) * is_drawn

    means = resampled[:, 0] / resampled[:, 1]
    tail = (1 - rule.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def wider_interval(values: pd.Series, rule: ClaimRule) -> tuple[float, float]:
    """Return the union of two intervals: :func:`interval`, and Student's t of blocks.

    With few blocks the bootstrap is too narrow. With one block there is no t: both ends
    are then infinite.

    Args:
        values: Indexed by (dataset, backbone, k, seed).
        rule: The number of resamples, and the coverage of both intervals.

    Returns:
        The lower of the two lower ends, and the higher of the two upper ones.
    """
    low, high = interval(values, rule)
    block_means = values.groupby(BACKBONE).mean()
    if len(block_means) < 2:
        return float("-inf"), float("inf")
    mean, half_width, _ = student(block_means.to_numpy(), rule.confidence)
    return min(low, mean - half_width), max(high, mean + half_width)
