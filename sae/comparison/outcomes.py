"""What may be said of each effect: its mean over blocks, its intervals, its outcome.

Blocks are (dataset, family of backbones); from `DATASETS_AS_BLOCKS` datasets on they
are datasets, each a mean over its families. Datasets of the same pictures count as one
there, and where signs are compared. Both endpoints are tested, with one
correction by Holm over methods and endpoints. Outcomes:

- *better*, *worse*: p is below the level after the correction, and the mean of every
  dataset has the effect's sign;
- *equivalent within .01*: the interval of two one-sided tests, of 90 % at a level of
  .05, lies within `NEGLIGIBLE` of 0; each effect for itself, uncorrected;
- *better, by less than .01*, or *worse*: both at once;
- *inconclusive*: neither;
- *not comparable*: out of reach in a quarter of the cells or more, fewer blocks than a
  test needs, or no cell with an effect.

Column `reason` says why an effect is not comparable, or is inconclusive although its
interval leaves out 0. With fewer datasets than `DATASETS_AS_BLOCKS` an outcome speaks
of other families of backbones on these datasets, not of other datasets:
`bench/power.py` shows how often the rule would err there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.comparison import fronts, pairs
from sae.comparison.intervals import (
    BACKBONE,
    IntervalRule,
    holm,
    smallest_found,
    student,
)
from sae.core import files
from sae.scoring import old_names
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL

KEYS = ["method", "score", "width"]
BLOCK = ["dataset", "family"]
BESIDE = ["level", "shortfall", "gain", "r2_difference"]  # averaged beside the effect
# About a tenth of what Top-k has beyond an untrained SAE in detection.
NEGLIGIBLE = 0.01
MOST_OUT_OF_REACH = 0.25  # of the cells: from this share on nothing is tested
DATASETS_AS_BLOCKS = 6  # from so many datasets on a block is a dataset
# Column `unit`: what a block is.
DATASET = "dataset"
DATASET_AND_FAMILY = "dataset and family"

# Column `outcome`.
BETTER = "better"
WORSE = "worse"
BY_LESS = ", by less than"  # of both, with the margin behind it
EQUIVALENT = "equivalent within"  # with the margin behind it
INCONCLUSIVE = "inconclusive"
NOT_COMPARABLE = "not comparable"
# Column `reason`: of what is not comparable,
OUT_OF_REACH = "out of reach"
TOO_FEW = "too few blocks"
REASONS = {  # by the status of cells; of cells without an effect the most frequent one
    "infeasible": "no feasible trial",
    "baseline infeasible": "no feasible trial of its baseline",
    "seeds missing": "fresh seeds missing",
    "diverged": "all seeds diverged",
    "not measured": "not measured",
}
# and of what is inconclusive although its interval leaves out 0.
BEFORE_HOLM = "before Holm's correction"
SIGNS_DIFFER = "datasets differ in sign"

COLUMNS = [
    *("method", "score", "front", "width", "cells", "datasets", "blocks"),
    *("unit", "infeasible", "out_of_reach"),
    *("effect", "low", "high", "low_one_sided", "high_one_sided"),
    *("p", "p_holm", "outcome", "reason", "smallest"),
    *("effect_by_cell", "low_backbones", "high_backbones", "low_seeds", "high_seeds"),
    *("same_sign", "equal_r2", "equal_r2_low", "equal_r2_high", "equal_r2_cells"),
    *("pairs", "pairs_low", "pairs_high", "pairs_cells", "pairs_r2"),
    *("up", "level", "shortfall"),
    *("gain", "r2_difference", "at_lower_r2"),
]


def is_shown(outcome: Any) -> bool:
    """Say whether an outcome is that a method is better, or worse."""
    return isinstance(outcome, str) and outcome.startswith((BETTER, WORSE))


def word(
    effect: float, *, differs: bool, is_small: bool, margin: float = NEGLIGIBLE
) -> str:
    """Return the word for an effect that was tested.

    Args:
        effect: Signed so that more is better.
        differs: Whether a test says that it is not 0.
        is_small: Whether a test says that it lies within the margin.
        margin: Within which an effect counts as none.
    """
    margin_text = f"{margin:g}".removeprefix("0")
    if differs:
        direction = BETTER if effect > 0 else WORSE
        return f"{direction}{BY_LESS} {margin_text}" if is_small else direction
    return f"{EQUIVALENT} {margin_text}" if is_small else INCONCLUSIVE


class Readings(NamedTuple):
    """What methods have beside their baselines, by three readings: tables of effects.

    Fronts at the weights of validation are the headline. The other two stand beside
    them and decide nothing.

    Attributes:
        fronts: Of :func:`sae.comparison.fronts.effects`, by the weights of validation.
        equal_r2: Of that function at equal R^2 on test; endpoints alone.
        pairs: Of :func:`sae.comparison.pairs.effects`, matched pairs of trials.
    """

    fronts: pd.DataFrame
    equal_r2: pd.DataFrame
    pairs: pd.DataFrame


def readings_of(
    metrics: pd.DataFrame, against: Mapping[str, str | None], rule: fronts.FrontRule
) -> Readings:
    """Read what every method has beside its baseline, in each cell.

    Args:
        metrics: Tidy metrics of an experiment, MS across groups; SAEs of other
            protocols than the rule's are left out.
        against: {method: the method that it is compared with, or None of a baseline}.
        rule: What is feasible, and where fronts are read.
    """
    metrics = fronts.of_protocol(metrics, rule)
    equal_r2 = fronts.effects(metrics, against, rule, equal_test_r2=True)
    return Readings(
        fronts=fronts.effects(metrics, against, rule),
        equal_r2=equal_r2[equal_r2["score"].isin(ENDPOINTS)],
        pairs=pairs.effects(metrics, against, rule),
    )


def means(
    readings: Readings,
    families: Mapping[str, str],
    rule: IntervalRule,
    pictures: Mapping[str, str] = {},
) -> pd.DataFrame:
    """Average every method's effects over blocks, with intervals and an outcome.

    Args:
        readings: Of :func:`readings_of`.
        families: {backbone: its family}.
        rule: How wide intervals are.
        pictures: {dataset: a name of its pictures}; its own is that of others.

    Returns:
        A row for each method, score and width, with `COLUMNS`:

        - `cells`, `datasets`, `blocks`: how many have an effect;
        - `infeasible`: cells without a comparison; `out_of_reach`: cells in which the
          method ends too far below the floor; both are in no mean;
        - `unit`: what a block is, `DATASET` or `DATASET_AND_FAMILY`;
        - `effect`, `low`, `high`, `p`: the mean over blocks, its interval and p value;
          `low_one_sided`, `high_one_sided`: the interval of two one-sided tests;
        - `p_holm`, `outcome`: of endpoints, None of other scores; `reason`: why there is
          no effect, or no clear outcome; `smallest`: the effect that a test finds with
          a power of .8 at the strictest step of Holm's correction;
        - `effect_by_cell`: the mean over cells; `low_backbones`, `high_backbones`: the
          interval over (dataset, backbone); `low_seeds`, `high_seeds`: that over fresh
          seeds, the cells fixed;
        - `same_sign`: whether the means of all datasets have the effect's sign;
        - `equal_r2`, `pairs`: the other readings, means over blocks, with intervals and
          the number of cells, which decide nothing; `pairs_r2`: the difference in R^2
          of pairs;
        - `up`: cells in which the effect is above 0; `at_lower_r2`: cells in which the
          method ends below the floor;
        - `level`: the baseline's score; `shortfall`, `gain`, `r2_difference`: as
          `sae.comparison.fronts.Effect` has them; all means over cells.
    """
    compared = readings.fronts[readings.fronts["status"] == "ok"]
    enough_datasets = _pictures(compared, pictures).nunique() >= DATASETS_AS_BLOCKS
    unit = DATASET if enough_datasets else DATASET_AND_FAMILY
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
        blocks = _block_means(cells_of_key, unit, pictures)
        blocks_by_row.append(blocks)
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        row["unit"] = unit
        row.update(_count_cells(effects))
        row.update(_average(cells_of_key, blocks, rule))
        row.update(_interval_over_seeds(seeds_by_key.get(key), rule))
        if key in equal_r2_by_key:
            blocks = _block_means(equal_r2_by_key[key], unit, pictures)
            row.update(_average_reading("equal_r2", blocks, rule))
            row["equal_r2_cells"] = len(equal_r2_by_key[key])
        if key[:2] in pairs_by_key:
            cells_of_pairs = pairs_by_key[key[:2]]
            blocks = _block_means(cells_of_pairs, unit, pictures)
            row.update(_average_reading("pairs", blocks, rule))
            row["pairs_cells"] = len(cells_of_pairs)
            prices = _block_means(cells_of_pairs, unit, pictures, "r2_difference")
            row["pairs_r2"] = prices.mean()
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)

    for name in ("outcome", "reason"):
        table[name] = table[name].astype(object)
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
    old_names.refuse(set(table["score"]), file, file.parent.parent.name)
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
    return rows["backbone"].map(lambda backbone: families.get(backbone, backbone))


def _cell_means(effects: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Average over seeds: a row for each method, score, width and cell."""
    numbers = effects.groupby([*KEYS, *CELL], sort=False)[["effect", *BESIDE]].mean()
    cells = numbers.dropna(subset="effect").reset_index()
    return cells.assign(family=_family(cells, families))


