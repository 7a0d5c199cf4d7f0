"""What may be said of each effect: its mean over blocks, its intervals, and a word.

Blocks are (dataset, family of backbones). Detection is tested first, with Holm's
correction over methods; then MS, over the methods whose detection was shown. The words:

- *higher in these cells*, *lower in these cells*: p is below the level after the
  correction, the mean of every dataset has the effect's sign, and so have the two other
  readings: equal R^2 on test, and matched pairs, where there are any;
- *equivalent*: the interval lies within `NEGLIGIBLE` of 0, uncorrected;
- *undecided*: neither, or the readings disagree in sign;
- *too few blocks*, *out of reach* (in a quarter of the cells or more), *not tested* (MS
  of a method whose detection is not shown): no word.

"In these cells" speaks of other families of backbones on these datasets. With two or
three datasets nothing can be said of others: `bench/power.py` shows how often the rule
would err there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sae.comparison.intervals import (
    BACKBONE,
    Rule,
    holm,
    smallest_found,
    student,
)
from sae.comparison.readings import Readings
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL

KEYS = ["method", "score", "width"]
BLOCK = ["dataset", "family"]
BESIDE = ["level", "shortfall", "gain", "r2_difference"]  # averaged beside the effect
NEGLIGIBLE = 0.01
MOST_OUT_OF_REACH = 0.25  # of the cells: from this share on there is no word
HIGHER = "higher in these cells"
LOWER = "lower in these cells"
SMALL = ", small"  # of a shown effect within `NEGLIGIBLE` of 0
EQUIVALENT = "equivalent"
UNDECIDED = "undecided"
TOO_FEW = "too few blocks"
OUT_OF_REACH = "out of reach"
NOT_TESTED = "not tested"
COLUMNS = [
    *("method", "score", "front", "width", "cells", "blocks", "infeasible"),
    *("out_of_reach", "effect", "low", "high", "p", "p_holm", "outcome", "smallest"),
    *("effect_by_cell", "low_backbones", "high_backbones", "low_seeds", "high_seeds"),
    *("same_sign", "equal_r2", "equal_r2_low", "equal_r2_high", "equal_r2_cells"),
    *("pairs", "pairs_low", "pairs_high", "pairs_cells", "kappa"),
    *("up", "level", "shortfall"),
    *("gain", "r2_difference", "at_lower_r2"),
]


def is_shown(outcome: Any) -> bool:
    """Say whether an outcome is that a method is higher, or lower."""
    return isinstance(outcome, str) and outcome.startswith((HIGHER, LOWER))


def means(readings: Readings, families: Mapping[str, str], rule: Rule) -> pd.DataFrame:
    """Average every method's effects over blocks, with intervals and an outcome.

    Args:
        readings: Of `sae.comparison.readings.read`.
        families: {backbone: its family}.
        rule: How wide intervals are.

    Returns:
        A row for each method, score and width. `effect`, `low`, `high`, `p`: over blocks;
        `effect_by_cell`: the mean over cells; `low_backbones`: over (dataset, backbone);
        `low_seeds`: over fresh seeds, the cells fixed. `infeasible`: cells without a
        comparison; `out_of_reach`: cells in which the method ends too far below the
        floor; both are in no mean. `at_lower_r2`: cells in which it ends below the floor.
        `up`: cells above 0. `level`: the baseline, mean over cells. `smallest`: the effect
        that is found with a power of .8 at the strictest step of Holm's correction.
        `same_sign`: whether the means of all datasets have the effect's sign. `equal_r2`,
        `pairs`: the other readings, means over blocks, of so many `..._cells`; `kappa`: the price of R^2 in
        pairs. `outcome` is None of scores that judge no method.
    """
    compared = readings.fronts[readings.fronts["status"] == "ok"]
    cells = _cell_means(compared, families)
    cells_by_key = _by_key(cells)
    seeds_by_key = _by_key(compared[compared["fresh"].astype(bool)])
    equal_r2 = _by_key(_cell_means(readings.equal_r2, families))
    pairs = _by_key(readings.pairs.assign(family=_family(readings.pairs, families)), 2)
    rows = []
    blocks = []
    for key, effects in _by_key(readings.fronts).items():
        of_key = cells_by_key.get(key, cells[:0])
        blocks.append(of_key.groupby(BLOCK, sort=False)["effect"].mean())
        rows.append(
            dict(zip(KEYS, key, strict=True))
            | _counts(effects)
            | _mean(of_key, blocks[-1], rule)
            | _over_seeds(seeds_by_key.get(key), rule)
            | _other_reading("equal_r2", equal_r2.get(key), rule)
            | _other_reading("pairs", pairs.get(key[:2]), rule)
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["outcome"] = table["outcome"].astype(object)
    for width in dict.fromkeys(table["width"]):
        _judge(table, table["width"] == width, blocks, rule)
    return table


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first width: of means, effects, or a selection."""
    if table.empty:
        return table
    return table[table["width"] == table["width"].iloc[0]]


