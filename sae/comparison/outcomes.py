"""What may be said of each effect: its mean over blocks, its intervals, its outcome.

Blocks are (dataset, family of backbones). Detection is tested first, with Holm's
correction over methods; then MS, over the methods whose detection was shown. Outcomes:

- *higher in these cells*, *lower in these cells*: p is below the level after the
  correction, the mean of every dataset has the effect's sign, and so have the two other
  readings: equal R^2 on test, and matched pairs, where there are any;
- *equivalent*: the interval lies within `NEGLIGIBLE` of 0, uncorrected;
- *undecided*: neither, or the readings disagree in sign;
- *too few blocks*, *out of reach* (in a quarter of the cells or more), *not tested* (MS
  of a method whose detection is not shown): there was no test.

"In these cells" speaks of other families of backbones on these datasets. With two or
three datasets nothing can be said of others: `bench/power.py` shows how often the rule
would err there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.comparison.intervals import (
    BACKBONE,
    IntervalRule,
    holm,
    smallest_found,
    student,
)
from sae.comparison.readings import Readings
from sae.core import files
from sae.scoring import old_names
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL

KEYS = ["method", "score", "width"]
BLOCK = ["dataset", "family"]
BESIDE = ["level", "shortfall", "gain", "r2_difference"]  # averaged beside the effect
NEGLIGIBLE = 0.01
MOST_OUT_OF_REACH = 0.25  # of the cells: from this share on nothing is tested
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


def means(
    readings: Readings, families: Mapping[str, str], rule: IntervalRule
) -> pd.DataFrame:
    """Average every method's effects over blocks, with intervals and an outcome.

    Args:
        readings: Of `sae.comparison.readings.read`.
        families: {backbone: its family}.
        rule: How wide intervals are.

    Returns:
        A row for each method, score and width, with `COLUMNS`:

        - `cells`, `blocks`: how many have an effect;
        - `infeasible`: cells without a comparison; `out_of_reach`: cells in which the
          method ends too far below the floor; both are in no mean;
        - `effect`, `low`, `high`, `p`: the mean over blocks, its interval and p value;
        - `p_holm`, `outcome`: of endpoints, None of other scores; `smallest`: the
          effect that a test finds with a power of .8 at the strictest step of Holm's
          correction;
        - `effect_by_cell`: the mean over cells; `low_backbones`, `high_backbones`: the
          interval over (dataset, backbone); `low_seeds`, `high_seeds`: that over fresh
          seeds, the cells fixed;
        - `same_sign`: whether the means of all datasets have the effect's sign;
        - `equal_r2`, `pairs`: the other readings, means over blocks, with intervals and
          the number of cells; `kappa`: the price of R^2 in pairs;
        - `up`: cells in which the effect is above 0; `at_lower_r2`: cells in which the
          method ends below the floor;
        - `level`: the baseline's score; `shortfall`, `gain`, `r2_difference`: as
          `sae.comparison.fronts.Effect` has them; all means over cells.
    """
    compared = readings.fronts[readings.fronts["status"] == "ok"]
    cells = _cell_means(compared, families)
    cells_by_key = _by_key(cells)
    seeds_by_key = _by_key(compared[compared["fresh"].astype(bool)])
    equal_r2_by_key = _by_key(_cell_means(readings.equal_r2, families))
    pairs = readings.pairs.assign(family=_family(readings.pairs, families))
    pairs_by_key = _by_key(pairs, 2)  # pairs have no width

    rows = []
    blocks_by_row = []
    for key, effects in _by_key(readings.fronts).items():
        cells_of_key = cells_by_key.get(key, cells[:0])
        blocks = cells_of_key.groupby(BLOCK, sort=False)["effect"].mean()
        blocks_by_row.append(blocks)
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        row.update(_count_cells(effects))
        row.update(_average(cells_of_key, blocks, rule))
        row.update(_interval_over_seeds(seeds_by_key.get(key), rule))
        row.update(_average_reading("equal_r2", equal_r2_by_key.get(key), rule))
        row.update(_average_reading("pairs", pairs_by_key.get(key[:2]), rule))
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)

    table["outcome"] = table["outcome"].astype(object)
    for width in dict.fromkeys(table["width"]):
        _fill_outcomes(table, table["width"] == width, blocks_by_row, rule)
    return table


def read_table(file: Path) -> pd.DataFrame:
    """Read a table of fronts that an experiment has: of means, effects or controls.

    Raises:
        UserError: The file is missing or was altered, or its scores have names of
            before (`sae.scoring.old_names`).
    """
    table = files.read_parquet(file)
    command = f"python bench/reference.py rebuild {file.parent.parent}"
    old_names.refuse(set(table["score"]), file, command)
    return table


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first width: of means, effects, or a selection."""
    if table.empty:
        return table
    return table[table["width"] == table["width"].iloc[0]]