def _pictures(rows: pd.DataFrame, pictures: Mapping[str, str]) -> pd.Series:
    """Return each row's dataset, under one name where the pictures are the same."""
    return rows["dataset"].map(lambda dataset: pictures.get(dataset, dataset))


def _block_means(
    cells: pd.DataFrame, unit: str, pictures: Mapping[str, str], column: str = "effect"
) -> pd.Series:
    """Average cells over blocks: by `BLOCK`, or by dataset if that is the unit."""
    cells = cells.assign(dataset=_pictures(cells, pictures))
    blocks = cells.groupby(BLOCK, sort=False)[column].mean()
    if unit == DATASET:
        # A mean over its families.
        return blocks.groupby(level="dataset", sort=False).mean()
    return blocks


def _by_key(table: pd.DataFrame, length: int = 3) -> dict[Any, pd.DataFrame]:
    """Part a table by method, score and width, or by the first `length` of these."""
    return dict(iter(table.groupby(KEYS[:length], sort=False)))


def _count_cells(effects: pd.DataFrame) -> dict[str, Any]:
    """Count the cells without an effect, by the reason, and those at a lower R^2."""
    without_effect = effects[effects["status"] != "ok"].drop_duplicates(CELL)
    out_of_reach = int((without_effect["status"] == "out of reach").sum())
    has_effect = effects["status"] == "ok"
    at_lower_r2 = effects[has_effect & effects["below_floor"].astype(bool)]
    reason = None
    if not has_effect.any() and not out_of_reach:
        reason = REASONS[without_effect["status"].mode().iloc[0]]
    return {
        "front": effects["front"].iloc[0],
        "infeasible": len(without_effect) - out_of_reach,
        "out_of_reach": out_of_reach,
        "at_lower_r2": len(at_lower_r2.drop_duplicates(CELL)),
        "reason": reason,
    }