def by_dataset(effects: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Return each dataset's mean over its blocks, of every method and score.

    Args:
        effects: Of `sae.comparison.fronts.effects`, or its means over seeds.
        families: {backbone: its family}.

    Returns:
        Columns method, score, width, dataset, effect.
    """
    cells = _cell_means(effects[effects["status"] == "ok"], families)
    blocks = cells.groupby([*KEYS, *BLOCK], sort=False)["effect"].mean()
    datasets = blocks.groupby([*KEYS, "dataset"], sort=False).mean()
    return datasets.reset_index()


def _family(rows: pd.DataFrame, families: Mapping[str, str]) -> pd.Series:
    """Return the family of each row's backbone; an unknown one is of its own."""
    return rows["backbone"].map(lambda backbone: families.get(backbone, backbone))


def _cell_means(effects: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Average over seeds: a row for each method, score, width and cell."""
    numbers = effects.groupby([*KEYS, *CELL], sort=False)[["effect", *BESIDE]].mean()
    cells = numbers.dropna(subset="effect").reset_index()
    return cells.assign(family=_family(cells, families))


def _by_key(table: pd.DataFrame, length: int = 3) -> dict[Any, pd.DataFrame]:
    """Part a table by method, score and width, or by the first `length` of these."""
    return dict(iter(table.groupby(KEYS[:length], sort=False)))


def _counts(effects: pd.DataFrame) -> dict[str, Any]:
    """Return how many cells there are no effects of, and why, and those at lower R^2."""
    left_out = effects[effects["status"] != "ok"].drop_duplicates(CELL)
    out_of_reach = int((left_out["status"] == "out of reach").sum())
    lower = effects[(effects["status"] == "ok") & effects["below_floor"].astype(bool)]
    return {
        "front": effects["front"].iloc[0],
        "infeasible": len(left_out) - out_of_reach,
        "out_of_reach": out_of_reach,
        "at_lower_r2": len(lower.drop_duplicates(CELL)),
    }


def _mean(cells: pd.DataFrame, blocks: pd.Series, rule: Rule) -> dict[str, Any]:
    """Return the means and intervals of one method, score and width."""
    mean, half, p = student(blocks.to_numpy(), rule.confidence)
    backbones = cells.groupby(BACKBONE)["effect"].mean().to_numpy()
    middle, half_backbones, _ = student(backbones, rule.confidence)
    datasets = blocks.groupby(level="dataset").mean()
    return {
        "cells": len(cells),
        "blocks": len(blocks),
        "effect": mean,
        "low": mean - half,
        "high": mean + half,
        "p": p,
        "effect_by_cell": cells["effect"].mean(),
        "low_backbones": middle - half_backbones,
        "high_backbones": middle + half_backbones,
        "same_sign": bool(len(cells) and (np.sign(datasets) == np.sign(mean)).all()),
        "up": int((cells["effect"] > 0).sum()),
        **cells[BESIDE].mean().to_dict(),
    }


def _over_seeds(effects: pd.DataFrame | None, rule: Rule) -> dict[str, Any]:
    """Return the interval over fresh seeds, the cells fixed."""
    if effects is None:
        return {}
    # Of seeds that every cell has: else a seed would differ from another by its cells.
    by_seed = effects.set_index([*CELL, "seed"])["effect"].unstack("seed")
    means = by_seed.dropna(axis="columns").mean().to_numpy()
    middle, half, _ = student(means, rule.confidence)
    return {"low_seeds": middle - half, "high_seeds": middle + half}


def _other_reading(name: str, cells: pd.DataFrame | None, rule: Rule) -> dict[str, Any]:
    """Return mean and interval of another reading; nothing where there is none."""
    if cells is None:
        return {}
    blocks = cells.groupby(BLOCK)["effect"].mean().to_numpy()
    mean, half, _ = student(blocks, rule.confidence)
    row = {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
    row[f"{name}_cells"] = len(cells)
    if "kappa" in cells:
        row["kappa"] = cells["kappa"].iloc[0]
    return row


def _judge(
    table: pd.DataFrame, of_width: pd.Series, blocks: list[pd.Series], rule: Rule
) -> None:
    """Fill `p_holm`, `outcome` and `smallest` of the endpoints of one width.

    Args:
        table: What :func:`means` returns; it is changed.
        of_width: Which of its rows have the width.
        blocks: The block means of each row.
        rule: The level of the tests.
    """
    passed = set(table["method"])
    for score in ENDPOINTS:
        rows = table[of_width & (table["score"] == score)]
        tested = []
        for row in rows.itertuples():
            word = _no_word(row, rule)
            if word is None and row.method not in passed:
                word = NOT_TESTED
            if word is None:
                tested.append(row.Index)
            else:
                table.loc[row.Index, "outcome"] = word

        # The first step of Holm's correction divides the level by the number of tests.
        table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"].astype(float))
        for row in table.loc[tested].itertuples():
            strictest = rule.level / len(tested)
            sample = blocks[row.Index].to_numpy()
            table.loc[row.Index, "smallest"] = smallest_found(sample, strictest)
            table.loc[row.Index, "outcome"] = _word(row, rule)
        shown = table.loc[tested, "outcome"].map(is_shown).astype(bool)
        passed = set(table.loc[tested, "method"][shown])


def _no_word(row: Any, rule: Rule) -> str | None:
    """Say why an endpoint of a method is not tested, or None if it may be."""
    if not row.cells and not row.out_of_reach:
        return NOT_TESTED
    if row.out_of_reach >= MOST_OUT_OF_REACH * (row.cells + row.out_of_reach):
        return OUT_OF_REACH
    return TOO_FEW if row.blocks < rule.min_blocks else None


def _word(row: Any, rule: Rule) -> str:
    """Return the outcome of an endpoint of a method that is tested."""
    readings = [row.effect, row.equal_r2, row.pairs]
    signs = {np.sign(value) for value in readings if not np.isnan(value)}
    if len(signs) > 1:
        return UNDECIDED
    if row.p_holm < rule.level and row.same_sign:
        word = HIGHER if row.effect > 0 else LOWER
        return word + (SMALL if abs(row.effect) <= NEGLIGIBLE else "")
    within = row.low > -NEGLIGIBLE and row.high < NEGLIGIBLE
    return EQUIVALENT if within else UNDECIDED
