"""How sure a mean over cells is, and what may be said of it.

Two different questions have two intervals. Over (dataset, backbone) blocks: would other data and backbones say the
same? Over fresh seeds with the cells fixed: would other seeds? Verdicts are by the first: *shown* (higher or lower)
where p < .05 after Holm's correction (1979) over methods and endpoints; else *equivalent* where the 95 % interval lies
within `NEGLIGIBLE`; else *undecided*.
"""

import numpy as np
import pandas as pd
from scipy.special import (
    stdtr,
    stdtrit,
)  # Student's t; scipy.stats takes a second to import.

from sae.comparison.scores import ENDPOINTS
from sae.scoring.rows import CELL

BLOCK = ["dataset", "backbone"]
NEGLIGIBLE = 0.01
MIN_BLOCKS = 3
READ_OFF = [
    "level",
    "shortfall",
    "gain",
    "r2_difference",
]  # beside the effect, as means over cells
MEANS = [
    "method",
    "score",
    "width",
    "cells",
    "infeasible",
    "effect",
    "low",
    "high",
    "p",
    "p_holm",
    "outcome",
    "up",
]
MEANS += ["low_seeds", "high_seeds", *READ_OFF, "at_lower_r2"]


def student(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, half the width of its 95 % interval, and p against 0, by Student's t; NaN of fewer than two values."""
    count, mean = len(values), float(np.mean(values)) if len(values) else np.nan
    if count < 2:
        return mean, np.nan, np.nan
    error = float(np.std(values, ddof=1)) / count**0.5
    if error == 0:
        return mean, 0.0, float(mean == 0)
    return (
        mean,
        float(stdtrit(count - 1, 0.975)) * error,
        float(2 * stdtr(count - 1, -abs(mean) / error)),
    )


def holm(p: pd.Series) -> pd.Series:
    """Holm's corrected p values; those that are NaN take no part."""
    known = p.dropna().sort_values(kind="stable")
    corrected = np.maximum.accumulate(
        (len(known) - np.arange(len(known))) * known.to_numpy()
    )
    return pd.Series(np.minimum(corrected, 1.0), known.index).reindex(p.index)


def means(effects: pd.DataFrame) -> pd.DataFrame:
    """The mean effect of every method, score and width, with intervals: over a block's cells, then over blocks.

    Args:
        effects: of :func:`sae.comparison.fronts.effects`, a row per cell, method, score, width and seed.

    Returns:
        Columns `MEANS`. `low`, `high`, `p`: over blocks; `low_seeds`, `high_seeds`: over fresh seeds, cells fixed.
        `infeasible`: cells that are not in the mean: no feasible trial, all seeds diverged, or fresh seeds missing.
        `outcome`, of endpoints alone: shown higher, shown lower, the same with ', small'; equivalent; undecided; not
        tested with fewer than `MIN_BLOCKS` blocks. `at_lower_r2`: whether the method reaches, on average, more than a
        width less R^2 than the baseline.
    """
    rows = []
    for (method, score, width), of in effects.groupby(
        ["method", "score", "width"], sort=False
    ):
        found = of[of["status"] == "ok"]
        cells = found.groupby(CELL, sort=False)[["effect", *READ_OFF]].mean()
        mean, half, p = student(cells["effect"].groupby(BLOCK).mean().to_numpy())
        # Of seeds that every cell has: else a seed would differ from another by its cells.
        fresh = found[found["fresh"].fillna(False).astype(bool)]
        by_seed = fresh.pivot_table(index=CELL, columns="seed", values="effect")
        middle, half_seeds, _ = student(
            by_seed.dropna(axis="columns").mean().to_numpy()
        )
        blocks = cells.groupby(BLOCK).ngroups
        row = {
            "method": method,
            "score": score,
            "width": width,
            "cells": len(cells),
            "p": p,
            "blocks": blocks,
        }
        row |= {
            "infeasible": of.loc[of["status"] != "ok", CELL].drop_duplicates().shape[0]
        }
        row |= {"effect": mean, "low": mean - half, "high": mean + half}
        row |= {
            "low_seeds": middle - half_seeds,
            "high_seeds": middle + half_seeds,
            "up": (cells["effect"] > 0).sum(),
        }
        row |= {name: cells[name].mean() for name in READ_OFF}
        rows.append(row | {"at_lower_r2": bool(row["shortfall"] > width)})
    table = pd.DataFrame(rows, columns=[*MEANS, "blocks"])
    tested = table[table["score"].isin(ENDPOINTS) & (table["blocks"] >= MIN_BLOCKS)]
    for _, of_width in tested.groupby("width"):
        table.loc[of_width.index, "p_holm"] = holm(of_width["p"].astype(float))
    table["outcome"] = [_outcome(row) for row in table.to_dict("records")]
    return table[MEANS]


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first width: of what :func:`means` returned, of effects, or of a selection."""
    return table[table["width"] == table["width"].iloc[0]] if len(table) else table


def _outcome(row: dict) -> str | None:
    if row["score"] not in ENDPOINTS:
        return None
    if row["blocks"] < MIN_BLOCKS:
        return "not tested"
    if row["p_holm"] < 0.05:
        small = ", small" if abs(row["effect"]) <= NEGLIGIBLE else ""
        return f"shown {'higher' if row['effect'] > 0 else 'lower'}{small}"
    return (
        "equivalent"
        if row["low"] > -NEGLIGIBLE and row["high"] < NEGLIGIBLE
        else "undecided"
    )