def _average(
    cells: pd.DataFrame, blocks: pd.Series, rule: IntervalRule
) -> dict[str, Any]:
    """Return the means and intervals of one method, score and width."""
    over_blocks = student(blocks.to_numpy(), rule.confidence)
    one_sided = student(blocks.to_numpy(), rule.one_sided)
    mean = over_blocks.mean
    backbones = cells.groupby(BACKBONE)["effect"].mean().to_numpy()
    over_backbones = student(backbones, rule.confidence)
    datasets = blocks.groupby(level="dataset").mean()
    return {
        "cells": len(cells),
        "datasets": len(datasets),
        "blocks": len(blocks),
        "effect": mean,
        "low": mean - over_blocks.half_width,
        "high": mean + over_blocks.half_width,
        "low_one_sided": mean - one_sided.half_width,
        "high_one_sided": mean + one_sided.half_width,
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
    if effects is None:
        return {}
    # Of seeds that every cell has: else a seed would differ from another by its cells.
    by_seed = effects.set_index([*CELL, "seed"])["effect"].unstack("seed")
    seed_means = by_seed.dropna(axis="columns").mean().to_numpy()
    mean, half_width, _ = student(seed_means, rule.confidence)
    return {"low_seeds": mean - half_width, "high_seeds": mean + half_width}


def _average_reading(
    name: str, blocks: pd.Series, rule: IntervalRule
) -> dict[str, Any]:
    mean, half_width, _ = student(blocks.to_numpy(), rule.confidence)
    return {
        name: mean,
        f"{name}_low": mean - half_width,
        f"{name}_high": mean + half_width,
    }


def _fill_outcomes(
    table: pd.DataFrame,
    has_width: pd.Series,
    blocks_by_row: list[pd.Series],
    rule: IntervalRule,
) -> None:
    """Fill `p_holm`, `outcome`, `reason`, `smallest` of the endpoints of one width."""
    tested = []
    for row in table[has_width & table["score"].isin(ENDPOINTS)].itertuples():
        reason = _reason_not_to_test(row, rule)
        if reason is None:
            tested.append(row.Index)
        else:
            table.loc[row.Index, ["outcome", "reason"]] = [NOT_COMPARABLE, reason]

    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"].astype(float))
    for row in table.loc[tested].itertuples():
        # The first step of Holm's correction divides the level by the number of tests.
        strictest = rule.level / len(tested)
        sample = blocks_by_row[row.Index].to_numpy()
        table.loc[row.Index, "smallest"] = smallest_found(sample, strictest)
        outcome = word(
            row.effect,
            differs=row.p_holm < rule.level and row.same_sign,
            is_small=row.low_one_sided > -NEGLIGIBLE
            and row.high_one_sided < NEGLIGIBLE,
        )
        table.loc[row.Index, "outcome"] = outcome
        if outcome == INCONCLUSIVE and row.p < rule.level:
            reason = BEFORE_HOLM if row.same_sign else SIGNS_DIFFER
            table.loc[row.Index, "reason"] = reason


def _reason_not_to_test(row: Any, rule: IntervalRule) -> str | None:
    if isinstance(row.reason, str):
        return row.reason
    if row.out_of_reach >= MOST_OUT_OF_REACH * (row.cells + row.out_of_reach):
        return OUT_OF_REACH
    if row.blocks < rule.min_blocks:
        return TOO_FEW
    return None