def by_dataset(effects: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Return the mean over blocks of each dataset, for every method and score.

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


def _count_cells(effects: pd.DataFrame) -> dict[str, Any]:
    """Count the cells without an effect, by the reason, and those at a lower R^2."""
    without_effect = effects[effects["status"] != "ok"].drop_duplicates(CELL)
    out_of_reach = int((without_effect["status"] == "out of reach").sum())
    ends_below = effects["below_floor"].astype(bool)
    at_lower_r2 = effects[(effects["status"] == "ok") & ends_below]
    return {
        "front": effects["front"].iloc[0],
        "infeasible": len(without_effect) - out_of_reach,
        "out_of_reach": out_of_reach,
        "at_lower_r2": len(at_lower_r2.drop_duplicates(CELL)),
    }


def _average(
    cells: pd.DataFrame, blocks: pd.Series, rule: IntervalRule
) -> dict[str, Any]:
    """Return the means and intervals of one method, score and width.

    Args:
        cells: Effects by cell, of :func:`_cell_means`.
        blocks: Their means, indexed by `BLOCK`.
        rule: How wide intervals are.
    """
    over_blocks = student(blocks.to_numpy(), rule.confidence)
    mean = over_blocks.mean
    backbones = cells.groupby(BACKBONE)["effect"].mean().to_numpy()
    over_backbones = student(backbones, rule.confidence)
    datasets = blocks.groupby(level="dataset").mean()
    return {
        "cells": len(cells),
        "blocks": len(blocks),
        "effect": mean,
        "low": mean - over_blocks.half_width,
        "high": mean + over_blocks.half_width,
        "p": over_blocks.p,
        "effect_by_cell": cells["effect"].mean(),
        "low_backbones": over_backbones.mean - over_backbones.half_width,
        "high_backbones": over_backbones.mean + over_backbones.half_width,
        "same_sign": bool(len(cells) and (np.sign(datasets) == np.sign(mean)).all()),
        "up": int((cells["effect"] > 0).sum()),
        **cells[BESIDE].mean().to_dict(),
    }


def _interval_over_seeds(
    effects: pd.DataFrame | None, rule: IntervalRule
) -> dict[str, Any]:
    """Return the interval over fresh seeds, the cells fixed; nothing without any."""
    if effects is None:
        return {}
    # Of seeds that every cell has: else a seed would differ from another by its cells.
    by_seed = effects.set_index([*CELL, "seed"])["effect"].unstack("seed")
    seed_means = by_seed.dropna(axis="columns").mean().to_numpy()
    mean, half_width, _ = student(seed_means, rule.confidence)
    return {"low_seeds": mean - half_width, "high_seeds": mean + half_width}


def _average_reading(
    name: str, cells: pd.DataFrame | None, rule: IntervalRule
) -> dict[str, Any]:
    """Return mean and interval of a reading beside the headline; nothing without it.

    Args:
        name: Of the reading, "equal_r2" or "pairs", with which its columns begin.
        cells: Its effects by cell.
        rule: How wide intervals are.
    """
    if cells is None:
        return {}
    blocks = cells.groupby(BLOCK)["effect"].mean().to_numpy()
    mean, half_width, _ = student(blocks, rule.confidence)
    row = {
        name: mean,
        f"{name}_low": mean - half_width,
        f"{name}_high": mean + half_width,
        f"{name}_cells": len(cells),
    }
    if "kappa" in cells:
        row["kappa"] = cells["kappa"].iloc[0]
    return row


def _fill_outcomes(
    table: pd.DataFrame,
    has_width: pd.Series,
    blocks_by_row: list[pd.Series],
    rule: IntervalRule,
) -> None:
    """Fill `p_holm`, `outcome` and `smallest` of the endpoints of one width.

    Args:
        table: What :func:`means` returns; it is changed.
        has_width: Which of its rows have the width.
        blocks_by_row: The block means of each row.
        rule: The level of the tests.
    """
    methods_to_test = set(table["method"])
    for score in ENDPOINTS:
        rows = table[has_width & (table["score"] == score)]
        tested = []
        for row in rows.itertuples():
            reason = _reason_not_to_test(row, rule)
            if reason is None and row.method not in methods_to_test:
                reason = NOT_TESTED
            if reason is None:
                tested.append(row.Index)
            else:
                table.loc[row.Index, "outcome"] = reason

        # The first step of Holm's correction divides the level by the number of tests.
        table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"].astype(float))
        for row in table.loc[tested].itertuples():
            strictest = rule.level / len(tested)
            sample = blocks_by_row[row.Index].to_numpy()
            table.loc[row.Index, "smallest"] = smallest_found(sample, strictest)
            table.loc[row.Index, "outcome"] = _outcome_of_test(row, rule)

        # The next endpoint is tested of the methods that were shown in this one.
        shown = table.loc[tested, "outcome"].map(is_shown).astype(bool)
        methods_to_test = set(table.loc[tested, "method"][shown])


def _reason_not_to_test(row: Any, rule: IntervalRule) -> str | None:
    """Say why an endpoint of a method is not tested, or None if it may be.

    Args:
        row: Of the table that :func:`means` returns.
        rule: How many blocks a test needs.
    """
    if not row.cells and not row.out_of_reach:
        return NOT_TESTED
    if row.out_of_reach >= MOST_OUT_OF_REACH * (row.cells + row.out_of_reach):
        return OUT_OF_REACH
    if row.blocks < rule.min_blocks:
        return TOO_FEW
    return None


def _outcome_of_test(row: Any, rule: IntervalRule) -> str:
    """Return the outcome of an endpoint of a method that is tested.

    Args:
        row: Of the table that :func:`means` returns, with `p_holm`.
        rule: The level of the test.
    """
    readings = [row.effect, row.equal_r2, row.pairs]
    signs = {np.sign(value) for value in readings if not np.isnan(value)}
    if len(signs) > 1:
        return UNDECIDED
    if row.p_holm < rule.level and row.same_sign:
        direction = HIGHER if row.effect > 0 else LOWER
        is_small = abs(row.effect) <= NEGLIGIBLE
        return direction + SMALL if is_small else direction
    is_negligible = row.low > -NEGLIGIBLE and row.high < NEGLIGIBLE
    return EQUIVALENT if is_negligible else UNDECIDED
